//! Push: a body to verdicts. Each group is judged by itself, by the first line of the protocol's table that fits.

use std::sync::{Arc, atomic::Ordering};

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Position,
    frame::{Group, Kind, ReplyHeader, Request, RequestHeader, ResultHeader, Status},
};

use super::{
    slot::Slot,
    state::{Models, ServerState},
};
use crate::partition::{Outcome, Verdict, check::check};

/// The verdict on a group that reached no partition.
fn refused(error: ErrorBody) -> Verdict {
    Verdict {
        outcome: Outcome::Refused(error),
        epoch: Epoch(0),
        position: Position(0),
        repeated: false,
    }
}

/// A group names each partition once; twice would be two verdicts under one number.
pub(super) fn check_distinct(request: &Request<'_>) -> Result<(), ErrorBody> {
    let key = |group: &Group<'_>| (group.header.incarnation, group.header.partition);
    let twice = |partition: u32| {
        ErrorBody::new(
            ErrorCode::BadRequest,
            format!(
                "partition {partition} has two groups in one request; put all its sections into one group"
            ),
        )
    };
    // Most requests are sorted or tiny: then a look at the neighbours is enough.
    if request
        .groups
        .windows(2)
        .all(|pair| key(&pair[0]) < key(&pair[1]))
    {
        return Ok(());
    }
    let mut keys: Vec<_> = request.groups.iter().map(key).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(twice(pair[0].1)),
        None => Ok(()),
    }
}

/// A verdict, and the slot whose safe position it waits for.
type Judged = (Verdict, Option<Arc<Slot>>);

/// Judges and applies a whole body; the reply's verdicts may rest on records that are not safe yet.
fn judge(
    state: &ServerState,
    models: &Models,
    body: &[u8],
    now: u64,
) -> Result<Vec<Judged>, ErrorBody> {
    let request = Request::parse(body, Kind::Push)?;
    check_distinct(&request)?;
    Ok(request
        .groups
        .iter()
        .map(|group| judge_group(state, models, &request.header, group, now))
        .collect())
}

fn judge_group(
    state: &ServerState,
    models: &Models,
    header: &RequestHeader,
    group: &Group<'_>,
    now: u64,
) -> Judged {
    if !state.is_registered() {
        return (refused(not_registered()), None);
    }
    let slot = match models.find(group.header.incarnation, group.header.partition) {
        Ok(slot) => slot,
        Err(error) => return (refused(error), None),
    };
    // What does not depend on the partition's state is checked before it is locked.
    let checked = check(&slot.description, group, header.number.0);
    let mut partition = slot.lock();
    let verdict = partition.judge_and_apply(
        &slot.description,
        header.lane,
        header.number,
        &group.header,
        checked.as_ref().map_err(Clone::clone),
        now,
    );
    // One copy, in memory: what is applied is safe.
    slot.safe().raise(partition.position());
    drop(partition);
    if verdict.repeated {
        state.counters().repeated.fetch_add(1, Ordering::Relaxed);
    }
    (verdict, Some(Arc::clone(slot)))
}

/// The answer while the server is not registered since its start.
pub(super) fn not_registered() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Retry,
        "the server is not registered with its master yet; send again after a pause",
    )
}

/// Appends the reply to a push, as a binary frame.
pub(super) fn reply(verdicts: &[Verdict], out: &mut Vec<u8>) {
    out.extend_from_slice(
        &ReplyHeader {
            kind: Kind::PushReply,
            results: verdicts.len() as u32,
        }
        .encode(),
    );
    for verdict in verdicts {
        let (status, payload) = match &verdict.outcome {
            Outcome::Applied => (Status::Applied, Vec::new()),
            Outcome::Skipped => (Status::Skipped, Vec::new()),
            Outcome::Refused(error) => (Status::Error(error.code), error.to_json()),
        };
        let header = ResultHeader {
            status,
            length: payload.len() as u32,
            epoch: verdict.epoch,
            position: verdict.position,
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&payload);
    }
}

/// Answers the body of a push: verdicts are given once what they rest on is safe.
pub(super) async fn push(state: &ServerState, body: &[u8]) -> Result<Vec<Verdict>, ErrorBody> {
    let judged = {
        let models = state.models();
        judge(state, &models, body, state.world().clock.unix_ms())?
    };
    let mut verdicts = Vec::with_capacity(judged.len());
    for (verdict, slot) in judged {
        if let Some(slot) = slot {
            slot.safe().reach(verdict.position).await;
        }
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// Judges and applies the body of a push and appends its reply, without waiting for what must be safe: everything that a
/// push costs beside HTTP, for benchmarks and tests. `now` is in milliseconds since 1970.
///
/// # Errors
/// When the frame itself is broken; nothing was applied then.
pub fn push_body(
    state: &ServerState,
    body: &[u8],
    now: u64,
    out: &mut Vec<u8>,
) -> Result<(), ErrorBody> {
    let models = state.models();
    let judged = judge(state, &models, body, now)?;
    let verdicts: Vec<_> = judged.into_iter().map(|(verdict, _)| verdict).collect();
    reply(&verdicts, out);
    Ok(())
}
