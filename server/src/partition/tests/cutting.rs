//! A cut, read piece by piece while pushes go on, is the state at exactly its position.

use proptest::prelude::*;

use super::{
    merging::{Plain, ROWS, bits, section},
    *,
};

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<Plain>),
    Read,
}

fn story() -> impl Strategy<Value = (Option<u32>, Vec<Step>, usize)> {
    prop_oneof![Just(None), (1u32..20).prop_map(Some)].prop_flat_map(|cols| {
        let pushed = prop::collection::vec(section(cols.unwrap_or(1), cols.is_some()), 1..4);
        let step = prop_oneof![pushed.prop_map(Step::Push), Just(Step::Read)];
        (
            Just(cols),
            prop::collection::vec(step, 0..20),
            1_usize..3000,
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_of_a_cut_is_what_was_there_when_it_was_made((cols, steps, piece) in story()) {
        let shape = cols.map_or(Shape::Vector { keys: ROWS }, |cols| Shape::Matrix { rows: ROWS, cols });
        let mut alone = Alone::new(shape, ElementType::I32, Rule::Add, Scalar::Integer(5));
        let mut number = 0;
        let mut push = |alone: &mut Alone, sections: &[Plain]| {
            number += 1;
            let mut bytes = Vec::new();
            for section in sections {
                section.write(&mut bytes, cols.unwrap_or(1), Some(Rule::Add), &mut || number as i32);
            }
            let header = alone.header(Op::Update, &bytes, sections.len() as u16);
            let verdict = alone.judge(lane(NOW, 1), number, header, &bytes);
            assert_eq!(verdict.outcome, Outcome::Applied);
        };
        push(&mut alone, &[Plain::Range(1, 7)]);
        let (values, ledger, position, _) = alone.state();
        let cut = alone.partition.cut(piece);
        prop_assert_eq!(cut.position.0, position);
        prop_assert_eq!(cut.ledger, ledger);
        prop_assert_eq!(cut.epoch, EPOCH);
        let mut read = Vec::new();
        for step in steps {
            match step {
                Step::Push(sections) => push(&mut alone, &sections),
                Step::Read => read.extend(alone.partition.next_piece().unwrap_or_default()),
            }
        }
        while let Some(piece) = alone.partition.next_piece() {
            read.extend(piece);
        }
        let Values::I32(values) = values else { unreachable!() };
        prop_assert_eq!(read, bits(&values));
    }
}
