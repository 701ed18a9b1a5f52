//! Pulls: the size of the answer is known before anything is read; then each group's values are copied into it under the
//! short lock of its partition. A pull changes nothing.

use std::sync::Arc;

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Position,
    frame::{Group, Kind, ReplyHeader, Request, ResultHeader, Status},
};

use super::{
    request::{check_distinct, put_result},
    state::{Counters, Slot, State},
};
use crate::{
    http::body::Charged,
    partition::{
        check::{Checked, check},
        read,
    },
};

/// Answers a pull whose values take at most `limit` bytes.
///
/// # Errors
/// `bad_request`, `unsupported_protocol`, `too_large`, `busy`.
pub(super) fn answer(state: &State, body: &[u8], limit: usize) -> Result<Charged, ErrorBody> {
    let request = Request::parse(body, Kind::Pull)?;
    check_distinct(&request)?;
    Counters::add(&state.counters.pulls, 1);
    let models = state.models.load();
    let found: Vec<Result<Asked<'_, '_>, ErrorBody>> = request
        .groups
        .iter()
        .map(|group| {
            let slot = state.find(&models, &group.header)?;
            Ok(Asked {
                slot,
                group,
                checked: check(&slot.description, group, u64::MAX),
            })
        })
        .collect();
    let values: u64 = found
        .iter()
        .flatten()
        .map(Asked::bytes)
        .fold(0, u64::saturating_add);
    let frame = ReplyHeader::SIZE + found.len() * ResultHeader::SIZE;
    if values.saturating_add(frame as u64) > limit as u64 {
        return Err(ErrorBody::new(
            ErrorCode::TooLarge,
            format!(
                "the values that were asked for take {values} bytes, an answer at most {limit}; split the pull into several requests"
            ),
        ));
    }
    let mut reply = state.bodies.take(frame + values as usize)?;
    let out = reply.bytes_mut();
    let header = ReplyHeader {
        kind: Kind::PullReply,
        results: found.len() as u32,
    };
    out.extend_from_slice(&header.encode());
    for asked in found {
        match asked {
            Ok(asked) => asked.put(state, out),
            Err(error) => put_result(out, Err(&error), Epoch(0), Position(0)),
        }
    }
    Ok(reply)
}

/// A group whose partition is here.
struct Asked<'m, 'a> {
    slot: &'m Arc<Slot>,
    group: &'m Group<'a>,
    checked: Result<Checked<'a>, ErrorBody>,
}

impl Asked<'_, '_> {
    fn bytes(&self) -> u64 {
        let values = self.checked.as_ref().map_or(0, |checked| checked.values);
        values.saturating_mul(self.slot.description.element.size() as u64)
    }

    /// A holder that others could replace answers only while they have promised not to.
    fn may_answer(&self, state: &State) -> Result<(), ErrorBody> {
        if self.slot.answering.may(&state.origin) {
            return Ok(());
        }
        Err(ErrorBody::new(
            ErrorCode::Retry,
            format!(
                "partition {} of model '{}' is changing its holder, or its holder does not hear its followers; send it again after a pause",
                self.slot.description.partition, self.slot.description.model
            ),
        ))
    }

    fn put(&self, state: &State, out: &mut Vec<u8>) {
        let description = &self.slot.description;
        let partition = self.slot.lock();
        let (epoch, position) = (partition.epoch(), partition.position());
        let asked = &self.group.header;
        let admitted = if partition.is_holder() {
            partition
                .admit(description, asked.epoch)
                .and_then(|()| self.may_answer(state))
                .map(|()| None)
        } else if self.slot.is_installed() {
            partition
                .answers(description, asked.read, asked.epoch, state.origin.now())
                .map(Some)
        } else {
            Err(partition.elsewhere(description))
        };
        let (age_ms, checked) = match (&admitted, &self.checked) {
            (Err(error), _) | (Ok(_), Err(error)) => {
                self.slot.traffic.note(self.group.bytes.len(), 0);
                drop(partition);
                return put_result(out, Err(error), epoch, position);
            }
            (Ok(age_ms), Ok(checked)) => (*age_ms, checked),
        };
        let bytes = self.bytes();
        self.slot.traffic.note(self.group.bytes.len(), bytes);
        let header = ResultHeader {
            status: Status::Values,
            length: bytes as u32,
            epoch,
            position,
            after_loss: None,
            age_ms,
        };
        out.extend_from_slice(&header.encode());
        read::append(partition.values(), description.cols, &checked.sections, out);
    }
}
