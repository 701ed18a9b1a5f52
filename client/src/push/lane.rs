//! The task of a lane: it owns the lane's state, numbers what is handed to it, sends it, and settles every number.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use glint_protocol::{LaneId, Number, frame::Kind};
use glint_world::{BoxFuture, World};
use tokio::{sync::mpsc, time::Instant};

use super::{
    book::{Book, Slot},
    group::{Group, LaneEnd, Verdict, compose},
    ticket::Piece,
};
use crate::{
    ClientOptions, Error,
    reply::{self, Answer},
    retry::Pauses,
    routing::Model,
    stats::{Counters, count},
    transport::{Path, Server, Transport, Trouble},
};

/// Pieces taken from the queue at once.
const AT_ONCE: usize = 256;
/// Groups in one request at most.
const MOST_GROUPS: usize = 4096;

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
        lines: BTreeMap::new(),
        touched: VecDeque::new(),
        running: FuturesUnordered::new(),
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
    book: Book<Piece>,
    /// The process that the current lane belongs to: a fork's child opens its own.
    process: u32,
    /// What tells this process's lanes from its parent's; 0 without a fork.
    forked: u64,
    lines: BTreeMap<usize, Line>,
    /// Lines that may be able to send.
    touched: VecDeque<usize>,
    running: FuturesUnordered<BoxFuture<'static, Event>>,
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

enum Event {
    Ended(Request, Result<Vec<Answer>, Trouble>),
    Due {
        groups: Vec<Group>,
        held: Option<usize>,
        /// The models' masters say that they are gone.
        gone: Vec<(Arc<Model>, Error)>,
    },
}

impl Task {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Piece>) {
        let mut open = true;
        let mut arrived = Vec::with_capacity(AT_ONCE);
        while open || !self.running.is_empty() {
            tokio::select! {
                biased;
                Some(event) = self.running.next(), if !self.running.is_empty() => self.take(event),
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

    /// A request of new numbers for one server, of what has gathered.
    fn build(&mut self, id: usize) -> Option<Request> {
        self.open_lane_after_fork();
        let server = Arc::clone(&self.lines.get(&id)?.server);
        let lane = Arc::clone(self.book.lane());
        let now = Instant::now();
        let mut number = None;
        let mut groups = Vec::new();
        let mut bytes = 0;
        while groups.len() < MOST_GROUPS {
            let Some(slot) = self.lines.get_mut(&id)?.ready.pop_front() else {
                break;
            };
            let pieces = match self.gather(slot, &server, bytes) {
                Gathered::Pieces(pieces) => pieces,
                Gathered::Nothing => continue,
                Gathered::Full => {
                    self.lines.get_mut(&id)?.ready.push_front(slot);
                    break;
                }
            };
            self.book.begin(slot);
            let number = *number.get_or_insert_with(|| self.book.take_number());
            if let Some(group) = Group::freeze(slot, Arc::clone(&lane), number, pieces, now) {
                bytes += group.length;
                groups.push(group);
            }
            if !self.options.coalesce {
                break;
            }
        }
        (!groups.is_empty()).then_some(Request {
            server,
            fresh: true,
            groups,
        })
    }

    /// Takes what waits for a partition, as far as it fits behind `before` bytes.
    fn gather(&mut self, slot: Slot, server: &Arc<Server>, before: usize) -> Gathered {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut bytes = before;
        while let Some(next) = self.book.waiting(slot).front() {
            if next.ticket.is_cancelled() {
                if let Some(piece) = self.book.waiting(slot).pop_front() {
                    drop_unsent(piece);
                }
                continue;
            }
            let (model, partition) = (Arc::clone(&next.model), next.partition);
            if pieces.is_empty() && model.holder(partition).0.id != server.id {
                // It has moved since it was queued here.
                self.list(slot, &model, partition);
                return Gathered::Nothing;
            }
            let length = next.section.len();
            let shares = self.options.coalesce && pieces.len() < u16::MAX.into();
            let full = bytes > 0 && bytes + length > self.options.request_bytes;
            if full || (!pieces.is_empty() && !shares) {
                break;
            }
            if let Some(piece) = self.book.waiting(slot).pop_front() {
                if piece.ticket.may_send() {
                    bytes += length;
                    pieces.push(piece);
                } else {
                    drop_unsent(piece);
                }
            }
        }
        if !pieces.is_empty() {
            Gathered::Pieces(pieces)
        } else if self.book.waiting(slot).is_empty() {
            self.book.unlist(slot);
            Gathered::Nothing
        } else {
            Gathered::Full
        }
    }

    fn open_lane_after_fork(&mut self) {
        let process = std::process::id();
        if process != self.process {
            self.process = process;
            // Parent and child draw the same random numbers: the process tells them apart.
            self.forked = u64::from(process).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.book.lane().end();
            self.open_lane();
        }
    }

    fn open_lane(&mut self) {
        count(&self.counters.lanes_opened, 1);
        let random = self.world.random.bits() ^ self.forked;
        self.book.open_lane(self.world.clock.unix_ms(), random);
    }

    fn send(&mut self, mut request: Request) {
        for group in &mut request.groups {
            group.attempts.count += 1;
            group.epoch = group.model.holder(group.partition).1;
            group.refreshes = group.model.refreshes();
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
        self.running.push(Box::pin(async move {
            let to = &request.server.connections;
            let answers = match transport.exchange(to, Path::Push, body, give_up).await {
                Ok(bytes) => reply::answers(&bytes, Kind::PushReply, request.groups.len())
                    .map_err(Trouble::NotGlint),
                Err(trouble) => Err(trouble),
            };
            Event::Ended(request, answers)
        }));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ended(request, answers) => self.ended(request, &answers),
            Event::Due { groups, held, gone } => self.due(groups, held, &gone),
        }
    }

    fn ended(&mut self, request: Request, answers: &Result<Vec<Answer>, Trouble>) {
        let id = request.server.id;
        if request.fresh
            && let Some(line) = self.lines.get_mut(&id)
        {
            line.out = false;
        }
        self.touched.push_back(id);
        let now = Instant::now();
        let unreachable = matches!(answers, Err(Trouble::Unsent(_) | Trouble::Unanswered(_)));
        let (mut again, mut reissued, mut fresh_map) = (Vec::new(), Vec::new(), false);
        for (at, mut group) in request.groups.into_iter().enumerate() {
            let verdict = match answers {
                Ok(answers) => {
                    group.sent = true;
                    group.judge(&answers[at], now)
                }
                Err(trouble) => group.judge_trouble(trouble),
            };
            match verdict {
                Verdict::Applied => {
                    self.settle(&group, true);
                    group.end(&Ok(()));
                }
                Verdict::Skipped => {
                    self.settle(&group, true);
                    let end = Err(group.not_applied());
                    group.end(&end);
                }
                Verdict::Failed(error, lane) => self.fail(group, error, lane),
                Verdict::Again { fresh_map: wanted } => {
                    fresh_map |= wanted;
                    again.push(group);
                }
                Verdict::Reissue { horizon } => {
                    self.book.hear_horizon(horizon.unwrap_or(0));
                    self.replace_lane(&group);
                    reissued.push(group);
                }
            }
        }
        if !again.is_empty() {
            self.schedule(again, fresh_map, unreachable.then_some(id));
        }
        if !reissued.is_empty() {
            let number = self.book.take_number();
            for group in &mut reissued {
                group.lane = Arc::clone(self.book.lane());
                group.number = number;
            }
            self.schedule(reissued, false, None);
        }
    }

    fn settle(&mut self, group: &Group, in_ledger: bool) {
        let acknowledged: Option<(LaneId, Number)> =
            in_ledger.then_some((group.lane.id, group.number));
        if let Some(slot) = self.book.settle(group.slot, acknowledged) {
            let (model, partition) = (Arc::clone(&group.model), group.partition);
            self.list(slot, &model, partition);
        }
    }

    fn fail(&mut self, group: Group, error: Error, lane: LaneEnd) {
        if lane == LaneEnd::End {
            group.lane.end();
        }
        if lane != LaneEnd::Keep {
            self.replace_lane(&group);
        }
        self.settle(&group, false);
        group.end(&Err(error));
    }

    /// No more numbers from the group's lane.
    fn replace_lane(&mut self, group: &Group) {
        if group.lane.id == self.book.lane().id {
            self.open_lane();
        }
    }

    /// Lets groups wait for their next attempt, and has the map refreshed meanwhile.
    fn schedule(&mut self, groups: Vec<Group>, fresh_map: bool, held: Option<usize>) {
        count(&self.counters.retries, 1);
        if let Some(line) = held.and_then(|id| self.lines.get_mut(&id)) {
            line.held += 1;
        }
        let now = Instant::now();
        let attempts = groups.iter().map(|g| g.attempts.count).max().unwrap_or(1);
        let pause = self.pauses.next(attempts);
        // It wakes in time to settle what can no longer be tried.
        let boundary = groups.iter().map(|group| {
            if group.skip {
                group.give_up_by(self.options.request_timeout)
            } else {
                group.settle_by()
            }
        });
        let soonest = now + self.options.first_pause;
        let wake = boundary
            .min()
            .map_or(now + pause, |at| at.max(soonest).min(now + pause));
        self.running.push(Box::pin(async move {
            let mut gone: Vec<(Arc<Model>, Error)> = Vec::new();
            if fresh_map {
                let mut models: Vec<(Arc<Model>, u64)> = groups
                    .iter()
                    .map(|group| (Arc::clone(&group.model), group.refreshes))
                    .collect();
                models.dedup_by(|a, b| Arc::ptr_eq(&a.0, &b.0));
                for (model, seen) in models {
                    if let Err(error @ Error::Gone { .. }) = model.refresh(seen).await {
                        gone.push((model, error));
                    }
                }
            }
            let moved = |group: &Group| group.model.holder(group.partition).1 != group.epoch;
            // The first attempt at a new holder needs no pause.
            if attempts > 1 || !fresh_map || !groups.iter().all(moved) {
                tokio::time::sleep_until(wake).await;
            }
            Event::Due { groups, held, gone }
        }));
    }

    fn due(&mut self, groups: Vec<Group>, held: Option<usize>, gone: &[(Arc<Model>, Error)]) {
        if let Some(id) = held {
            if let Some(line) = self.lines.get_mut(&id) {
                line.held -= 1;
            }
            self.touched.push_back(id);
        }
        let now = Instant::now();
        let mut requests: BTreeMap<(usize, LaneId, Number), Request> = BTreeMap::new();
        for mut group in groups {
            self.clear_cancelled(group.slot);
            let model_gone = gone.iter().find(|(m, _)| Arc::ptr_eq(m, &group.model));
            if let Some((_, error)) = model_gone {
                let mut error = error.clone();
                if let Error::Gone { applied, .. } = &mut error
                    && group.sent
                {
                    *applied = crate::Applied::Unknown;
                }
                self.fail(group, error, LaneEnd::Keep);
                continue;
            }
            if group.lane.has_ended() {
                let error = group.unknown("its lane has ended");
                self.fail(group, error, LaneEnd::Keep);
                continue;
            }
            if now >= group.give_up_by(self.options.request_timeout) {
                let error = group.unknown("it could not be settled by its deadline");
                self.fail(group, error, LaneEnd::Replace);
                continue;
            }
            if now >= group.settle_by() {
                if !group.sent {
                    let error = group.not_applied();
                    self.fail(group, error, LaneEnd::Keep);
                    continue;
                }
                if !group.skip {
                    count(&self.counters.skips, 1);
                    group.skip = true;
                }
            }
            let (server, _) = group.model.holder(group.partition);
            let key = (server.id, group.lane.id, group.number);
            let request = requests.entry(key).or_insert_with(|| Request {
                server,
                fresh: false,
                groups: Vec::new(),
            });
            request.groups.push(group);
        }
        for request in requests.into_values() {
            self.send(request);
        }
    }

    /// Pieces that wait behind an unsettled number and whose callers have gone away give back their room.
    fn clear_cancelled(&mut self, slot: Slot) {
        let waiting = self.book.waiting(slot);
        if waiting.iter().any(|piece| piece.ticket.is_cancelled()) {
            for piece in std::mem::take(waiting) {
                if piece.ticket.is_cancelled() {
                    drop_unsent(piece);
                } else {
                    waiting.push_back(piece);
                }
            }
        }
    }
}

enum Gathered {
    Pieces(Vec<Piece>),
    /// Nothing waits there any more, or it is queued elsewhere.
    Nothing,
    /// What waits does not fit.
    Full,
}

/// Ends a piece that its caller has taken back: nobody reads the error.
fn drop_unsent(piece: Piece) {
    piece.end(Err(Error::DeadlineExceeded {
        what: "a push that was taken back".into(),
        tried: Box::default(),
    }));
}
