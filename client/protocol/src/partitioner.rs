//! Partitioners: which partition holds a key, and at which local index. Pure arithmetic, the same in every client.
//!
//! Range and cyclic follow the original Glint (Jagerman et al., SIGIR 2017): for `K` keys and `P` partitions in a range
//! layout, with `s = ⌊K / P⌋`, the first `P − K mod P` partitions hold `s` keys each and the last `K mod P` hold `s + 1`;
//! in a cyclic layout key `k` is in partition `k mod P` at local index `⌊k / P⌋`.

use std::{fmt, sync::Arc};

use crate::{
    error::{ErrorBody, ErrorCode},
    spec::{ModelSpec, Partitioning},
};

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The partition.
    pub partition: u32,
    /// The index within it: of a value of a vector, of a row of a matrix.
    pub local: u64,
}

/// A partitioner of your own. It must be a bijection between `0..keys` and the pairs of partition and local index
/// `0..size(partition)`, and give the same answer in every process for ever.
pub trait Partitioner: Send + Sync + fmt::Debug {
    /// How many keys each partition holds.
    fn sizes(&self) -> Vec<u64>;
    /// Where a key is; called only with keys of the model.
    fn locate(&self, key: u64) -> Location;
    /// The key at a local index of a partition: the inverse of `locate`.
    fn key(&self, partition: u32, local: u64) -> u64;
}

#[derive(Clone, Debug)]
enum Kind {
    Range { small: u64, size: u64 },
    Cyclic,
    Boundaries(Arc<[u64]>),
    Named(Arc<dyn Partitioner>, Arc<[u64]>),
}

/// The layout of one model: its partitioning, ready to compute with.
#[derive(Clone, Debug)]
pub struct Layout {
    keys: u64,
    partitions: u32,
    kind: Kind,
}

impl Layout {
    /// The layout of a model. `find` looks up a registered partitioner by name.
    ///
    /// # Errors
    /// `invalid_spec` when the model's partitioner is not registered, or its sizes are not those of the spec.
    pub fn new(
        spec: &ModelSpec,
        find: impl Fn(&str) -> Option<Arc<dyn Partitioner>>,
    ) -> Result<Self, ErrorBody> {
        let (keys, partitions) = (spec.shape.keys(), spec.partition_count);
        let kind = match &spec.partitioning {
            Partitioning::Range => {
                let count = u64::from(partitions);
                Kind::Range {
                    small: count - keys % count,
                    size: keys / count,
                }
            }
            Partitioning::Cyclic => Kind::Cyclic,
            Partitioning::Boundaries { starts } => Kind::Boundaries(starts.clone().into()),
            Partitioning::Named { name, sizes } => {
                let partitioner = find(name).ok_or_else(|| {
                    ErrorBody::new(
                        ErrorCode::InvalidSpec,
                        format!(
                            "model '{}' is laid out by partitioner '{name}', which this client has not registered; \
                             register it when you build the client",
                            spec.name
                        ),
                    )
                })?;
                if partitioner.sizes() != *sizes {
                    return Err(ErrorBody::new(
                        ErrorCode::InvalidSpec,
                        format!(
                            "partitioner '{name}' gives other partition sizes than those model '{}' was made with; \
                             register the one it was made with",
                            spec.name
                        ),
                    ));
                }
                Kind::Named(partitioner, sizes.clone().into())
            }
        };
        Ok(Self {
            keys,
            partitions,
            kind,
        })
    }

    /// A range layout.
    pub fn range(keys: u64, partitions: u32) -> Self {
        let count = u64::from(partitions.max(1));
        Self {
            keys,
            partitions: partitions.max(1),
            kind: Kind::Range {
                small: count - keys % count,
                size: keys / count,
            },
        }
    }

    /// A cyclic layout.
    pub fn cyclic(keys: u64, partitions: u32) -> Self {
        Self {
            keys,
            partitions: partitions.max(1),
            kind: Kind::Cyclic,
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Where a key is, or none when it is not a key of the model.
    #[inline]
    pub fn locate(&self, key: u64) -> Option<Location> {
        if key >= self.keys {
            return None;
        }
        Some(match &self.kind {
            &Kind::Range { small, size } => {
                let boundary = small * size;
                if key < boundary {
                    Location {
                        partition: (key / size) as u32,
                        local: key % size,
                    }
                } else {
                    let over = key - boundary;
                    Location {
                        partition: (small + over / (size + 1)) as u32,
                        local: over % (size + 1),
                    }
                }
            }
            Kind::Cyclic => {
                let count = u64::from(self.partitions);
                Location {
                    partition: (key % count) as u32,
                    local: key / count,
                }
            }
            Kind::Boundaries(starts) => {
                let after = starts.partition_point(|&start| start <= key);
                let partition = after.saturating_sub(1);
                Location {
                    partition: partition as u32,
                    local: key - starts[partition],
                }
            }
            Kind::Named(partitioner, _) => partitioner.locate(key),
        })
    }

    /// How many keys a partition holds; 0 for one that does not exist.
    pub fn size(&self, partition: u32) -> u64 {
        if partition >= self.partitions {
            return 0;
        }
        let index = u64::from(partition);
        match &self.kind {
            &Kind::Range { small, size } => size + u64::from(index >= small),
            Kind::Cyclic => {
                let count = u64::from(self.partitions);
                self.keys / count + u64::from(index < self.keys % count)
            }
            Kind::Boundaries(starts) => {
                let start = starts[partition as usize];
                starts
                    .get(partition as usize + 1)
                    .copied()
                    .unwrap_or(self.keys)
                    - start
            }
            Kind::Named(_, sizes) => sizes[partition as usize],
        }
    }

    /// The key at a local index of a partition: the inverse of [`Self::locate`].
    #[inline]
    pub fn key(&self, partition: u32, local: u64) -> u64 {
        match &self.kind {
            Kind::Range { .. } | Kind::Boundaries(_) => self.start(partition).unwrap_or(0) + local,
            Kind::Cyclic => local * u64::from(self.partitions) + u64::from(partition),
            Kind::Named(partitioner, _) => partitioner.key(partition, local),
        }
    }

    /// First key of a partition where partitions are runs of neighbouring keys (range, boundaries); none elsewhere.
    pub fn start(&self, partition: u32) -> Option<u64> {
        let index = u64::from(partition);
        match &self.kind {
            &Kind::Range { small, size } => Some(index * size + index.saturating_sub(small)),
            Kind::Boundaries(starts) => starts.get(partition as usize).copied(),
            Kind::Cyclic | Kind::Named(..) => None,
        }
    }

    /// The distance between keys with neighbouring local indices: 1 where partitions are runs, the number of partitions
    /// in a cyclic layout, none where a partitioner of your own decides.
    pub fn stride(&self) -> Option<u64> {
        match &self.kind {
            Kind::Range { .. } | Kind::Boundaries(_) => Some(1),
            Kind::Cyclic => Some(self.partitions.into()),
            Kind::Named(..) => None,
        }
    }
}

/// Keys of each partition by the spec alone, as servers need it: without any registered partitioner.
pub fn partition_size(spec: &ModelSpec, partition: u32) -> u64 {
    match &spec.partitioning {
        Partitioning::Named { sizes, .. } => sizes.get(partition as usize).copied().unwrap_or(0),
        _ => Layout::new(spec, |_| None).map_or(0, |layout| layout.size(partition)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        element::ElementType,
        spec::{ModelDraft, Shape},
    };

    fn check(layout: &Layout) {
        let total: u64 = (0..layout.partitions()).map(|p| layout.size(p)).sum();
        assert_eq!(total, layout.keys());
        let mut seen = std::collections::BTreeSet::new();
        for key in 0..layout.keys() {
            let at = layout.locate(key).unwrap();
            assert!(
                at.local < layout.size(at.partition),
                "{key} lies outside partition {}",
                at.partition
            );
            assert!(seen.insert((at.partition, at.local)), "two keys at {at:?}");
            assert_eq!(layout.key(at.partition, at.local), key);
        }
        assert_eq!(layout.locate(layout.keys()), None);
        assert_eq!(layout.locate(u64::MAX), None);
    }

    #[test]
    fn every_key_lies_in_exactly_one_partition() {
        for (partitions, keys) in [(5, 37), (5, 109), (20, 50), (13, 13), (33, 12), (1, 0)] {
            check(&Layout::range(keys, partitions));
            check(&Layout::cyclic(keys, partitions));
        }
    }

    #[test]
    fn range_and_cyclic_follow_the_arithmetic_of_glint() {
        let range = Layout::range(37, 5);
        assert_eq!(
            (0..5).map(|p| range.size(p)).collect::<Vec<_>>(),
            [7, 7, 7, 8, 8]
        );
        assert_eq!(
            range.locate(21),
            Some(Location {
                partition: 3,
                local: 0
            })
        );
        let cyclic = Layout::cyclic(37, 5);
        assert_eq!(
            (0..5).map(|p| cyclic.size(p)).collect::<Vec<_>>(),
            [8, 8, 7, 7, 7]
        );
        assert_eq!(
            cyclic.locate(13),
            Some(Location {
                partition: 3,
                local: 2
            })
        );
        let sparse = Layout::range(12, 33);
        assert_eq!((0..33).map(|p| sparse.size(p)).sum::<u64>(), 12);
        assert_eq!(sparse.size(20), 0);
        assert_eq!(sparse.size(21), 1);
    }

    #[derive(Debug)]
    struct Backwards(u64);
    impl Partitioner for Backwards {
        fn sizes(&self) -> Vec<u64> {
            vec![self.0 / 2, self.0 - self.0 / 2]
        }
        fn locate(&self, key: u64) -> Location {
            let mirrored = self.0 - 1 - key;
            let half = self.0 / 2;
            if mirrored < half {
                Location {
                    partition: 0,
                    local: mirrored,
                }
            } else {
                Location {
                    partition: 1,
                    local: mirrored - half,
                }
            }
        }
        fn key(&self, partition: u32, local: u64) -> u64 {
            self.0 - 1 - (local + u64::from(partition) * (self.0 / 2))
        }
    }

    #[test]
    fn a_partitioner_of_ones_own_must_be_registered_and_the_same() {
        let mut draft = ModelDraft::new("m", Shape::Vector { keys: 9 }, ElementType::I64);
        draft.partitioning = Partitioning::Named {
            name: "backwards".into(),
            sizes: vec![4, 5],
        };
        let spec = draft.resolve(1).unwrap();
        check(&Layout::new(&spec, |_| Some(Arc::new(Backwards(9)))).unwrap());
        assert_eq!(partition_size(&spec, 1), 5);
        let missing = Layout::new(&spec, |_| None).unwrap_err();
        assert!(missing.message.contains("register"), "{}", missing.message);
        let other = Layout::new(&spec, |_| Some(Arc::new(Backwards(8)))).unwrap_err();
        assert!(other.message.contains("sizes"), "{}", other.message);
    }

    proptest! {
        #[test]
        fn layouts_are_bijections(keys in 0u64..300, partitions in 1u32..40, cuts in prop::collection::vec(0u64..300, 0..10)) {
            check(&Layout::range(keys, partitions));
            check(&Layout::cyclic(keys, partitions));
            let mut starts: Vec<u64> = cuts.into_iter().map(|c| c.min(keys)).collect();
            starts.push(0);
            starts.sort_unstable();
            let mut draft = ModelDraft::new("m", Shape::Vector { keys }, ElementType::I64);
            draft.partitioning = Partitioning::Boundaries { starts };
            check(&Layout::new(&draft.resolve(1).unwrap(), |_| None).unwrap());
        }
    }
}
