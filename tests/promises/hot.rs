//! A partition that is asked for more than the others is named: in the status, at its server, and in what Prometheus reads.

use std::time::Duration;

use glint_protocol::control::PartitionLoad;
use glint_server::server::status::ServerStatus;
use glint_tests::{cluster::Cluster, wire::Wire};
use serde_json::Value;
use tokio::time::Instant;

/// Of eight keys in as many partitions.
const HOT: u64 = 5;

pub(crate) async fn text(wire: &Wire, path: &str) -> String {
    let (status, body) = wire.send("GET", path, &[], Vec::new()).await;
    assert_eq!(status, 200);
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_partition_is_named_by_status_and_metrics_with_what_it_is_asked_for() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("clicks", 8).partitions(8);
    let vector = vector.create().await.unwrap();
    let other = client.vector::<i64>("idle", 8).create().await.unwrap();
    other.push(&[1], &[1]).await.unwrap();
    let hottest = |loads: &[PartitionLoad]| {
        let first = loads.first()?;
        let next = loads.get(1).map_or(0, |load| load.requests_per_second);
        let well_ahead = first.requests_per_second > 4 * next.max(1);
        (well_ahead && u64::from(first.partition) == HOT).then(|| first.clone())
    };
    let until = Instant::now() + Duration::from_secs(20);
    let (server, load) = loop {
        for round in 0..50 {
            vector.push(&[HOT], &[1]).await.unwrap();
            vector.pull(&[HOT, round % 8]).await.unwrap();
        }
        let found = cluster.status().await.servers.into_iter();
        let mut found = found.filter_map(|server| Some((hottest(&server.busiest)?, server.url)));
        if let Some((load, url)) = found.next() {
            break (Wire::to(&url), load);
        }
        assert!(Instant::now() < until, "it is never named");
    };
    assert_eq!(load.model, "clicks");
    assert!(load.bytes > 80 * load.requests, "{load:?}");
    assert!(load.bytes_per_second > load.requests_per_second, "{load:?}");

    let held = server.json("GET", "/v1/status", Value::Null).await.unwrap();
    let held: ServerStatus = serde_json::from_value(held).unwrap();
    let models = held.models.iter().filter(|m| m.name == "clicks");
    let of_it = models.flat_map(|m| &m.partitions);
    let requests = |hot: bool| {
        let own = of_it
            .clone()
            .filter(|p| (u64::from(p.partition) == HOT) == hot);
        own.map(|p| p.requests).max().unwrap()
    };
    assert!(requests(true) > 4 * requests(false));
    assert!(requests(true) >= load.requests);

    let metrics = text(&server, "/metrics").await;
    let labels = format!("{{model=\"clicks\",partition=\"{HOT}\"}}");
    for name in ["requests_per_second", "requests_total", "bytes_total"] {
        let line = format!("glint_server_partition_{name}{labels} ");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert!(
        metrics.contains("\nglint_server_pushes_total "),
        "{metrics}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_partitions_are_asked_for_metrics_name_sixteen_and_heartbeats_no_more() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("wide", 3000).partitions(3000);
    let vector = vector.create().await.unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let server = loop {
        vector.pull_range(0..3000).await.unwrap();
        let server = cluster.status().await.servers.remove(0);
        if !server.busiest.is_empty() {
            assert_eq!(server.busiest.len(), 16);
            break server;
        }
        assert!(Instant::now() < until, "none is named");
    };
    let metrics = text(&Wire::to(&server.url), "/metrics").await;
    let named = metrics
        .matches("glint_server_partition_requests_total{")
        .count();
    assert_eq!(named, 16, "{metrics}");
    assert!(metrics.lines().count() < 120, "{metrics}");
    cluster.stop().await;
}
