//! One record applied to its partition: after a restart from the log, and on a follower as its holder sends it.

use glint_protocol::{
    Number,
    frame::{Group, GroupHeader, Op, ReadMode},
};

use super::record::{Header, Kind, decode_lanes};
use crate::partition::{Description, Partition, Record, check::check};

/// Whether a record is the next of a partition.
pub(crate) fn follows(partition: &Partition, header: &Header) -> bool {
    header.position == partition.position().next() && header.previous == partition.last_epoch()
}

/// Applies a record that is the next.
///
/// # Errors
/// Why it is not valid for the partition; nothing changed then.
pub(crate) fn apply(
    description: &Description,
    partition: &mut Partition,
    header: &Header,
    payload: &[u8],
) -> Result<(), String> {
    let (lane, number, after_loss) = (header.lane, header.number, header.after_loss);
    let mut lanes = Vec::new();
    let checked;
    let record = match header.kind {
        Kind::Skip => Record::Skip {
            lane,
            number,
            after_loss,
        },
        Kind::Evict => {
            lanes.extend(decode_lanes(payload));
            Record::Evict { lanes: &lanes }
        }
        Kind::Update => {
            let group = Group {
                header: GroupHeader {
                    incarnation: header.incarnation,
                    partition: header.partition,
                    epoch: header.epoch,
                    prev: Number(0),
                    digest: header.digest,
                    read: ReadMode::Latest,
                    op: Op::Update,
                    element: Some(description.element),
                    sections: header.sections,
                    length: header.length,
                },
                bytes: payload,
            };
            // What was written was valid; but the program that reads it may be another.
            checked = check(description, &group, u64::MAX)
                .map_err(|error| format!("a record of the log is not valid: {error}"))?;
            Record::Update {
                lane,
                number,
                after_loss,
                digest: header.digest,
                sections: &checked.sections,
            }
        }
        Kind::Make | Kind::Drop | Kind::Replace | Kind::Release => {
            return Err("a record that is no update of a partition".into());
        }
    };
    partition.raise_epoch(header.epoch);
    partition.apply(description.rule, description.cols, record);
    partition.written_at(header.epoch);
    Ok(())
}
