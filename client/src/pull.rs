//! Pulls. Large ones are requests of their own whose values go straight into the caller's slice; small ones queue for a
//! task per server, which lets those that are in flight together share requests.

mod fetch;
mod puller;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use glint_protocol::{
    Element, ErrorBody, LaneId,
    error::{ErrorCode, GoneReason},
    frame::ReadMode,
};
use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::puller::Puller;
use self::{
    puller::{PartReply, SmallPart, SmallPull},
    round::Round,
};
use crate::{
    Error, Read, Result,
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

/// What a pull asks for, and how.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) model: &'a Arc<Model>,
    pub(crate) read: &'a Read,
    pub(crate) plan: &'a Plan,
}

impl Asked<'_> {
    /// What picks a copy to read, when it need not be the holder.
    fn dice(&self) -> Option<u64> {
        (!self.read.is_latest()).then(|| self.shared.world.random.bits())
    }
}

/// Pulls what is asked for into the caller's slice.
pub(crate) async fn pull<T: Element>(
    asked: Asked<'_>,
    out: &mut [T],
    deadline: Instant,
) -> Result<()> {
    let mut attempts = Attempts::new();
    let run = async {
        // The usual small operation: one section, which nearly always comes at once.
        let mut dice = asked.dice();
        if let [part] = &asked.plan.parts[..]
            && asked.shared.options.coalesce
            && part.values * T::SIZE <= SMALL
        {
            if small(asked, part, dice, out).await {
                count(&asked.shared.counters.values_pulled, out.len() as u64);
                return Ok(());
            }
            dice = None;
        }
        repeat(asked, dice, out, &mut attempts).await
    };
    match tokio::time::timeout_at(deadline, run).await {
        Ok(result) => result,
        Err(_) => Err(Error::DeadlineExceeded {
            what: format!("a pull from model '{}'", asked.model.name()),
            tried: attempts.tried(),
        }),
    }
}

/// Pulls the only section of a plan together with others; false when that failed in any way.
async fn small<T: Element>(
    asked: Asked<'_>,
    part: &Part,
    dice: Option<u64>,
    out: &mut [T],
) -> bool {
    let Asked { model, plan, .. } = asked;
    let length = plan.section_length(part, T::SIZE, false);
    if length > SMALL {
        return false;
    }
    let mut sections = Vec::with_capacity(length);
    plan.write_section(part, None, T::SIZE, &mut sections);
    let parts = vec![SmallPart {
        partition: part.partition,
        read: asked.read.mode(model, part.partition),
        section: length,
        values: part.values * T::SIZE,
    }];
    let receiver = {
        let routes = model.routes();
        let server = Read::choose(&routes, part.partition, dice);
        if dice.is_some() {
            count_follower(asked.shared, &routes, part.partition, server);
        }
        queue(asked.shared, server, model, parts, sections)
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

fn count_follower(shared: &Shared, routes: &Routes, partition: u32, server: &Server) {
    let follower = routes.holder(partition).0.id != server.id;
    count(&shared.counters.follower_reads, follower.into());
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
    // All parts have modes of one kind: those of one pull.
    let kind = parts.first().map_or(0, |part| part.read.code());
    let puller = server.pullers[usize::from(kind) % ReadMode::CODES].get_or_init(start);
    puller.submit(SmallPull {
        model: Arc::clone(model),
        parts,
        sections,
        reply,
    });
    receiver
}

/// Asks until everything is there. Without `dice` the first attempt is made at the holders; when copies were asked that could
/// not answer, the next is.
async fn repeat<T: Element>(
    asked: Asked<'_>,
    mut dice: Option<u64>,
    out: &mut [T],
    attempts: &mut Attempts,
) -> Result<()> {
    let Asked {
        shared,
        model,
        plan,
        ..
    } = asked;
    let mut pending: Vec<u32> = (0..plan.parts.len() as u32).collect();
    while !pending.is_empty() {
        attempts.count += 1;
        let answers = model.answers();
        let seen = shared.transport.changes.count();
        let mut round = Round {
            asked,
            routes: Arc::clone(&model.routes()),
            dice,
            seen,
            again: Vec::new(),
            moved: Vec::new(),
            holder_failed: false,
            fresh_map: false,
            attempts,
            failure: None,
        };
        round.run(pending, out).await;
        if let Some(error) = round.failure {
            return Err(error);
        }
        pending = round.again;
        if pending.is_empty() {
            break;
        }
        let (routes, mut seen) = (round.routes, round.seen);
        let (holder_failed, fresh_map) = (round.holder_failed, round.fresh_map);
        pending.sort_unstable();
        pending.dedup();
        count(&shared.counters.retries, 1);
        model.note_use();
        if fresh_map {
            model.want_map(answers);
        }
        dice = if dice.is_some() { None } else { asked.dice() };
        if !holder_failed {
            continue;
        }
        let partitions = || pending.iter().map(|&at| plan.parts[at as usize].partition);
        let moved = || partitions().any(|partition| has_moved(model, &routes, partition));
        let too_early = attempts.was_too_early();
        let pause = tokio::time::sleep(shared.pauses.at_server(attempts.trouble(), too_early));
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
        _ => {
            let (holder, _) = model.holder(partition);
            Error::refusal(body, holder.connections.url().to_string())
        }
    }
}
