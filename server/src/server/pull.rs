//! Pull: a body to values. The size of the whole reply is known, and bounded, before the first value is copied.

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, MAX_BODY_BYTES, Position,
    frame::{Group, Kind, ReplyHeader, Request, ResultHeader, Status},
};

use super::{
    push::{check_distinct, not_registered},
    slot::Slot,
    state::{Models, ServerState},
};
use crate::{
    http::body::Charged,
    partition::{
        check::{Checked, check},
        read::append,
    },
};

/// Answers the body of a pull with a binary frame.
///
/// # Errors
/// When the frame itself is broken, or its reply would be too large.
pub(super) fn pull(state: &ServerState, body: &[u8]) -> Result<Charged, ErrorBody> {
    let request = Request::parse(body, Kind::Pull)?;
    check_distinct(&request)?;
    let models = state.models();
    let asked: Vec<_> = request
        .groups
        .iter()
        .map(|group| find(state, &models, group))
        .collect();
    let values: u128 = asked.iter().flatten().map(Asked::bytes).sum();
    let room = values + (ReplyHeader::SIZE + asked.len() * ResultHeader::SIZE) as u128;
    if room > MAX_BODY_BYTES as u128 {
        return Err(ErrorBody::new(
            ErrorCode::TooLarge,
            format!(
                "the reply would have {values} bytes of values; ask for less than {MAX_BODY_BYTES} in one request"
            ),
        ));
    }
    let mut reply = state.bodies().take(room as usize)?;
    let out = reply.bytes_mut();
    out.extend_from_slice(
        &ReplyHeader {
            kind: Kind::PullReply,
            results: asked.len() as u32,
        }
        .encode(),
    );
    for asked in asked {
        let at = out.len();
        out.extend_from_slice(&[0; ResultHeader::SIZE]);
        let (epoch, read) = match asked {
            Ok(asked) => asked.read(out),
            Err(error) => (Epoch(0), Err(error)),
        };
        let (status, position) = match read {
            Ok(position) => (Status::Values, position),
            Err(error) => {
                out.extend_from_slice(&error.to_json());
                (Status::Error(error.code), Position(0))
            }
        };
        let length = (out.len() - at - ResultHeader::SIZE) as u32;
        let header = ResultHeader {
            status,
            length,
            epoch,
            position,
        };
        out[at..at + ResultHeader::SIZE].copy_from_slice(&header.encode());
    }
    Ok(reply)
}

/// A group that reached a partition.
struct Asked<'a> {
    slot: &'a Slot,
    epoch: Epoch,
    checked: Result<Checked<'a>, ErrorBody>,
}

fn find<'a>(
    state: &ServerState,
    models: &'a Models,
    group: &Group<'a>,
) -> Result<Asked<'a>, ErrorBody> {
    if !state.is_registered() {
        return Err(not_registered());
    }
    let slot = models.find(group.header.incarnation, group.header.partition)?;
    Ok(Asked {
        slot,
        epoch: group.header.epoch,
        checked: check(&slot.description, group, 0),
    })
}

impl Asked<'_> {
    /// Bytes of values, if the group is valid.
    fn bytes(&self) -> u128 {
        let values = self.checked.as_ref().map_or(0, |checked| checked.values);
        u128::from(values) * self.slot.description.element.size() as u128
    }

    fn read(self, out: &mut Vec<u8>) -> (Epoch, Result<Position, ErrorBody>) {
        let partition = self.slot.lock();
        let read = partition
            .admit(&self.slot.description, self.epoch)
            .and(self.checked)
            .map(|checked| {
                append(
                    partition.values(),
                    self.slot.description.cols,
                    &checked.sections,
                    out,
                );
                partition.position()
            });
        (partition.epoch(), read)
    }
}
