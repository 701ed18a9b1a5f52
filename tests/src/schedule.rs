//! Schedules: a whole cluster in a simulation, clients that work, faults of every kind, and a checker that knows what must
//! be so. One seed is one schedule.
//!
//! - `plan`: what a schedule consists of
//! - `cluster`: its hosts
//! - `faults`: what goes wrong, and when
//! - `work`, `target`: what clients do
//! - `admin`: what an admin does
//! - `stranger`, `direct`: what somebody asks whose maps are old
//! - `truth`, `copies`, `leftovers`: what must be so

mod admin;
mod cluster;
mod copies;
mod direct;
mod faults;
mod leftovers;
mod plan;
mod settle;
mod stranger;
mod target;
mod truth;
mod work;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::simulated::{Dice, Trace};
use cluster::{Cluster, MASTER, Role};
use faults::Faults;
pub use plan::Fault;
use plan::{Clocks, Plan};
use truth::Truth;
pub use truth::{Counts, Violation, Wrong};

/// How long the work of a schedule may take in simulated time, faults and all.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long the cluster may take to be whole again after the last fault.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one schedule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How its operations ended.
    pub counts: Counts,
    /// How many faults there were.
    pub faults: u64,
    /// How many of each kind met something that they could harm.
    pub kinds: BTreeMap<Fault, u64>,
    /// How often requests of clients were sent again.
    pub retries: u64,
    /// Simulated time that passed.
    pub time: Duration,
    /// What was not as promised, if anything.
    pub violation: Option<Violation>,
}

/// Runs the schedule of a seed.
///
/// # Panics
/// When no runtime can be made.
pub fn run(seed: u64, trace: &Trace) -> Report {
    simulate(seed, Plan::draw(seed), trace)
}

/// Runs the schedule of a seed with nothing that goes wrong.
///
/// # Panics
/// When no runtime can be made.
pub fn run_in_fair_weather(seed: u64, trace: &Trace) -> Report {
    simulate(seed, Plan::fair(seed), trace)
}

fn simulate(seed: u64, plan: Plan, trace: &Trace) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    runtime.block_on(schedule(seed, plan, &trace.from_now()))
}

async fn schedule(seed: u64, plan: Plan, trace: &Trace) -> Report {
    let start = Instant::now();
    let trace = &trace.from_now();
    trace.note("PLAN", format_args!("{plan:?}"));
    let truth = Truth::new(trace.clone(), plan.clocks == Clocks::Wrong);
    let (cluster, mut ends) = Cluster::new(plan, seed, truth.clone(), trace);
    let mut faults = Faults::new(&cluster, Dice::new(seed).part("faults"));
    if cluster.plan.fair {
        for name in cluster.names(Role::Server) {
            cluster.start(&name);
        }
        cluster.start(MASTER);
        sleep(Duration::from_secs(1)).await;
    }
    cluster.start_all();

    let (mut settled, mut retries) = (false, 0);
    let mut settling = Box::pin(settle::settle(&cluster, seed));
    let mut stranger = Box::pin(stranger::ask(&cluster, Dice::new(seed).part("stranger")));
    let mut work = Box::pin(timeout(LONGEST, cluster.work.finished()));
    loop {
        tokio::select! {
            biased;
            () = truth.broken() => break,
            Some(ended) = ends.recv() => faults.ended(&ended),
            end = work.as_mut(), if !settled => {
                if end.is_err() {
                    truth.violated(Wrong::Other, format!("the work was not done within {LONGEST:?}"));
                    break;
                }
                settled = true;
                retries = cluster.work.retries();
                truth.told_of_losses(&cluster.work.losses());
                faults.stop();
            }
            () = settling.as_mut(), if settled => break,
            () = faults.step() => {}
            () = stranger.as_mut(), if cluster.plan.copied && !settled => {}
        }
    }
    Report {
        seed,
        counts: truth.counts(),
        faults: faults.count,
        kinds: faults.kinds,
        retries,
        time: start.elapsed(),
        violation: truth.violation(),
    }
}
