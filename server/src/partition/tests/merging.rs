//! Merging and reading, against the plainest program that does the same.

use proptest::prelude::*;

use super::*;
use crate::partition::read;

/// One section as numbers.
#[derive(Clone, Debug)]
pub(super) enum Plain {
    Range(u64, usize),
    Indices(Vec<u64>, bool),
    Rows(Vec<u64>, bool),
    Pairs(Vec<(u64, u32)>, bool),
}

pub(super) const ROWS: u64 = 40;

impl Plain {
    /// The places in the row-major values that it names, in order.
    fn places(&self, cols: u32) -> Vec<usize> {
        let cols = u64::from(cols);
        let places: Vec<u64> = match self {
            Self::Range(start, count) => (*start..start + *count as u64).collect(),
            Self::Indices(indices, _) => indices.clone(),
            Self::Rows(rows, _) => rows
                .iter()
                .flat_map(|row| row * cols..(row + 1) * cols)
                .collect(),
            Self::Pairs(pairs, _) => pairs
                .iter()
                .map(|&(row, column)| row * cols + u64::from(column))
                .collect(),
        };
        places.into_iter().map(|place| place as usize).collect()
    }

    pub(super) fn write<T: Element>(
        &self,
        out: &mut Vec<u8>,
        cols: u32,
        rule: Option<Rule>,
        next: &mut impl FnMut() -> T,
    ) -> Vec<T> {
        match self {
            Self::Range(start, count) => write::range(out, rule, T::SIZE, *start, *count),
            Self::Indices(indices, wide) => write::indices(out, rule, T::SIZE, indices, *wide),
            Self::Rows(rows, wide) => write::rows(out, rule, T::SIZE, rows, cols, *wide),
            Self::Pairs(pairs, wide) => {
                let (rows, columns): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
                write::pairs(out, rule, T::SIZE, &rows, &columns, *wide);
            }
        }
        let values: Vec<T> = self.places(cols).iter().map(|_| next()).collect();
        if rule.is_some() {
            T::append(&values, out);
        }
        values
    }
}

pub(super) fn section(cols: u32, matrix: bool) -> BoxedStrategy<Plain> {
    let size = ROWS * u64::from(cols);
    let range = (0..=size).prop_flat_map(move |start| (Just(start), 0..=(size - start) as usize));
    let range = range.prop_map(|(start, count)| Plain::Range(start, count));
    if matrix {
        let rows = (prop::collection::vec(0..ROWS, 0..100), any::<bool>())
            .prop_map(|(rows, wide)| Plain::Rows(rows, wide));
        let pairs = (
            prop::collection::vec((0..ROWS, 0..cols), 0..200),
            any::<bool>(),
        )
            .prop_map(|(pairs, wide)| Plain::Pairs(pairs, wide));
        prop_oneof![range, rows, pairs].boxed()
    } else {
        let indices = (prop::collection::vec(0..ROWS, 0..200), any::<bool>())
            .prop_map(|(indices, wide)| Plain::Indices(indices, wide));
        prop_oneof![range, indices].boxed()
    }
}

fn group() -> impl Strategy<Value = (Option<u32>, Vec<Plain>)> {
    prop_oneof![Just(None), (1u32..20).prop_map(Some)].prop_flat_map(|cols| {
        let sections = prop::collection::vec(section(cols.unwrap_or(1), cols.is_some()), 0..6);
        (Just(cols), sections)
    })
}

pub(super) fn bits<T: Element>(values: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    T::append(values, &mut out);
    out
}

/// Applies the sections to a partition and to a plain vector, and compares everything that can be read of both.
fn compare<T: Element>(cols: Option<u32>, sections: &[Plain], rule: Rule, draw: impl Fn(u64) -> T) {
    let shape = cols.map_or(Shape::Vector { keys: ROWS }, |cols| Shape::Matrix {
        rows: ROWS,
        cols,
    });
    let initial = draw(3).scalar();
    let mut alone = Alone::new(shape, T::TYPE, rule, initial);
    let cols = cols.unwrap_or(1);
    let mut plain = vec![T::from_scalar(initial).unwrap(); (ROWS * u64::from(cols)) as usize];

    let mut seed = 11u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        draw(seed >> 20)
    };
    let mut bytes = Vec::new();
    for section in sections {
        let updates = section.write(&mut bytes, cols, Some(rule), &mut next);
        for (place, update) in section.places(cols).into_iter().zip(updates) {
            let value = plain[place];
            plain[place] = match rule {
                Rule::Add => value.plus(update),
                Rule::Assign => update,
                Rule::Max => value.greater(update),
                Rule::Min => value.lesser(update),
            };
        }
    }
    let header = alone.header(Op::Update, &bytes, sections.len() as u16);
    let verdict = alone.judge(lane(NOW, 1), 1, header, &bytes);
    assert_eq!(verdict.outcome, Outcome::Applied);

    // The whole, and then the same sections read back.
    let mut requests = Vec::new();
    let whole = Plain::Range(0, plain.len());
    for section in sections.iter().chain([&whole]) {
        section.write(&mut requests, cols, None, &mut || T::default());
    }
    let header = alone.header(Op::Pull, &requests, sections.len() as u16 + 1);
    let pulled = checked(&alone, header, &requests).unwrap();
    let mut out = vec![1, 2, 3];
    read::append(alone.partition.values(), cols, &pulled.sections, &mut out);
    let places = sections.iter().chain([&whole]).flat_map(|s| s.places(cols));
    let expected: Vec<T> = places.map(|place| plain[place]).collect();
    assert_eq!(pulled.values, expected.len() as u64);
    assert_eq!(out[..3], [1, 2, 3], "what was in the buffer stays");
    assert_eq!(out[3..], bits(&expected));
}

fn floats(seed: u64) -> f64 {
    match seed % 11 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        4 => 0.0,
        _ => (seed % 1000) as f64 / 7.0 - 50.0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_and_rule_does_to_each_type_what_a_plain_loop_does((cols, sections) in group()) {
        for rule in Rule::ALL {
            compare::<i32>(cols, &sections, rule, |seed| seed as i32);
            compare::<i64>(cols, &sections, rule, |seed| (seed as i64) << 20);
            compare::<f32>(cols, &sections, rule, |seed| floats(seed) as f32);
            compare::<f64>(cols, &sections, rule, floats);
        }
    }
}

#[test]
fn the_same_pushes_in_the_same_order_give_the_same_bits() {
    // Float sums depend on their order; a replay of the log keeps it.
    let values: Vec<f32> = (0..1000).map(|i| 1.0 / (i as f32 + 0.3)).collect();
    let run = || {
        let mut alone = Alone::new(
            Shape::Vector { keys: 3 },
            ElementType::F32,
            Rule::Add,
            Scalar::Float(0.1),
        );
        for (number, value) in values.iter().enumerate() {
            let mut bytes = Vec::new();
            write::indices(&mut bytes, Some(Rule::Add), 4, &[number as u64 % 3], false);
            f32::append(&[*value], &mut bytes);
            let header = alone.header(Op::Update, &bytes, 1);
            alone.judge(lane(NOW, 1), number as u64 + 1, header, &bytes);
        }
        let Values::F32(values) = alone.partition.values() else {
            panic!()
        };
        bits(values)
    };
    assert_eq!(run(), run());
}
