//! Models that outlive the processes that hold them: whatever is acknowledged is there after any restart, once.

use std::time::Duration;

use glint::{Applied, Durability};
use glint_protocol::control::{ClusterStatus, ServerState};
use glint_server::log::LogOptions;
use glint_tests::{cluster::Cluster, wire::Wire};
use glint_world::disk::Operation;
use serde_json::Value;

/// Small enough that segments come and go, and snapshots are written, in a test.
const SMALL: LogOptions = LogOptions {
    segment_bytes: 16 << 10,
    sync_every: Duration::from_millis(5),
    floor_bytes: 32 << 10,
};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_server_was_killed() {
    for durability in [Durability::Async, Durability::Sync] {
        let mut cluster = Cluster::durable(2, LogOptions::default()).await;
        let client = cluster.client().await;
        let counts = client
            .vector::<i64>("counts", 100)
            .partitions_per_server(2)
            .durability(durability)
            .create()
            .await
            .unwrap();
        let weights = client
            .matrix::<f64>("weights", 10, 4)
            .initial(0.5)
            .durability(durability)
            .create()
            .await
            .unwrap();
        for turn in 0..20 {
            counts.push_range(0, &[turn; 100]).await.unwrap();
            weights
                .push_rows(
                    &[turn as u64 % 10],
                    &[0.1, 0.2, 0.3, f64::from(turn as i32)],
                )
                .await
                .unwrap();
        }
        let before = weights.pull_row_range(0..10).await.unwrap();
        for server in 0..2 {
            cluster.kill_server(server).await;
            cluster.start_server(server).await;
        }
        assert_eq!(counts.pull_range(0..100).await.unwrap(), [190; 100]);
        let after = weights.pull_row_range(0..10).await.unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&after), bits(&before));
        cluster.stop().await;
    }
}

#[tokio::test]
async fn the_log_stays_short_and_nothing_is_lost_by_it() {
    let mut cluster = Cluster::durable(1, SMALL).await;
    let client = cluster.client().await;
    let counts = client
        .vector::<i64>("counts", 500)
        .partitions(4)
        .durability(Durability::Sync)
        .create()
        .await
        .unwrap();
    let mut pushed = 0;
    for round in 0..3 {
        for _ in 0..200 {
            counts.push_range(0, &[1; 500]).await.unwrap();
            pushed += 1;
        }
        let log: u64 = std::fs::read_dir(cluster.directory(0))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("log-"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        assert!(log < 200 << 10, "round {round}: the log has {log} bytes");
        cluster.kill_server(0).await;
        cluster.start_server(0).await;
        assert_eq!(counts.pull_range(0..500).await.unwrap(), [pushed; 500]);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_comes_to_an_adopting_master_before_any_server_is_one_of_the_adopted_cluster()
{
    let mut cluster = Cluster::durable(1, LogOptions::default()).await;
    let old = cluster.client().await;
    let counts = old
        .vector::<i64>("counts", 100)
        .durability(Durability::Sync)
        .create()
        .await
        .unwrap();
    counts.push_range(0, &[1; 100]).await.unwrap();
    let before = cluster.status().await.cluster;
    assert!(before.is_some());
    cluster.kill_server(0).await;
    cluster.kill_master().await;
    cluster.lose_master_state();
    cluster.start_master().await;
    let new = cluster.client().await;
    assert_eq!(cluster.fresh_status().await.cluster, None);
    assert_eq!(new.cluster(), None);
    cluster.start_server(0).await;
    let has_come = |s: &ClusterStatus| s.adoption.as_ref().is_some_and(|a| a.servers.len() == 1);
    cluster.wait_for(has_come).await;
    let master = Wire::to(cluster.url());
    let ended = master.json("POST", "/v1/adopt/finish", Value::Null).await;
    ended.unwrap();
    let opened = new.open_vector::<i64>("counts").await.unwrap();
    for handle in [&opened, &counts] {
        handle.push_range(0, &[1; 100]).await.unwrap();
    }
    assert_eq!(opened.pull_range(0..100).await.unwrap(), [3; 100]);
    assert_eq!(new.cluster(), before);
    cluster.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_told_to_whoever_pushes_and_pushes_go_on_by_themselves_when_there_is_room() {
    let cluster = Cluster::durable(1, LogOptions::default()).await;
    let (client, hasty) = (
        cluster.client().await,
        cluster.client_for(Duration::from_secs(1)).await,
    );
    // Of one partition: what waits for room is in the way of everything after it.
    let counts = client
        .vector::<i64>("counts", 10)
        .partitions(1)
        .durability(Durability::Sync)
        .create()
        .await
        .unwrap();
    counts.push_range(0, &[1; 10]).await.unwrap();
    let disk = cluster.disk(0);
    disk.set_room(Some(0));
    let waiting = tokio::spawn({
        let counts = counts.clone();
        async move { counts.push_range(0, &[10; 10]).await }
    });
    cluster.wait_for(|s| s.servers[0].load.disk_full).await;
    let hasty = hasty.open_vector::<i64>("counts").await.unwrap();
    let error = hasty.push_range(0, &[100; 10]).await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown);
    assert!(
        error.to_string().contains("data directory is full"),
        "{error}"
    );
    let seen = counts.pull_range(0..10).await.unwrap();
    assert_eq!(seen, [11; 10], "pulls go on");
    assert!(!waiting.is_finished());
    disk.set_room(None);
    waiting.await.unwrap().unwrap();
    cluster.wait_for(|s| !s.servers[0].load.disk_full).await;
    counts.push_range(0, &[1000; 10]).await.unwrap();
    assert_eq!(counts.pull_range(0..10).await.unwrap(), [1011; 10]);
    cluster.stop().await;
}

#[tokio::test]
async fn the_master_shows_how_far_a_server_has_read_its_directory_and_that_it_waits_for_room() {
    let mut cluster = Cluster::durable(1, LogOptions::default()).await;
    let client = cluster.client().await;
    let counts = client
        .vector::<i64>("counts", 1000)
        .durability(Durability::Sync)
        .create()
        .await
        .unwrap();
    counts.push_range(0, &[1; 1000]).await.unwrap();
    cluster.kill_server(0).await;
    let disk = cluster.disk(0).clone();
    disk.hold(Operation::Read, "log-");
    disk.set_room(Some(0));
    cluster.start_server(0).await;
    let recovery = |s: &ClusterStatus| {
        let server = &s.servers[0];
        server
            .recovery
            .filter(|_| server.state == ServerState::Recovering)
    };
    let begun = |s: &ClusterStatus| {
        recovery(s).is_some_and(|r| r.total_bytes > 8000 && r.done_bytes == 0 && !r.disk_full)
    };
    cluster.wait_for(begun).await;
    disk.let_go(Operation::Read);
    let read = |s: &ClusterStatus| {
        recovery(s).is_some_and(|r| r.done_bytes == r.total_bytes && r.disk_full)
    };
    cluster.wait_for(read).await;
    disk.set_room(None);
    cluster.wait_for_servers(1).await;
    assert_eq!(counts.pull_range(0..1000).await.unwrap(), [1; 1000]);
    cluster.stop().await;
}
