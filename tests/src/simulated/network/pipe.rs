//! One direction of a connection: bytes that arrive later, in order, until it breaks or goes silent.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::{io::ReadBuf, time::Instant};

use super::{Network, copies::Recorder, lock};
use crate::simulated::trace::checksum;

/// What may be under way; who writes more waits.
const WINDOW: usize = 256 << 10;

pub(super) struct Pipe {
    network: Network,
    /// Who connected, and to whom.
    hosts: [Arc<str>; 2],
    /// What flows here: requests or answers.
    what: &'static str,
    state: Mutex<State>,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a thing that happens to a connection by itself"
)]
#[derive(Default)]
struct State {
    queue: VecDeque<(Instant, Bytes)>,
    under_way: usize,
    /// When the last bytes arrive: those after them come no sooner.
    last: Option<Instant>,
    /// No more comes.
    closed: bool,
    /// Nobody reads any more.
    unread: bool,
    /// After what is under way, the reader is told that the connection broke.
    torn: bool,
    /// The reader hears nothing any more, and the writer does not learn of it.
    silent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    recorder: Option<Recorder>,
}

/// What a reader finds.
pub(super) enum Found {
    /// Bytes were copied, or the stream has ended.
    Done(io::Result<()>),
    /// The next bytes come at this time.
    At(Instant),
    /// It is woken when there is something.
    Nothing,
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl Pipe {
    pub(super) fn new(
        network: Network,
        hosts: [Arc<str>; 2],
        recorder: Option<Recorder>,
    ) -> Arc<Self> {
        Arc::new(Self {
            network,
            hosts,
            what: if recorder.is_some() {
                "request"
            } else {
                "answer"
            },
            state: Mutex::new(State {
                recorder,
                ..State::default()
            }),
        })
    }

    pub(super) fn read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Found {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.silent {
            state.reader = Some(context.waker().clone());
            return Found::Nothing;
        }
        let Some((at, bytes)) = state.queue.front_mut() else {
            if state.torn {
                return Found::Done(Err(broken()));
            }
            if state.closed {
                return Found::Done(Ok(()));
            }
            state.reader = Some(context.waker().clone());
            return Found::Nothing;
        };
        if *at > Instant::now() {
            // It may break, or go silent, before they come.
            state.reader = Some(context.waker().clone());
            return Found::At(*at);
        }
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..length]);
        bytes.advance(length);
        if bytes.is_empty() {
            state.queue.pop_front();
        }
        state.under_way -= length;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        Found::Done(Ok(()))
    }

    /// Takes what there is room for; `true` says that the connection broke while it was sent.
    pub(super) fn write(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<(usize, bool)>> {
        let arrival = self.network.arrival(&self.hosts);
        let breaks = self.network.breaks();
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.torn || state.unread || state.closed {
            return Poll::Ready(Err(broken()));
        }
        if state.silent {
            return Poll::Ready(Ok((bytes.len(), false)));
        }
        if state.under_way >= WINDOW {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut length = bytes.len().min(WINDOW - state.under_way);
        if self.network.trace.is_on() {
            let [from, to] = &self.hosts;
            let sum = checksum(&bytes[..length]);
            let note = format_args!("{} to {to}: {length} bytes, {sum:08x}", self.what);
            self.network.trace.note(from, note);
        }
        if breaks {
            length = self.network.dice().below(length as u64 + 1) as usize;
        } else if let Some(recorder) = &mut state.recorder
            && recorder.wrote(&bytes[..length])
        {
            // The request is to come through another connection: nothing of it arrives here.
            state.queue.clear();
            state.under_way = 0;
            return Poll::Ready(Ok((length, true)));
        }
        if length > 0 {
            let at = state.last.map_or(arrival, |last| last.max(arrival));
            state.last = Some(at);
            state
                .queue
                .push_back((at, Bytes::copy_from_slice(&bytes[..length])));
            state.under_way += length;
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok((length, breaks)))
    }

    /// The writer has ended.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.wake();
    }

    /// The reader has ended.
    pub(super) fn stop_reading(&self) {
        let mut state = lock(&self.state);
        state.unread = true;
        state.wake();
    }

    /// The connection breaks: what is under way still arrives, then the reader is told.
    pub(super) fn tear(&self) {
        let mut state = lock(&self.state);
        state.torn = true;
        state.wake();
    }

    /// Nothing arrives any more, and nobody is told.
    pub(super) fn go_silent(&self) {
        let mut state = lock(&self.state);
        state.silent = true;
        state.queue.clear();
        state.under_way = 0;
        state.wake();
    }

    /// If it is silent, both ends are told that it is broken.
    pub(super) fn end_silence(&self) {
        let mut state = lock(&self.state);
        if state.silent {
            state.silent = false;
            state.torn = true;
            state.wake();
        }
    }
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}
