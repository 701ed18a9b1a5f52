//! A worker with one workload: what a training program would do, timed from the caller's call to the result in the
//! caller's array (pull) or to the acknowledgement (push). Arrays are the caller's and already touched.
//!
//! Sums are checked against what was pushed, outside the timed part, so that a figure cannot come from work not done.

use std::{future::Future, time::Instant};

use anyhow::Context;
use glint::{Client, Matrix, Vector};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::{
    statistics::{median, warm_median},
    workload::{COLUMNS, MATRIX, Sending, VECTOR, Workload},
};

/// What one worker measured: seconds per operation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Of a pull.
    pub(crate) pull: f64,
    /// Of a push.
    pub(crate) push: f64,
}

/// Runs a workload given as JSON, and prints the [`Outcome`] as JSON.
pub(crate) fn main(master: &str, workload: &str) -> anyhow::Result<()> {
    let workload: Workload = serde_json::from_str(workload)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // On a thread of the runtime, as programs run that do more than one thing.
    let work = runtime.spawn(run(master.to_owned(), workload));
    let outcome = runtime.block_on(work).context("the worker panicked")??;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn run(master: String, workload: Workload) -> anyhow::Result<Outcome> {
    let master = &master;
    match workload {
        Workload::Dense {
            values,
            repetitions,
        } => dense(&open(master).await?, values as usize, repetitions).await,
        Workload::Sparse { keys, repetitions } => {
            sparse(&open(master).await?, keys as usize, repetitions).await
        }
        Workload::Rows { rows, repetitions } => {
            let client = Client::connect(master).await?;
            let matrix = client.open_matrix::<f32>(MATRIX).await?;
            whole_rows(&matrix, rows as usize, repetitions).await
        }
        Workload::Small {
            in_flight,
            requests,
            sending,
        } => {
            let builder = Client::builder(master);
            let client = match sending {
                Sending::Coalesced => builder,
                Sending::Single => builder.coalesce(false),
                Sending::SingleWide => builder
                    .coalesce(false)
                    .connections(in_flight as usize)
                    .lanes(in_flight as usize),
            }
            .connect()
            .await?;
            let vector = client.open_vector::<f32>(VECTOR).await?;
            small(&vector, in_flight, requests).await
        }
    }
}

async fn open(master: &str) -> anyhow::Result<Vector<f32>> {
    let client = Client::connect(master).await?;
    Ok(client.open_vector::<f32>(VECTOR).await?)
}

/// The operations of a workload on arrays of one size.
trait Operations {
    fn pull(&self, out: &mut [f32]) -> impl Future<Output = Result<(), glint::Error>> + Send;
    fn push(&self, values: &[f32]) -> impl Future<Output = Result<(), glint::Error>> + Send;
}

/// Small whole numbers, so that sums of floats stay exact.
fn source(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 7) as f32 + 1.0).collect()
}

/// Pulls and pushes by turns; seconds of each, and a check that every push is in once.
async fn by_turns(
    operations: &(impl Operations + Sync),
    count: usize,
    repetitions: u32,
) -> anyhow::Result<Outcome> {
    let values = source(count);
    let mut out = vec![-1.0; count];
    operations.pull(&mut out).await?;
    let before = out.clone();
    let (mut pulls, mut pushes) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let start = Instant::now();
        operations.push(&values).await?;
        pushes.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        operations.pull(&mut out).await?;
        pulls.push(start.elapsed().as_secs_f64());
    }
    for (at, ((after, before), pushed)) in out.iter().zip(&before).zip(&values).enumerate() {
        let expected = before + pushed * repetitions as f32;
        anyhow::ensure!(
            *after == expected,
            "value {at} is {after} after {repetitions} pushes, and should be {expected}"
        );
    }
    Ok(Outcome {
        pull: warm_median(&pulls),
        push: warm_median(&pushes),
    })
}

struct Dense<'a> {
    vector: &'a Vector<f32>,
    count: u64,
}

impl Operations for Dense<'_> {
    async fn pull(&self, out: &mut [f32]) -> Result<(), glint::Error> {
        self.vector.pull_range_into(0..self.count, out).await
    }
    async fn push(&self, values: &[f32]) -> Result<(), glint::Error> {
        self.vector.push_range(0, values).await
    }
}

async fn dense(vector: &Vector<f32>, count: usize, repetitions: u32) -> anyhow::Result<Outcome> {
    let operations = Dense {
        vector,
        count: count as u64,
    };
    by_turns(&operations, count, repetitions).await
}

struct Sparse<'a> {
    vector: &'a Vector<f32>,
    keys: Vec<u64>,
}

impl Operations for Sparse<'_> {
    async fn pull(&self, out: &mut [f32]) -> Result<(), glint::Error> {
        self.vector.pull_into(&self.keys, out).await
    }
    async fn push(&self, values: &[f32]) -> Result<(), glint::Error> {
        self.vector.push(&self.keys, values).await
    }
}

/// So many distinct numbers below `end`, sorted, the same in every run.
fn distinct(count: usize, end: u64) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(count as u64);
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let missing = count - numbers.len();
        numbers.extend((0..missing).map(|_| random.random_range(0..end)));
        numbers.sort_unstable();
        numbers.dedup();
    }
    numbers
}

async fn sparse(vector: &Vector<f32>, count: usize, repetitions: u32) -> anyhow::Result<Outcome> {
    let keys = distinct(count, vector.len());
    by_turns(&Sparse { vector, keys }, count, repetitions).await
}

struct WholeRows<'a> {
    matrix: &'a Matrix<f32>,
    rows: Vec<u64>,
}

impl Operations for WholeRows<'_> {
    async fn pull(&self, out: &mut [f32]) -> Result<(), glint::Error> {
        self.matrix.pull_rows_into(&self.rows, out).await
    }
    async fn push(&self, values: &[f32]) -> Result<(), glint::Error> {
        self.matrix.push_rows(&self.rows, values).await
    }
}

async fn whole_rows(
    matrix: &Matrix<f32>,
    count: usize,
    repetitions: u32,
) -> anyhow::Result<Outcome> {
    let rows = distinct(count, matrix.rows());
    let values = count * COLUMNS as usize;
    by_turns(&WholeRows { matrix, rows }, values, repetitions).await
}

/// Parts into which the requests of a small workload are cut, each timed; the first fifth is dropped.
const PARTS: usize = 5;

/// Pulls of one key each, then pushes, `in_flight` at once.
async fn small(vector: &Vector<f32>, in_flight: u32, requests: u32) -> anyhow::Result<Outcome> {
    let mut random = StdRng::seed_from_u64(1);
    let keys: Vec<u64> = (0..requests)
        .map(|_| random.random_range(0..vector.len()))
        .collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let sum = |values: Vec<f32>| values.into_iter().map(f64::from).sum::<f64>();
    let before = sum(vector.pull(&sorted).await?);
    let own = vector.clone();
    let pull = in_parts(&keys, in_flight, move |key| {
        let vector = own.clone();
        async move { vector.pull_into(&[key], &mut [0.0]).await }
    })
    .await?;
    let own = vector.clone();
    let push = in_parts(&keys, in_flight, move |key| {
        let vector = own.clone();
        async move { vector.push(&[key], &[1.0]).await }
    })
    .await?;
    let after = sum(vector.pull(&sorted).await?);
    anyhow::ensure!(
        after == before + f64::from(requests),
        "{requests} pushes of 1 raised the sum from {before} to {after}"
    );
    Ok(Outcome { pull, push })
}

/// Seconds per operation, with `in_flight` of them out at any time.
async fn in_parts<F, R>(keys: &[u64], in_flight: u32, operation: F) -> anyhow::Result<f64>
where
    F: Fn(u64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), glint::Error>> + Send + 'static,
{
    let part = keys.len() / PARTS;
    let mut seconds = Vec::with_capacity(PARTS);
    for keys in keys.chunks(part.max(1)) {
        let start = Instant::now();
        if in_flight == 1 {
            for &key in keys {
                operation(key).await?;
            }
        } else {
            let callers = (0..in_flight as usize).map(|caller| {
                let own: Vec<u64> = keys
                    .iter()
                    .copied()
                    .skip(caller)
                    .step_by(in_flight as usize)
                    .collect();
                let operation = operation.clone();
                tokio::spawn(async move {
                    for key in own {
                        operation(key).await?;
                    }
                    Ok::<(), glint::Error>(())
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.context("a caller panicked")??;
            }
        }
        seconds.push(start.elapsed().as_secs_f64() / keys.len() as f64);
    }
    Ok(median(&seconds[seconds.len() / 5..]))
}

/// What a steady stream of pushes came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Pushes per second.
    pub(crate) rate: f64,
    /// Seconds within which 99 of 100 pushes were acknowledged.
    pub(crate) p99: f64,
    /// Seconds of the slowest.
    pub(crate) slowest: f64,
}

/// Pushes random keys one push after another, and prints the [`Pace`] as JSON. The first fifth is not counted.
pub(crate) fn steady(master: &str, keys: u64, seconds: f64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let master = master.to_owned();
    let work = runtime.spawn(async move {
        let vector = open(&master).await?;
        let keys = distinct(keys as usize, vector.len());
        let values = source(keys.len());
        let mut times = Vec::new();
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < seconds {
            let push = Instant::now();
            vector.push(&keys, &values).await?;
            times.push(push.elapsed().as_secs_f64());
        }
        anyhow::Ok(times)
    });
    let times = runtime.block_on(work).context("the worker panicked")??;
    let mut warm = times[times.len() / 5..].to_vec();
    anyhow::ensure!(warm.len() >= 100, "only {} pushes were made", warm.len());
    let rate = warm.len() as f64 / warm.iter().sum::<f64>();
    warm.sort_by(f64::total_cmp);
    let pace = Pace {
        rate,
        p99: warm[warm.len() * 99 / 100],
        slowest: warm[warm.len() - 1],
    };
    println!("{}", serde_json::to_string(&pace)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_sorted_and_the_same_in_every_run() {
        let keys = distinct(1000, 1200);
        assert_eq!(keys.len(), 1000);
        assert!(keys.is_sorted_by(|a, b| a < b) && keys[999] < 1200);
        assert_eq!(keys, distinct(1000, 1200));
    }
}
