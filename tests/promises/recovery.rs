//! Processes come, go and return in any order: what goes on without the master, what returns by itself, what is lost and
//! says so.

use std::time::Duration;

use glint::{BufferOptions, Error};
use glint_protocol::{
    ErrorCode,
    control::{ModelState, ServerState},
    frame::write,
};
use glint_tests::{
    cluster::Cluster,
    wire::{Target, Wire},
};
use tokio::time::Instant;

#[tokio::test]
async fn start_order_does_not_matter() {
    let mut cluster = Cluster::prepare(2);
    let client = tokio::spawn(cluster.connecting());
    cluster.start_server(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.start_master().await;
    let client = client.await.unwrap();
    let creating = tokio::spawn({
        let client = client.clone();
        async move { client.vector::<i64>("v", 10).create().await }
    });
    let vector = creating.await.unwrap().unwrap();
    vector.push(&[1], &[1]).await.unwrap();
    cluster.start_server(0).await;
    cluster.wait_for(|status| status.servers.len() == 2).await;
    let second = client
        .vector::<i64>("w", 10)
        .partitions_per_server(1)
        .create()
        .await
        .unwrap();
    second.push(&[0, 9], &[1, 2]).await.unwrap();
    let spread = cluster.partitions_per_server().await;
    assert!(spread[0] > 0 && spread[1] > 0, "{spread:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_cluster_starts_in_milliseconds() {
    let began = Instant::now();
    let cluster = Cluster::start(3).await;
    let took = began.elapsed();
    cluster.stop().await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn without_servers_a_creation_waits_up_to_the_deadline_and_then_says_so() {
    let cluster = Cluster::start(0).await;
    let client = cluster.client_for(Duration::from_millis(300)).await;
    let began = Instant::now();
    let error = client.vector::<f32>("v", 10).create().await.unwrap_err();
    assert!(matches!(error, Error::NoServers { .. }), "{error}");
    assert!(error.to_string().contains("glint server"), "{error}");
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "it did not wait"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn pulls_and_pushes_go_on_while_the_master_is_down_and_it_comes_back_with_everything() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client
        .vector::<i64>("v", 100)
        .partitions_per_server(2)
        .create()
        .await
        .unwrap();
    vector.push_range(0, &[1; 100]).await.unwrap();
    let before = cluster.status().await;
    cluster.kill_master().await;
    for _ in 0..20 {
        vector.push_range(0, &[1; 100]).await.unwrap();
    }
    assert_eq!(vector.pull_range(0..100).await.unwrap(), [21; 100]);
    cluster.start_master().await;
    cluster.wait_for_servers(2).await;
    vector.push_range(0, &[1; 100]).await.unwrap();
    let late = cluster.client().await;
    let again = late.open_vector::<i64>("v").await.unwrap();
    assert_eq!(again.pull_range(0..100).await.unwrap(), [22; 100]);
    let after = cluster.status().await;
    assert_eq!(after.cluster, before.cluster);
    assert!(after.term > before.term);
    assert_eq!(after.models[0].incarnation, before.models[0].incarnation);
    assert_eq!(after.models[0].state, ModelState::Live);
    late.vector::<i64>("w", 10)
        .partitions_per_server(1)
        .create()
        .await
        .unwrap();
    cluster.stop().await;
}

/// Polls for the next map, and maps asked for because of trouble.
fn maps_asked(client: &glint::Client) -> u64 {
    let stats = client.stats();
    stats.map_polls + stats.map_refreshes
}

#[tokio::test]
async fn a_stale_map_is_survived_by_clients_that_know_nothing_of_it() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client
        .vector::<i64>("v", 100)
        .partitions_per_server(2)
        .create()
        .await
        .unwrap();
    vector.push_range(0, &[1; 100]).await.unwrap();
    let old = Wire::to(cluster.url()).map("v").await.unwrap();
    for round in 2..5 {
        let asked = maps_asked(&client);
        cluster.raise_epochs().await;
        vector.push_range(0, &[1; 100]).await.unwrap();
        assert_eq!(vector.pull_range(0..100).await.unwrap(), [round; 100]);
        assert!(maps_asked(&client) > asked, "its map was never stale");
    }
    let new = Wire::to(cluster.url()).map("v").await.unwrap();
    assert!(new.revision > old.revision);
    let stale = Target::new(&old, 0);
    let mut sections = Vec::new();
    write::range(&mut sections, None, 8, 0, 1);
    let outcomes = Wire::to(&stale.url)
        .frame("/v1/pull", stale.pull(&sections, 1))
        .await
        .unwrap();
    assert_eq!(outcomes[0].code(), Some(ErrorCode::StaleMap));
    cluster.stop().await;
}

#[tokio::test]
async fn iterators_and_buffers_go_on_when_every_map_becomes_stale_beneath_them() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let matrix = client.matrix::<i64>("m", 400, 3);
    let matrix = matrix.partitions_per_server(4).create().await.unwrap();
    let options = BufferOptions {
        capacity: 64,
        ..BufferOptions::default()
    };
    let buffer = matrix.buffered(options);
    for row in 0..400 {
        buffer.add(row, 1, row as i64).await.unwrap();
        if row == 200 {
            cluster.raise_epochs().await;
        }
    }
    buffer.flush().await.unwrap();
    let mut rows = 0;
    let mut blocks = matrix.row_blocks(50);
    while let Some(block) = blocks.next().await.unwrap() {
        if block.start == 100 {
            cluster.raise_epochs().await;
        }
        for at in 0..block.rows() {
            assert_eq!(block.row(at), [0, block.start as i64 + at as i64, 0]);
            rows += 1;
        }
    }
    assert_eq!(rows, 400);
    cluster.stop().await;
}

#[tokio::test]
async fn many_operations_that_find_a_stale_map_at_once_ask_for_a_new_one_together() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", 1_000);
    let vector = vector.partitions_per_server(8).create().await.unwrap();
    vector.pull_range(0..1_000).await.unwrap();
    cluster.raise_epochs().await;
    let before = maps_asked(&client);
    let pulls = (0..1_000).map(|key| {
        let vector = vector.clone();
        async move { vector.pull(&[key]).await.unwrap() }
    });
    let pulled = futures_util::future::join_all(pulls).await;
    assert!(pulled.iter().all(|values| values == &[0]));
    let asked = maps_asked(&client) - before;
    assert!(asked < 20, "{asked} maps");
    cluster.stop().await;
}

#[tokio::test]
async fn a_restarted_memory_server_says_that_its_values_are_lost_and_clients_fail_fast() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client
        .vector::<i64>("v", 100)
        .partitions_per_server(1)
        .create()
        .await
        .unwrap();
    vector.push_range(0, &[1; 100]).await.unwrap();
    cluster.kill_server(0).await;
    cluster.start_server(0).await;
    cluster.wait_for_servers(2).await;
    cluster
        .wait_for(|status| status.models[0].state == ModelState::Lost)
        .await;
    let began = Instant::now();
    let mut failed = 0;
    for start in [0, 50] {
        match vector.push_range(start, &[1; 50]).await {
            Ok(()) => assert_eq!(vector.pull_range(start..start + 50).await.unwrap(), [2; 50]),
            Err(Error::Lost { .. }) => {
                failed += 1;
                let pulled = vector.pull(&[start]).await;
                assert!(matches!(pulled, Err(Error::Lost { .. })), "{pulled:?}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(failed, 1, "one of two servers lost its half");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "it took {:?} to fail",
        began.elapsed()
    );
    assert_eq!(cluster.status().await.models[0].lost_partitions, 1);
    // The server says so itself, to whoever holds on to an old map or asks it by hand.
    let map = Wire::to(cluster.url()).map("v").await.unwrap();
    let lost = Target::new(&map, map.lost[0]);
    let mut sections = Vec::new();
    write::range(&mut sections, None, 8, 0, 1);
    let outcomes = Wire::to(&lost.url)
        .frame("/v1/pull", lost.pull(&sections, 1))
        .await
        .unwrap();
    assert_eq!(outcomes[0].code(), Some(ErrorCode::Lost));
    // The model is of no use any more, and can be replaced.
    client.delete("v").await.unwrap();
    let vector = client
        .vector::<i64>("v", 100)
        .partitions_per_server(1)
        .create()
        .await
        .unwrap();
    assert_eq!(vector.pull_range(0..100).await.unwrap(), [0; 100]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_that_dies_is_shown_as_silent_and_keeps_its_partitions_in_the_map() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client_for(Duration::from_millis(500)).await;
    let vector = client
        .vector::<i64>("v", 100)
        .partitions_per_server(1)
        .create()
        .await
        .unwrap();
    let before = Wire::to(cluster.url()).map("v").await.unwrap();
    cluster.kill_server(1).await;
    cluster
        .wait_for(|status| status.servers[1].state == ServerState::Silent)
        .await;
    assert_eq!(cluster.status().await.servers[0].state, ServerState::Alive);
    assert_eq!(Wire::to(cluster.url()).map("v").await.unwrap(), before);
    let error = vector.pull_range(0..100).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert!(error.to_string().contains("attempts"), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_in_order_has_left() {
    let mut cluster = Cluster::start(2).await;
    cluster.stop_server(0).await;
    assert_eq!(cluster.status().await.servers[0].state, ServerState::Left);
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_in_order_answers_what_it_has_begun() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client_for(Duration::from_secs(2)).await;
    let vector = client.vector::<i64>("v", 500_000).create().await.unwrap();
    let pushes: Vec<_> = (0..20)
        .map(|_| {
            let vector = vector.clone();
            tokio::spawn(async move { vector.push_range(0, &vec![1; 500_000]).await })
        })
        .collect();
    cluster.wait_for(|s| s.servers[0].load.pushes > 0).await;
    let began = Instant::now();
    cluster.stop_server(0).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let mut answered = 0;
    for push in pushes {
        // Each has a definite end, and none hangs.
        let ended = tokio::time::timeout(Duration::from_secs(10), push).await;
        match ended.expect("a push hangs").unwrap() {
            Ok(()) => answered += 500_000,
            // It is said how much of it is in, though the rest waited for a server until the deadline.
            Err(Error::Partial { applied, cause, .. }) => {
                answered += applied;
                let waited = matches!(
                    *cause,
                    Error::DeadlineExceeded { .. } | Error::Unknown { .. }
                );
                assert!(waited && applied > 0, "{cause:?}");
            }
            Err(error) => {
                let waited = matches!(
                    error,
                    Error::DeadlineExceeded { .. } | Error::Unknown { .. }
                );
                assert!(waited, "{error:?}");
            }
        }
    }
    assert!(answered > 0, "nothing that had begun was answered");
    cluster.stop().await;
}
