//! Durable models in real processes on a real disk, killed at any moment under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use glint::{Client, Element, Vector, World};
use glint_tests::address::free_address;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    durable::{master, server},
    program::{Program, alone, printed, until_printed},
};

const KEYS: u64 = 512;

/// What one worker has pushed, per key.
struct Pushed<T> {
    vector: Vector<T>,
    sums: Vec<u64>,
}

/// Pushes and pulls until it is told to stop; every push must be acknowledged, and seen by the pulls after it.
async fn work<T: Element + Into<f64> + From<u8>>(
    url: String,
    name: &'static str,
    seed: u64,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Pushed<T> {
    let client = Client::builder(&url)
        .deadline(Duration::from_secs(120))
        .connect_deadline(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    let vector = client.open_vector::<T>(name).await.unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut sums = vec![0_u64; KEYS as usize];
    while !stop.load(Relaxed) {
        let count = random.random_range(1..64);
        let keys: Vec<u64> = (0..count).map(|_| random.random_range(0..KEYS)).collect();
        let values: Vec<u8> = (0..count).map(|_| random.random_range(0..10)).collect();
        let pushed: Vec<T> = values.iter().map(|&v| T::from(v)).collect();
        vector.push(&keys, &pushed).await.unwrap();
        for (key, value) in keys.iter().zip(values) {
            sums[*key as usize] += u64::from(value);
        }
        let seen = vector.pull(&keys).await.unwrap();
        for (key, seen) in keys.iter().zip(seen) {
            let own = sums[*key as usize] as f64;
            assert!(
                seen.into() >= own,
                "{name}[{key}] lacks what was acknowledged"
            );
        }
        done.fetch_add(1, Relaxed);
    }
    Pushed { vector, sums }
}

/// Whether the model is exactly what all workers together have pushed.
async fn is_exact<T: Element + Into<f64>>(pushed: &[Pushed<T>]) {
    let values = pushed[0].vector.pull_range(0..KEYS).await.unwrap();
    for (key, value) in values.into_iter().enumerate() {
        let sum: u64 = pushed.iter().map(|p| p.sums[key]).sum();
        assert_eq!(value.into(), sum as f64, "key {key}");
    }
}

/// A master and three durable servers as processes.
struct Fleet {
    directory: tempfile::TempDir,
    address: String,
    url: String,
    running: Vec<Option<Program>>,
    kills: u32,
}

const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

impl Fleet {
    fn start() -> Self {
        let address = free_address();
        let mut fleet = Self {
            directory: tempfile::tempdir().unwrap(),
            url: format!("http://{address}"),
            address,
            running: Vec::new(),
            kills: 0,
        };
        for which in 0..=SERVERS.len() {
            let program = fleet.program(which);
            fleet.running.push(Some(program));
        }
        until_printed(&fleet.url, &["status"], |text| {
            text.matches("alive").count() == SERVERS.len()
        });
        fleet
    }

    /// Server `which`, or the master after all of them.
    fn program(&self, which: usize) -> Program {
        let log = format!("log-{which}-{}", self.kills);
        let directory = self.directory.path();
        match SERVERS.get(which) {
            Some(name) => Program::start(directory, &log, &server(&self.url, name)),
            None => Program::start(directory, &log, &master(&self.address)),
        }
    }

    /// Kills one process after another at random moments and starts it again, for so long.
    fn kill_at_random(&mut self, lasting: Duration) {
        let seed = World::real().random.bits();
        println!("kills by seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let until = Instant::now() + lasting;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(random.random_range(20..900)));
            let which = random.random_range(0..self.running.len());
            if let Some(program) = self.running[which].take() {
                program.kill();
            }
            self.kills += 1;
            std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
            self.running[which] = Some(self.program(which));
        }
    }

    fn logs(&self) -> String {
        self.running.iter().flatten().map(Program::log).collect()
    }
}

#[test]
fn a_minute_of_kill_9_on_master_and_servers_under_load_loses_and_doubles_nothing() {
    let _alone = alone();
    let mut fleet = Fleet::start();
    let url = fleet.url.clone();
    for (name, element, durability) in [("counts", "i32", "sync"), ("sums", "f64", "async")] {
        let keys = KEYS.to_string();
        let arguments = [
            "model",
            "create",
            name,
            "--vector",
            &keys,
            "--element",
            element,
            "--durability",
            durability,
            "--partitions",
            "6",
        ];
        printed(&url, &arguments);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut counts = Vec::new();
    let mut sums = Vec::new();
    for seed in 0..2 {
        let start = || (url.clone(), Arc::clone(&stop), Arc::clone(&done));
        let (to, until, number) = start();
        counts.push(runtime.spawn(work::<i32>(to, "counts", seed, until, number)));
        let (to, until, number) = start();
        sums.push(runtime.spawn(work::<f64>(to, "sums", 100 + seed, until, number)));
    }
    fleet.kill_at_random(Duration::from_secs(60));
    stop.store(true, Relaxed);
    runtime.block_on(async {
        let settled = async {
            let mut pushed = (Vec::new(), Vec::new());
            for (counts, sums) in counts.into_iter().zip(sums) {
                pushed.0.push(counts.await.unwrap());
                pushed.1.push(sums.await.unwrap());
            }
            is_exact(&pushed.0).await;
            is_exact(&pushed.1).await;
            for client in pushed.0.iter().map(|p| p.vector.client()) {
                assert!(client.take_losses().is_empty(), "a kill loses nothing");
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(180), settled).await;
        assert!(
            settled.is_ok(),
            "it does not come to an end:\n{}",
            fleet.logs()
        );
    });
    let (kills, done) = (fleet.kills, done.load(Relaxed));
    println!("{kills} kills, {done} pushes");
    assert!(kills >= 40 && done >= 500, "{kills} kills, {done} pushes");
    // The last that was killed may have been the master, which has to begin to listen first.
    let text = until_printed(&url, &["status"], |text| {
        text.matches("alive").count() == SERVERS.len()
    });
    assert!(!text.contains("lost"), "{text}");
}
