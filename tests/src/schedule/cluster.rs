//! The hosts of a schedule: a master, servers, clients, each with its disk, its clock and one process at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::Duration,
};

use glint_protocol::ServerId;
use glint_server::{
    master::{self, MasterConfig},
    server::{self, ServerConfig},
};
use glint_world::{Random, Shutdown, Spawn, World, disk::Files};
use tokio::{sync::mpsc, time::Instant};

use super::{
    plan::{Clocks, Plan},
    truth::Truth,
    work,
};
use crate::simulated::{Clock, Copy, Dice, Disk, End, Life, Network, Trace};

pub(super) const MASTER: &str = "master";
/// How long after a disk was slow a sync may still be under way, or have begun late.
const WHOLE_SYNCS: Duration = Duration::from_secs(4);

/// What runs on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Server,
    Client,
}

/// One machine.
pub(super) struct Host {
    pub(super) role: Role,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    /// The process that runs, or ran last.
    pub(super) life: Option<Life>,
    /// Tells it to end in order.
    pub(super) shutdown: Shutdown,
    os_boot: u64,
    starts: u64,
    /// A sync has failed since the last stop of the machine.
    failed_sync: Option<Instant>,
    /// Its disk was lost, and it is to adopt what servers hold as long as it has no state.
    pub(super) adopts: bool,
    /// The process has ended by itself, which its life is about to tell.
    gave_up: bool,
    /// Starts that ended by themselves, one after another.
    pub(super) failures: u32,
    /// A copy of its disk, and when the first start after it began.
    pub(super) backup: Option<(Option<u64>, Copy)>,
}

impl Host {
    pub(super) fn is_up(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.is_over())
    }

    /// Takes a backup of the disk of a running machine.
    pub(super) fn back_up(&mut self) {
        self.backup = Some((None, self.disk.copy()));
    }

    /// A backup, and when the first start after it began.
    pub(super) fn older(&self) -> Option<(u64, &Copy)> {
        let (start, copy) = self.backup.as_ref()?;
        Some(((*start)?, copy))
    }
}

/// Servers that are drained for a while.
#[derive(Debug, Default)]
pub(super) struct Draining {
    /// They are to be had back at once.
    pub(super) end: Shutdown,
    /// How many admins have not had theirs back.
    pub(super) under_way: AtomicU64,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) host: String,
    /// It ended by itself.
    pub(super) by_itself: bool,
}

/// How many microseconds pass in a second by a host's clock.
fn rate(plan: &Plan, dice: &mut Dice) -> u64 {
    match plan.clocks {
        Clocks::True => 1_000_000,
        Clocks::Apart => dice.within(995_100..1_004_900),
        Clocks::Wrong => *dice.pick(&[250_000, 700_000, 1_000_000, 1_500_000, 4_000_000]),
    }
}

/// All hosts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) plan: Arc<Plan>,
    pub(super) network: Network,
    pub(super) truth: Truth,
    pub(super) trace: Trace,
    pub(super) work: Arc<work::Work>,
    /// Ends when there are no more faults, and how many admins still drain a server.
    pub(super) draining: Arc<Draining>,
    dice: Dice,
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Cluster {
    /// The machines of a plan, none of which has started.
    pub(super) fn new(
        plan: Plan,
        seed: u64,
        truth: Truth,
        trace: &Trace,
    ) -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let mut dice = Dice::new(seed).part("cluster");
        let (ended, ends) = mpsc::unbounded_channel();
        let mut hosts = BTreeMap::new();
        let mut rates = dice.part("rates");
        let servers = (0..plan.servers).map(|i| (format!("server-{i}"), Role::Server));
        let clients = (0..plan.clients).map(|i| (format!("client-{i}"), Role::Client));
        let master = [(MASTER.to_owned(), Role::Master)];
        for (name, role) in master.into_iter().chain(servers).chain(clients) {
            let ahead = if dice.chance(0.5) {
                0
            } else {
                dice.below(20_000) as i64 - 10_000
            };
            let host = Host {
                role,
                disk: Disk::new(&name, dice.part(&name), trace.clone()),
                clock: Clock::new(ahead).running_at(rate(&plan, &mut rates)),
                life: None,
                shutdown: Shutdown::new(),
                os_boot: dice.bits(),
                starts: 0,
                failed_sync: None,
                adopts: false,
                gave_up: false,
                failures: 0,
                backup: None,
            };
            hosts.insert(name, host);
        }
        let cluster = Self {
            network: Network::new(dice.part("network"), plan.weather.clone(), trace.clone()),
            work: Arc::new(work::Work::new(&plan)),
            draining: Arc::default(),
            plan: Arc::new(plan),
            truth,
            trace: trace.clone(),
            dice,
            hosts: Arc::new(Mutex::new(hosts)),
            ended,
        };
        (cluster, ends)
    }

    pub(super) fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        super::lock(&self.hosts)
    }

    /// Names of the hosts of a role.
    pub(super) fn names(&self, role: Role) -> Vec<String> {
        let hosts = self.hosts();
        let some = hosts.iter().filter(|(_, host)| host.role == role);
        some.map(|(name, _)| name.clone()).collect()
    }

    /// Starts the process of a host that is down.
    pub(super) fn start(&self, name: &str) {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(name) else {
            return;
        };
        if host.is_up() {
            return;
        }
        host.starts += 1;
        let order = self.truth.started();
        if let Some((start, _)) = &mut host.backup {
            start.get_or_insert(order);
        }
        let life = self.live(name, &host.disk);
        host.life = Some(life.clone());
        let shutdown = Shutdown::new();
        host.shutdown = shutdown.clone();
        self.trace
            .note(name, format_args!("starts, {}", host.starts));
        let part = format!("{name} {}", host.starts);
        let world = World {
            network: self.network.at(name, life.clone()),
            clock: Arc::new(host.clock.clone()),
            random: Random::from_seed(self.dice.part(&part).bits()),
            tasks: Arc::new(life.clone()),
            os_boot: host.os_boot,
        };
        let disk = host.disk.of(&life);
        let role = host.role;
        drop(hosts);
        let (cluster, host) = (self.clone(), name.to_owned());
        life.clone().spawn(Box::pin(async move {
            match role {
                Role::Master => cluster.master(world, disk).await,
                Role::Server => cluster.server(world, disk, &host, shutdown.clone()).await,
                Role::Client => {
                    // A client that has nothing left to do stays, idle.
                    work::client(&cluster, &host, world).await;
                    return;
                }
            }
            if let Some(host) = cluster.hosts().get_mut(&host) {
                host.gave_up = !shutdown.is_cancelled();
            }
            life.end(End::Process);
        }));
    }

    fn live(&self, name: &str, disk: &Disk) -> Life {
        let (cluster, host, disk) = (self.clone(), name.to_owned(), disk.clone());
        Life::new(move |end| {
            cluster.trace.note(&host, format_args!("ends: {end:?}"));
            cluster.network.ended(&host, end);
            let (by_itself, failed) = cluster.after_end(&host, end, &disk);
            cluster
                .truth
                .died(&host, end, failed, disk.is_slow_since(WHOLE_SYNCS));
            let _ = cluster.ended.send(Ended { host, by_itself });
        })
    }

    /// What the end of a process does to its machine's disk. Says whether the process ended by itself, and when a sync had
    /// failed, if one had.
    fn after_end(&self, name: &str, end: End, disk: &Disk) -> (bool, Option<Instant>) {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(name) else {
            return (false, None);
        };
        if disk.has_failed() {
            host.failed_sync.get_or_insert_with(Instant::now);
        }
        let failed = host.failed_sync;
        if end == End::Machine {
            host.os_boot = host.os_boot.wrapping_add(1);
            disk.crash();
            host.failed_sync = None;
        } else if disk.has_failed()
            && self
                .dice
                .part(&format!("{name} {}", host.starts))
                .chance(0.5)
        {
            disk.evict();
        }
        (std::mem::take(&mut host.gave_up), failed)
    }

    async fn master(&self, world: World, disk: Arc<dyn glint_world::Disk>) {
        let Ok(listener) = world.network.listen("0.0.0.0:7100").await else {
            return;
        };
        let has_state = disk
            .list()
            .await
            .is_ok_and(|files| files.iter().any(|(name, _)| name == MASTER));
        let config = MasterConfig {
            adopt: self.hosts()[MASTER].adopts && !has_state,
            // As seldom as may be: they were most of what is sent.
            heartbeat: MasterConfig::default().silent_after / 3,
            pulse: self.plan.pulse,
            max_deadline_ms: self.plan.max_deadline.as_millis() as u64,
            // Elsewhere holders stay, so that the checker knows them.
            rebalance: self.plan.copied && !self.plan.fair,
            ..MasterConfig::default()
        };
        let storage = Arc::new(Files::new(disk));
        let end = master::run(world, storage, config, listener, Shutdown::new()).await;
        self.trace.note(MASTER, format_args!("has ended: {end:?}"));
    }

    async fn server(
        &self,
        world: World,
        disk: Arc<dyn glint_world::Disk>,
        name: &str,
        shutdown: Shutdown,
    ) {
        let Ok(listener) = world.network.listen("0.0.0.0:7200").await else {
            return;
        };
        let (Ok(master), Ok(url)) = (
            format!("http://{MASTER}:7100").parse(),
            format!("http://{name}:7200").parse(),
        ) else {
            return;
        };
        let config = ServerConfig {
            id: Some(ServerId(name.to_owned())),
            advertise: Some(url),
            max_deadline: self.plan.max_deadline,
            disk: Some(disk),
            log: self.plan.log,
            tail_records: self.plan.tail_records,
            ..ServerConfig::new(master, 1 << 20)
        };
        let end = server::run(world, config, listener, shutdown).await;
        self.trace.note(name, format_args!("has ended: {end:?}"));
    }

    /// What an admin does with servers that cannot come back with what is left of their disks: they get others.
    pub(super) fn give_up_disks(&self, servers: &[String]) {
        for name in servers {
            let life = self.hosts()[name].life.clone();
            if let Some(life) = life.filter(|_| self.truth.is_damaged(name)) {
                life.end(End::Process);
                self.hosts()[name].disk.empty();
                self.truth.damaged(name);
            }
        }
    }

    /// Ends the client process of a worker.
    pub(super) fn end_client(&self, worker: &str) {
        let name = worker.split('.').next().unwrap_or(worker);
        let life = self.hosts().get(name).and_then(|host| host.life.clone());
        if let Some(life) = life {
            life.end(End::Process);
        }
    }

    /// Starts every host that is down.
    pub(super) fn start_all(&self) {
        let names: Vec<String> = self.hosts().keys().cloned().collect();
        for name in names {
            self.start(&name);
        }
    }

    /// The world of somebody who looks at the cluster from outside, whom no fault harms; another one each time.
    pub(super) fn witness(&self, number: u32) -> World {
        let life = Life::new(|_| {});
        let part = format!("witness {number}");
        World {
            network: self.network.without_copies_at("witness", life.clone()),
            clock: Arc::new(Clock::new(0)),
            random: Random::from_seed(self.dice.part(&part).bits()),
            tasks: Arc::new(life),
            os_boot: 1,
        }
    }

    /// How a client of this cluster behaves.
    pub(super) fn options(&self) -> glint::ClientOptions {
        glint::ClientOptions {
            deadline: self.plan.deadline,
            connect_deadline: Duration::from_secs(30),
            request_timeout: self.plan.deadline / 10,
            longest_pause: self.plan.deadline / 10,
            ..glint::ClientOptions::default()
        }
    }
}
