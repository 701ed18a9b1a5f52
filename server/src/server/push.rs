//! Pushes: each group is checked, judged and applied under the short lock of its partition; its verdict is told once it
//! is safe.

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;
use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Position,
    frame::{Kind, ReplyHeader, Request, ResultHeader, Status},
};

use super::{
    durable::Payload,
    request::{check_distinct, put_result},
    state::{Counters, Slot, State},
};
use crate::{
    http::body::Charged,
    log::{Stuck, no_room},
    partition::{
        Outcome, Verdict,
        check::{Checked, check},
        judge::Pushed,
    },
    safe::Deposed,
};

/// A group that was judged.
pub(super) struct Judged {
    /// Its partition, if it is here.
    slot: Option<Arc<Slot>>,
    /// While this lasts, this server is the holder for whom the verdict was formed.
    era: u64,
    verdict: Verdict,
}

/// Judges all groups of a push.
///
/// # Errors
/// `bad_request` or `unsupported_protocol`: nothing of the request was applied.
pub(super) fn judge(
    state: &State,
    body: &Bytes,
    now: impl Fn() -> u64,
) -> Result<Vec<Judged>, ErrorBody> {
    let request = Request::parse(body, Kind::Push)?;
    check_distinct(&request)?;
    Counters::add(&state.counters.pushes, 1);
    let models = state.models.load();
    let (lane, number) = (request.header.lane, request.header.number);
    let wake = Wake {
        state,
        wanted: Cell::new(false),
    };
    let judged: Vec<_> = request
        .groups
        .iter()
        .map(|group| {
            let slot = match state.find(&models, &group.header) {
                Ok(slot) => slot,
                Err(error) => return Judged::elsewhere(error),
            };
            // The spec and the bytes alone decide this: no need to lock.
            let checked = check(&slot.description, group, number.0);
            let recorded = slot.is_recorded() && checked.is_ok();
            let payload = recorded.then(|| Payload::new(body, group));
            let pushed = Pushed {
                lane,
                number,
                header: &group.header,
            };
            let checked = checked.as_ref();
            let mut held = slot.lock();
            slot.traffic.note(group.bytes.len(), 0);
            if let Err(error) = held.serves(&slot.description) {
                return Judged::elsewhere(error);
            }
            let (position, before) = (held.position(), held.last_epoch());
            let room = slot.room(&held);
            let mut verdict = held.judge_and_apply(&slot.description, pushed, checked, room, &now);
            if verdict.repeated
                && let Err(error) = slot.has_copies(&held)
            {
                // What was taken by more copies may be on fewer now.
                verdict.outcome = Outcome::Refused(error);
            }
            if held.position() != position && slot.is_recorded() {
                // Under the same lock: the log and the followers have the records of a partition in their order. A follower
                // may have come since it was looked whether there is one.
                let payload = payload.unwrap_or_else(|| Payload::new(body, group));
                let record =
                    payload.header(slot, &held, before, (lane, number, verdict.after_loss));
                slot.note(&mut held, record, &payload.bytes);
                wake.wanted.set(slot.durable.is_some() || wake.wanted.get());
            } else {
                slot.changed(&held);
            }
            if held.loss().is_some() {
                state.note_loss(slot);
            }
            Judged {
                slot: Some(Arc::clone(slot)),
                era: slot.safe.era(),
                verdict,
            }
        })
        .collect();
    let repeated = judged.iter().filter(|j| j.verdict.repeated).count();
    if repeated > 0 {
        Counters::add(&state.counters.repeated, repeated as u64);
    }
    Ok(judged)
}

/// Wakes the log once all groups of a push are in it, or the push was interrupted by a defect.
struct Wake<'a> {
    state: &'a State,
    wanted: Cell<bool>,
}

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        if self.wanted.get()
            && let Some(log) = self.state.log.get()
        {
            log.wake();
        }
    }
}

impl Judged {
    fn elsewhere(error: ErrorBody) -> Self {
        Self {
            slot: None,
            era: 0,
            verdict: Verdict {
                outcome: Outcome::Refused(error),
                epoch: Epoch(0),
                position: Position(0),
                repeated: false,
                after_loss: None,
            },
        }
    }
}

/// Whether a refusal says nothing of the number, which is tried again whatever it says: it rests on nothing that could still
/// vanish.
fn settles_nothing(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(error) if matches!(
        error.code,
        ErrorCode::StorageFull | ErrorCode::NotEnoughCopies | ErrorCode::Busy | ErrorCode::Retry
    ))
}

/// The one place where a verdict waits until what it rests on is safe; duplicates and refusals too, since they rest on
/// the partition's state as well. Only what settles nothing is told at once: behind a record that waits for room it would
/// otherwise never be.
async fn settled(state: &State, judged: &mut Judged) {
    let Some(slot) = &judged.slot else {
        return;
    };
    if settles_nothing(&judged.verdict.outcome) {
        return;
    }
    let may_answer = || slot.answering.may(&state.origin);
    let reached = slot
        .safe
        .reached(judged.verdict.position, judged.era, may_answer);
    if let Err(Deposed) = reached.await {
        // Whether it is in, the new holder knows.
        let error = slot.lock().elsewhere(&slot.description);
        judged.verdict.outcome = Outcome::Refused(error);
        return;
    }
    let settles = matches!(judged.verdict.outcome, Outcome::Applied | Outcome::Skipped);
    if settles && slot.spec.min_in_sync() > 1 {
        // There were copies enough when it was taken; those that were waited for may have been taken out since.
        let held = slot.lock();
        let still = held.serves(&slot.description);
        if let Err(error) = still.and_then(|()| slot.has_copies(&held)) {
            judged.verdict.outcome = Outcome::Refused(error);
        }
    }
}

/// Waits until every verdict may be told.
///
/// # Errors
/// `retry` when that will never be, since the log has failed: nobody knows what the disk has, so nothing is settled.
pub(super) async fn all_settled(state: &State, judged: &mut [Judged]) -> Result<(), ErrorBody> {
    for judged in judged {
        let Some(log) = state.log.get() else {
            settled(state, judged).await;
            continue;
        };
        let logged = judged.slot.as_ref().is_some_and(|s| s.durable.is_some());
        tokio::select! {
            biased;
            () = settled(state, judged) => {}
            stuck = log.stuck(logged) => match stuck {
                Stuck::Failed(failure) => {
                    return Err(ErrorBody::new(ErrorCode::Retry, failure.to_string()));
                }
                // It is in memory and will be in the log once there is room. Until then nothing is settled: whoever sends it
                // again finds it in the ledger, and is told so when it is safe.
                Stuck::Full => judged.verdict.outcome = Outcome::Refused(no_room()),
            }
        }
    }
    Ok(())
}

/// The answer to a push.
pub(super) fn reply(state: &State, judged: &[Judged]) -> Result<Charged, ErrorBody> {
    let size = ReplyHeader::SIZE + judged.len() * ResultHeader::SIZE;
    let mut reply = state.bodies.take(size)?;
    let out = reply.bytes_mut();
    let header = ReplyHeader {
        kind: Kind::PushReply,
        results: judged.len() as u32,
    };
    out.extend_from_slice(&header.encode());
    for Judged { verdict, .. } in judged {
        let status = match &verdict.outcome {
            Outcome::Applied => Ok(Status::Applied),
            Outcome::Skipped => Ok(Status::Skipped),
            Outcome::Refused(error) => Err(error),
        };
        let at = out.len();
        put_result(out, status, verdict.epoch, verdict.position);
        if let Some(last) = verdict.after_loss.filter(|_| status.is_ok()) {
            ResultHeader::flag_loss(&mut out[at..], last);
        }
    }
    Ok(reply)
}

/// Judges and answers without waiting: with one copy in memory every verdict is safe at once.
pub(super) fn now(state: &State, body: &[u8], now: u64) -> Result<Bytes, ErrorBody> {
    let judged = judge(state, &Bytes::copy_from_slice(body), || now)?;
    Ok(reply(state, &judged)?.freeze())
}

/// What remains of a push without table and ledger.
pub(super) fn merge_only(state: &State, body: &[u8]) -> Result<Bytes, ErrorBody> {
    let request = Request::parse(body, Kind::Push)?;
    check_distinct(&request)?;
    Counters::add(&state.counters.pushes, 1);
    let models = state.models.load();
    let merge = |group| -> Result<Judged, ErrorBody> {
        let group: &glint_protocol::frame::Group<'_> = group;
        let slot = state.find(&models, &group.header)?;
        let checked: Checked<'_> = check(&slot.description, group, request.header.number.0)?;
        let mut partition = slot.lock();
        let description = &slot.description;
        partition.admit(description, group.header.epoch)?;
        partition.merge_only(description.rule, description.cols, &checked.sections);
        Ok(Judged {
            slot: Some(Arc::clone(slot)),
            era: 0,
            verdict: Verdict {
                outcome: Outcome::Applied,
                epoch: partition.epoch(),
                position: partition.position(),
                repeated: false,
                after_loss: None,
            },
        })
    };
    let merged: Vec<_> = request
        .groups
        .iter()
        .map(|group| merge(group).unwrap_or_else(Judged::elsewhere))
        .collect();
    Ok(reply(state, &merged)?.freeze())
}
