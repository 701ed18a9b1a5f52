//! What a caller and a lane share about one hand-over: how much of it is done, and whether it may still be taken back.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{Error, routing::Model};

/// One hand-over of a few pieces. The last piece to end wakes the caller.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) deadline: Instant,
    /// From then on it is settled, not tried again.
    pub(crate) settle_by: Instant,
    remaining: AtomicUsize,
    applied: AtomicU64,
    /// A piece of it has been in a request.
    sent: AtomicBool,
    /// The caller has gone away: what is not sent yet is not to be.
    cancelled: AtomicBool,
    waker: AtomicWaker,
    rare: Mutex<Rare>,
}

#[derive(Debug)]
struct Rare {
    failure: Option<Error>,
    attempts: u32,
    last: Option<String>,
    /// Its share of the bytes in flight; given back when the last piece has ended.
    permit: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    pub(crate) fn new(
        deadline: Instant,
        settle_by: Instant,
        pieces: usize,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            deadline,
            settle_by,
            remaining: AtomicUsize::new(pieces),
            applied: AtomicU64::new(0),
            sent: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            rare: Mutex::new(Rare {
                failure: None,
                attempts: 0,
                last: None,
                permit: Some(permit),
            }),
        }
    }

    fn rare(&self) -> std::sync::MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// Called by the lane before it sends a piece: false when the caller has taken it back. Both sides write first and
    /// read then, so that a piece is never both sent and believed unsent.
    pub(crate) fn may_send(&self) -> bool {
        self.sent.store(true, Ordering::SeqCst);
        !self.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// An attempt at it failed.
    pub(crate) fn note(&self, attempts: u32, cause: &str) {
        let mut rare = self.rare();
        rare.attempts = attempts;
        rare.last = Some(cause.to_owned());
    }

    fn end(&self, values: u64, end: Result<(), Error>) {
        match end {
            Ok(()) => {
                self.applied.fetch_add(values, Ordering::Relaxed);
            }
            Err(error) => {
                self.rare().failure.get_or_insert(error);
            }
        }
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.rare().permit = None;
            self.waker.wake();
        }
    }
}

/// Sections of one partition, encoded, on their way through a lane.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) model: Arc<Model>,
    pub(crate) partition: u32,
    /// One section, values and all.
    pub(crate) section: Bytes,
    pub(crate) values: u64,
    pub(crate) ticket: Arc<Ticket>,
    ended: bool,
}

impl Piece {
    pub(crate) fn new(
        model: Arc<Model>,
        partition: u32,
        section: Bytes,
        values: u64,
        ticket: Arc<Ticket>,
    ) -> Self {
        Self {
            model,
            partition,
            section,
            values,
            ticket,
            ended: false,
        }
    }

    /// Tells the caller how it ended.
    pub(crate) fn end(mut self, end: Result<(), Error>) {
        self.ended = true;
        self.ticket.end(self.values, end);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // The lane's task was dropped with its runtime: the caller must not wait for ever.
        if !self.ended {
            self.ticket.end(0, Err(Error::Closed));
        }
    }
}

/// The caller's side of a ticket. Dropping it takes back what is not sent yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    ticket: Arc<Ticket>,
    pub(crate) bytes: usize,
}

/// How a hand-over ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) bytes: usize,
    pub(crate) applied: u64,
    pub(crate) failure: Option<Error>,
}

impl Waiting {
    pub(crate) fn new(ticket: Arc<Ticket>, bytes: usize) -> Self {
        Self { ticket, bytes }
    }

    /// Takes back what is not sent yet; says whether any of it was sent, how often, and why the last attempt failed.
    pub(crate) fn cancel(&self) -> (bool, u32, Option<String>) {
        self.ticket.cancelled.store(true, Ordering::SeqCst);
        let sent = self.ticket.sent.load(Ordering::SeqCst);
        let rare = self.ticket.rare();
        (sent, rare.attempts.max(sent.into()), rare.last.clone())
    }

    /// How it has ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.ticket.is_done().then(|| Outcome {
            bytes: self.bytes,
            applied: self.ticket.applied.load(Ordering::Relaxed),
            failure: self.ticket.rare().failure.take(),
        })
    }
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if !self.ticket.is_done() {
            self.ticket.waker.register(context.waker());
        }
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.ticket.cancelled.store(true, Ordering::SeqCst);
    }
}
