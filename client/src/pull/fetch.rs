//! One request of a pull on its way: its reply as it arrives, and whether it is worth waiting for.

use std::sync::Arc;

use bytes::Bytes;
use glint_world::http::{Connections, Frames, Response};
use tokio::{sync::oneshot, time::Instant};

use super::{Asked, puller::PartReply};
use crate::{
    reply::Reader,
    routing::Routes,
    stats::count,
    transport::{Path, Server, Transport, Trouble},
};

/// Sections of one server that fit a request.
pub(super) struct Bundle {
    pub(super) server: Arc<Server>,
    /// What says that they are there, and the changes of maps that it has in it.
    pub(super) routes: Arc<Routes>,
    pub(super) seen: u64,
    /// Places in the plan.
    pub(super) parts: Vec<u32>,
    pub(super) bytes: usize,
}

impl Bundle {
    /// Whether its server is not, or not any more, where all of it is to be had.
    fn has_moved(&self, asked: Asked<'_>) -> bool {
        let routes = asked.model.routes();
        self.parts.iter().any(|&index| {
            let partition = asked.plan.parts[index as usize].partition;
            let (_, epoch) = self.routes.holder(partition);
            let mode = asked.read.mode(asked.model, partition);
            !routes.may_answer(partition, self.server.id, epoch, mode)
        })
    }
}

/// A request on its way.
pub(super) struct Fetch {
    pub(super) bundle: Bundle,
    pub(super) state: State,
    pub(super) reader: Reader,
    pub(super) give_up: Instant,
}

/// What a request waits for.
pub(super) enum State {
    Start(Frames),
    Body(Response),
    Queued(oneshot::Receiver<Result<Vec<PartReply>, Trouble>>),
    Over,
}

/// What has happened to a request.
pub(super) enum News {
    Bytes(Bytes),
    End,
    Parts(Vec<PartReply>),
    Trouble(Trouble),
}

/// Waits for the next thing to happen to a request, but not for a server that its partitions have left. It does not touch the
/// caller's slice, so that many can run at once.
pub(super) async fn advance(asked: Asked<'_>, mut fetch: Fetch) -> (Fetch, News) {
    let transport: &Transport = &asked.shared.transport;
    // Whoever makes the shared request that it waits for looks after that.
    let queued = matches!(fetch.state, State::Queued(_));
    let state = std::mem::replace(&mut fetch.state, State::Over);
    let stepped = {
        let to = &fetch.bundle.server.connections;
        let mut step = std::pin::pin!(state.step(transport, to, fetch.give_up));
        let mut seen = fetch.bundle.seen;
        loop {
            tokio::select! {
                biased;
                stepped = &mut step => break Some(stepped),
                () = transport.changes.since(&mut seen), if !queued => {
                    if fetch.bundle.has_moved(asked) {
                        break None;
                    }
                }
            }
        }
    };
    let Some((state, news)) = stepped else {
        count(&asked.shared.counters.aborted, 1);
        return (fetch, News::Trouble(Trouble::Moved));
    };
    fetch.state = state;
    (fetch, news)
}

impl State {
    async fn step(self, transport: &Transport, to: &Connections, give_up: Instant) -> (Self, News) {
        match self {
            Self::Start(body) => match transport.send(to, Path::Pull, body, give_up).await {
                Ok(mut response) => {
                    let news = next(transport, to, &mut response, give_up).await;
                    (Self::Body(response), news)
                }
                Err(trouble) => (Self::Over, News::Trouble(trouble)),
            },
            Self::Body(mut response) => {
                let news = next(transport, to, &mut response, give_up).await;
                (Self::Body(response), news)
            }
            Self::Queued(reply) => {
                let news = match reply.await {
                    Ok(Ok(parts)) => News::Parts(parts),
                    Ok(Err(trouble)) => News::Trouble(trouble),
                    Err(_) => News::Trouble(Trouble::Unsent("the puller's task has ended".into())),
                };
                (Self::Over, news)
            }
            Self::Over => (Self::Over, News::End),
        }
    }
}

async fn next(
    transport: &Transport,
    to: &Connections,
    response: &mut Response,
    give_up: Instant,
) -> News {
    match transport.next(to, response, give_up).await {
        Ok(Some(bytes)) => News::Bytes(bytes),
        Ok(None) => News::End,
        Err(trouble) => News::Trouble(trouble),
    }
}
