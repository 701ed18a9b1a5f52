//! What one schedule consists of: cluster, models, workload, and how much goes wrong, all drawn from its seed.

use std::time::Duration;

use glint_protocol::{Durability, ElementType, Shape, copies::Pulse};
use glint_server::log::LogOptions;

use crate::simulated::{Dice, Weather};

/// One model of a schedule.
#[derive(Clone, Debug)]
pub(super) struct ModelPlan {
    pub(super) name: String,
    pub(super) element: ElementType,
    pub(super) shape: Shape,
    pub(super) cyclic: bool,
    pub(super) partitions: u32,
    pub(super) durability: Durability,
    /// How many copies of each partition it asks for.
    pub(super) copies: u8,
    /// How many must be in sync for a push to be taken.
    pub(super) min_in_sync: u8,
    /// Pushes are fractions whose sums are rounded: their bits are compared with those of the same sums in the same order, where
    /// that is known, and before and after a crash.
    pub(super) rough: bool,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No message passes between two hosts for a while.
    Cut,
    /// The connections between two hosts break, or one end vanishes.
    Sever,
    /// The whole network is bad for a while.
    Storm,
    /// A clock jumps.
    Clock,
    /// A client's process ends.
    KillClient,
    /// The master's process ends.
    KillMaster,
    /// The master's machine stops.
    StopMaster,
    /// A server's process ends.
    KillServer,
    /// A server's machine stops.
    StopServer,
    /// A server is told to end, as SIGTERM does, and has some time for it.
    Terminate,
    /// A disk has no room for a while.
    Full,
    /// A disk fails to sync.
    SyncFails,
    /// A disk is slow for a while.
    Slow,
    /// A bit flips in a server's file while it is down.
    Rot,
    /// A server comes back with an empty disk.
    Emptied,
    /// A server comes back with an older copy of its disk.
    Older,
    /// The master comes back with an empty disk, and adopts what servers hold.
    LoseMaster,
    /// A server is cut off from all but clients for a while.
    Isolate,
    /// Messages between two servers are slow for a while.
    Lag,
    /// A server is drained for a while.
    Drain,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Cut,
        Self::Sever,
        Self::Storm,
        Self::Clock,
        Self::KillClient,
        Self::KillMaster,
        Self::StopMaster,
        Self::KillServer,
        Self::StopServer,
        Self::Terminate,
        Self::Full,
        Self::SyncFails,
        Self::Slow,
        Self::Rot,
        Self::Emptied,
        Self::Older,
        Self::LoseMaster,
        Self::Isolate,
        Self::Lag,
        Self::Drain,
    ];
}

/// How the clocks run that servers measure leases by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clocks {
    /// All alike.
    True,
    /// Apart by up to one part in a hundred, as leases allow for.
    Apart,
    /// As they like, and they leap: what is read may be old; nothing may be lost or doubled.
    Wrong,
}

/// One schedule.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Some models have copies.
    pub(super) copied: bool,
    pub(super) servers: u64,
    pub(super) clients: u64,
    /// Tasks of each client that push and pull.
    pub(super) workers: u64,
    pub(super) models: Vec<ModelPlan>,
    /// Pushes and pulls that are done before the end.
    pub(super) operations: u64,
    /// How long a worker thinks between two operations at most, in milliseconds.
    pub(super) pause_ms: u64,
    /// How long a pull or push of a client may take.
    pub(super) deadline: Duration,
    /// The longest deadline of the cluster; lanes that are idle for ten times as long are forgotten.
    pub(super) max_deadline: Duration,
    /// Nothing goes wrong, and nobody deletes a model that others use.
    pub(super) fair: bool,
    /// Once, each worker rests for longer than lanes are remembered.
    pub(super) rests: bool,
    pub(super) weather: Weather,
    pub(super) clocks: Clocks,
    /// How servers notice that others are gone: quickly, or less so, which takes fewer messages.
    pub(super) pulse: Pulse,
    /// Segments and logs so short that there are snapshots in every schedule.
    pub(super) log: LogOptions,
    /// Records of a partition that servers keep in memory: what a follower lacks beyond them, it gets from the log.
    pub(super) tail_records: usize,
    /// Faults with their weights.
    pub(super) faults: Vec<(Fault, u64)>,
    /// Faults at most.
    pub(super) most_faults: u64,
    /// How long after a fault the next one comes at most, in milliseconds.
    pub(super) fault_every_ms: u64,
}

impl Plan {
    /// The schedule of a seed, without anything that goes wrong.
    pub(super) fn fair(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        for model in &mut plan.models {
            // A model that was just made has one copy in sync, and pushes that ask for two are tried again until there are.
            model.min_in_sync = 1;
        }
        Self {
            weather: Weather::fair(),
            faults: Vec::new(),
            most_faults: 0,
            rests: false,
            clocks: Clocks::True,
            fair: true,
            ..plan
        }
    }

    /// The schedule of a seed.
    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed).part("plan");
        let rests = dice.chance(0.12);
        let deadline = Duration::from_secs(*dice.pick(&[2, 4, 8]));
        let max_deadline = if rests {
            deadline
        } else {
            Duration::from_secs(60)
        };
        let copy_delay_ms = match dice.below(3) {
            0 => 50,
            1 => 3000,
            _ if rests => 2 * 10 * max_deadline.as_millis() as u64,
            _ => 15_000,
        };
        let often = |dice: &mut Dice, most: f64| {
            if dice.chance(0.3) {
                0.0
            } else {
                most * dice.within(1..100) as f64 / 100.0
            }
        };
        let weather = Weather {
            latency_ms: 1..2 + dice.below(5),
            late: often(&mut dice, 0.02),
            breaks: often(&mut dice, 0.015),
            copies: often(&mut dice, 0.1),
            strays: often(&mut dice, 0.03),
            copy_delay_ms,
        };
        let count = dice.within(2..6);
        let mut models: Vec<_> = (0..count).map(|at| model(&mut dice, at)).collect();
        let mut servers = dice.within(1..4);
        // Of its own dice: what has no copies is drawn as if there were none.
        let mut copies = Dice::new(seed).part("copies");
        let copied = copies.chance(0.5);
        if copied {
            servers = copies.within(2..5);
            for model in &mut models {
                model.copies = *copies.pick(&[1, 2, 2, 3, 3]);
                if model.copies > 1 && copies.chance(0.2) {
                    model.min_in_sync = 2;
                }
            }
        }
        let clocks = if copied {
            *copies.pick(&[Clocks::True, Clocks::True, Clocks::Apart, Clocks::Wrong])
        } else {
            Clocks::True
        };
        // Whoever rests does so for minutes, in which nothing else would happen than beacons.
        let slower = if rests {
            8
        } else {
            *copies.pick(&[1, 1, 2, 4])
        };
        let usual = Pulse::default();
        let pulse = Pulse {
            beacon_ms: usual.beacon_ms * slower,
            lease_ms: usual.lease_ms * slower,
            suspicion_ms: usual.suspicion_ms * slower,
        };
        Self {
            copied,
            clocks,
            pulse,
            servers,
            clients: dice.within(1..4),
            workers: dice.within(1..4),
            models,
            operations: dice.within(200..260),
            pause_ms: dice.magnitude(60),
            deadline,
            max_deadline,
            fair: false,
            rests,
            weather,
            log: LogOptions {
                segment_bytes: dice.within(1..16) << 10,
                floor_bytes: dice.within(1..24) << 10,
                ..LogOptions::default()
            },
            tail_records: *Dice::new(seed).part("tail").pick(&[1, 2, 8, 4096]),
            faults: faults(&mut dice, copied, &mut copies),
            most_faults: *dice.pick(&[4, 10, 30, 80]),
            fault_every_ms: *dice.pick(&[60, 150, 300, 800]),
        }
    }
}

fn model(dice: &mut Dice, at: u64) -> ModelPlan {
    let element = *dice.pick(&[
        ElementType::I64,
        ElementType::I64,
        ElementType::I32,
        ElementType::F64,
        ElementType::F64,
        ElementType::F32,
    ]);
    let shape = if dice.chance(0.6) {
        let keys = dice.within(4..60);
        Shape::Vector { keys }
    } else {
        let (rows, cols) = (dice.within(2..14), dice.within(1..6) as u32);
        Shape::Matrix { rows, cols }
    };
    let rough = matches!(element, ElementType::F32 | ElementType::F64) && dice.chance(0.3);
    ModelPlan {
        name: format!("m{at}"),
        element,
        shape,
        cyclic: dice.chance(0.5),
        partitions: dice.within(1..5) as u32,
        durability: Durability::ALL[dice.weighted(&[1, 2, 3])],
        copies: 1,
        min_in_sync: 1,
        rough,
    }
}

fn faults(dice: &mut Dice, copied: bool, copies: &mut Dice) -> Vec<(Fault, u64)> {
    let all = [
        (Fault::Cut, 10),
        (Fault::Sever, 10),
        (Fault::Storm, 5),
        (Fault::Clock, 3),
        (Fault::KillClient, 6),
        (Fault::KillMaster, 6),
        (Fault::StopMaster, 6),
        (Fault::KillServer, 20),
        (Fault::StopServer, 20),
        (Fault::Full, 6),
        (Fault::SyncFails, 6),
        (Fault::Slow, 6),
        (Fault::Rot, 4),
        (Fault::Emptied, 2),
        (Fault::Older, 4),
        (Fault::LoseMaster, 2),
    ];
    // Some schedules have all of them, most have some: so that each also happens without the others.
    let share = *dice.pick(&[0.3, 0.6, 1.0]);
    let mut chosen: Vec<_> = all.into_iter().filter(|_| dice.chance(share)).collect();
    if copied {
        let among_servers = [(Fault::Isolate, 24), (Fault::Lag, 10), (Fault::Drain, 8)];
        chosen.extend(among_servers.into_iter().filter(|_| copies.chance(0.7)));
    }
    if dice.part("terminate").chance(0.6) {
        chosen.push((Fault::Terminate, 12));
    }
    if chosen.is_empty() {
        vec![(Fault::Cut, 1), (Fault::StopServer, 1)]
    } else {
        chosen
    }
}
