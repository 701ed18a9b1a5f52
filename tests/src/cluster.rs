//! A whole cluster in this process, on real sockets with ports of its own: ready in milliseconds, each of its processes
//! can be stopped, killed and started again.

use std::{path::Path, sync::Arc, time::Duration};

use glint::{Client, ClientOptions};
use glint_protocol::{
    Boot, Epoch, MAX_DEADLINE_MS, ModelMap, ServerId,
    control::{ClusterStatus, HeldPartition, Hold, Orders, ServerState},
    copies::Pulse,
};
use glint_server::{
    log::LogOptions,
    master::{self, MasterConfig},
    serve::Limits,
    server::{self, OnShutdown, ServerConfig},
};
use glint_world::{
    DirectoryDisk, Disk, Listener, MemoryDisk, MemoryStorage, Network, Storage, Tcp, World,
    disk::FaultyDisk,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{address::free_address, process::Process, proxy::Proxy, wire::Wire};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A master and servers.
pub struct Cluster {
    world: World,
    storage: MemoryStorage,
    master_address: String,
    max_deadline: Duration,
    limits: Limits,
    log: LogOptions,
    on_shutdown: OnShutdown,
    adopts: bool,
    pulse: Pulse,
    rebalances: bool,
    master: Option<Process>,
    servers: Vec<Member>,
}

struct Member {
    id: ServerId,
    address: String,
    /// What clients and the master are told.
    url: String,
    capacity_bytes: u64,
    /// Its data directory, if it has one.
    directory: Option<tempfile::TempDir>,
    /// What is wrong with the disk of that.
    faults: FaultyDisk,
    process: Option<Process>,
}

async fn listen(address: &str) -> Box<dyn Listener> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Tcp.listen(address).await {
            Ok(listener) => return listener,
            // The process that had the port is just ending.
            Err(error) if Instant::now() > until => panic!("cannot listen at {address}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Opens a data directory as soon as the process that had it has let go of it.
async fn open(directory: &Path) -> Arc<dyn Disk> {
    let until = Instant::now() + PATIENCE;
    loop {
        match DirectoryDisk::open(directory) {
            Ok(disk) => return Arc::new(disk),
            Err(error) if Instant::now() > until => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// A client of whatever answers at `url`, with one deadline for everything.
///
/// # Errors
/// What the client says.
pub async fn connect(url: &str, deadline: Duration) -> Result<Client, glint::Error> {
    let options = ClientOptions {
        deadline,
        connect_deadline: deadline,
        ..quick()
    };
    Client::builder(url).options(options).connect().await
}

/// Options for tests: no pause is longer than it must be, and retries are not rationed.
fn quick() -> ClientOptions {
    ClientOptions {
        deadline: Duration::from_secs(60),
        connect_deadline: PATIENCE,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(50),
        retries_per_second: 100_000.0,
        retry_burst: 100_000,
        ..ClientOptions::default()
    }
}

impl Cluster {
    /// A master and `servers` servers, all registered.
    pub async fn start(servers: usize) -> Self {
        Self::with_capacity(servers, 1 << 30).await
    }

    /// The same, with servers that hold so many bytes of values each.
    pub async fn with_capacity(servers: usize, capacity_bytes: u64) -> Self {
        let mut cluster = Self::prepare(servers);
        for server in &mut cluster.servers {
            server.capacity_bytes = capacity_bytes;
        }
        cluster.start_all().await;
        cluster
    }

    /// The same, with a data directory for each server, and how logs are kept.
    pub async fn durable(servers: usize, log: LogOptions) -> Self {
        let mut cluster = Self::prepare(servers);
        cluster.has_directories(log);
        cluster.start_all().await;
        cluster
    }

    /// Each server has a data directory, with its log kept so; before they start.
    pub fn has_directories(&mut self, log: LogOptions) {
        self.log = log;
        for server in &mut self.servers {
            server.directory = Some(tempfile::tempdir().expect("a directory"));
        }
    }

    /// The same, with servers that move what they hold before they end.
    pub async fn that_drains(servers: usize) -> Self {
        let mut cluster = Self::prepare(servers);
        cluster.on_shutdown = OnShutdown::Drain;
        cluster.start_all().await;
        cluster
    }

    /// The data directory of a server that has one.
    pub fn directory(&self, index: usize) -> &Path {
        let directory = self.servers[index].directory.as_ref();
        directory.expect("a data directory").path()
    }

    /// What is wrong with the disk of a server that has a data directory, to be changed while it runs, or before it starts again.
    pub fn disk(&self, index: usize) -> &FaultyDisk {
        &self.servers[index].faults
    }

    /// The same, where no operation may have a longer deadline, so that idle lanes are forgotten after ten times as long.
    pub async fn with_max_deadline(servers: usize, max_deadline: Duration) -> Self {
        let mut cluster = Self::prepare(servers);
        cluster.max_deadline = max_deadline;
        cluster.start_all().await;
        cluster
    }

    /// The same, where master and servers take so few connections at once, and wait for the slow very long until these run
    /// short.
    pub async fn with_connections(servers: usize, connections: usize) -> Self {
        let mut cluster = Self::prepare(servers);
        cluster.limits = Limits {
            connections,
            head: Duration::from_secs(600),
            stall: Duration::from_secs(600),
            crowded: Duration::from_millis(200),
            ..Limits::default()
        };
        cluster.start_all().await;
        cluster
    }

    /// The same, where everyone reaches the servers through `proxy`.
    pub async fn start_behind(proxy: &Proxy, servers: usize) -> Self {
        let mut cluster = Self::prepare(servers);
        for server in &mut cluster.servers {
            let route = proxy.route(&server.address).await.expect("a free port");
            server.url = format!("http://{route}");
        }
        cluster.start_all().await;
        cluster
    }

    /// A cluster of which no process has been started.
    pub fn prepare(servers: usize) -> Self {
        let mut members = Vec::new();
        for index in 0..servers {
            let address = free_address();
            members.push(Member {
                id: ServerId(format!("server-{index}")),
                url: format!("http://{address}"),
                address,
                capacity_bytes: 1 << 30,
                directory: None,
                faults: FaultyDisk::new(Arc::new(MemoryDisk::default())),
                process: None,
            });
        }
        Self {
            world: World::real(),
            storage: MemoryStorage::default(),
            master_address: format!("http://{}", free_address()),
            max_deadline: Duration::from_millis(MAX_DEADLINE_MS),
            limits: Limits::default(),
            log: LogOptions::default(),
            on_shutdown: OnShutdown::default(),
            adopts: false,
            pulse: Pulse::default(),
            rebalances: true,
            master: None,
            servers: members,
        }
    }

    /// How servers notice that others are gone; before the master starts.
    pub fn set_pulse(&mut self, pulse: Pulse) {
        self.pulse = pulse;
    }

    /// Nothing moves before an admin says so; before the master starts.
    pub fn keeps_places(&mut self) {
        self.rebalances = false;
    }

    /// Starts everything that was prepared.
    pub async fn start_all(&mut self) {
        self.start_master().await;
        for index in 0..self.servers.len() {
            self.start_server(index).await;
        }
        self.wait_for_servers(self.servers.len()).await;
    }

    /// The master's URL.
    pub fn url(&self) -> &str {
        &self.master_address
    }

    /// The master's URL for a program that shall reach it through `proxy`.
    pub async fn url_through(&self, proxy: &Proxy) -> String {
        let address = self.url().trim_start_matches("http://");
        format!(
            "http://{}",
            proxy.route(address).await.expect("a free port")
        )
    }

    /// A client.
    pub async fn client(&self) -> Client {
        self.client_for(quick().deadline).await
    }

    /// A client whose operations have this deadline.
    pub async fn client_for(&self, deadline: Duration) -> Client {
        let options = ClientOptions {
            deadline,
            ..quick()
        };
        let builder = Client::builder(self.url()).options(options);
        builder.connect().await.expect("a client")
    }

    /// A client that is still connecting: it borrows nothing of the cluster.
    pub fn connecting(&self) -> impl Future<Output = Client> + Send + 'static {
        let builder = Client::builder(self.url()).options(quick());
        async move { builder.connect().await.expect("a client") }
    }

    /// A client all of whose messages go through `proxy`.
    pub async fn client_through(&self, proxy: &Proxy) -> Client {
        self.client_with(proxy, |_| {}).await
    }

    /// The same, with changed options.
    pub async fn client_with(
        &self,
        proxy: &Proxy,
        change: impl FnOnce(&mut ClientOptions),
    ) -> Client {
        let mut options = quick();
        change(&mut options);
        let mut world = self.world.clone();
        world.network = proxy.network();
        let builder = Client::builder(self.url()).options(options).world(world);
        builder.connect().await.expect("a client")
    }

    /// Starts the master, with what it stored before.
    pub async fn start_master(&mut self) {
        let listener = listen(self.master_address.trim_start_matches("http://")).await;
        let storage: Arc<dyn Storage> = Arc::new(self.storage.clone());
        let config = MasterConfig {
            heartbeat: Duration::from_millis(50),
            silent_after: Duration::from_millis(400),
            max_deadline_ms: self.max_deadline.as_millis() as u64,
            adopt: self.adopts,
            limits: self.limits,
            pulse: self.pulse,
            rebalance: self.rebalances,
            ..MasterConfig::default()
        };
        self.master = Some(Process::start(&self.world, |world, shutdown| async move {
            let ended = master::run(world, storage, config, listener, shutdown).await;
            ended.expect("the master runs");
        }));
    }

    /// Ends the master as SIGKILL does.
    pub async fn kill_master(&mut self) {
        if let Some(master) = self.master.take() {
            master.kill().await;
        }
    }

    /// What the master stored is gone; its next start adopts what servers hold.
    pub fn lose_master_state(&mut self) {
        self.storage = MemoryStorage::default();
        self.adopts = true;
    }

    /// Starts a server: a new start of its process, with nothing but what its data directory has.
    pub async fn start_server(&mut self, index: usize) {
        let member = &mut self.servers[index];
        let listener = listen(&member.address).await;
        let url = |text: &str| text.parse().expect("a URL");
        let config = ServerConfig {
            id: Some(member.id.clone()),
            advertise: Some(url(&member.url)),
            max_deadline: self.max_deadline,
            limits: self.limits,
            log: self.log,
            on_shutdown: self.on_shutdown,
            disk: match &member.directory {
                Some(directory) => {
                    let disk = open(directory.path()).await;
                    Some(Arc::new(member.faults.over(disk)))
                }
                None => None,
            },
            ..ServerConfig::new(url(&self.master_address), member.capacity_bytes)
        };
        member.process = Some(Process::start(&self.world, |world, shutdown| async move {
            let ended = server::run(world, config, listener, shutdown).await;
            ended.expect("the server runs");
        }));
    }

    /// Ends a server as SIGKILL does.
    pub async fn kill_server(&mut self, index: usize) {
        if let Some(server) = self.servers[index].process.take() {
            server.kill().await;
        }
    }

    /// Ends a server as SIGTERM does.
    pub async fn stop_server(&mut self, index: usize) {
        if let Some(server) = self.servers[index].process.take() {
            server.stop().await;
        }
    }

    /// Ends everything as SIGTERM does.
    pub async fn stop(mut self) {
        for index in 0..self.servers.len() {
            self.stop_server(index).await;
        }
        if let Some(master) = self.master.take() {
            master.stop().await;
        }
    }

    /// Waits until every partition of a model has so many copies in sync, its holder's included.
    pub async fn wait_for_copies(&self, model: &str, copies: usize) {
        let path = format!("/v1/models/{model}");
        let until = Instant::now() + PATIENCE;
        loop {
            let map = Wire::to(self.url()).json("GET", &path, Value::Null).await;
            let map: Option<ModelMap> = map.ok().and_then(|map| serde_json::from_value(map).ok());
            let whole = map.as_ref().is_some_and(|map| {
                let followers = |p: u32| map.followers.get(p as usize).map_or(0, Vec::len);
                (0..map.spec.partition_count).all(|p| followers(p) + 1 >= copies)
            });
            if whole {
                return;
            }
            assert!(Instant::now() < until, "not {copies} copies: {map:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The master's view.
    pub async fn status(&self) -> ClusterStatus {
        self.try_status().await.expect("a status")
    }

    async fn try_status(&self) -> Option<ClusterStatus> {
        let master = Wire::to(self.url());
        let status = master.json("GET", "/v1/status", Value::Null).await.ok()?;
        serde_json::from_value(status).ok()
    }

    /// The master's view after every server has sent a heartbeat from now on: its counters are those of now.
    pub async fn fresh_status(&self) -> ClusterStatus {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.status().await
    }

    /// Waits until the master's view is so.
    pub async fn wait_for(&self, wanted: impl Fn(&ClusterStatus) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.try_status().await;
            if status.as_ref().is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < until, "it never came to be: {status:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until so many servers are registered with this start of the master, and alive.
    pub async fn wait_for_servers(&self, count: usize) {
        self.wait_for(|status| {
            let alive = |s: &&_| {
                matches!(
                    s,
                    &&glint_protocol::control::ServerSummary {
                        state: ServerState::Alive,
                        ..
                    }
                )
            };
            status.servers.iter().filter(alive).count() == count
        })
        .await;
    }

    /// How many partitions each server holds, by the master's map.
    pub async fn partitions_per_server(&self) -> Vec<u64> {
        let mut counts = vec![0; self.servers.len()];
        for model in self.status().await.models {
            let map = Wire::to(self.url())
                .map(&model.spec.name)
                .await
                .expect("a map");
            for &holder in &map.holders {
                let id = &map.servers[holder as usize].id;
                let index = self.servers.iter().position(|s| s.id == *id);
                counts[index.expect("a server of this cluster")] += 1;
            }
        }
        counts
    }

    /// Makes every map that clients have stale: as if a master whose storage was then set back had moved the epochs on.
    /// The master is restarted, learns from the servers of epochs above its own, and gives out new ones.
    pub async fn raise_epochs(&mut self) {
        let status = self.status().await;
        for model in &status.models {
            let map = Wire::to(self.url())
                .map(&model.spec.name)
                .await
                .expect("a map");
            for (server, address) in map.servers.iter().enumerate() {
                let partitions = (0..map.spec.partition_count)
                    .filter(|&p| map.holders[p as usize] as usize == server)
                    .map(|partition| HeldPartition {
                        partition,
                        epoch: Epoch(map.epochs[partition as usize].0 + 1_000),
                        ..HeldPartition::default()
                    })
                    .collect();
                let holder = Wire::to(&address.url);
                let itself = holder.json("GET", "/v1/status", Value::Null).await;
                let boot = itself.expect("a status")["boot"].take();
                let boot: Boot = serde_json::from_value(boot).expect("a boot");
                let orders = Orders {
                    cluster: map.cluster,
                    term: status.term,
                    boot,
                    hold: vec![Hold {
                        spec: map.spec.clone(),
                        incarnation: map.incarnation,
                        creating: false,
                        partitions,
                        followed: Vec::new(),
                        peers: Vec::new(),
                    }],
                    drop: Vec::new(),
                };
                let body = serde_json::to_value(&orders).expect("JSON");
                let obeyed = holder.json("POST", "/v1/orders", body).await;
                obeyed.expect("the server obeys");
            }
        }
        self.kill_master().await;
        self.start_master().await;
        let before = status.cluster;
        self.wait_for(|status| {
            status.cluster == before && status.servers.iter().all(|s| s.state == ServerState::Alive)
        })
        .await;
    }
}
