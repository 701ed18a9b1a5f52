//! A durable server that was away for a while gets the records that it missed, and no state: from memory if they were few, from the
//! log of the server that went on if they were more.

use std::time::Duration;

use futures_util::future::try_join_all;
use glint::{Durability, Vector};
use glint_server::log::LogOptions;
use glint_tests::{cluster::Cluster, wire::Wire};

use crate::hot::text;

const PARTITIONS: u64 = 3;
/// Of a partition: 1 MiB of values, of whose records memory keeps 128 KiB, and the log may have half a MiB for a follower.
const KEYS: u64 = 128 << 10;
/// Keys of a push: half a KiB.
const LENGTH: u64 = 64;

/// Pushes so often to each partition, one after another.
async fn push(counts: &Vector<i64>, times: u64) {
    let ones = [1; LENGTH as usize];
    let pushes = (0..PARTITIONS).map(|partition| async move {
        for time in 0..times {
            let at = partition * KEYS + time % (KEYS / LENGTH) * LENGTH;
            counts.push_range(at, &ones).await?;
        }
        Ok::<(), glint::Error>(())
    });
    try_join_all(pushes).await.unwrap();
}

/// How many followers a server has brought level by the whole state, from memory, and from the log.
async fn levelled(cluster: &Cluster, server: &str) -> [u64; 3] {
    let status = cluster.status().await;
    let summary = status.servers.iter().find(|s| s.id.0 == server).unwrap();
    let metrics = text(&Wire::to(&summary.url), "/metrics").await;
    ["sent_state", "level_from_memory", "level_from_log"].map(|name| {
        let name = format!("glint_server_followers_{name}_total ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap().parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_server_that_was_away_gets_what_it_missed_and_no_state() {
    for durability in [Durability::Async, Durability::Sync] {
        let mut cluster = Cluster::durable(2, LogOptions::default()).await;
        let client = cluster.client().await;
        let counts = client
            .vector::<i64>("counts", PARTITIONS * KEYS)
            .partitions(PARTITIONS as u32)
            .durability(durability)
            .copies(2)
            .create()
            .await
            .unwrap();
        cluster.wait_for_copies("counts", 2).await;
        push(&counts, 10).await;
        let names: Vec<String> = (cluster.status().await.servers.iter())
            .map(|server| server.id.0.clone())
            .collect();
        let mut pushed = 10;
        // Whoever is away is not the one that was away before.
        for (away, stays, missed, [from_memory, from_log]) in
            [(0, 1, 20, [PARTITIONS, 0]), (1, 0, 600, [0, PARTITIONS])]
        {
            cluster.kill_server(away).await;
            push(&counts, missed).await;
            pushed += missed;
            let before = levelled(&cluster, &names[stays]).await;
            cluster.start_server(away).await;
            cluster.wait_for_copies("counts", 2).await;
            let after = levelled(&cluster, &names[stays]).await;
            let by = |at: usize| after[at] - before[at];
            assert_eq!(
                [by(0), by(1), by(2)],
                [0, from_memory, from_log],
                "{durability}: {missed} missed"
            );
        }
        // What it got is what counts when the other is gone.
        cluster.kill_server(0).await;
        let deadline = Duration::from_secs(30);
        let found = cluster.client_for(deadline).await;
        let found = found.vector::<i64>("counts", PARTITIONS * KEYS);
        let found = found.open().await.unwrap();
        let all = found.pull_range(0..PARTITIONS * KEYS).await.unwrap();
        let sum = i64::try_from(pushed * PARTITIONS * LENGTH).unwrap();
        assert_eq!(all.iter().sum::<i64>(), sum, "{durability}");
        assert_eq!(all, counts.pull_range(0..PARTITIONS * KEYS).await.unwrap());
        cluster.stop().await;
    }
}
