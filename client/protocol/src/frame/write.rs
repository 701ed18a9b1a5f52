//! Putting sections together. Each function appends a section's header and indices; the values of a push are
//! appended by the caller right after it, with [`crate::Element::append`].

use super::{header::SectionHeader, section::FormCode};
use crate::rule::Rule;

fn header(form: FormCode, wide: Option<bool>, rule: Option<Rule>, count: usize) -> SectionHeader {
    SectionHeader {
        form: form as u8,
        index_width: wide.map_or(0, |wide| if wide { 8 } else { 4 }),
        rule: rule.map_or(0, Rule::code),
        extension: 0,
        start: 0,
        count: count as u64,
        value_bytes: 0,
        cols: 0,
    }
}

/// Bytes of values that follow a section: none in a pull, `count × size` in a push.
fn value_bytes(rule: Option<Rule>, count: usize, size: usize) -> u32 {
    if rule.is_some() {
        (count * size) as u32
    } else {
        0
    }
}

/// Whether local indices of a partition of `size` keys need 8 bytes.
pub const fn needs_wide(size: u64) -> bool {
    size > 1 << 32
}

/// Appends local indices, 8 bytes each if `wide`, else 4.
pub fn put_indices(out: &mut Vec<u8>, indices: &[u64], wide: bool) {
    let start = out.len();
    // Room first, then a loop over chunks of a known size: the compiler vectorises that, and not a growing vector.
    if wide {
        out.resize(start + indices.len() * 8, 0);
        for (bytes, index) in out[start..].chunks_exact_mut(8).zip(indices) {
            bytes.copy_from_slice(&index.to_le_bytes());
        }
    } else {
        put_u32s(out, indices.iter().map(|&index| index as u32));
    }
}

fn put_u32s(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = u32>) {
    let start = out.len();
    out.resize(start + values.len() * 4, 0);
    for (bytes, value) in out[start..].chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

/// A range of `count` values from local index `start`. `rule` and `size` (bytes of a value) are for a push.
pub fn range(out: &mut Vec<u8>, rule: Option<Rule>, size: usize, start: u64, count: usize) {
    let bytes = value_bytes(rule, count, size);
    out.extend_from_slice(
        &SectionHeader {
            start,
            value_bytes: bytes,
            ..header(FormCode::Range, None, rule, count)
        }
        .encode(),
    );
}

/// Single values of a vector by local index.
pub fn indices(out: &mut Vec<u8>, rule: Option<Rule>, size: usize, indices: &[u64], wide: bool) {
    let bytes = value_bytes(rule, indices.len(), size);
    let head = SectionHeader {
        value_bytes: bytes,
        ..header(FormCode::Indices, Some(wide), rule, indices.len())
    };
    out.extend_from_slice(&head.encode());
    put_indices(out, indices, wide);
}

/// Whole rows of a matrix of `cols` columns by local row.
pub fn rows(
    out: &mut Vec<u8>,
    rule: Option<Rule>,
    size: usize,
    rows: &[u64],
    cols: u32,
    wide: bool,
) {
    let bytes = value_bytes(rule, rows.len() * cols as usize, size);
    let head = SectionHeader {
        value_bytes: bytes,
        cols,
        ..header(FormCode::Rows, Some(wide), rule, rows.len())
    };
    out.extend_from_slice(&head.encode());
    put_indices(out, rows, wide);
}

/// Single values of a matrix by local row and column; both lists are equally long.
pub fn pairs(
    out: &mut Vec<u8>,
    rule: Option<Rule>,
    size: usize,
    rows: &[u64],
    columns: &[u32],
    wide: bool,
) {
    let bytes = value_bytes(rule, rows.len(), size);
    let head = SectionHeader {
        value_bytes: bytes,
        ..header(FormCode::Pairs, Some(wide), rule, rows.len())
    };
    out.extend_from_slice(&head.encode());
    put_indices(out, rows, wide);
    put_u32s(out, columns.iter().copied());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Element, ElementType, Epoch, Incarnation, LaneId, ModelId, Number,
        frame::{Form, Group, GroupHeader, Kind, Op, ReadMode, Request, RequestHeader, digest},
    };

    fn frame(sections: &[u8], count: u16, op: Op) -> Vec<u8> {
        let kind = if op == Op::Pull {
            Kind::Pull
        } else {
            Kind::Push
        };
        let incarnation = Incarnation {
            model: ModelId(7),
            generation: 1,
        };
        let mut out = RequestHeader {
            kind,
            groups: 1,
            lane: LaneId {
                birth: 5,
                random: 6,
            },
            number: Number(3),
        }
        .encode()
        .to_vec();
        let head = GroupHeader {
            incarnation,
            partition: 2,
            epoch: Epoch(4),
            prev: Number(2),
            digest: digest(incarnation, 2, [sections]),
            read: ReadMode::Latest,
            op,
            element: Some(ElementType::F32),
            sections: count,
            length: sections.len() as u32,
        };
        out.extend_from_slice(&head.encode());
        out.extend_from_slice(sections);
        out
    }

    fn push_of_every_form() -> Vec<u8> {
        let mut sections = Vec::new();
        let rule = Some(Rule::Add);
        range(&mut sections, rule, 4, 10, 3);
        f32::append(&[1.0, 2.0, 3.0], &mut sections);
        indices(&mut sections, rule, 4, &[5, 5, 1], false);
        f32::append(&[4.0, 5.0, 6.0], &mut sections);
        rows(&mut sections, rule, 4, &[8], 2, true);
        f32::append(&[7.0, 8.0], &mut sections);
        pairs(&mut sections, rule, 4, &[1, 2], &[3, 4], false);
        f32::append(&[9.0, 10.0], &mut sections);
        frame(&sections, 4, Op::Update)
    }

    #[test]
    fn every_form_survives_the_wire() {
        let body = push_of_every_form();
        let request = Request::parse(&body, Kind::Push).unwrap();
        assert_eq!(
            (request.header.number, request.header.lane.random),
            (Number(3), 6)
        );
        let group = request.groups[0];
        assert_eq!((group.header.partition, group.header.prev), (2, Number(2)));
        let sections = group.sections().unwrap();
        assert!(matches!(sections[0].form, Form::Range { start: 10 }));
        let Form::Indices(found) = sections[1].form else {
            panic!()
        };
        assert_eq!(found.iter().collect::<Vec<_>>(), [5, 5, 1]);
        assert_eq!(found.max(), Some(5));
        let Form::Rows { rows, cols: 2 } = sections[2].form else {
            panic!()
        };
        assert!(rows.is_wide());
        assert_eq!(rows.get(0), 8);
        let Form::Pairs { rows, columns } = sections[3].form else {
            panic!()
        };
        assert_eq!((rows.get(1), columns.get(1)), (2, 4));
        let mut values = [0f32; 3];
        f32::decode(sections[1].values, &mut values);
        assert_eq!(values, [4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_digest_is_crc_32c() {
        // The check value of CRC-32/ISCSI: over the digits 1 to 9.
        assert_eq!(
            crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, b"123456789") as u32,
            0xe306_9283
        );
        let incarnation = Incarnation {
            model: ModelId(1),
            generation: 1,
        };
        assert_eq!(
            digest(incarnation, 0, [&b"ab"[..], b"c"]),
            digest(incarnation, 0, [&b"abc"[..]])
        );
        assert_ne!(
            digest(incarnation, 0, [&b"abc"[..]]),
            digest(incarnation, 1, [&b"abc"[..]])
        );
    }

    #[test]
    fn a_frame_cut_anywhere_or_grown_is_refused() {
        let body = push_of_every_form();
        for length in 0..body.len() {
            assert!(
                Request::parse(&body[..length], Kind::Push).is_err(),
                "cut at {length}"
            );
        }
        let mut longer = body.clone();
        longer.push(0);
        assert!(
            Request::parse(&longer, Kind::Push)
                .unwrap_err()
                .message
                .contains("1 bytes follow")
        );
        assert!(
            Request::parse(&body, Kind::Pull)
                .unwrap_err()
                .message
                .contains("push")
        );
        let mut other = body.clone();
        other[4] = 2;
        assert_eq!(
            Request::parse(&other, Kind::Push).unwrap_err().code,
            crate::ErrorCode::UnsupportedProtocol
        );
        other[0] = b'{';
        assert!(
            Request::parse(&other, Kind::Push)
                .unwrap_err()
                .message
                .contains("GLNT")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(at in prop::collection::vec((0usize..400, any::<u8>()), 1..20)) {
            let mut body = push_of_every_form();
            for (index, byte) in at {
                let length = body.len();
                body[index % length] = byte;
            }
            for kind in [Kind::Push, Kind::Pull] {
                if let Ok(request) = Request::parse(&body, kind) {
                    for group in &request.groups {
                        let _ = Group::sections(group);
                    }
                }
            }
        }

        #[test]
        fn noise_never_parses_into_more_than_its_bytes(body in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(request) = Request::parse(&body, Kind::Push) {
                prop_assert!(request.groups.len() * GroupHeader::SIZE <= body.len());
            }
        }
    }
}
