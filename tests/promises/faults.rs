//! Exactly once: a proxy between clients and servers drops, delays, repeats, reorders and cuts requests and answers, and
//! the sums are exact, always.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use glint::{Client, Element, Matrix, Partitioning, Vector};
use glint_tests::{
    cluster::Cluster,
    proxy::{Faults, Proxy, Suffered},
    reference::Reference,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const KEYS: u64 = 1_000;
const ROWS: u64 = 60;
const COLS: u32 = 7;

/// One model of each kind, as one client sees them.
#[derive(Clone)]
struct Models {
    counts: Vector<i64>,
    weights: Vector<f64>,
    rows: Matrix<f32>,
    topics: Matrix<i64>,
}

impl Models {
    async fn open(client: &Client) -> Self {
        let cyclic = Partitioning::Cyclic;
        let counts = client.vector("counts", KEYS).partitions_per_server(2);
        let weights = client
            .vector("weights", KEYS)
            .partitioning(cyclic.clone())
            .partitions_per_server(3);
        let rows = client.matrix("rows", ROWS, COLS).partitions_per_server(2);
        let topics = client
            .matrix("topics", ROWS, COLS)
            .partitioning(cyclic)
            .partitions_per_server(2);
        Self {
            counts: counts.open_or_create().await.unwrap(),
            weights: weights.open_or_create().await.unwrap(),
            rows: rows.open_or_create().await.unwrap(),
            topics: topics.open_or_create().await.unwrap(),
        }
    }
}

/// What all of them must be in the end.
struct Expected {
    counts: Reference<i64>,
    weights: Reference<f64>,
    rows: Reference<f32>,
    topics: Reference<i64>,
}

/// A float whose sums are exact: a small multiple of 1/4.
fn quarter(dice: &mut StdRng) -> f64 {
    f64::from(dice.random_range(-40_i32..40)) / 4.0
}

/// One random push, and the same to the reference once it is acknowledged.
async fn push(models: &Models, expected: &Mutex<Expected>, dice: &mut StdRng) {
    let size = dice.random_range(1..20);
    let rows: Vec<u64> = (0..size).map(|_| dice.random_range(0..ROWS)).collect();
    match dice.random_range(0..5) {
        0 => {
            let start = dice.random_range(0..KEYS - size);
            let values: Vec<i64> = (0..size).map(|_| dice.random_range(-1000..1000)).collect();
            models.counts.push_range(start, &values).await.unwrap();
            let keys: Vec<u64> = (start..start + size).collect();
            expected.lock().unwrap().counts.add_rows(&keys, &values);
        }
        1 => {
            let keys: Vec<u64> = (0..size).map(|_| dice.random_range(0..KEYS)).collect();
            let values: Vec<i64> = keys
                .iter()
                .map(|_| dice.random_range(-1 << 40..1 << 40))
                .collect();
            models.counts.push(&keys, &values).await.unwrap();
            expected.lock().unwrap().counts.add_rows(&keys, &values);
        }
        2 => {
            let keys: Vec<u64> = (0..size).map(|_| dice.random_range(0..KEYS)).collect();
            let values: Vec<f64> = keys.iter().map(|_| quarter(dice)).collect();
            models.weights.push(&keys, &values).await.unwrap();
            expected.lock().unwrap().weights.add_rows(&keys, &values);
        }
        3 => {
            let count = size as usize * COLS as usize;
            let values: Vec<f32> = (0..count).map(|_| quarter(dice) as f32).collect();
            models.rows.push_rows(&rows, &values).await.unwrap();
            expected.lock().unwrap().rows.add_rows(&rows, &values);
        }
        _ => {
            let pairs: Vec<(u64, u32)> = rows
                .iter()
                .map(|&r| (r, dice.random_range(0..COLS)))
                .collect();
            let values: Vec<i64> = pairs.iter().map(|_| dice.random_range(-9..9)).collect();
            models.topics.push_pairs(&pairs, &values).await.unwrap();
            let mut expected = expected.lock().unwrap();
            for (&(row, col), &value) in pairs.iter().zip(&values) {
                expected.topics.add(row, col, value);
            }
        }
    }
}

fn same<T: Element>(found: &[T], expected: &Reference<T>, what: &str, seed: u64) {
    let wrong: Vec<usize> = (0..found.len())
        .filter(|&i| found[i] != expected.values()[i])
        .collect();
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} values of {what} are wrong: {wrong:?}",
        wrong.len()
    );
}

/// Several clients push at random through a proxy with these faults, each giving up a request after `timeout`, and in the end all
/// values are what they must be. What happened on the way.
async fn sums_are_exact_after(
    pushes: usize,
    seed: u64,
    faults: Faults,
    timeout: Duration,
) -> (Suffered, u64) {
    const CLIENTS: usize = 4;
    const TASKS: usize = 4;
    let cluster = Cluster::start(2).await;
    let proxy = Proxy::new(seed, faults);
    let expected = Arc::new(Mutex::new(Expected {
        counts: Reference::new(KEYS as usize, 1),
        weights: Reference::new(KEYS as usize, 1),
        rows: Reference::new(ROWS as usize, COLS as usize),
        topics: Reference::new(ROWS as usize, COLS as usize),
    }));
    let (mut tasks, mut clients) = (tokio::task::JoinSet::new(), Vec::new());
    for client in 0..CLIENTS {
        let connecting = cluster.client_with(&proxy, |options| options.request_timeout = timeout);
        clients.push(connecting.await);
        let models = Models::open(&clients[client]).await;
        for task in 0..TASKS {
            let (models, expected) = (models.clone(), Arc::clone(&expected));
            let mut dice = StdRng::seed_from_u64(seed ^ (client * TASKS + task) as u64);
            tasks.spawn(async move {
                for _ in 0..pushes / CLIENTS / TASKS {
                    push(&models, &expected, &mut dice).await;
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    proxy.settle().await;
    let retries = clients.iter().map(|c| c.stats().retries).sum();
    let suffered = proxy.suffered();
    let expected = Arc::into_inner(expected).unwrap().into_inner().unwrap();
    // Pulls suffer the same faults, and bring the same values.
    for client in [cluster.client_through(&proxy).await, cluster.client().await] {
        let models = Models::open(&client).await;
        let counts = models.counts.pull_range(0..KEYS).await.unwrap();
        same(&counts, &expected.counts, "counts", seed);
        let weights = models.weights.pull_range(0..KEYS).await.unwrap();
        same(&weights, &expected.weights, "weights", seed);
        let rows = models.rows.pull_row_range(0..ROWS).await.unwrap();
        same(&rows, &expected.rows, "rows", seed);
        let topics = models.topics.pull_row_range(0..ROWS).await.unwrap();
        same(&topics, &expected.topics, "topics", seed);
    }
    let repeated: u64 = cluster
        .fresh_status()
        .await
        .servers
        .iter()
        .map(|s| s.load.repeated)
        .sum();
    assert!(repeated > 0, "no server recognised any repetition");
    cluster.stop().await;
    (suffered, retries)
}

/// How long a client waits for an answer where none is late.
const PATIENT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_thousand_pushes_through_faults_every_sum_is_exact() {
    let (suffered, _) = sums_are_exact_after(10_000, 1, Faults::HARSH, PATIENT).await;
    assert!(
        suffered.everything(),
        "some fault never happened: {suffered:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_seed_every_sum_is_exact() {
    for seed in 2..8 {
        let (suffered, _) = sums_are_exact_after(800, seed, Faults::HARSH, PATIENT).await;
        assert!(
            suffered.everything(),
            "some fault never happened: {suffered:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_come_after_a_client_has_given_the_request_up_change_nothing() {
    let timeout = Duration::from_millis(150);
    let faults = Faults {
        late_answer: 0.05,
        answer_after: timeout * 3,
        ..Faults::NONE
    };
    let (suffered, retries) = sums_are_exact_after(1600, 20, faults, timeout).await;
    let late = suffered.late_answer;
    assert!(
        late > 20 && retries >= late / 2,
        "{suffered:?}, {retries} retries"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_future_is_dropped_is_applied_once_or_never_and_the_lane_goes_on() {
    let cluster = Cluster::start(2).await;
    let proxy = Proxy::new(11, Faults::HARSH);
    let client = cluster.client_through(&proxy).await;
    let keys = 2_000_u64;
    let vector = client
        .vector::<i64>("v", keys)
        .partitions_per_server(2)
        .create()
        .await
        .unwrap();
    let (cancelled, acknowledged) = (Arc::new(Mutex::new(Vec::new())), AtomicU64::new(0));
    let tasks = (0..8_u64).map(|task| {
        let (vector, cancelled, acknowledged) =
            (vector.clone(), Arc::clone(&cancelled), &acknowledged);
        async move {
            let mut dice = StdRng::seed_from_u64(task);
            for key in (task..keys).step_by(8) {
                let patience = Duration::from_micros(dice.random_range(0..4_000));
                let push = vector.push(std::slice::from_ref(&key), &[1]);
                if key % 3 != 0 {
                    push.await.unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                } else if tokio::time::timeout(patience, push).await.is_err() {
                    cancelled.lock().unwrap().push(key);
                }
            }
        }
    });
    futures_util::future::join_all(tasks).await;
    proxy.set(Faults::NONE);
    // One more push over each partition: on every lane nothing stays that would stop it.
    let all: Vec<u64> = (0..keys).collect();
    for _ in 0..8 {
        vector.push(&all, &vec![0; all.len()]).await.unwrap();
    }
    proxy.settle().await;
    // What a dropped future left on its way ends by itself.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let values = vector.pull_range(0..keys).await.unwrap();
    let cancelled = Arc::into_inner(cancelled).unwrap().into_inner().unwrap();
    assert!(
        cancelled.len() > 20,
        "only {} were cancelled",
        cancelled.len()
    );
    for key in 0..keys {
        let value = values[key as usize];
        let allowed = if cancelled.contains(&key) {
            value == 0 || value == 1
        } else {
            value == 1
        };
        assert!(
            allowed,
            "key {key} is {value}, cancelled: {}",
            cancelled.contains(&key)
        );
    }
    assert_eq!(
        vector.pull_range(0..keys).await.unwrap(),
        values,
        "something arrived later"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_buffer_through_faults_adds_every_value_once() {
    let cluster = Cluster::start(2).await;
    let proxy = Proxy::new(21, Faults::HARSH);
    let client = cluster.client_through(&proxy).await;
    let topics = client
        .matrix::<i64>("topics", ROWS, COLS)
        .partitioning(Partitioning::Cyclic);
    let topics = topics.create().await.unwrap();
    let buffer = topics.buffered(glint::BufferOptions {
        capacity: 50,
        hot_rows: 4,
        max_in_flight: 4,
        ..Default::default()
    });
    let mut expected = Reference::new(ROWS as usize, COLS as usize);
    let mut dice = StdRng::seed_from_u64(21);
    for _ in 0..10_000 {
        let (row, col, delta) = (
            dice.random_range(0..ROWS),
            dice.random_range(0..COLS),
            dice.random_range(-3..4),
        );
        buffer.add(row, col, delta).await.unwrap();
        expected.add(row, col, delta);
    }
    buffer.flush().await.unwrap();
    proxy.settle().await;
    same(
        &topics.pull_row_range(0..ROWS).await.unwrap(),
        &expected,
        "topics",
        21,
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_told_as_unknown_or_certainly_not_applied_by_the_deadline() {
    let cluster = Cluster::start(1).await;
    let proxy = Proxy::new(31, Faults::NONE);
    let client = cluster
        .client_with(&proxy, |options| {
            options.deadline = Duration::from_millis(600);
            options.request_timeout = Duration::from_millis(100);
        })
        .await;
    let vector = client.vector::<i64>("v", 10).create().await.unwrap();
    proxy.set(Faults::NO_ANSWER);
    let began = tokio::time::Instant::now();
    let error = vector.push(&[1], &[1]).await.unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(error.to_string().contains("attempts"), "{error}");
    let applied = error.applied();
    let error = vector.pull(&[1]).await.unwrap_err();
    assert!(
        matches!(error, glint::Error::DeadlineExceeded { .. }),
        "{error}"
    );
    proxy.set(Faults::NONE);
    let value = vector.pull(&[1]).await.unwrap()[0];
    match applied {
        glint::Applied::No => assert_eq!(value, 0),
        glint::Applied::Unknown => assert!(value == 0 || value == 1),
    }
    vector.push(&[1], &[10]).await.unwrap();
    assert_eq!(vector.pull(&[1]).await.unwrap(), [value + 10]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_push_of_many_requests_through_faults_counts_each_once() {
    let cluster = Cluster::start(2).await;
    let proxy = Proxy::new(51, Faults::HARSH);
    let client = cluster.client_through(&proxy).await;
    let keys = 400_000_u64;
    let vector = client.vector::<f64>("v", keys).create().await.unwrap();
    let values: Vec<f64> = (0..keys).map(|k| k as f64 / 4.0).collect();
    let scattered: Vec<u64> = (0..keys).map(|k| k * 7 % keys).collect();
    for _ in 0..5 {
        vector.push_range(0, &values).await.unwrap();
        vector
            .push(&scattered, &vec![0.25; scattered.len()])
            .await
            .unwrap();
    }
    proxy.settle().await;
    let suffered = proxy.suffered();
    assert!(
        suffered.cut_reply > 0 && suffered.replay > 0,
        "{suffered:?}"
    );
    let found = vector.pull_range(0..keys).await.unwrap();
    let wrong = (0..keys as usize).find(|&k| found[k] != 5.0 * (values[k] + 0.25));
    assert_eq!(wrong, None);
    cluster.stop().await;
}
