//! The same master, servers and client in a simulated network, where one seed decides everything: losses, partitions,
//! time. Run twice from one seed, everything that crossed the network is the same, and the sums are exact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as promised"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glint::{Client, ClientOptions, Matrix, Partitioning, Vector};
use glint_protocol::ServerId;
use glint_server::{
    master::{self, MasterConfig},
    server::{self, ServerConfig},
};
use glint_tests::simulated::{Trace, world};
use glint_world::{MemoryStorage, Shutdown};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const SERVERS: [&str; 2] = ["server-0", "server-1"];
const KEYS: u64 = 64;
const PUSHES: i64 = 150;

/// What one run came to.
#[derive(Debug, PartialEq)]
struct Run {
    events: Vec<String>,
    counts: Vec<i64>,
    weights: Vec<f64>,
    retries: u64,
    kills: u32,
}

/// How much of the network fails.
#[derive(Clone, Copy)]
struct Weather {
    /// How likely a message is lost and its link breaks.
    fail: f64,
    /// Whether links between hosts are cut for a while, now and then.
    cuts: bool,
    /// Whether the master is killed and comes back, now and then. Such a run cannot be repeated to the byte: in which
    /// order a killed runtime lets go of its connections depends on numbers that the whole process shares.
    kills: bool,
}

const FAIR: Weather = Weather {
    fail: 0.0,
    cuts: false,
    kills: false,
};
const FOUL: Weather = Weather {
    fail: 0.01,
    cuts: true,
    kills: false,
};

const WORST: Weather = Weather {
    kills: true,
    ..FOUL
};

/// What happens to the network or a host for a while.
#[derive(Clone, Copy)]
enum Accident {
    /// No message passes between two hosts.
    Cut(&'static str, &'static str),
    /// A host is dead, and starts again with what it has stored.
    Killed(&'static str),
}

fn host_seed(seed: u64, host: usize) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(host as u64)
}

fn run(seed: u64, weather: Weather) -> Run {
    let trace = Trace::default();
    let mut simulation = turmoil::Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .fail_rate(weather.fail)
        .repair_rate(0.5)
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(5))
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(900))
        .build();
    let storage = MemoryStorage::default();
    simulation.host("master", {
        let trace = trace.clone();
        move || {
            let (world, storage) = (
                world("master", host_seed(seed, 0), &trace),
                Arc::new(storage.clone()),
            );
            async move {
                let listener = world.network.listen("0.0.0.0:7100").await?;
                master::run(
                    world,
                    storage,
                    MasterConfig::default(),
                    listener,
                    Shutdown::new(),
                )
                .await?;
                Ok(())
            }
        }
    });
    for (index, name) in SERVERS.into_iter().enumerate() {
        let trace = trace.clone();
        simulation.host(name, move || {
            let world = world(name, host_seed(seed, 1 + index), &trace);
            async move {
                let listener = world.network.listen("0.0.0.0:7200").await?;
                let config = ServerConfig {
                    id: Some(ServerId(name.into())),
                    advertise: Some(format!("http://{name}:7200").parse()?),
                    ..ServerConfig::new("http://master:7100".parse()?, 1 << 20)
                };
                server::run(world, config, listener, Shutdown::new()).await?;
                Ok(())
            }
        });
    }
    let result = Arc::new(Mutex::new(None));
    simulation.client("client", {
        let (trace, result) = (trace.clone(), Arc::clone(&result));
        async move {
            let found = train(seed, &trace).await?;
            *result.lock().unwrap() = Some(found);
            Ok(())
        }
    });
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut accident, mut left, mut kills) = (None, 0, 0);
    while !simulation.step().unwrap() {
        left = u32::saturating_sub(left, 1);
        accident = match accident {
            Some(_) if left > 0 => accident,
            Some(Accident::Cut(a, b)) => {
                simulation.repair(a, b);
                None
            }
            Some(Accident::Killed(host)) => {
                simulation.bounce(host);
                None
            }
            None if weather.cuts && dice.random_bool(0.004) => {
                left = dice.random_range(1..300);
                let server = SERVERS[dice.random_range(0..SERVERS.len())];
                Some(match dice.random_range(0..3) {
                    0 if weather.kills => Accident::Killed("master"),
                    0 | 1 => Accident::Cut("master", server),
                    _ => Accident::Cut("client", server),
                })
            }
            None => None,
        };
        match accident {
            Some(Accident::Cut(a, b)) => simulation.partition(a, b),
            Some(Accident::Killed(host)) if simulation.is_host_running(host) => {
                simulation.crash(host);
                kills += 1;
            }
            _ => {}
        }
    }
    let (counts, weights, retries) = result.lock().unwrap().take().unwrap();
    Run {
        events: trace.events(),
        counts,
        weights,
        retries,
        kills,
    }
}

/// Pushes to a vector and a matrix, several at once, and gives the sums that are there in the end.
async fn train(
    seed: u64,
    trace: &Trace,
) -> Result<(Vec<i64>, Vec<f64>, u64), Box<dyn std::error::Error>> {
    let options = ClientOptions {
        deadline: Duration::from_secs(300),
        connect_deadline: Duration::from_secs(100),
        request_timeout: Duration::from_millis(300),
        ..ClientOptions::default()
    };
    let world = world("client", host_seed(seed, 9), trace);
    let client = Client::builder("http://master:7100")
        .options(options)
        .world(world)
        .connect()
        .await?;
    let counts: Vector<i64> = client
        .vector("counts", KEYS)
        .partitions_per_server(2)
        .open_or_create()
        .await?;
    let weights: Matrix<f64> = client
        .matrix("weights", KEYS / 4, 4)
        .partitioning(Partitioning::Cyclic)
        .partitions_per_server(2)
        .open_or_create()
        .await?;
    let workers = (0..3_u64).map(|worker| {
        let (counts, weights) = (counts.clone(), weights.clone());
        async move {
            for turn in 0..PUSHES {
                let key = (turn as u64 * 7 + worker) % KEYS;
                let counted = counts.push(&[key, (key * 5) % KEYS], &[turn, 1]).await;
                trace.note(
                    "client",
                    format_args!("worker {worker} push {turn}: {counted:?}"),
                );
                counted?;
                let weighed = weights
                    .push_rows(&[key / 4], &[0.5, 0.25, -1.0, turn as f64])
                    .await;
                trace.note(
                    "client",
                    format_args!("worker {worker} rows {turn}: {weighed:?}"),
                );
                weighed?;
            }
            Ok::<(), glint::Error>(())
        }
    });
    futures_util::future::try_join_all(workers).await?;
    let sums = counts.pull_range(0..KEYS).await?;
    let rows = weights.pull_row_range(0..KEYS / 4).await?;
    Ok((sums, rows, client.stats().retries))
}

/// The sums that must be there.
fn expected() -> (Vec<i64>, Vec<f64>) {
    let (mut counts, mut weights) = (vec![0; KEYS as usize], vec![0.0; KEYS as usize]);
    for worker in 0..3 {
        for turn in 0..PUSHES {
            let key = (turn as u64 * 7 + worker) % KEYS;
            counts[key as usize] += turn;
            counts[(key * 5 % KEYS) as usize] += 1;
            let row = key as usize / 4 * 4;
            for (col, value) in [0.5, 0.25, -1.0, turn as f64].into_iter().enumerate() {
                weights[row + col] += value;
            }
        }
    }
    (counts, weights)
}

fn exact(run: &Run, seed: u64) {
    let (counts, weights) = expected();
    assert_eq!(run.counts, counts, "seed {seed}");
    assert_eq!(run.weights, weights, "seed {seed}");
}

#[test]
fn in_fair_weather_the_sums_are_exact_and_nothing_is_tried_twice() {
    let run = run(1, FAIR);
    exact(&run, 1);
    assert_eq!(run.retries, 0);
}

#[test]
fn with_losses_and_partitions_two_runs_from_one_seed_are_the_same_to_the_byte_and_the_sums_exact() {
    let (first, second) = (run(7, FOUL), run(7, FOUL));
    exact(&first, 7);
    assert!(first.retries > 0, "nothing was lost");
    let differs = first
        .events
        .iter()
        .zip(&second.events)
        .position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!(
            "event {at} differs: '{}' and '{}'",
            first.events[at], second.events[at]
        );
    }
    assert_eq!(first, second);
    assert_ne!(
        first.events,
        run(8, FOUL).events,
        "the seed decides nothing"
    );
}

#[test]
fn whatever_the_seed_the_sums_are_exact_though_the_master_dies_too() {
    let (mut kills, mut retries) = (0, 0);
    for seed in 10..60 {
        let run = run(seed, WORST);
        exact(&run, seed);
        kills += run.kills;
        retries += run.retries;
    }
    assert!(
        kills > 50 && retries > 50,
        "{kills} kills, {retries} retries"
    );
}
