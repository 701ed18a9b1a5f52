//! The way to one other server that follows partitions of this one: frames queue up for it, and go out in the order of each
//! partition, by a few streams side by side.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use glint_protocol::{ServerId, copies};
use glint_world::{
    Shutdown,
    http::{Connections, Url},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    beacon, stream,
    wire::{Frame, Hello, Key},
};
use crate::server::state::{Slot, State};

/// Streams to one server for what acknowledgements wait for: a partition always goes by the same.
const LIVE: usize = 4;
/// Streams for states of partitions: few, so that few partitions at once have their records sent besides.
const BULK: usize = 2;
/// All streams to one server.
const ALL: usize = LIVE + BULK;
/// Bytes of records that may wait for the next piece of a state.
const MAY_WAIT: usize = 1 << 20;
/// Bytes that may wait for one server before pushes to what it follows have to.
const CONGESTED: usize = 64 << 20;

/// By which streams something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What acknowledgements wait for.
    Live,
    /// States of partitions, and the records among them.
    Bulk,
}

impl Way {
    /// Of a stream.
    pub(super) fn of(stream: usize) -> Self {
        if stream < LIVE {
            Self::Live
        } else {
            Self::Bulk
        }
    }

    fn stream(self, key: Key) -> usize {
        let place = key.0.model.0.wrapping_add(key.1.into());
        match self {
            // Neighbours go by different ones.
            Self::Live => place as usize % LIVE,
            // Whichever partitions of a model move, all have some of them (Fibonacci hashing).
            Self::Bulk => {
                let spread = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                LIVE + spread as usize % BULK
            }
        }
    }
}

/// The way to one start of another server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: copies::Peer,
    connections: Connections,
    streams: [Stream; ALL],
    /// When it answered a beacon last; at first, when it was made.
    heard: Mutex<Instant>,
    /// What it named in its last answer to a beacon; 0 before the first.
    echo: AtomicU64,
    beacon: Notify,
    end: Shutdown,
}

/// What waits for one stream.
#[derive(Debug, Default)]
struct Stream {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Partitions whose states are being sent.
    feeding: VecDeque<Arc<Slot>>,
}

impl Queue {
    fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
    }

    fn take_out(&mut self, wanted: impl Fn(&Frame) -> bool) -> VecDeque<Frame> {
        let (taken, left) = std::mem::take(&mut self.frames)
            .into_iter()
            .partition(|frame| wanted(frame));
        self.frames = left;
        self.bytes = self.frames.iter().map(Frame::bytes).sum();
        taken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is changed in single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn id(&self) -> &ServerId {
        &self.0.known.id
    }

    pub(super) fn connections(&self) -> &Connections {
        &self.0.connections
    }

    pub(super) fn end(&self) -> &Shutdown {
        &self.0.end
    }

    /// Who speaks to whom over it.
    pub(super) fn hello(&self, state: &State) -> Hello {
        Hello {
            cluster: state.heard().cluster.unwrap_or_default(),
            server: state.id.clone(),
            boot: state.boot,
            to: self.0.known.boot,
        }
    }

    /// Has a frame sent, after those of the same partition that came before this way: call it under the lock of the partition.
    pub(super) fn send(&self, way: Way, frame: Frame) {
        let stream = &self.0.streams[way.stream(frame.key)];
        // Nobody waits for records among the pieces of a state: they go out with the next piece.
        let may_wait = way == Way::Bulk && frame.is_record();
        let bytes = {
            let mut queue = lock(&stream.queue);
            queue.push(frame);
            queue.bytes
        };
        if !may_wait || bytes >= MAY_WAIT {
            stream.wake.notify_one();
        }
    }

    /// Has the state of a partition sent, piece by piece.
    pub(super) fn feed(&self, slot: &Arc<Slot>) {
        let stream = &self.0.streams[Way::Bulk.stream(slot.key())];
        lock(&stream.queue).feeding.push_back(Arc::clone(slot));
        stream.wake.notify_one();
    }

    /// Has the records of an attachment sent live from now on, if nothing of its state waits any more; whether it is so. Call it
    /// under the lock of the partition, while nothing is on its way in its bulk stream: the order of the records stays.
    pub(super) fn go_live(&self, key: Key, session: u64) -> bool {
        let of_it = |frame: &Frame| (frame.key, frame.session) == (key, session);
        let records = {
            let mut queue = lock(&self.0.streams[Way::Bulk.stream(key)].queue);
            if queue.frames.iter().any(|f| of_it(f) && !f.is_record()) {
                return false;
            }
            queue.take_out(of_it)
        };
        for record in records {
            self.send(Way::Live, record);
        }
        true
    }

    /// The partition whose state is next to be sent by a stream.
    pub(super) fn feeding(&self, stream: usize) -> Option<Arc<Slot>> {
        lock(&self.0.streams[stream].queue).feeding.front().cloned()
    }

    /// The state of the partition that was next is sent, or is not to be.
    pub(super) fn fed(&self, stream: usize) {
        lock(&self.0.streams[stream].queue).feeding.pop_front();
    }

    /// Whether something waits for a stream that does not wait for the next piece.
    pub(super) fn is_due(&self, stream: usize) -> bool {
        let queue = lock(&self.0.streams[stream].queue);
        let may_wait = Way::of(stream) == Way::Bulk
            && !queue.feeding.is_empty()
            && queue.bytes < MAY_WAIT
            && queue.frames.iter().all(Frame::is_record);
        !queue.frames.is_empty() && !may_wait
    }

    /// Takes what waits for a stream, up to about so many bytes.
    pub(super) fn take(&self, stream: usize, most: usize) -> Vec<Frame> {
        let mut queue = lock(&self.0.streams[stream].queue);
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(frame) = queue.frames.front() {
            let more = frame.bytes();
            if bytes > 0 && bytes + more > most {
                break;
            }
            bytes += more;
            taken.extend(queue.frames.pop_front());
        }
        queue.bytes -= bytes;
        taken
    }

    /// Bytes that wait for a stream.
    pub(super) fn waiting(&self, stream: usize) -> usize {
        lock(&self.0.streams[stream].queue).bytes
    }

    /// Does not send what waits of an attachment.
    pub(super) fn forget(&self, key: Key, session: u64) {
        for way in [Way::Live, Way::Bulk] {
            let mut queue = lock(&self.0.streams[way.stream(key)].queue);
            queue.take_out(|frame| (frame.key, frame.session) == (key, session));
        }
    }

    /// Waits until something is put into a stream.
    pub(super) async fn woken(&self, stream: usize) {
        self.0.streams[stream].wake.notified().await;
    }

    pub(super) fn is_congested(&self) -> bool {
        let streams = self.0.streams.iter();
        streams.map(|s| lock(&s.queue).bytes).sum::<usize>() > CONGESTED
    }

    /// It has answered a beacon.
    pub(super) fn answered(&self, at: Instant) {
        *lock(&self.0.heard) = at;
    }

    /// What it named in that answer.
    pub(super) fn stamped(&self, stamp: u64) {
        self.0.echo.fetch_max(stamp, Ordering::AcqRel);
    }

    /// What it named in the last answer that has come.
    pub(super) fn echo(&self) -> u64 {
        self.0.echo.load(Ordering::Acquire)
    }

    /// When it answered last.
    pub(super) fn heard(&self) -> Instant {
        *lock(&self.0.heard)
    }

    /// Has a beacon sent at once.
    pub(super) fn beacon_now(&self) {
        self.0.beacon.notify_one();
    }

    pub(super) async fn beacon_wanted(&self) {
        self.0.beacon.notified().await;
    }
}

/// The servers that follow partitions of this one.
#[derive(Debug, Default)]
pub(in crate::server) struct Peers(Mutex<BTreeMap<ServerId, Peer>>);

impl Peers {
    /// The way to a server; a new one if it has started again since, or moved. None when its URL cannot be one.
    pub(super) fn to(&self, state: &Arc<State>, known: &copies::Peer) -> Option<Peer> {
        let mut peers = lock(&self.0);
        if let Some(peer) = peers.get(&known.id) {
            if peer.0.known == *known {
                return Some(peer.clone());
            }
            peer.0.end.cancel();
        }
        let url: Url = known.url.parse().ok()?;
        let peer = Peer(Arc::new(Shared {
            known: known.clone(),
            // One for beacons beside those of the streams.
            connections: Connections::new(state.world.clone(), url, ALL + 2),
            streams: std::array::from_fn(|_| Stream::default()),
            heard: Mutex::new(Instant::now()),
            echo: AtomicU64::new(0),
            beacon: Notify::new(),
            end: state.ending.child_token(),
        }));
        for index in 0..ALL {
            state.spawn(stream::run(Arc::clone(state), peer.clone(), index));
        }
        state.spawn(beacon::run(Arc::clone(state), peer.clone()));
        peers.insert(known.id.clone(), peer.clone());
        Some(peer)
    }

    /// Ends the way to a server that no partition names any more; whether it did.
    pub(super) fn end_if_unused(&self, peer: &Peer) -> bool {
        let mut peers = lock(&self.0);
        // Its own tasks hold it, the caller among them, and this map while it is the present way.
        let present = peers.get(peer.id()).is_some_and(|p| p.is(peer));
        let own = ALL + 1 + usize::from(present);
        if Arc::strong_count(&peer.0) > own {
            return false;
        }
        if present {
            peers.remove(peer.id());
        }
        peer.0.end.cancel();
        true
    }
}
