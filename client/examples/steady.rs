//! Pushes and pulls all the time, knows what every value must be, and says so when one is not: to be run while servers,
//! master or machines are killed under it.
//!
//! Each worker has keys of its own in one vector, and a copy of what they must be. A value that is smaller was lost, one
//! that is larger was counted twice. It ends with a word about all values after `--seconds`, or at SIGTERM.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use glint::{Client, Durability, Vector};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Pushes and pulls all the time, and checks every sum
#[derive(Parser)]
#[command(name = "steady")]
struct Flags {
    /// The cluster's master
    #[arg(long, env = "GLINT_URL", default_value = "http://127.0.0.1:7100")]
    master: String,
    /// The vector is called NAME-INDEX
    #[arg(long, default_value = "steady")]
    name: String,
    /// Which of several such programs this is; Kubernetes says it to the pods of an indexed Job
    #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0)]
    index: u32,
    /// What the values survive
    #[arg(long, default_value = "memory")]
    durability: Durability,
    /// How many workers
    #[arg(long, default_value_t = 4)]
    workers: u64,
    /// How many keys each worker has
    #[arg(long, default_value_t = 2500)]
    keys: u64,
    /// For how long; until SIGTERM unless said
    #[arg(long)]
    seconds: Option<u64>,
    /// How long one pull or push may take, in seconds
    #[arg(long, default_value_t = 120)]
    deadline: u64,
    /// Milliseconds between one pair of push and pull of a worker and the next
    #[arg(long, default_value_t = 2)]
    pause: u64,
    /// After how many seconds to say again how far it is
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    tell: u64,
}

/// What was done so far.
#[derive(Default)]
struct Done {
    pushes: AtomicU64,
    pulls: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Done {
    fn took(&self, counter: &AtomicU64, started: Instant) {
        counter.fetch_add(1, Ordering::Relaxed);
        let took = started.elapsed().as_millis() as u64;
        self.slowest_ms.fetch_max(took, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let flags = Flags::parse();
    ensure!(
        flags.workers > 0 && flags.keys > 0,
        "--workers and --keys are at least 1"
    );
    let stop = CancellationToken::new();
    stop_in_time(&stop, flags.seconds)?;

    let deadline = Duration::from_secs(flags.deadline);
    let client = Client::builder(&flags.master)
        .deadline(deadline)
        .connect_deadline(deadline)
        .connect()
        .await
        .with_context(|| format!("no cluster at {}", flags.master))?;
    let name = format!("{}-{}", flags.name, flags.index);
    let vector: Vector<i64> = client
        .vector(&name, flags.workers * flags.keys)
        .durability(flags.durability)
        .partitions(16)
        .create()
        .await
        .with_context(|| {
            format!("cannot make the vector {name}; left from before? glint model delete {name}")
        })?;
    println!(
        "started: {} workers, vector {name}, {}",
        flags.workers, flags.durability
    );

    let done = Arc::new(Done::default());
    let mut workers = JoinSet::new();
    for number in 0..flags.workers {
        let keys = number * flags.keys..(number + 1) * flags.keys;
        let worker = Worker {
            vector: vector.clone(),
            expected: vec![0; flags.keys as usize],
            first: keys.start,
            random: 0x9E37_79B9 + number,
            pause: Duration::from_millis(flags.pause),
            done: Arc::clone(&done),
        };
        workers.spawn(worker.run(stop.clone()));
    }
    let shown = tokio::spawn(show(Arc::clone(&done), Duration::from_secs(flags.tell)));
    let mut sum = 0;
    while let Some(worker) = workers.join_next().await {
        // The first failure ends everything: no call may fail.
        sum += worker??;
    }
    shown.abort();
    let there: i64 = vector.pull_range(0..vector.len()).await?.iter().sum();
    ensure!(
        there == sum,
        "the sum of all values is {there}, and {sum} was pushed"
    );
    client.delete(&name).await?;
    println!(
        "{}; no call failed, every value right, sum {sum}",
        words(&done)
    );
    Ok(ExitCode::SUCCESS)
}

/// Cancels `stop` at SIGTERM, or after some time.
fn stop_in_time(stop: &CancellationToken, seconds: Option<u64>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let time = async {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            () = time => {}
        }
        stop.cancel();
    });
    Ok(())
}

fn words(done: &Done) -> String {
    format!(
        "{} pushes, {} pulls, the slowest call took {} ms",
        done.pushes.load(Ordering::Relaxed),
        done.pulls.load(Ordering::Relaxed),
        done.slowest_ms.load(Ordering::Relaxed)
    )
}

/// Says again and again how far it is.
async fn show(done: Arc<Done>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        println!("{}", words(&done));
    }
}

/// The only one who pushes to its keys.
struct Worker {
    vector: Vector<i64>,
    /// What the values must be.
    expected: Vec<i64>,
    /// The first of its keys.
    first: u64,
    random: u64,
    pause: Duration,
    done: Arc<Done>,
}

impl Worker {
    /// Pushes and pulls until `stop`; gives the sum of its values.
    async fn run(mut self, stop: CancellationToken) -> Result<i64> {
        while !stop.is_cancelled() {
            let keys = self.some_keys();
            let changes: Vec<i64> = keys
                .iter()
                .map(|_| (self.next() % 201) as i64 - 100)
                .collect();
            let started = Instant::now();
            self.vector
                .push(&keys, &changes)
                .await
                .context("a push failed")?;
            self.done.took(&self.done.pushes, started);
            for (key, change) in keys.iter().zip(&changes) {
                self.expected[(key - self.first) as usize] += change;
            }
            let started = Instant::now();
            let values = self.vector.pull(&keys).await.context("a pull failed")?;
            self.done.took(&self.done.pulls, started);
            self.check(keys.into_iter().zip(values))?;
            tokio::time::sleep(self.pause).await;
        }
        let all = self.first..self.first + self.expected.len() as u64;
        let values = self
            .vector
            .pull_range(all.clone())
            .await
            .context("the last pull failed")?;
        self.check(all.zip(values))?;
        Ok(self.expected.iter().sum())
    }

    fn check(&self, values: impl Iterator<Item = (u64, i64)>) -> Result<()> {
        for (key, value) in values {
            let expected = self.expected[(key - self.first) as usize];
            if value != expected {
                bail!(
                    "key {key} is {value} and must be {expected}: pushes were lost or counted twice"
                );
            }
        }
        Ok(())
    }

    /// Some of its keys, ascending, none twice.
    fn some_keys(&mut self) -> Vec<u64> {
        let mut keys: Vec<u64> = (0..16)
            .map(|_| self.first + self.next() % self.expected.len() as u64)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The next pseudo-random number (xorshift).
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
