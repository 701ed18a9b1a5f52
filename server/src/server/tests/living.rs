//! A server's life: registering with a real master, heartbeats, restarts of the master, leave; and idle lanes.

use std::collections::BTreeMap;

use glint_protocol::control::{CreateModel, ServerState as Fares};
use glint_world::{MemoryStorage, Network, Storage, Tcp};
use tokio::time::Instant;

use super::*;
use crate::{
    master::{self, MasterConfig},
    server::eviction::sweep,
};

/// Runs something with a shutdown of its own.
struct Running {
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn start_master(address: &str, storage: Arc<dyn Storage>) -> (Running, Url) {
    let listener = Tcp.listen(address).await.unwrap();
    let url = format!("http://{}", listener.address().unwrap());
    let config = MasterConfig {
        heartbeat: Duration::from_millis(20),
        silent_after: Duration::from_millis(500),
        ..MasterConfig::default()
    };
    let shutdown = Shutdown::new();
    let end = shutdown.clone();
    let task = tokio::spawn(async move {
        master::run(World::real(), storage, config, listener, end)
            .await
            .unwrap();
    });
    (Running { shutdown, task }, url.parse().unwrap())
}

async fn start_server(master: &Url) -> (Running, Url) {
    let listener = Tcp.listen("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.address().unwrap());
    let config = ServerConfig {
        id: Some(ServerId("s1".into())),
        ..ServerConfig::new(master.clone(), 1 << 20)
    };
    let shutdown = Shutdown::new();
    let end = shutdown.clone();
    let task = tokio::spawn(async move {
        run(World::real(), config, listener, end).await.unwrap();
    });
    (Running { shutdown, task }, url.parse().unwrap())
}

async fn get(url: &Url, path: &str) -> Option<serde_json::Value> {
    let connections = glint_world::http::Connections::new(World::real(), url.clone(), 1);
    let request = http::Request::get(path).body(glint_world::http::Frames::default());
    let response = connections.send(request.unwrap()).await.ok()?;
    let body = response.collect(1 << 20).await.ok()?;
    serde_json::from_slice(&body).ok()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn fares(master: &Url) -> Option<Fares> {
    let status = get(master, "/v1/status").await?;
    serde_json::from_value(status["servers"][0]["state"].clone()).ok()
}

#[tokio::test]
async fn a_server_waits_for_its_master_serves_without_it_and_registers_with_its_successor() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
    // An address that is free: the master that is stopped leaves it.
    let (master, url) = start_master("127.0.0.1:0", Arc::new(MemoryStorage::default())).await;
    master.stop().await;
    let (server, server_url) = start_server(&url).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let registered = async || {
        let status = get(&server_url, "/v1/status").await.unwrap();
        (status["registered"] == true, status["term"].clone())
    };
    assert!(!registered().await.0, "it waits");

    let (master, _) = start_master(url.authority(), Arc::clone(&storage)).await;
    eventually("registers", async || registered().await.0).await;
    let create = CreateModel {
        id: MODEL.model,
        model: vector().draft,
        or_open: false,
    };
    let body = serde_json::to_vec(&create).unwrap();
    send(&url, "/v1/models", JSON, body).await;
    master.stop().await;

    // Without a master it goes on, and holds what it held.
    let held = get(&server_url, "/v1/status").await.unwrap();
    assert_eq!(held["models"][0]["partitions"].as_array().unwrap().len(), 2);
    let (master, _) = start_master(url.authority(), Arc::clone(&storage)).await;
    eventually("registers with the next term", async || {
        registered().await.1 == 2
    })
    .await;
    eventually("is alive again", async || {
        fares(&url).await == Some(Fares::Alive)
    })
    .await;
    let status = get(&url, "/v1/status").await.unwrap();
    assert_eq!(status["models"][0]["lost_partitions"], 0);

    server.stop().await;
    assert_eq!(fares(&url).await, Some(Fares::Left), "it took leave");
    master.stop().await;
}

#[tokio::test]
async fn values_that_are_found_lost_are_lost_in_the_masters_map_too() {
    let (master, url) = start_master("127.0.0.1:0", Arc::new(MemoryStorage::default())).await;
    let (server, server_url) = start_server(&url).await;
    eventually("is alive", async || fares(&url).await == Some(Fares::Alive)).await;
    let create = CreateModel {
        id: MODEL.model,
        model: vector().draft,
        or_open: false,
    };
    let body = serde_json::to_vec(&create).unwrap();
    let map: serde_json::Value = send(&url, "/v1/models", JSON, body).await;
    // A client that remembers an acknowledgement which is not there: number 5 after 4, from a lane that nobody knows.
    let mut forgotten = add(1, 0, &[1]);
    forgotten.header.epoch = Epoch(map["epochs"][1].as_u64().unwrap());
    forgotten.header.prev = Number(4);
    let connections = glint_world::http::Connections::new(World::real(), server_url.clone(), 1);
    let request = http::Request::post("/v1/push")
        .header(header::CONTENT_TYPE, BINARY)
        .body(push(5, &[forgotten]).into())
        .unwrap();
    let reply = connections.send(request).await.unwrap();
    let reply = reply.collect(1 << 20).await.unwrap();
    assert_eq!(results(&reply)[0].0, Status::Error(ErrorCode::Lost));
    eventually("the map says so", async || {
        let map = get(&url, "/v1/models/counts").await.unwrap();
        map["lost"] == serde_json::json!([1])
    })
    .await;
    drop(connections);
    server.stop().await;
    master.stop().await;
}

async fn send(url: &Url, path: &str, content_type: &str, body: Vec<u8>) -> serde_json::Value {
    let connections = glint_world::http::Connections::new(World::real(), url.clone(), 1);
    let request = http::Request::post(path)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap();
    let response = connections.send(request).await.unwrap();
    assert_eq!(response.head.status, StatusCode::OK);
    serde_json::from_slice(&response.collect(1 << 20).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_that_others_could_not_reach_does_not_start() {
    let listener = Tcp.listen("0.0.0.0:0").await.unwrap();
    let config = ServerConfig::new("http://127.0.0.1:1".parse().unwrap(), 1);
    let error = run(World::real(), config.clone(), listener, Shutdown::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--advertise"), "{error}");
    let listener = Tcp.listen("127.0.0.1:0").await.unwrap();
    let config = ServerConfig {
        idle: Some(config.max_deadline * 9),
        ..config
    };
    let error = run(World::real(), config, listener, Shutdown::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ServerError::Idle { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_forgotten_when_it_was_idle_for_long_and_not_before() {
    const IDLE: Duration = Duration::from_secs(100);
    let server = serving().await;
    let models = server.state.models.load_full();
    let slot = models.slots().next().unwrap();
    let push_at = async |random: u64, number: u64| {
        let mut body = push(number, &[add(0, 0, &[1])]);
        body[24..32].copy_from_slice(&random.to_le_bytes());
        ask(&server, "/v1/push", body).await.remove(0).0
    };
    push_at(1, 1).await;
    push_at(2, 1).await;
    assert_eq!(sweep(slot, Instant::now(), IDLE), 0);
    tokio::time::advance(Duration::from_secs(99)).await;
    assert_eq!(sweep(slot, Instant::now(), IDLE), 0);
    push_at(2, 2).await;
    // A repeated number is no new life: its deadline has long passed when the lane goes.
    push_at(1, 1).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(sweep(slot, Instant::now(), IDLE), 1);
    assert_eq!(push_at(1, 2).await, Status::Error(ErrorCode::LaneExpired));
    assert_eq!(push_at(2, 3).await, Status::Applied);
    assert_eq!(
        slot.lock().position(),
        Position(5),
        "an eviction is a record"
    );
    assert_eq!(server.state.load().ledger_entries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_million_pushes_by_lanes_that_come_and_go_leave_a_small_ledger() {
    const IDLE: Duration = Duration::from_secs(100);
    let server = serving().await;
    let models = server.state.models.load_full();
    let slot = Arc::clone(models.slots().next().unwrap());
    let now = server.state.world.clock.unix_ms();
    let mut body = push(1, &[add(0, 0, &[1])]);
    // A thousand lanes at a time; each pushes ten times, goes, and another comes.
    let mut live: BTreeMap<u64, u64> = BTreeMap::new();
    let mut born = 0;
    let mut largest = 0;
    for round in 0..1000u64 {
        while live.len() < 1000 {
            born += 1;
            live.insert(born, 0);
        }
        for (lane, number) in &mut live {
            *number += 1;
            // Born when it opens; its place in the birth order is that of its arrival.
            body[16..24].copy_from_slice(&(LANE.birth + lane).to_le_bytes());
            body[24..32].copy_from_slice(&lane.to_le_bytes());
            body[32..40].copy_from_slice(&number.to_le_bytes());
            let reply = server.push_body(&body, now).unwrap();
            assert_eq!(results(&reply)[0].0, Status::Applied, "round {round}");
        }
        live.retain(|lane, number| *number < 10 + lane % 3);
        tokio::time::advance(Duration::from_secs(5)).await;
        sweep(&slot, Instant::now(), IDLE);
        largest = largest.max(slot.lock().ledger().len());
    }
    assert!(born > 80_000, "{born} lanes came");
    assert!(largest < 6_000, "{largest} entries");
    assert_eq!(values(&server, 0).await[0], 1_000_000);
}
