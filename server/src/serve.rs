//! The accept loop: HTTP/1.1 connections over any listener, bounded in number and in what they may wait for.
//!
//! A connection that waits (idle, or in the middle of a request) or whose peer does not read the answer is closed
//! after a while; sooner when there is no room for others, so that a flood of slow or half-open connections ends by
//! itself and never stops those who speak.

mod pace;

use std::{io, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use glint_world::{BoxStream, Listener, Shutdown, World};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use pace::{Activity, Paced, Watched};

/// The bounds of an accept loop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; beyond it new ones wait in the listener's backlog.
    pub connections: usize,
    /// How long the head of a request may take to arrive, from its first byte or from the start of the connection.
    pub head: Duration,
    /// How long a kept connection may be idle between requests.
    pub idle: Duration,
    /// How long a body may make no progress: that of a request which does not arrive, that of an answer which the peer does
    /// not read.
    pub stall: Duration,
    /// What `head`, `idle` and `stall` shrink to while the connections that are left are few; after it, a body or an answer must
    /// keep up a least rate too.
    pub crowded: Duration,
    /// How long requests in flight may take to finish after the shutdown signal.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            crowded: Duration::from_secs(1),
            grace: Duration::from_secs(10),
        }
    }
}

/// What answers the requests of connections.
pub trait Responder: Clone + Send + Sync + 'static {
    /// Answers one; what goes wrong is an answer too.
    fn respond(&self, request: Request) -> impl Future<Output = Response> + Send + 'static;
}

impl Responder for Router {
    fn respond(&self, request: Request) -> impl Future<Output = Response> + Send + 'static {
        let answer = self.clone().call(request);
        async move {
            let Ok(response) = answer.await;
            response
        }
    }
}

/// Answers connections with `responder` until `shutdown`; then takes no more, lets the requests in flight finish within the
/// grace period, and returns when all connections are closed.
pub async fn serve(
    world: World,
    mut listener: Box<dyn Listener>,
    responder: impl Responder,
    limits: Limits,
    shutdown: Shutdown,
) {
    let room = Arc::new(Semaphore::new(limits.connections.max(1)));
    let open = TaskTracker::new();
    let mut pause = Duration::ZERO;
    loop {
        let next = async {
            // Room first: what cannot be served stays with the kernel, where it costs nothing.
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, _))) => {
                pause = Duration::ZERO;
                let responder = responder.clone();
                let (room, shutdown, open) = (Arc::clone(&room), shutdown.clone(), open.token());
                world.tasks.spawn(Box::pin(async move {
                    connection(stream, responder, limits, room, place, shutdown).await;
                    drop(open);
                }));
            }
            (_, Err(error)) => {
                if !is_of_one_connection(&error) {
                    // Out of descriptors, most likely: connections that end make room, so wait for them.
                    pause = (pause * 2).clamp(Duration::from_millis(5), Duration::from_secs(1));
                    tracing::warn!(%error, ?pause, "cannot accept connections; trying again");
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
            // The semaphore is never closed.
            (Err(_), Ok(_)) => {}
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn connection(
    stream: BoxStream,
    responder: impl Responder,
    limits: Limits,
    room: Arc<Semaphore>,
    place: OwnedSemaphorePermit,
    shutdown: Shutdown,
) {
    let activity = Arc::new(Activity::default());
    let service = Watched::new(responder, Arc::clone(&activity));
    let stream = TokioIo::new(Paced::new(stream, limits, room, activity));
    // No date header: the time of day is the world's, not this machine's. Waiting is bounded by `Paced`.
    let connection = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .header_read_timeout(None)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
    };
    let ended = if let Some(ended) = ended {
        Ok(ended)
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(limits.grace, connection).await
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => {
            tracing::warn!(grace = ?limits.grace, "a connection was cut at shutdown: its request took too long");
        }
    }
    drop(place);
}

#[cfg(test)]
mod tests;
