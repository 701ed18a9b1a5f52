//! Partitions with several copies change their holders while they are used: callers notice nothing but a moment's wait.

use std::{sync::Arc, time::Duration};

use glint::{Client, Read, Vector};
use glint_tests::cluster::Cluster;
use tokio::time::Instant;

const KEYS: u64 = 60;

/// A vector with two copies of each partition, all in sync.
async fn copied(client: &Client) -> Vector<i64> {
    let vector = client.vector::<i64>("v", KEYS).copies(2);
    let vector = vector.partitions_per_server(2).create().await.unwrap();
    in_sync(client).await;
    vector
}

/// Waits until every partition has a follower.
async fn in_sync(client: &Client) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let map = client.map("v").await.unwrap();
        if !map.followers.is_empty() && map.followers.iter().all(|f| !f.is_empty()) {
            return;
        }
        assert!(Instant::now() < until, "never in sync: {map:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_costs_its_callers_a_moment_and_no_push() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let vector = copied(&client).await;
    let all: Vec<u64> = (0..KEYS).collect();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks = (0..8).map(|_| {
        let (vector, stop, all) = (vector.clone(), Arc::clone(&stop), all.clone());
        tokio::spawn(async move {
            let (mut pushes, mut longest) = (0, Duration::ZERO);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let began = Instant::now();
                vector.push(&all, &[1; KEYS as usize]).await.unwrap();
                vector.pull(&all[..3]).await.unwrap();
                longest = longest.max(began.elapsed());
                pushes += 1;
            }
            (pushes, longest)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill_server(0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut pushes, mut longest) = (0, Duration::ZERO);
    for task in tasks {
        let (some, wait) = task.await.unwrap();
        pushes += some;
        longest = longest.max(wait);
    }
    assert_eq!(vector.pull(&all).await.unwrap(), [pushes; KEYS as usize]);
    // Far above what it takes, far below any time-out of a request.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn reads_that_need_not_be_the_newest_bring_what_was_acknowledged() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = copied(&client).await;
    let all: Vec<u64> = (0..KEYS).collect();
    let own = vector.reading(Read::OwnWrites);
    for round in 1..20 {
        vector.push(&all, &[1; KEYS as usize]).await.unwrap();
        assert_eq!(own.pull(&all).await.unwrap(), [round; KEYS as usize]);
        for key in 0..KEYS {
            assert_eq!(own.pull(&[key]).await.unwrap(), [round]);
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for read in [Read::Any, Read::Within(Duration::from_millis(400))] {
        let values = vector.reading(read).pull(&all).await.unwrap();
        assert_eq!(values, [19; KEYS as usize], "nothing was pushed for long");
    }
    assert!(client.stats().follower_reads > 0, "other copies are asked");
    cluster.stop().await;
}
