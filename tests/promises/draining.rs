//! Servers are emptied, and join, while their partitions are pushed to and pulled from.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use glint_protocol::{
    admin::{DrainState, Draining, RebalancePlan},
    control::{ClusterStatus, ModelState},
};
use glint_tests::{cluster::Cluster, wire::Wire};
use serde_json::Value;

const KEYS: u64 = 60;

async fn ask<T: serde::de::DeserializeOwned>(cluster: &Cluster, method: &str, path: &str) -> T {
    let master = Wire::to(cluster.url());
    let answer = master.json(method, path, Value::Null).await.unwrap();
    serde_json::from_value(answer).unwrap()
}

fn is_drained(status: &ClusterStatus, at: usize) -> bool {
    let server = &status.servers[at];
    server.drain == Some(DrainState::Drained) && server.copies == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_emptied_under_load_and_what_was_pushed_is_there_once() {
    for copies in [1, 2] {
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client().await;
        let vector = client.vector::<i64>("v", KEYS).copies(copies);
        let vector = vector.partitions_per_server(4).create().await.unwrap();
        let whole = |status: &ClusterStatus| status.models[0].state == ModelState::Live;
        cluster.wait_for(whole).await;
        let stop = Arc::new(AtomicBool::new(false));
        let pushing = {
            let (vector, stop) = (vector.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let all: Vec<u64> = (0..KEYS).collect();
                let mut pushes = 0;
                while !stop.load(Ordering::Relaxed) {
                    vector.push(&all, &[1; KEYS as usize]).await.unwrap();
                    pushes += 1;
                }
                pushes
            })
        };
        let first = cluster.status().await.servers[0].id.clone();
        let drain = format!("/v1/servers/{first}/drain");
        let left: Draining = ask(&cluster, "POST", &drain).await;
        assert_eq!(left.state, Some(DrainState::Draining));
        assert_eq!(left.copies, 4 * u64::from(copies));
        cluster
            .wait_for(|status| is_drained(status, 0) && whole(status))
            .await;
        let again: Draining = ask(&cluster, "POST", &drain).await;
        assert_eq!((again.state, again.copies), (Some(DrainState::Drained), 0));
        // It may go: nobody misses it.
        cluster.kill_server(0).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        stop.store(true, Ordering::Relaxed);
        let pushes = pushing.await.unwrap();
        let all: Vec<u64> = (0..KEYS).collect();
        assert_eq!(vector.pull(&all).await.unwrap(), [pushes; KEYS as usize]);
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_drain_that_is_cancelled_gives_the_server_its_share_again_and_two_admins_agree() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", KEYS).partitions(6);
    vector.create().await.unwrap();
    let first = cluster.status().await.servers[0].id.clone();
    let drain = format!("/v1/servers/{first}/drain");
    let (one, other) = tokio::join!(
        ask::<Draining>(&cluster, "POST", &drain),
        ask::<Draining>(&cluster, "POST", &drain)
    );
    assert_eq!(
        (one.state, other.state),
        (Some(DrainState::Draining), one.state)
    );
    cluster.wait_for(|status| is_drained(status, 0)).await;
    let left: Draining = ask(&cluster, "DELETE", &drain).await;
    assert_eq!(left.state, None);
    let level = |status: &ClusterStatus| {
        status
            .servers
            .iter()
            .all(|s| s.copies == 3 && s.drain.is_none())
            && !status.transfers.levelling
    };
    cluster.wait_for(level).await;
    let plan: RebalancePlan = ask(&cluster, "POST", "/v1/rebalance?dry_run=true").await;
    assert_eq!((plan.dry_run, plan.count), (true, 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_end_moves_what_it_holds_first() {
    let mut cluster = Cluster::that_drains(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", KEYS).partitions_per_server(3);
    let vector = vector.create().await.unwrap();
    vector.push_range(0, &[7; KEYS as usize]).await.unwrap();
    cluster.stop_server(0).await;
    // In memory, with one copy: it would be lost otherwise.
    let values = vector.pull_range(0..KEYS).await.unwrap();
    assert_eq!(values, [7; KEYS as usize]);
    vector.push_range(0, &[1; KEYS as usize]).await.unwrap();
    // There is nowhere to go for the last: it ends all the same.
    cluster.stop_server(1).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_levels_servers_that_do_not_do_so_by_themselves_and_sees_how_before() {
    let mut cluster = Cluster::prepare(2);
    cluster.keeps_places();
    cluster.start_master().await;
    cluster.start_server(0).await;
    cluster.wait_for_servers(1).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", KEYS).partitions(6);
    let vector = vector.create().await.unwrap();
    vector.push_range(0, &[7; KEYS as usize]).await.unwrap();
    cluster.start_server(1).await;
    cluster.wait_for_servers(2).await;
    let dry: RebalancePlan = ask(&cluster, "POST", "/v1/rebalance?dry_run=true").await;
    assert_eq!((dry.dry_run, dry.count, dry.moves.len()), (true, 3, 3));
    assert_eq!(dry.bytes, KEYS / 2 * 8);
    let (from, to) = ("server-0", "server-1");
    assert!(dry.moves.iter().all(|m| m.from.0 == from && m.to.0 == to));
    // Nothing has happened, and nothing does.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let status = cluster.status().await;
    assert_eq!((status.servers[0].copies, status.servers[1].copies), (6, 0));
    assert!(!status.transfers.levelling);
    let done: RebalancePlan = ask(&cluster, "POST", "/v1/rebalance").await;
    assert_eq!((done.dry_run, &done.moves), (false, &dry.moves));
    let level = |status: &ClusterStatus| {
        status.servers.iter().all(|s| s.copies == 3) && !status.transfers.levelling
    };
    cluster.wait_for(level).await;
    let map = client.map("v").await.unwrap();
    for planned in &dry.moves {
        let (holder, _) = map.holder(planned.partition).unwrap();
        assert_eq!(holder.id, planned.to, "as it was shown");
    }
    vector.push_range(0, &[1; KEYS as usize]).await.unwrap();
    let values = vector.pull_range(0..KEYS).await.unwrap();
    assert_eq!(values, [8; KEYS as usize]);
    cluster.stop().await;
}
