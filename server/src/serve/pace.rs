//! A stream that ends when its peer makes it wait too long.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use glint_world::{BoxFuture, BoxStream};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    time::{Instant, Sleep},
};

use super::Limits;

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
pub(super) struct Watched<S> {
    service: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(service: S, activity: Arc<Activity>) -> Self {
        Self { service, activity }
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

impl<B, S: Service<Request<Arriving<B>>>> Service<Request<B>> for Watched<S>
where
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.activity.answering.store(true, Ordering::Relaxed);
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::clone(&self.activity);
        let answer = self.service.call(request.map(|body| Arriving {
            body,
            activity: Arc::clone(&activity),
        }));
        Box::pin(async move {
            let answer = answer.await;
            activity.answering.store(false, Ordering::Relaxed);
            answer
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
    /// Rings at times, so that what has waited too long is looked at.
    bell: Pin<Box<Sleep>>,
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
            bell: Box::pin(tokio::time::sleep(TICK)),
        }
    }

    fn allowed(&self, waiting: Waiting) -> Duration {
        let limit = match waiting {
            Waiting::Head => self.limits.head,
            Waiting::Idle => self.limits.idle,
            Waiting::Body => self.limits.stall,
        };
        let crowded = self.room.available_permits() * 8 < self.limits.connections;
        if crowded {
            limit.min(self.limits.crowded)
        } else {
            limit
        }
    }

    /// Fails when `since` is longer ago than `allowed` says; else has the task woken later.
    fn check(
        &mut self,
        cx: &mut Context<'_>,
        since: Instant,
        allowed: impl Fn(&Self) -> Duration,
        what: &'static str,
    ) -> Poll<io::Error> {
        loop {
            if since.elapsed() >= allowed(self) {
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
        let stall = self.limits.stall;
        self.check(cx, since, |_| stall, "the peer does not read the answer")
            .map(Err)
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
        let requests = this.activity.requests.load(Ordering::Relaxed);
        if this.requests != requests {
            this.requests = requests;
            this.waiting = None;
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
            return this
                .check(
                    cx,
                    since,
                    |this| this.allowed(Waiting::Body),
                    "the body of a request did not arrive in time",
                )
                .map(Err);
        }
        if is_body {
            this.waiting = None;
        }
        if read.is_ready() {
            if buffer.filled().len() > before && !matches!(this.waiting, Some((Waiting::Head, _))) {
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
        this.check(
            cx,
            since,
            |this| this.allowed(waiting),
            "no request arrived in time",
        )
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
        this.not_idle();
        this.check_write(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.not_idle();
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
