//! Partitions move while clients of every kind use them: cursors and buffers, hundreds that hear of it at once.

use std::time::Duration;

use futures_util::future::join_all;
use glint::{BufferOptions, Client};
use glint_tests::{
    cluster::{Cluster, connect},
    wire::Wire,
};
use serde_json::json;
use tokio::time::Instant;

/// Moves all partitions of a model to one server, and waits until they are there.
pub(crate) async fn move_all(cluster: &Cluster, model: &str, to: &str) {
    let master = Wire::to(cluster.url());
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let map = master.map(model).await.unwrap();
        let elsewhere = |p: &u32| map.holder(*p).unwrap().0.id.0 != to;
        let elsewhere: Vec<u32> = (0..map.spec.partition_count).filter(elsewhere).collect();
        if elsewhere.is_empty() {
            return;
        }
        for partition in elsewhere {
            let path = format!("/v1/models/{model}/partitions/{partition}/move");
            // One that is under way already may be refused.
            let _ = master.json("POST", &path, json!({ "to": to })).await;
        }
        assert!(Instant::now() < until, "they never get to {to}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iterators_and_buffers_go_on_while_everything_that_they_read_and_write_moves() {
    let cluster = Cluster::start(2).await;
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
            // Values wait in the buffer; some are on their way.
            move_all(&cluster, "m", "server-0").await;
        }
    }
    assert!(buffer.held() > 0, "nothing waits in the buffer");
    move_all(&cluster, "m", "server-1").await;
    buffer.flush().await.unwrap();
    let mut rows = 0;
    let mut blocks = matrix.row_blocks(50);
    while let Some(block) = blocks.next().await.unwrap() {
        // Blocks after this one are asked for already.
        match block.start {
            100 => move_all(&cluster, "m", "server-0").await,
            250 => move_all(&cluster, "m", "server-1").await,
            _ => {}
        }
        for at in 0..block.rows() {
            assert_eq!(block.row(at), [0, block.start as i64 + at as i64, 0]);
            rows += 1;
        }
    }
    assert_eq!(rows, 400);
    cluster.stop().await;
}

const CLIENTS: u64 = 500;

/// Requests for a map that the master has had of all of them.
fn asked(clients: &[Client]) -> u64 {
    let of_one = |client: &Client| {
        let stats = client.stats();
        stats.map_polls + stats.map_refreshes
    };
    clients.iter().map(of_one).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_that_hear_of_a_move_at_once_ask_the_master_a_few_times_each_and_spread()
 {
    let cluster = Cluster::start(2).await;
    let first = cluster.client().await;
    let vector = first.vector::<i64>("v", 64).partitions(8);
    vector.create().await.unwrap();
    move_all(&cluster, "v", "server-0").await;
    let mut clients = Vec::new();
    while (clients.len() as u64) < CLIENTS {
        let some = (0..50).map(|_| connect(cluster.url(), Duration::from_secs(60)));
        clients.extend(join_all(some).await.into_iter().map(Result::unwrap));
    }
    let open = clients.iter().map(|client| client.open_vector::<i64>("v"));
    let vectors = join_all(open).await.into_iter().map(Result::unwrap);
    let vectors: Vec<_> = vectors.collect();
    let pushed = join_all(vectors.iter().map(|v| v.push(&[0], &[1]))).await;
    assert!(pushed.iter().all(Result::is_ok));
    let until = Instant::now() + Duration::from_secs(20);
    while clients.iter().any(|c| c.stats().map_polls == 0) {
        assert!(Instant::now() < until, "not all of them follow the map");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Their polls wait at the master.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = asked(&clients);
    let master = Wire::to(cluster.url());
    let path = "/v1/models/v/partitions/0/move";
    let begun = Instant::now();
    master
        .json("POST", path, json!({"to": "server-1"}))
        .await
        .unwrap();
    // All use what moves, all the while.
    let mut most_at_once = 0;
    let mut last = before;
    let mut pushes = 0;
    let settled = loop {
        let done = join_all(vectors.iter().map(|v| v.push(&[0], &[1]))).await;
        assert!(done.iter().all(Result::is_ok), "a call fails: {done:?}");
        pushes += 1;
        let now = asked(&clients);
        most_at_once = most_at_once.max(now - last);
        last = now;
        let map = master.map("v").await.unwrap();
        if map.holder(0).unwrap().0.id.0 == "server-1" && begun.elapsed() > Duration::from_secs(2) {
            break now - before;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never moves");
    };
    println!(
        "{CLIENTS} clients, one move, {pushes} pushes of each: {settled} requests for maps, {most_at_once} between two rounds of pushes"
    );
    // The map changes twice in a move: when the new copy takes over, and when the old one is gone.
    assert!(
        settled >= CLIENTS,
        "{settled} requests: they have not heard of it"
    );
    assert!(settled <= 4 * CLIENTS, "{settled} requests for maps");
    assert_eq!(
        vectors[0].pull(&[0]).await.unwrap(),
        [(CLIENTS * (1 + pushes)) as i64]
    );
    cluster.stop().await;
}
