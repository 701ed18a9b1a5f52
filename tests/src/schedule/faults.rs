//! What goes wrong in a schedule, and when it is mended.

mod links;

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    admin,
    cluster::{Cluster, Ended, MASTER, Role},
    plan::{Clocks, Fault},
};
use crate::simulated::{Dice, Doom, End, Life, Trouble, Weather};

/// What is done at some time.
enum Step {
    /// The next fault.
    Strike,
    /// A process is started again.
    Start(String),
    /// A disk works again.
    Mend(String),
    /// The weather is as it was.
    Clear,
    /// A process that is doomed is killed, if it still lives.
    Insist(Life, End),
}

/// The faults of one schedule.
pub(super) struct Faults {
    cluster: Cluster,
    dice: Dice,
    steps: BTreeMap<(Instant, u64), Step>,
    next: u64,
    /// How many there were.
    pub(super) count: u64,
    /// How many of each kind met something that they could harm.
    pub(super) kinds: BTreeMap<Fault, u64>,
    /// What is to happen to a server's disk before it starts again.
    harm: BTreeMap<String, Fault>,
    striking: bool,
    /// How many admins there were: each has a world of its own.
    admins_so_far: u32,
    admins: JoinSet<()>,
}

impl Faults {
    pub(super) fn new(cluster: &Cluster, dice: Dice) -> Self {
        let mut faults = Self {
            cluster: cluster.clone(),
            dice,
            steps: BTreeMap::new(),
            next: 0,
            count: 0,
            kinds: BTreeMap::new(),
            harm: BTreeMap::new(),
            striking: true,
            admins_so_far: 100,
            admins: JoinSet::new(),
        };
        let first = faults.dice.millis(0..500);
        faults.later(first, Step::Strike);
        faults
    }

    fn later(&mut self, after: Duration, step: Step) {
        self.next += 1;
        self.steps.insert((Instant::now() + after, self.next), step);
    }

    /// Waits for the next step, and does it.
    pub(super) async fn step(&mut self) {
        let Some((&(at, _), _)) = self.steps.first_key_value() else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        if let Some((_, step)) = self.steps.pop_first() {
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Strike if self.striking && self.count < self.cluster.plan.most_faults => {
                self.strike();
                let every = self.cluster.plan.fault_every_ms;
                let pause = self.dice.millis(1..2 * every);
                self.later(pause, Step::Strike);
            }
            Step::Strike => {}
            Step::Start(host) => self.start(&host),
            Step::Mend(host) => self.set_trouble(&host, Trouble::default()),
            Step::Clear => {
                let weather = self.cluster.plan.weather.clone();
                self.cluster.network.set_weather(weather);
            }
            Step::Insist(life, end) => life.end(end),
        }
    }

    /// A process has ended: it will be started again.
    pub(super) fn ended(&mut self, ended: &Ended) {
        let name = &ended.host;
        let failures = {
            let mut hosts = self.cluster.hosts();
            let Some(host) = hosts.get_mut(name) else {
                return;
            };
            if host.role == Role::Client && !self.striking {
                return;
            }
            host.failures = if ended.by_itself {
                host.failures + 1
            } else {
                0
            };
            host.failures
        };
        if failures > 5 && self.cluster.truth.is_damaged(name) {
            // It cannot start from what is left. An admin gives it another disk.
            self.cluster.hosts()[name].disk.empty();
            self.cluster.truth.damaged(name);
        }
        let pause = if self.striking {
            let longest = *self.dice.pick(&[20, 300, 3000]);
            Duration::from_millis(self.dice.magnitude(longest))
        } else {
            Duration::from_millis(100)
        };
        self.later(pause, Step::Start(name.clone()));
    }

    fn start(&mut self, host: &str) {
        match self.harm.remove(host) {
            Some(Fault::LoseMaster) => self.lose_master(),
            Some(fault) => self.harm_disk(host, fault),
            None => {}
        }
        self.cluster.start(host);
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.cluster.trace.note("FAULT", what);
    }

    fn happened(&mut self, fault: Fault) {
        *self.kinds.entry(fault).or_default() += 1;
    }

    fn strike(&mut self) {
        let plan = std::sync::Arc::clone(&self.cluster.plan);
        let weights: Vec<u64> = plan.faults.iter().map(|(_, weight)| *weight).collect();
        let fault = plan.faults[self.dice.weighted(&weights)].0;
        self.count += 1;
        match fault {
            // These count once they meet somebody who lives, or a disk that has something.
            Fault::KillClient
            | Fault::KillMaster
            | Fault::StopMaster
            | Fault::KillServer
            | Fault::StopServer
            | Fault::LoseMaster
            | Fault::Rot
            | Fault::Emptied
            | Fault::Older => {}
            _ => self.happened(fault),
        }
        match fault {
            Fault::Cut | Fault::Sever => self.between_hosts(fault),
            Fault::Isolate => self.isolate(),
            Fault::Lag => self.lag(),
            Fault::Drain => self.drain(),
            Fault::Storm => {
                self.note(format_args!("storm"));
                let storm = Weather {
                    late: 0.2,
                    breaks: 0.05,
                    copies: 0.2,
                    strays: 0.1,
                    ..plan.weather.clone()
                };
                self.cluster.network.set_weather(storm);
                let time = self.dice.millis(50..1000);
                self.later(time, Step::Clear);
            }
            Fault::Clock => {
                let hosts: Vec<String> = self.cluster.hosts().keys().cloned().collect();
                let host = self.dice.pick(&hosts).clone();
                let by = self.dice.magnitude(3_600_000) as i64;
                let by = if self.dice.chance(0.5) { by } else { -by };
                self.note(format_args!("the clock of {host} jumps by {by} ms"));
                let hosts = self.cluster.hosts();
                hosts[&host].clock.jump(by);
                if plan.clocks == Clocks::Wrong {
                    hosts[&host].clock.leap(by.unsigned_abs() / 1000);
                }
            }
            Fault::KillClient => self.kill(fault, Role::Client, End::Process),
            Fault::KillMaster => self.kill(fault, Role::Master, End::Process),
            Fault::StopMaster => self.kill(fault, Role::Master, End::Machine),
            Fault::KillServer => self.kill(fault, Role::Server, End::Process),
            Fault::StopServer => self.kill(fault, Role::Server, End::Machine),
            Fault::Terminate => self.terminate(),
            Fault::Full | Fault::SyncFails | Fault::Slow => self.trouble(fault),
            Fault::LoseMaster => {
                self.harm.insert(MASTER.to_owned(), fault);
                let end = *self.dice.pick(&[End::Process, End::Machine]);
                self.kill_host(MASTER, end);
            }
            Fault::Rot | Fault::Emptied | Fault::Older => {
                let servers = self.cluster.names(Role::Server);
                let host = self.dice.pick(&servers).clone();
                if let Some(server) = self.cluster.hosts().get_mut(&host)
                    && server.is_up()
                    && server.backup.is_none()
                {
                    server.back_up();
                }
                self.harm.insert(host.clone(), fault);
                let end = *self.dice.pick(&[End::Process, End::Machine]);
                self.kill_host(&host, end);
            }
        }
    }

    fn kill(&mut self, fault: Fault, role: Role, end: End) {
        let names = self.cluster.names(role);
        let host = self.dice.pick(&names).clone();
        if self.dice.chance(0.2)
            && let Some(machine) = self.cluster.hosts().get_mut(&host)
            && machine.is_up()
        {
            machine.back_up();
        }
        if self.kill_host(&host, end) {
            self.happened(fault);
        }
    }

    /// Ends the process of a host, or has it end soon; says whether it lived.
    fn kill_host(&mut self, host: &str, end: End) -> bool {
        let (life, is_client) = {
            let hosts = self.cluster.hosts();
            (hosts[host].life.clone(), hosts[host].role == Role::Client)
        };
        let Some(life) = life.filter(|life| !life.is_over()) else {
            return false;
        };
        let doom = match self.dice.below(5) {
            0 => {
                self.note(format_args!("{host} ends now: {end:?}"));
                life.end(end);
                return true;
            }
            1 | 2 => Doom::Polls(self.dice.magnitude(800)),
            _ if is_client => Doom::Polls(self.dice.magnitude(800)),
            _ => Doom::Writes(self.dice.magnitude(40)),
        };
        self.note(format_args!("{host} is to end, {end:?}: {doom:?}"));
        life.doom(doom, end);
        let limit = self.dice.millis(1..800);
        self.later(limit, Step::Insist(life, end));
        true
    }

    /// A server is told to end; if it has not after some time, it is killed.
    fn terminate(&mut self) {
        let servers = self.cluster.names(Role::Server);
        let host = self.dice.pick(&servers).clone();
        let grace = self.dice.millis(1..6000);
        let (life, shutdown) = {
            let hosts = self.cluster.hosts();
            (hosts[&host].life.clone(), hosts[&host].shutdown.clone())
        };
        if let Some(life) = life.filter(|life| !life.is_over()) {
            self.note(format_args!("{host} is told to end within {grace:?}"));
            shutdown.cancel();
            self.later(grace, Step::Insist(life, End::Process));
        }
    }

    fn trouble(&mut self, fault: Fault) {
        let mut hosts = self.cluster.names(Role::Server);
        hosts.push(MASTER.to_owned());
        let host = self.dice.pick(&hosts).clone();
        let mut trouble = Trouble::default();
        match fault {
            Fault::Full => trouble.full = true,
            Fault::Slow => trouble.slow = 0.3,
            _ => trouble.sync_fails = *self.dice.pick(&[0.2, 1.0]),
        }
        self.note(format_args!("the disk of {host}: {trouble:?}"));
        self.set_trouble(&host, trouble);
        let time = Duration::from_millis(self.dice.magnitude(1500));
        self.later(time, Step::Mend(host));
    }

    fn set_trouble(&self, host: &str, trouble: Trouble) {
        self.cluster.hosts()[host].disk.set_trouble(trouble);
    }

    fn lose_master(&mut self) {
        {
            let mut hosts = self.cluster.hosts();
            let Some(master) = hosts.get_mut(MASTER).filter(|host| !host.is_up()) else {
                return;
            };
            master.disk.empty();
            master.adopts = true;
        }
        self.happened(Fault::LoseMaster);
        self.note(format_args!(
            "the master has lost its state, and adopts what servers hold"
        ));
        self.cluster.truth.master_lost();
        let number = self.next_admin();
        let adoption = admin::end_adoption(self.cluster.clone(), number);
        self.admins.spawn(adoption);
    }

    fn next_admin(&mut self) -> u32 {
        self.admins_so_far += 1;
        self.admins_so_far
    }

    /// An admin has a server drained, and thinks better of it after a while, when it may be empty already.
    fn drain(&mut self) {
        let servers = self.cluster.names(Role::Server);
        let server = self.dice.pick(&servers).clone();
        let time = self.dice.millis(100..6000);
        let number = self.next_admin();
        self.note(format_args!("{server} is drained for {time:?}"));
        let drain = admin::drain(self.cluster.clone(), number, server, time);
        let under_way = &self.cluster.draining.under_way;
        under_way.fetch_add(1, Ordering::Relaxed);
        self.admins.spawn(drain);
    }

    fn harm_disk(&mut self, name: &str, fault: Fault) {
        let cluster = self.cluster.clone();
        let hosts = cluster.hosts();
        let host = &hosts[name];
        if host.is_up() {
            return;
        }
        match fault {
            Fault::Rot => {
                if let Some(flip) = host.disk.flip() {
                    cluster.truth.flipped(name, &flip);
                    self.happened(fault);
                }
            }
            Fault::Emptied => {
                host.disk.empty();
                cluster.truth.damaged(name);
                self.happened(fault);
            }
            _ => {
                // Whether the master knows of a later start than the copy's is not known otherwise.
                if let Some((start, copy)) = host.older()
                    && cluster.truth.has_served_since(name, start)
                {
                    host.disk.restore(copy);
                    cluster.truth.damaged(name);
                    self.happened(fault);
                }
            }
        }
    }

    /// No more faults: what is broken is mended.
    pub(super) fn stop(&mut self) {
        self.note(format_args!("no more faults"));
        self.striking = false;
        self.cluster.draining.end.cancel();
        self.harm.clear();
        self.steps.retain(|_, step| matches!(step, Step::Start(_)));
        self.cluster.network.set_weather(Weather::fair());
        self.cluster.network.mend();
        for host in self.cluster.hosts().values() {
            host.disk.set_trouble(Trouble::default());
            if let Some(life) = &host.life {
                life.spare();
            }
        }
        self.cluster.start_all();
    }
}
