//! The task of a lane: it owns the lane's state, numbers what is handed to it, sends it, and settles every number.

mod build;
mod settle;

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use glint_protocol::frame::Kind;
use glint_world::{BoxFuture, World};
use tokio::{sync::mpsc, time::Instant};

use super::{
    book::{Book, Slot},
    group::{Group, Now, compose},
    ticket::Piece,
};
use crate::{
    ClientOptions, Error,
    losses::Losses,
    reply::{self, Answer},
    retry::Pauses,
    routing::Model,
    stats::{Counters, count},
    transport::{Path, Server, Transport, Trouble},
};

/// Pieces taken from the queue at once.
const AT_ONCE: usize = 256;
/// Where pieces are handed to a lane. The bytes in flight of a client are bounded, and so is this queue.
#[derive(Clone, Debug)]
pub(crate) struct LaneSender {
    queue: mpsc::UnboundedSender<Piece>,
}

impl LaneSender {
    pub(crate) fn submit(&self, piece: Piece) {
        // When the task has ended, its runtime has; the piece is dropped, and tells its caller so.
        let _ = self.queue.send(piece);
    }
}

/// Starts a lane's task. It ends when all senders are gone and everything is settled.
pub(crate) fn start(
    world: &World,
    options: &ClientOptions,
    transport: &Arc<Transport>,
    pauses: &Arc<Pauses>,
    counters: &Arc<Counters>,
    losses: &Arc<Losses>,
) -> LaneSender {
    let (queue, pieces) = mpsc::unbounded_channel();
    count(&counters.lanes_opened, 1);
    let task = Task {
        book: Book::new(world.clock.unix_ms(), world.random.bits()),
        process: std::process::id(),
        forked: 0,
        world: world.clone(),
        options: options.clone(),
        transport: Arc::clone(transport),
        pauses: Arc::clone(pauses),
        counters: Arc::clone(counters),
        losses: Arc::clone(losses),
        lines: BTreeMap::new(),
        touched: VecDeque::new(),
        running: FuturesUnordered::new(),
        left: Arc::default(),
        pages_kept: 0,
    };
    world.tasks.spawn(Box::pin(task.run(pieces)));
    LaneSender { queue }
}

struct Task {
    world: World,
    options: ClientOptions,
    transport: Arc<Transport>,
    pauses: Arc<Pauses>,
    counters: Arc<Counters>,
    losses: Arc<Losses>,
    book: Book<Piece>,
    /// The process that the current lane belongs to: a fork's child opens its own.
    process: u32,
    /// What tells this process's lanes from its parent's; 0 without a fork.
    forked: u64,
    lines: BTreeMap<usize, Line>,
    /// Lines that may be able to send.
    touched: VecDeque<usize>,
    running: FuturesUnordered<BoxFuture<'static, Event>>,
    /// What requests that go on waiting let go of, and that the map has changed while they wait.
    left: Arc<LeftBehind>,
    /// Pages that were left at the last clearing.
    pages_kept: usize,
}

/// What goes to one server.
struct Line {
    server: Arc<Server>,
    /// Partitions that have something to send and nothing unsettled.
    ready: VecDeque<Slot>,
    /// A request of new numbers is out.
    out: bool,
    /// Requests that wait for their next attempt because the server could not be reached: until then nothing new is sent.
    held: usize,
}

struct Request {
    server: Arc<Server>,
    /// It brought new numbers: the next such waits for it.
    fresh: bool,
    groups: Vec<Group>,
}

impl Request {
    /// Takes out the groups whose partitions have left its server.
    fn take_moved(&mut self) -> Vec<Group> {
        let groups = std::mem::take(&mut self.groups);
        let (moved, kept) = groups.into_iter().partition(Group::has_moved);
        self.groups = kept;
        moved
    }
}

/// Groups that are not waited for any more at a server. What is ready to be sent there may have to go elsewhere too.
struct Left {
    server: usize,
    groups: Vec<Group>,
}

/// Where a lane's requests put what they let go of. They are polled by the lane's task, which looks here whenever it has done
/// so: nobody needs to be woken, and looking costs next to nothing.
#[derive(Default)]
struct LeftBehind {
    any: AtomicBool,
    all: Mutex<Vec<Left>>,
}

impl LeftBehind {
    fn put(&self, server: usize, groups: Vec<Group>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Left { server, groups });
        self.any.store(true, Ordering::Release);
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Ready with all that there is.
    fn poll(&self) -> Poll<Vec<Left>> {
        if !self.any() {
            return Poll::Pending;
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(false, Ordering::Release);
        Poll::Ready(std::mem::take(&mut *all))
    }
}

enum Event {
    /// Answers are in the places of the request's groups.
    Ended(Request, Result<Vec<Answer>, Trouble>),
    /// All that it was waited for has moved.
    Abandoned(Request, Vec<Group>),
    Due {
        groups: Vec<Group>,
        held: Option<usize>,
    },
}

impl Task {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Piece>) {
        let mut open = true;
        let mut arrived = Vec::with_capacity(AT_ONCE);
        let left = Arc::clone(&self.left);
        while open || !self.running.is_empty() || left.any() {
            tokio::select! {
                biased;
                Some(event) = self.running.next(), if !self.running.is_empty() => self.take(event),
                left = poll_fn(|_| left.poll()) => left.into_iter().for_each(|left| self.leave(left)),
                some = queue.recv_many(&mut arrived, AT_ONCE), if open => open = some > 0,
            }
            for piece in arrived.drain(..) {
                self.accept(piece);
            }
            self.pump();
        }
        debug_assert!(self.book.is_idle());
    }

    fn accept(&mut self, piece: Piece) {
        let key = (piece.model.incarnation, piece.partition);
        let (model, partition) = (Arc::clone(&piece.model), piece.partition);
        if let Some(slot) = self.book.add(key, piece) {
            self.list(slot, &model, partition);
        }
    }

    /// Queues a partition at the server that holds it.
    fn list(&mut self, slot: Slot, model: &Model, partition: u32) {
        let (server, _) = model.holder(partition);
        let id = server.id;
        if !self.lines.contains_key(&id) {
            self.lines.retain(|_, line| {
                line.out
                    || line.held > 0
                    || !line.ready.is_empty()
                    || Arc::strong_count(&line.server) > 1
            });
        }
        let line = self.lines.entry(id).or_insert_with(|| Line {
            server,
            ready: VecDeque::new(),
            out: false,
            held: 0,
        });
        line.ready.push_back(slot);
        self.touched.push_back(id);
    }

    /// Sends what can be sent.
    fn pump(&mut self) {
        while let Some(id) = self.touched.pop_front() {
            let free = |line: &Line| !line.out && line.held == 0 && !line.ready.is_empty();
            if self.lines.get(&id).is_some_and(free)
                && let Some(request) = self.build(id)
            {
                if let Some(line) = self.lines.get_mut(&id) {
                    line.out = true;
                }
                self.send(request);
            }
        }
        if self.book.len() > 2 * self.pages_kept + 4096 {
            self.clear_pages();
        }
    }

    /// Drops the pages of partitions whose acknowledged numbers nobody needs: idle ones. A page made anew only lacks
    /// `prev`, which finds losses early and is never needed for safety.
    fn clear_pages(&mut self) {
        self.book.forget(|_| false);
        self.pages_kept = self.book.len();
    }

    fn open_lane(&mut self) {
        count(&self.counters.lanes_opened, 1);
        let random = self.world.random.bits() ^ self.forked;
        self.book.open_lane(self.world.clock.unix_ms(), random);
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            unix_ms: self.world.clock.unix_ms(),
        }
    }

    fn send(&mut self, mut request: Request) {
        let mut seen = self.transport.changes.count();
        for (place, group) in request.groups.iter_mut().enumerate() {
            let (holder, epoch) = group.model.holder(group.partition);
            group.attempts.count += 1;
            group.server = request.server.id;
            group.epoch = epoch;
            group.place = place;
            group.answers = group.model.answers();
            if holder.id != request.server.id {
                // It has moved since the request was put together: that is looked at before anything is waited for.
                seen = seen.wrapping_sub(1);
            }
        }
        let book = &self.book;
        let body = compose(&request.groups, |group| {
            book.prev(group.slot, group.lane.id)
        });
        let now = Instant::now();
        let limits = request
            .groups
            .iter()
            .map(|group| group.give_up_attempt(now));
        let give_up = limits
            .max()
            .unwrap_or(now)
            .min(now + self.options.request_timeout);
        let transport = Arc::clone(&self.transport);
        let left = Arc::clone(&self.left);
        self.running.push(Box::pin(async move {
            let (server, count) = (Arc::clone(&request.server), request.groups.len());
            let exchange = transport.exchange(&server.connections, Path::Push, body, give_up);
            let mut exchange = std::pin::pin!(exchange);
            let reply = loop {
                tokio::select! {
                    biased;
                    reply = &mut exchange => break reply,
                    () = transport.changes.since(&mut seen) => {
                        let groups = request.take_moved();
                        if request.groups.is_empty() {
                            return Event::Abandoned(request, groups);
                        }
                        left.put(server.id, groups);
                    }
                }
            };
            let answers = reply.and_then(|bytes| {
                reply::answers(&bytes, Kind::PushReply, count).map_err(Trouble::NotGlint)
            });
            Event::Ended(request, answers)
        }));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ended(request, answers) => self.ended(request, &answers),
            Event::Abandoned(request, groups) => self.abandoned(&request, groups),
            Event::Due { groups, held } => self.due(groups, held),
        }
    }
}

/// Ends a piece that its caller has taken back: nobody reads the error.
fn drop_unsent(piece: Piece) {
    piece.end(Err(Error::DeadlineExceeded {
        what: "a push that was taken back".into(),
        tried: Box::default(),
    }));
}
