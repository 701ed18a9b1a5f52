//! A cluster of one model that lives in a test: master and servers behind simulated connections, which fail as told.
//! It keeps a ledger by the table of the protocol, so that tests can count what was really applied.

mod judge;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use glint_protocol::{
    BINARY, ClusterId, Element, Epoch, ErrorBody, ErrorCode, Incarnation, LaneId, ModelDraft,
    ModelId, ModelMap, Number, Position, ServerId, Shape, Term,
    control::ClusterStatus,
    frame::{Kind, Op, ReadMode, ReplyHeader, Request, ResultHeader, Status},
    ids::Revision,
    map::ServerAddress,
    spec::Partitions,
};
use glint_world::{BoxFuture, BoxStream, Clock, Listener, Network, Random, TokioTasks, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::Notify,
    time::Instant,
};

use crate::{Client, ClientBuilder};

/// What happens to one request to a server.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is lost, and the connection with it.
    LoseRequest,
    /// It is obeyed, and the reply is lost with the connection.
    LoseReply,
    /// It is obeyed, and the reply comes so much later.
    Late(Duration),
    /// It is lost, and the connection stays silent.
    Silence,
    /// Every group is refused.
    Refuse(ErrorBody),
    /// The whole request is refused.
    RefuseWhole(ErrorBody),
}

/// A data request that a server has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) server: usize,
    pub(crate) lane: LaneId,
    pub(crate) number: Number,
    /// Per group: partition, what it does, how many sections, `prev`.
    pub(crate) groups: Vec<(u32, Op, u16, Number)>,
    /// Per group: which copies may answer.
    pub(crate) reads: Vec<ReadMode>,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own for a test"
)]
pub(crate) struct State {
    pub(crate) map: ModelMap,
    pub(crate) values: Vec<BTreeMap<u64, i64>>,
    ledger: BTreeMap<(u32, LaneId), (Number, u32, bool)>,
    /// Per partition: how many updates were applied.
    positions: Vec<u64>,
    /// What followers refuse pulls with that they might answer.
    pub(crate) follower_refuses: Option<ErrorCode>,
    pub(crate) horizon: u64,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) master_down: bool,
    /// Servers that refuse connections.
    pub(crate) unreachable: Vec<usize>,
    pub(crate) has_servers: bool,
    pub(crate) gone: bool,
    pub(crate) maps_asked: usize,
    /// When the master was polled for the next map.
    pub(crate) polls: Vec<Instant>,
    pub(crate) polls_open: usize,
    /// The time of day, in milliseconds since 1970.
    pub(crate) now_ms: u64,
    /// A server says who holds a partition when it does not.
    pub(crate) hints: bool,
}

/// The cluster: a vector of i64 in `partitions` partitions on two servers.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>, Arc<Notify>);

impl Clock for Fake {
    fn unix_ms(&self) -> u64 {
        self.state().now_ms
    }
}

/// A poll that is being held.
struct Open(Fake);

impl Open {
    fn new(fake: &Fake) -> Self {
        fake.state().polls_open += 1;
        Self(fake.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().polls_open -= 1;
    }
}

impl Fake {
    pub(crate) fn new(keys: u64, partitions: u32) -> Self {
        let mut draft = ModelDraft::new("v", Shape::Vector { keys }, i64::TYPE);
        draft.partitions = Partitions::Exactly(partitions);
        let server = |index: usize| ServerAddress {
            id: ServerId(format!("s{index}")),
            url: format!("http://s{index}:1"),
        };
        let map = ModelMap {
            cluster: ClusterId(1),
            spec: draft.resolve(2).unwrap(),
            incarnation: Incarnation {
                model: ModelId(8),
                generation: 1,
            },
            revision: Revision(1),
            max_deadline_ms: 600_000,
            servers: vec![server(0), server(1)],
            holders: (0..partitions).map(|p| p % 2).collect(),
            epochs: vec![Epoch(1); partitions as usize],
            followers: Vec::new(),
            lost: Vec::new(),
        };
        let state = State {
            map,
            values: vec![BTreeMap::new(); partitions as usize],
            ledger: BTreeMap::new(),
            positions: vec![0; partitions as usize],
            follower_refuses: None,
            horizon: 0,
            faults: VecDeque::new(),
            seen: Vec::new(),
            master_down: false,
            unreachable: Vec::new(),
            has_servers: true,
            gone: false,
            maps_asked: 0,
            polls: Vec::new(),
            polls_open: 0,
            now_ms: 1_000_000,
            hints: false,
        };
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn world(&self) -> World {
        self.world_of(7)
    }

    /// A client's world with random numbers of its own.
    pub(crate) fn world_of(&self, seed: u64) -> World {
        World {
            network: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
            random: Random::from_seed(seed),
            tasks: Arc::new(TokioTasks),
            os_boot: 1,
        }
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder("http://master:1").world(self.world())
    }

    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// The next request is refused group by group.
    pub(crate) fn refuse(&self, code: ErrorCode) {
        self.fail([Fault::Refuse(ErrorBody::new(code, "told to"))]);
    }

    /// Each partition has a copy on the server that does not hold it.
    pub(crate) fn add_followers(&self) {
        let mut state = self.state();
        state.map.followers = state.map.holders.iter().map(|h| vec![h ^ 1]).collect();
        state.map.revision = state.map.revision.next();
        self.1.notify_waiters();
    }

    /// Moves a partition to the other server.
    pub(crate) fn move_away(&self, partition: usize) {
        let mut state = self.state();
        state.map.holders[partition] ^= 1;
        let highest = state.map.epochs.iter().max().unwrap().next();
        state.map.epochs[partition] = highest;
        state.map.revision = state.map.revision.next();
        self.1.notify_waiters();
    }

    /// Holds a poll as the master does; false when the master ends meanwhile.
    async fn hold(&self, path: &str) -> bool {
        let Some((_, query)) = path.split_once("?revision=") else {
            return true;
        };
        let (revision, wait) = query.split_once("&wait_ms=").unwrap();
        let revision = Revision(revision.parse().unwrap());
        let until = Instant::now() + Duration::from_millis(wait.parse().unwrap());
        self.state().polls.push(Instant::now());
        let _open = Open::new(self);
        loop {
            let moved = self.1.notified();
            {
                let state = self.state();
                let answer = state.gone || state.map.revision != revision;
                if state.master_down || answer || Instant::now() >= until {
                    return !state.master_down;
                }
            }
            // What tests change by hand is found before long.
            let _ = tokio::time::timeout(Duration::from_millis(50), moved).await;
        }
    }

    /// The servers forget which pushes they have applied, as after the loss of what their disks had not got.
    pub(crate) fn forget_ledgers(&self) {
        self.state().ledger.clear();
    }

    /// The sum of all values, as the servers hold them.
    pub(crate) fn sum(&self) -> i64 {
        self.state().values.iter().flat_map(BTreeMap::values).sum()
    }

    async fn serve(self, address: String, mut stream: DuplexStream) -> io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
            stream.read_exact(&mut body).await?;
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let (status, content, text) = if address == "master:1" {
                if self.state().master_down {
                    return Ok(());
                }
                // A client that goes away ends its poll.
                let held = tokio::select! {
                    biased;
                    up = self.hold(path) => up,
                    _ = stream.read_u8() => false,
                };
                if !held {
                    return Ok(());
                }
                let (status, text) = self.master(method, path);
                (status, "application/json", text)
            } else {
                let server = usize::from(address.starts_with("s1"));
                let fault = self.state().faults.pop_front().unwrap_or(Fault::None);
                match fault {
                    Fault::LoseRequest => return Ok(()),
                    Fault::Silence => {
                        tokio::time::sleep(Duration::from_secs(100_000)).await;
                        return Ok(());
                    }
                    Fault::RefuseWhole(error) => {
                        self.obey(server, path, &[], Some(&error));
                        (
                            error.code.http_status(),
                            "application/json",
                            error.to_json(),
                        )
                    }
                    Fault::Refuse(error) => {
                        (200, BINARY, self.obey(server, path, &body, Some(&error)))
                    }
                    Fault::LoseReply => {
                        self.obey(server, path, &body, None);
                        return Ok(());
                    }
                    Fault::Late(by) => {
                        let reply = self.obey(server, path, &body, None);
                        tokio::time::sleep(by).await;
                        (200, BINARY, reply)
                    }
                    Fault::None => (200, BINARY, self.obey(server, path, &body, None)),
                }
            };
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: {content}\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&text).await?;
        }
    }

    fn master(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        let mut state = self.state();
        let refuse = |code: ErrorCode| {
            let error = ErrorBody::new(code, "told to");
            (code.http_status(), error.to_json())
        };
        if path == "/v1/status" {
            let status = ClusterStatus {
                cluster: Some(state.map.cluster),
                term: Term(1),
                version: "0".into(),
                servers: Vec::new(),
                models: Vec::new(),
                transfers: glint_protocol::control::Transfers::default(),
                refused: Vec::new(),
                adoption: None,
            };
            return (200, serde_json::to_vec(&status).unwrap());
        }
        if method == "post" && !state.has_servers {
            return refuse(ErrorCode::NoServers);
        }
        if state.gone {
            return refuse(ErrorCode::UnknownModel);
        }
        state.maps_asked += usize::from(!path.contains('?'));
        (200, serde_json::to_vec(&state.map).unwrap())
    }

    fn obey(&self, server: usize, path: &str, body: &[u8], refuse: Option<&ErrorBody>) -> Vec<u8> {
        let (kind, reply) = if path == "/v1/pull" {
            (Kind::Pull, Kind::PullReply)
        } else {
            (Kind::Push, Kind::PushReply)
        };
        if body.is_empty() {
            return Vec::new();
        }
        let request = Request::parse(body, kind).unwrap();
        let mut state = self.state();
        state.seen.push(Seen {
            server,
            lane: request.header.lane,
            number: request.header.number,
            groups: request
                .groups
                .iter()
                .map(|g| {
                    (
                        g.header.partition,
                        g.header.op,
                        g.header.sections,
                        g.header.prev,
                    )
                })
                .collect(),
            reads: request.groups.iter().map(|g| g.header.read).collect(),
        });
        let mut out = ReplyHeader {
            kind: reply,
            results: request.groups.len() as u32,
        }
        .encode()
        .to_vec();
        for group in &request.groups {
            let known = state
                .ledger
                .get(&(group.header.partition, request.header.lane));
            let known = known.map_or(Number(0), |entry| entry.0);
            let (status, payload) = match refuse {
                Some(error) => Err(error.clone()),
                None => state.judge(server, &request.header, group),
            }
            .unwrap_or_else(|error| (Status::Error(error.code), error.to_json()));
            let header = ResultHeader {
                status,
                length: payload.len() as u32,
                epoch: Epoch(1),
                position: Position(state.positions[group.header.partition as usize]),
                after_loss: (status == Status::Applied && group.header.prev > known)
                    .then_some(known),
                age_ms: None,
            };
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(&payload);
        }
        out
    }
}

impl Network for Fake {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let refused = {
                let state = self.state();
                let server = address
                    .strip_prefix('s')
                    .map(|rest| usize::from(&rest[..1] == "1"));
                server.is_some_and(|server| state.unreachable.contains(&server))
                    || (address == "master:1" && state.master_down)
            };
            if refused {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let fake = self.clone();
            let address = address.to_owned();
            tokio::spawn(async move {
                let _ = fake.serve(address, theirs).await;
            });
            Ok(Box::new(ours) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}
