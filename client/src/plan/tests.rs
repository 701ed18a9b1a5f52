//! A plan against a model of the servers: a map from (partition, local index) to value.

use std::{collections::BTreeMap, sync::Arc};

use glint_protocol::{
    Element, ElementType, Layout, Location, ModelDraft, ModelSpec, Partitioner, Partitioning,
    Partitions, Rule, Shape,
    frame::{Form, Op, Section},
};
use proptest::prelude::*;

use super::*;

#[derive(Debug)]
struct Backwards(u64);

impl Partitioner for Backwards {
    fn sizes(&self) -> Vec<u64> {
        vec![self.0 / 2, self.0 - self.0 / 2]
    }

    fn locate(&self, key: u64) -> Location {
        let (mirrored, half) = (self.0 - 1 - key, self.0 / 2);
        Location {
            partition: u32::from(mirrored >= half),
            local: if mirrored < half {
                mirrored
            } else {
                mirrored - half
            },
        }
    }

    fn key(&self, partition: u32, local: u64) -> u64 {
        self.0 - 1 - (local + u64::from(partition) * (self.0 / 2))
    }
}

#[derive(Debug)]
struct World {
    spec: ModelSpec,
    layout: Layout,
    request_bytes: usize,
}

impl World {
    fn new(keys: u64, cols: Option<u32>, layout: usize, partitions: u32, request: usize) -> Self {
        let shape = match cols {
            None => Shape::Vector { keys },
            Some(cols) => Shape::Matrix { rows: keys, cols },
        };
        let mut draft = ModelDraft::new("m", shape, ElementType::I32);
        match layout {
            0 => draft.partitions = Partitions::Exactly(partitions),
            1 => {
                draft.partitions = Partitions::Exactly(partitions);
                draft.partitioning = Partitioning::Cyclic;
            }
            2 => {
                draft.partitioning = Partitioning::Boundaries {
                    starts: vec![0, keys / 3, keys / 3, keys - keys / 4, keys],
                };
            }
            _ => {
                draft.partitioning = Partitioning::Named {
                    name: "backwards".into(),
                    sizes: Backwards(keys).sizes(),
                };
            }
        }
        let spec = draft.resolve(1).unwrap();
        let layout = Layout::new(&spec, |_| Some(Arc::new(Backwards(keys)))).unwrap();
        Self {
            spec,
            layout,
            request_bytes: request,
        }
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            spec: &self.spec,
            layout: &self.layout,
            request_bytes: self.request_bytes,
        }
    }

    fn cols(&self) -> u64 {
        self.spec.shape.cols().into()
    }

    /// The local value indices that a section names, as a server reads them.
    fn named(&self, plan: &Plan, part: &Part) -> Vec<u64> {
        let mut bytes = Vec::new();
        plan.write_section(part, None, 4, &mut bytes);
        assert_eq!(bytes.len(), plan.section_length(part, 4, false));
        let (section, rest) = Section::split(&bytes, Op::Pull, ElementType::I32).unwrap();
        assert!(rest.is_empty());
        assert_eq!(section.value_count(), part.values as u64);
        let cols = self.cols();
        match section.form {
            Form::Range { start } => (start..start + section.count).collect(),
            Form::Indices(indices) => indices.iter().collect(),
            Form::Rows { rows, .. } => rows.iter().flat_map(|r| r * cols..(r + 1) * cols).collect(),
            Form::Pairs { rows, columns } => rows
                .iter()
                .zip(columns.iter())
                .map(|(r, c)| r * cols + c)
                .collect(),
        }
    }

    /// The value index in the whole model (key × columns + column) of a local one.
    fn global(&self, partition: u32, local: u64) -> u64 {
        self.layout.key(partition, local / self.cols()) * self.cols() + local % self.cols()
    }

    /// Pulls from a model in which every value is its own global index, in frames that end anywhere.
    fn pull(&self, plan: &Plan, count: usize, frame: usize) -> Vec<i32> {
        let mut out = vec![-1i32; count];
        for part in &plan.parts {
            let values: Vec<i32> = self
                .named(plan, part)
                .iter()
                .map(|&local| self.global(part.partition, local) as i32)
                .collect();
            let mut skip = 0;
            for some in values.chunks(frame) {
                let mut bytes = Vec::new();
                i32::append(some, &mut bytes);
                plan.scatter(part, skip, &bytes, &mut out);
                skip += some.len();
            }
        }
        out
    }

    /// Pushes with `assign` into an empty model, as the servers would apply the parts in order.
    fn push(&self, plan: &Plan, values: &[i32]) -> BTreeMap<u64, i32> {
        let mut model = BTreeMap::new();
        for part in &plan.parts {
            let mut bytes = Vec::new();
            plan.write_section(part, Some(Rule::Assign), 4, &mut bytes);
            plan.gather(part, values, &mut bytes);
            assert_eq!(bytes.len(), plan.section_length(part, 4, true));
            let (section, _) = Section::split(&bytes, Op::Update, ElementType::I32).unwrap();
            let locals = self.named(plan, part);
            for (local, bytes) in locals.iter().zip(section.values.chunks_exact(4)) {
                model.insert(
                    self.global(part.partition, *local),
                    <i32 as Element>::from_le(bytes),
                );
            }
        }
        model
    }
}

fn model() -> impl Strategy<Value = World> {
    let cols = prop_oneof![Just(None), (1u32..9).prop_map(Some)];
    (1u64..200, cols, 0usize..4, 1u32..20, 20usize..400).prop_map(
        |(keys, cols, layout, partitions, request)| {
            World::new(keys, cols, layout, partitions, request)
        },
    )
}

proptest! {
    #[test]
    fn a_range_reads_and_writes_exactly_its_values(
        world in model(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), frame in 1usize..50,
    ) {
        let keys = world.layout.keys() as usize + 1;
        let (a, b) = (a.index(keys) as u64, b.index(keys) as u64);
        let range = a.min(b)..a.max(b);
        let plan = Plan::range(&world.ground(), range.clone()).unwrap();
        let expected: Vec<i32> = (range.start * world.cols()..range.end * world.cols()).map(|v| v as i32).collect();
        prop_assert_eq!(world.pull(&plan, expected.len(), frame), expected.clone());
        let written = world.push(&plan, &expected);
        prop_assert_eq!(written.len(), expected.len());
        prop_assert!(written.iter().all(|(at, value)| *at == *value as u64));
    }

    #[test]
    fn a_list_keeps_its_order_and_of_duplicates_the_last_is_applied_last(
        world in model(), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..120), frame in 1usize..50,
    ) {
        let count = world.layout.keys() as usize;
        let keys: Vec<u64> = picks.iter().map(|pick| pick.index(count) as u64).collect();
        let plan = Plan::keys(&world.ground(), &keys).unwrap();
        let cols = world.cols();
        let expected: Vec<i32> = keys.iter().flat_map(|k| k * cols..(k + 1) * cols).map(|v| v as i32).collect();
        prop_assert_eq!(world.pull(&plan, expected.len(), frame), expected.clone());
        let values: Vec<i32> = (0..expected.len() as i32).collect();
        let mut last = BTreeMap::new();
        for (at, value) in expected.iter().zip(&values) {
            last.insert(*at as u64, *value);
        }
        prop_assert_eq!(world.push(&plan, &values), last);
        for part in &plan.parts {
            prop_assert!(plan.section_length(part, 4, true) <= world.request_bytes.max(20) + 64);
        }
    }

    #[test]
    fn pairs_keep_their_order(
        world in model(), picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..120),
    ) {
        let (rows, cols) = (world.layout.keys() as usize, world.cols());
        let pairs: Vec<(u64, u32)> = picks.iter().map(|(r, c)| (r.index(rows) as u64, c.index(cols as usize) as u32)).collect();
        let plan = Plan::pairs(&world.ground(), &pairs).unwrap();
        let expected: Vec<i32> = pairs.iter().map(|&(r, c)| (r * cols + u64::from(c)) as i32).collect();
        prop_assert_eq!(world.pull(&plan, expected.len(), 7), expected);
    }
}

#[test]
fn what_is_out_of_range_is_named_with_the_size() {
    let vector = World::new(10, None, 0, 3, 1000);
    let error = Plan::keys(&vector.ground(), &[3, 10, 11]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key 10 is not one of model 'm', whose keys are 0..10"
    );
    let matrix = World::new(10, Some(4), 1, 3, 1000);
    let error = Plan::pairs(&matrix.ground(), &[(9, 3), (9, 4)]).unwrap_err();
    assert!(error.to_string().starts_with("column 4 "), "{error}");
    let error = matrix.ground().check_range(&(3..11)).unwrap_err();
    assert!(error.to_string().starts_with("row 10 "), "{error}");
}

#[test]
fn few_keys_over_many_partitions_are_ordered_like_many() {
    let few = sorted_order(&[900, 3, 900, 0], 1000);
    let many = sorted_order(&[900, 3, 900, 0], 901);
    assert_eq!(few, [3, 1, 0, 2]);
    assert_eq!(many, few);
}
