//! Pulls. Large ones are requests of their own whose values go straight into the caller's slice; small ones queue for a
//! task per server, which lets those that are in flight together share requests.

mod puller;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use glint_protocol::{
    Element, ErrorBody, LaneId,
    error::{ErrorCode, GoneReason},
};
use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::puller::Puller;
use self::{
    puller::{PartReply, SmallPart, SmallPull},
    round::Round,
};
use crate::{
    Error, Result,
    client::Shared,
    error::Applied,
    plan::{Part, Plan},
    retry::Attempts,
    routing::{Model, Routes},
    stats::count,
    transport::{Server, Trouble},
};

/// Pulls of at most this many bytes share requests.
const SMALL: usize = 64 << 10;

pub(crate) const NO_LANE: LaneId = LaneId {
    birth: 0,
    random: 0,
};

/// Pulls what the plan names into the caller's slice.
pub(crate) async fn pull<T: Element>(
    shared: &Shared,
    model: &Arc<Model>,
    plan: &Plan,
    out: &mut [T],
    deadline: Instant,
) -> Result<()> {
    let mut attempts = Attempts::new();
    let run = async {
        // The usual small operation: one section, which nearly always comes at once.
        if let [part] = &plan.parts[..]
            && shared.options.coalesce
            && part.values * T::SIZE <= SMALL
            && small(shared, model, plan, part, out).await
        {
            count(&shared.counters.values_pulled, out.len() as u64);
            return Ok(());
        }
        repeat(shared, model, plan, out, &mut attempts).await
    };
    match tokio::time::timeout_at(deadline, run).await {
        Ok(result) => result,
        Err(_) => Err(Error::DeadlineExceeded {
            what: format!("a pull from model '{}'", model.name()),
            tried: attempts.tried(),
        }),
    }
}

/// Pulls the only section of a plan together with others; false when that failed in any way.
async fn small<T: Element>(
    shared: &Shared,
    model: &Arc<Model>,
    plan: &Plan,
    part: &Part,
    out: &mut [T],
) -> bool {
    let length = plan.section_length(part, T::SIZE, false);
    if length > SMALL {
        return false;
    }
    let mut sections = Vec::with_capacity(length);
    plan.write_section(part, None, T::SIZE, &mut sections);
    let parts = vec![SmallPart {
        partition: part.partition,
        section: length,
        values: part.values * T::SIZE,
    }];
    let receiver = {
        let routes = model.routes();
        let (server, _) = routes.holder(part.partition);
        queue(shared, server, model, parts, sections)
    };
    match receiver.await {
        Ok(Ok(replies)) => match &replies[..] {
            [Ok(bytes)] => {
                plan.scatter(part, 0, bytes, out);
                true
            }
            [Err(error)] => {
                take_hint(model, part.partition, error);
                false
            }
            _ => false,
        },
        _ => false,
    }
}

/// Queues a small pull at its server.
fn queue(
    shared: &Shared,
    server: &Server,
    model: &Arc<Model>,
    parts: Vec<SmallPart>,
    sections: Vec<u8>,
) -> oneshot::Receiver<Result<Vec<PartReply>, Trouble>> {
    let (reply, receiver) = oneshot::channel();
    let start = || Puller::start(&shared.transport, server, &shared.pool);
    server.puller.get_or_init(start).submit(SmallPull {
        model: Arc::clone(model),
        parts,
        sections,
        reply,
    });
    receiver
}

async fn repeat<T: Element>(
    shared: &Shared,
    model: &Arc<Model>,
    plan: &Plan,
    out: &mut [T],
    attempts: &mut Attempts,
) -> Result<()> {
    let mut pending: Vec<u32> = (0..plan.parts.len() as u32).collect();
    while !pending.is_empty() {
        attempts.count += 1;
        let answers = model.answers();
        let mut seen = shared.transport.changes.count();
        let routes = model.routes().clone();
        let mut round = Round {
            shared,
            model,
            plan,
            routes: &routes,
            seen,
            again: Vec::new(),
            fresh_map: false,
            attempts,
            failure: None,
        };
        round.run(pending, out).await;
        let (again, fresh_map, failure) = (round.again, round.fresh_map, round.failure);
        if let Some(error) = failure {
            return Err(error);
        }
        pending = again;
        if pending.is_empty() {
            break;
        }
        pending.sort_unstable();
        count(&shared.counters.retries, 1);
        model.note_use();
        if fresh_map {
            model.want_map(answers);
        }
        let partitions = || pending.iter().map(|&at| plan.parts[at as usize].partition);
        let moved = || partitions().any(|partition| has_moved(model, &routes, partition));
        let pause = tokio::time::sleep(shared.pauses.at_server(attempts.trouble()));
        tokio::pin!(pause);
        // Where it has moved there is no trouble yet.
        loop {
            if let Some(error) = model
                .end()
                .or_else(|| partitions().find_map(|p| model.lost(p)))
            {
                return Err(error);
            }
            if moved() {
                attempts.moved();
                break;
            }
            tokio::select! {
                biased;
                () = &mut pause => break,
                () = shared.transport.changes.since(&mut seen) => {}
            }
        }
    }
    count(&shared.counters.values_pulled, out.len() as u64);
    Ok(())
}

/// Whether a partition is elsewhere than it was.
fn has_moved(model: &Model, before: &Routes, partition: u32) -> bool {
    let (server, epoch) = before.holder(partition);
    !model.is_held(partition, server.id, epoch)
}

/// Takes what an error says about the holder of a partition.
pub(crate) fn take_hint(model: &Model, partition: u32, error: &ErrorBody) {
    if let Some(hint) = error.detail.as_ref().and_then(|d| d.hint.as_ref()) {
        model.take_hint(partition, hint);
    }
}

/// The error of a group that is not tried again.
pub(crate) fn refusal(model: &Model, partition: u32, body: ErrorBody, applied: Applied) -> Error {
    match body.code {
        ErrorCode::Gone => Error::Gone {
            model: model.name().to_owned(),
            reason: body
                .detail
                .and_then(|d| d.reason)
                .unwrap_or(GoneReason::Unknown),
            applied,
        },
        ErrorCode::Lost => Error::Lost {
            model: model.name().to_owned(),
            partition,
            why: body.message,
            applied,
        },
        _ => Error::Refused(Box::new(body)),
    }
}
