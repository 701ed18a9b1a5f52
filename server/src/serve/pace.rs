//! A stream that ends when its peer makes it wait too long.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::response::Response;
use glint_world::{BoxFuture, BoxStream};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    time::{Instant, Sleep},
};

use super::{Limits, Responder};

/// What the service tells the stream beneath it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Whether a request of the connection is being answered.
    answering: AtomicBool,
    /// Whether that waits for more of the request's body.
    body: AtomicBool,
    /// How many requests there were: one may come and be answered between two reads.
    requests: AtomicU64,
}

/// A service that notes in [`Activity`] when it answers.
pub(super) struct Watched<R> {
    responder: R,
    activity: Arc<Activity>,
}

impl<R> Watched<R> {
    pub(super) fn new(responder: R, activity: Arc<Activity>) -> Self {
        Self {
            responder,
            activity,
        }
    }
}

/// The body of a request, which notes in [`Activity`] when it is waited for.
pub(super) struct Arriving<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B: Body + Unpin> Body for Arriving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        this.activity
            .body
            .store(frame.is_pending(), Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.activity.body.store(false, Ordering::Relaxed);
    }
}

impl<R: Responder> Service<Request<Incoming>> for Watched<R> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.activity.answering.store(true, Ordering::Relaxed);
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::clone(&self.activity);
        let answer = self.responder.respond(request.map(|body| {
            axum::body::Body::new(Arriving {
                body,
                activity: Arc::clone(&activity),
            })
        }));
        Box::pin(async move {
            let answer = answer.await;
            activity.answering.store(false, Ordering::Relaxed);
            Ok(answer)
        })
    }
}

/// Why the stream waits for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// For the first byte of another request.
    Idle,
    /// For the rest of a request's head.
    Head,
    /// For more of a request's body. (How long all of it may take is limited elsewhere.)
    Body,
}

/// A stream whose reads fail when no request arrives in time, and whose writes fail when the peer does not read.
pub(super) struct Paced {
    stream: BoxStream,
    limits: Limits,
    room: Arc<Semaphore>,
    activity: Arc<Activity>,
    /// Why it waits for the peer and since when, if it does.
    waiting: Option<(Waiting, Instant)>,
    /// Requests that were seen when `waiting` was last looked at.
    requests: u64,
    /// Since when a write waits for the peer.
    stalled: Option<Instant>,
    /// How fast the body of a request comes, and the answer goes, since it was first waited for.
    arrives: Option<Flow>,
    leaves: Option<Flow>,
    /// Rings at times, so that what has waited too long is looked at.
    bell: Pin<Box<Sleep>>,
}

/// Bytes per second that a peer must at least send of a request's body, and read of an answer, while there is hardly any room for
/// others: as fast as a request of the usual size, 1 MiB, must come to be there in the 30 s that it may take.
const LEAST_RATE: u64 = 32 << 10;

/// What has passed since when.
#[derive(Clone, Copy, Debug)]
struct Flow {
    since: Instant,
    bytes: u64,
}

impl Flow {
    fn begins() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Whether it has been slower than it may be, for so long.
    fn drips(&self, allowed: Duration) -> bool {
        let passed = self.since.elapsed();
        let least = passed.as_millis() * u128::from(LEAST_RATE) / 1000;
        passed >= allowed && u128::from(self.bytes) < least
    }
}

/// How often a stream that waits looks whether it has waited too long.
const TICK: Duration = Duration::from_secs(1);

impl Paced {
    pub(super) fn new(
        stream: BoxStream,
        limits: Limits,
        room: Arc<Semaphore>,
        activity: Arc<Activity>,
    ) -> Self {
        Self {
            stream,
            limits,
            room,
            activity,
            // Whoever connects has something to say at once.
            waiting: Some((Waiting::Head, Instant::now())),
            requests: 0,
            stalled: None,
            arrives: None,
            leaves: None,
            bell: Box::pin(tokio::time::sleep(TICK)),
        }
    }

    fn allowed(&self, waiting: Waiting) -> Duration {
        let limit = match waiting {
            Waiting::Head => self.limits.head,
            Waiting::Idle => self.limits.idle,
            Waiting::Body => self.limits.stall,
        };
        self.at_most(limit)
    }

    /// Whether most places are taken.
    fn is_crowded(&self) -> bool {
        self.room.available_permits() * 8 < self.limits.connections
    }

    /// A limit as it is now.
    fn at_most(&self, limit: Duration) -> Duration {
        if self.is_crowded() {
            limit.min(self.limits.crowded)
        } else {
            limit
        }
    }

    /// Whether a peer keeps others out by being slow.
    fn drips(&self, flow: Option<Flow>) -> bool {
        self.is_crowded() && flow.is_some_and(|flow| flow.drips(self.limits.crowded))
    }

    /// Notes that another request has come, if one has.
    fn look_for_another(&mut self) {
        let requests = self.activity.requests.load(Ordering::Relaxed);
        if self.requests != requests {
            self.requests = requests;
            self.waiting = None;
            (self.arrives, self.leaves) = (None, None);
        }
    }

    /// Fails when it is too late; else has the task woken later.
    fn check(
        &mut self,
        cx: &mut Context<'_>,
        is_late: impl Fn(&Self) -> bool,
        what: &'static str,
    ) -> Poll<io::Error> {
        loop {
            if is_late(self) {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            if self.bell.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.bell.as_mut().reset(Instant::now() + TICK);
        }
    }

    /// Has the task woken at the next tick. The connection reads before it answers, and not again until it is woken: it
    /// would never notice by itself that it is idle.
    fn look_later(&mut self, cx: &mut Context<'_>) {
        while self.waiting.is_none() && self.bell.as_mut().poll(cx).is_ready() {
            self.bell.as_mut().reset(Instant::now() + TICK);
        }
    }

    /// An answer that is being written is not idleness.
    fn not_idle(&mut self) {
        if matches!(self.waiting, Some((Waiting::Idle | Waiting::Body, _))) {
            self.waiting = None;
        }
    }

    fn check_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            self.look_later(cx);
            return wrote;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        let leaves = Some(*self.leaves.get_or_insert_with(Flow::begins));
        let is_late =
            |this: &Self| since.elapsed() >= this.at_most(this.limits.stall) || this.drips(leaves);
        self.check(cx, is_late, "the peer does not read the answer")
            .map(Err)
    }

    /// Notes what was written of an answer.
    fn left(&mut self, wrote: &Poll<io::Result<usize>>) {
        if let (Some(flow), Poll::Ready(Ok(bytes))) = (&mut self.leaves, wrote) {
            flow.bytes += *bytes as u64;
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.look_for_another();
        let came = (buffer.filled().len() - before) as u64;
        if let Some(flow) = &mut this.arrives {
            flow.bytes += came;
        }
        let is_body = matches!(this.waiting, Some((Waiting::Body, _)));
        if this.activity.answering.load(Ordering::Relaxed) {
            let waits = this.activity.body.load(Ordering::Relaxed) && read.is_pending();
            if !waits {
                this.waiting = this.waiting.filter(|_| !is_body);
                return read;
            }
            let since = match this.waiting {
                Some((Waiting::Body, since)) => since,
                _ => Instant::now(),
            };
            this.waiting = Some((Waiting::Body, since));
            let arrives = Some(*this.arrives.get_or_insert_with(Flow::begins));
            let is_late =
                |this: &Self| since.elapsed() >= this.allowed(Waiting::Body) || this.drips(arrives);
            return this
                .check(cx, is_late, "the body of a request did not arrive in time")
                .map(Err);
        }
        if is_body {
            this.waiting = None;
        }
        if read.is_ready() {
            if came > 0 && !matches!(this.waiting, Some((Waiting::Head, _))) {
                this.waiting = Some((Waiting::Head, Instant::now()));
            }
            return read;
        }
        // A write that waits for the peer has a limit of its own.
        if this.stalled.is_some() {
            return Poll::Pending;
        }
        let (waiting, since) = *this
            .waiting
            .get_or_insert_with(|| (Waiting::Idle, Instant::now()));
        let is_late = |this: &Self| since.elapsed() >= this.allowed(waiting);
        this.check(cx, is_late, "no request arrived in time")
            .map(Err)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.look_for_another();
        this.not_idle();
        this.left(&wrote);
        this.check_write(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.look_for_another();
        this.not_idle();
        this.left(&wrote);
        this.check_write(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.check_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.check_write(cx, shut)
    }
}
