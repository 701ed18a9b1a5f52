//! What the tests of the master share: states, storage that fails, and servers that obey or not, without sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State as Shared, routing::post};
use glint_protocol::{
    Boot, ClusterId, Durability, ElementType, ErrorBody, Incarnation, ModelDraft, ModelId, OsBoot,
    ServerId, Shape,
    control::{
        CopyReport, CreateModel, Heartbeat, Labels, Orders, Register, Registered, ServerLoad,
        Volume,
    },
    copies::CopyRole,
};
use glint_world::{
    BoxFuture, BoxStream, Listener, MemoryStorage, Network, Random, Shutdown, Storage, SystemClock,
    TokioTasks, World,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::sync::Notify;

use super::{
    Master, MasterConfig, lock,
    state::{KnownServer, Model, State},
    transition,
};
use crate::http::{Answer, Failure, Json, body::Bodies, finish};

pub(crate) const CAPACITY: u64 = 1 << 40;

pub(crate) fn id(name: &str) -> ServerId {
    ServerId(name.into())
}

/// A state that knows servers `s1`, `s2`, …, each under boot 1.
pub(crate) fn state_with_servers(count: usize) -> State {
    let mut state = State::new(ClusterId(0xc));
    for number in 1..=count {
        state.servers.insert(
            id(&format!("s{number}")),
            KnownServer {
                url: format!("http://s{number}:1"),
                boot: Boot(1),
                capacity_bytes: CAPACITY,
                volume: None,
                os_boot: OsBoot(1),
                labels: Labels::default(),
                told: None,
                draining: false,
                returns: false,
            },
        );
    }
    state
}

/// A vector of i64.
pub(crate) fn draft(name: &str, keys: u64) -> ModelDraft {
    ModelDraft::new(name, Shape::Vector { keys }, ElementType::I64)
}

pub(crate) fn request(id: u64, model: ModelDraft) -> CreateModel {
    CreateModel {
        id: ModelId(id),
        model,
        or_open: false,
    }
}

/// Enters a model on all known servers and makes it live.
pub(crate) fn make(state: &mut State, draft: ModelDraft, id: u64) -> Incarnation {
    let alive = state.servers.keys().cloned().collect();
    let incarnation =
        transition::create(state, &request(id, draft), &alive, (Durability::Memory, 1)).unwrap();
    let boots = state
        .servers
        .iter()
        .map(|(id, s)| (id.clone(), s.boot))
        .collect();
    assert!(transition::make_live(state, incarnation, &boots));
    incarnation
}

/// A live model `w` of so many partitions on servers with data directories, partition by partition held in turn, and
/// followed in sync by the servers that come next. The place of server `s1` is 0, and so on.
pub(crate) fn copied(servers: usize, partitions: u32, copies: u8, durability: Durability) -> State {
    let mut state = state_with_servers(servers);
    for server in state.servers.values_mut() {
        server.volume = Some(volume(1));
    }
    let mut draft = draft("w", 8 * u64::from(partitions));
    draft.partitions = glint_protocol::Partitions::Exactly(partitions);
    draft.durability = Some(durability);
    draft.copies = Some(copies);
    make(&mut state, draft, 1);
    let revision = state.fresh_revision();
    let model = model(&mut state);
    for number in 1..=servers {
        model.intern(&id(&format!("s{number}")));
    }
    for partition in 0..partitions {
        for next in 1..u32::from(copies) {
            let follower = (model.holders[partition as usize] + next) % servers as u32;
            model.set_role(partition, follower, Some(CopyRole::InSync));
            model.revised(partition, revision);
        }
    }
    state
}

/// The data directory of a server, on which so many processes have started.
pub(crate) fn volume(start: u64) -> Volume {
    Volume {
        id: glint_protocol::VolumeId(7),
        start,
        clean: false,
    }
}

/// The model of [`copied`].
pub(crate) fn model(state: &mut State) -> &mut Model {
    Arc::make_mut(state.models.get_mut("w").unwrap())
}

/// Who has copies of a partition of it: the holder, then `name role` of the others.
pub(crate) fn who(state: &State, partition: u32) -> String {
    use std::fmt::Write;
    let model = &state.models["w"];
    let mut text = model.holder(partition).0.clone();
    for place in model
        .copies_of(partition)
        .into_iter()
        .flat_map(|c| &c.places)
    {
        let role = match place.role {
            CopyRole::InSync => "in sync",
            CopyRole::Learner => "learner",
            CopyRole::Former => "former",
        };
        write!(text, ", {} {role}", model.servers[place.server as usize]).unwrap();
    }
    text
}

pub(crate) fn ids<const N: usize>(names: [&str; N]) -> BTreeSet<ServerId> {
    names.map(id).into()
}

/// The registration of a server, with the copies that a state says it holds.
pub(crate) fn registration(state: &State, name: &str, boot: u64) -> Register {
    let server = id(name);
    let mut copies = Vec::new();
    for model in state.models.values() {
        let hold = model.hold(&server, state);
        let held = hold.iter().flat_map(|h| &h.partitions);
        let held = held.map(|held| (held.partition, held.epoch));
        let followed = hold.iter().flat_map(|h| &h.followed);
        let followed = followed.map(|followed| (followed.partition, followed.epoch));
        for (partition, epoch) in held.chain(followed) {
            copies.push(CopyReport {
                incarnation: model.incarnation,
                partition,
                epoch,
                position: glint_protocol::Position(0),
                last_epoch: epoch,
                follows: glint_protocol::Epoch(0),
            });
        }
    }
    Register {
        server,
        url: format!("http://{name}:1"),
        boot: Boot(boot),
        cluster: Some(state.cluster),
        capacity_bytes: CAPACITY,
        copies,
        lost: Vec::new(),
        holds: Vec::new(),
        models: Vec::new(),
        volume: None,
        starts: Vec::new(),
        os_boot: OsBoot(1),
        labels: Labels::default(),
        term: state.term,
        word: None,
    }
}

/// Storage in memory that fails, waits, or dies when it is told to.
#[derive(Default)]
pub(crate) struct FaultyStorage {
    pub(crate) kept: MemoryStorage,
    gate: Arc<tokio::sync::Mutex<()>>,
    reached: Notify,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    writes: usize,
    fail: usize,
    /// From this write on nothing succeeds; whether that write itself still reached the disk.
    crash: Option<(usize, bool)>,
}

impl FaultyStorage {
    /// Storage over what another one kept, dying at a write counted from 1.
    pub(crate) fn crashing(kept: MemoryStorage, at: usize, written: bool) -> Self {
        let storage = Self {
            kept,
            ..Self::default()
        };
        lock(&storage.plan).crash = Some((at, written));
        storage
    }

    pub(crate) fn fail_next(&self, writes: usize) {
        lock(&self.plan).fail = writes;
    }

    /// Makes writes wait while the result lives.
    pub(crate) fn hold(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.gate).try_lock_owned().unwrap()
    }

    /// Waits until a write has begun.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    pub(crate) fn writes(&self) -> usize {
        lock(&self.plan).writes
    }
}

impl Storage for FaultyStorage {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        self.kept.load(name)
    }

    fn store<'a>(&'a self, name: &'a str, content: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.reached.notify_one();
            let _gate = self.gate.lock().await;
            let (write, fail) = {
                let mut plan = lock(&self.plan);
                plan.writes += 1;
                let failing = plan.fail > 0;
                plan.fail = plan.fail.saturating_sub(1);
                match plan.crash {
                    Some((at, written)) if plan.writes >= at => {
                        (plan.writes == at && written, true)
                    }
                    _ => (!failing, failing),
                }
            };
            if write {
                self.kept.store(name, content).await?;
            }
            if fail {
                return Err(io::Error::other("the disk is gone"));
            }
            Ok(())
        })
    }
}

/// A server that notes its orders, and refuses them when told to.
#[derive(Default)]
pub(crate) struct FakeServer {
    pub(crate) orders: Mutex<Vec<Orders>>,
    pub(crate) refusal: Mutex<Option<ErrorBody>>,
    pub(crate) down: Mutex<bool>,
}

impl FakeServer {
    /// Everything it was told to hold and drop, in order.
    pub(crate) fn told(&self) -> Vec<Orders> {
        lock(&self.orders).clone()
    }
}

async fn obey(
    Shared(server): Shared<Arc<FakeServer>>,
    Json(orders): Json<Orders>,
) -> Answer<Json<serde_json::Value>> {
    let refusal = lock(&server.refusal).clone();
    match refusal {
        Some(error) if orders.hold.iter().any(|h| h.creating) => Err(Failure(error)),
        _ => {
            lock(&server.orders).push(orders);
            Ok(Json(serde_json::json!({})))
        }
    }
}

/// A network on which servers answer at `NAME:1`.
#[derive(Default)]
pub(crate) struct FakeNetwork {
    servers: Mutex<BTreeMap<String, Arc<FakeServer>>>,
}

impl FakeNetwork {
    pub(crate) fn server(&self, name: &str) -> Arc<FakeServer> {
        let mut servers = lock(&self.servers);
        Arc::clone(servers.entry(format!("{name}:1")).or_default())
    }
}

impl Network for FakeNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let server = lock(&self.servers).get(address).cloned();
            let server = server
                .filter(|s| !*lock(&s.down))
                .ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let router = Router::new()
                .route("/v1/orders", post(obey))
                .with_state(server);
            let service = TowerToHyperService::new(finish(router, Bodies::new(0)));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .header_read_timeout(None)
                    .serve_connection(TokioIo::new(theirs), service),
            );
            Ok(Box::new(ours) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// A master with fake servers around it.
pub(crate) struct Scene {
    pub(crate) master: Master,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) shutdown: Shutdown,
}

impl Scene {
    /// A master over this storage; the servers are those of `network`.
    pub(crate) async fn start(storage: Arc<dyn Storage>, network: Arc<FakeNetwork>) -> Self {
        let world = World {
            network: network.clone(),
            clock: Arc::new(SystemClock),
            random: Random::from_seed(7),
            tasks: Arc::new(TokioTasks),
            os_boot: 1,
        };
        let shutdown = Shutdown::new();
        let config = MasterConfig::default();
        let master = Master::start(world, storage, config, shutdown.clone())
            .await
            .unwrap();
        Self {
            master,
            network,
            shutdown,
        }
    }

    /// A master over empty storage, with registered servers of these names.
    pub(crate) async fn with_servers(names: &[&str]) -> Self {
        let scene = Self::start(Arc::new(MemoryStorage::default()), Arc::default()).await;
        for name in names {
            scene.register(name, 1).await.unwrap();
        }
        scene
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.master.shared.journal.state()
    }

    /// Registers a server with what the master thinks it holds if it is the same boot, else with nothing.
    pub(crate) async fn register(&self, name: &str, boot: u64) -> Result<Registered, ErrorBody> {
        self.network.server(name);
        let state = self.state();
        let mut request = registration(&state, name, boot);
        let same = state
            .servers
            .get(&request.server)
            .is_some_and(|s| s.boot == request.boot);
        if !same {
            request.copies.clear();
        }
        match self.master.register(request.clone()).await {
            Err(error) if error.detail.as_ref().is_some_and(|d| d.word.is_some()) => {
                request.word = error.detail.and_then(|detail| detail.word);
                self.master.register(request).await
            }
            answer => answer,
        }
    }

    pub(crate) fn beat(&self, name: &str, boot: u64) -> Result<(), ErrorBody> {
        self.master.heartbeat(&Heartbeat {
            server: id(name),
            boot: Boot(boot),
            term: self.state().term,
            busiest: Vec::new(),
            load: ServerLoad::default(),
        })
    }

    /// Lets time pass while these servers (of boot 1) send heartbeats.
    pub(crate) async fn pass(&self, time: Duration, beating: &[&str]) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            for name in beating {
                self.beat(name, 1).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
