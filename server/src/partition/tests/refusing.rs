//! Bad input: a typed error that names what does not fit, and nothing changed.

use glint_protocol::ErrorCode;

use super::*;

fn matrix() -> Alone {
    Alone::new(
        Shape::Matrix { rows: 10, cols: 4 },
        ElementType::F32,
        Rule::Add,
        Scalar::Float(0.5),
    )
}

fn push(put: impl FnOnce(&mut Vec<u8>), values: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes);
    f32::append(&vec![1.0; values], &mut bytes);
    bytes
}

#[test]
fn what_is_out_of_range_is_named_with_the_size_and_changes_nothing() {
    let add = Some(Rule::Add);
    let cases = [
        (
            push(|out| write::range(out, add, 4, 38, 3), 3),
            "the range of 3 values from 38 on",
            "40 values",
        ),
        (
            push(|out| write::range(out, add, 4, u64::MAX, 1), 1),
            "18446744073709551615",
            "40 values",
        ),
        (
            push(|out| write::rows(out, add, 4, &[3, 10, 11], 4, false), 12),
            "local row 10 (at place 1)",
            "10 rows",
        ),
        (
            push(|out| write::rows(out, add, 4, &[3, 1 << 40], 4, true), 8),
            "local row 1099511627776",
            "10 rows",
        ),
        (
            push(|out| write::rows(out, add, 4, &[3], 5, false), 5),
            "rows of 5 columns",
            "has 4",
        ),
        (
            push(|out| write::pairs(out, add, 4, &[1, 2], &[0, 4], false), 2),
            "column 4 (at place 1)",
            "4 columns",
        ),
        (
            push(|out| write::pairs(out, add, 4, &[99, 2], &[0, 0], false), 2),
            "local row 99",
            "10 rows",
        ),
        (
            push(|out| write::indices(out, add, 4, &[1], false), 1),
            "is a matrix",
            "name rows",
        ),
        (
            push(|out| write::range(out, Some(Rule::Max), 4, 0, 1), 1),
            "update rule 'max'",
            "'add'",
        ),
        (
            push(|out| write::range(out, add, 4, 0, 2), 1),
            "8 bytes of values",
            "end after 4",
        ),
    ];
    for (bytes, named, size) in cases {
        let mut alone = matrix();
        alone.judge(lane(NOW, 1), 1, alone.header(Op::Skip, &[], 0), &[]);
        let before = alone.state();
        // A valid section before the bad one: it must not be applied either.
        let mut whole = push(|out| write::range(out, add, 4, 0, 2), 2);
        whole.extend_from_slice(&bytes);
        let header = alone.header(Op::Update, &whole, 2);
        let verdict = alone.judge(lane(NOW, 1), 2, header, &whole);
        let error = refusal(&verdict);
        assert_eq!(error.code, ErrorCode::Bad);
        for part in [named, size, "section 1"] {
            assert!(
                error.message.contains(part),
                "'{part}' in: {}",
                error.message
            );
        }
        assert_eq!(alone.state(), before);
        // The number is free for the corrected push.
        let good = push(|out| write::range(out, add, 4, 0, 2), 2);
        let header = alone.header(Op::Update, &good, 1);
        let verdict = alone.judge(lane(NOW, 1), 2, header, &good);
        assert_eq!(verdict.outcome, Outcome::Applied);
    }
}

#[test]
fn a_vector_has_no_rows() {
    let mut alone = Alone::vector(5);
    for put in [
        (|out: &mut Vec<u8>| write::rows(out, Some(Rule::Add), 8, &[0], 1, false))
            as fn(&mut Vec<u8>),
        |out| write::pairs(out, Some(Rule::Add), 8, &[0], &[0], false),
    ] {
        let mut bytes = Vec::new();
        put(&mut bytes);
        i64::append(&[1], &mut bytes);
        let header = alone.header(Op::Update, &bytes, 1);
        let verdict = alone.judge(lane(NOW, 1), 1, header, &bytes);
        assert!(refusal(&verdict).message.contains("is a vector"));
    }
    assert_eq!(alone.first(), 0);
}

#[test]
fn another_element_type_is_refused_with_both_names() {
    let mut alone = Alone::vector(5);
    let bytes = push(|out| write::range(out, Some(Rule::Add), 4, 0, 1), 1);
    let header = GroupHeader {
        element: Some(ElementType::F32),
        ..alone.header(Op::Update, &bytes, 1)
    };
    let verdict = alone.judge(lane(NOW, 1), 1, header, &bytes);
    let message = &refusal(&verdict).message;
    assert!(
        message.contains("i64") && message.contains("f32"),
        "{message}"
    );
}

#[test]
fn a_skip_that_brings_sections_is_refused() {
    let mut alone = Alone::vector(5);
    let bytes = add_section(1);
    let header = alone.header(Op::Skip, &bytes, 1);
    let verdict = alone.judge(lane(NOW, 1), 1, header, &bytes);
    assert!(refusal(&verdict).message.contains("skip"));
    assert!(alone.partition.ledger().is_empty());
}

#[test]
fn a_partition_without_keys_takes_empty_sections_only() {
    let mut alone = Alone::vector(0);
    let mut bytes = Vec::new();
    write::range(&mut bytes, Some(Rule::Add), 8, 0, 0);
    let header = alone.header(Op::Update, &bytes, 1);
    assert_eq!(
        alone.judge(lane(NOW, 1), 1, header, &bytes).outcome,
        Outcome::Applied
    );
    let verdict = alone.add(lane(NOW, 1), 2, 1, 1);
    assert!(refusal(&verdict).message.contains("has 0 values"));
}
