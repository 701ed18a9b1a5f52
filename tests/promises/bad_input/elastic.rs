//! What admins ask of servers and copies that cannot be: refused with the reason, and nothing moves.

use glint_protocol::{
    ErrorBody, ErrorCode,
    admin::{DrainState, Draining, PlannedMove},
    control::{ClusterStatus, ModelState, ModelSummary},
};
use glint_tests::{cluster::Cluster, wire::Wire};
use serde_json::{Value, json};

use super::bystander::Bystander;

/// A cluster of so many servers with a client that uses it, and what admins do there.
struct Scene {
    by: Bystander,
}

impl Scene {
    async fn of(cluster: Cluster) -> Self {
        Self {
            by: Bystander::of(cluster).await,
        }
    }

    async fn new(servers: usize) -> Self {
        Self::of(Cluster::start(servers).await).await
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Value, ErrorBody> {
        self.by.master.json(method, path, body).await
    }

    async fn drain(&self, server: &str) -> Result<Draining, ErrorBody> {
        let path = format!("/v1/servers/{server}/drain");
        let answer = self.ask("POST", &path, Value::Null).await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    async fn move_to(&self, partition: u32, body: Value) -> Result<PlannedMove, ErrorBody> {
        let path = format!("/v1/models/v/partitions/{partition}/move");
        let answer = self.ask("POST", &path, body).await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    async fn holder(&self, partition: u32) -> String {
        let map = self.by.master.map("v").await.unwrap();
        map.holder(partition).unwrap().0.id.0.clone()
    }

    /// It was refused with this code and these words, nothing is on its way, nobody is drained, and the client goes on.
    async fn is_refused<T: std::fmt::Debug>(
        &mut self,
        answer: Result<T, ErrorBody>,
        code: ErrorCode,
        words: &[&str],
    ) {
        let error = answer.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        for word in words {
            assert!(error.message.contains(word), "'{word}' is not in: {error}");
        }
        let status = self.by.cluster.status().await;
        assert_eq!(status.transfers.moving, 0, "{status:?}");
        assert!(
            status.servers.iter().all(|s| s.drain.is_none()),
            "{status:?}"
        );
        self.by.unharmed().await;
    }

    async fn end(self) {
        self.by.end().await;
    }
}

#[tokio::test]
async fn a_server_that_there_is_none_of_is_not_drained_moved_to_or_forgotten_and_is_named() {
    let mut scene = Scene::new(2).await;
    let drained = scene.drain("nobody").await;
    scene
        .is_refused(
            drained,
            ErrorCode::UnknownServer,
            &["nobody", "glint status"],
        )
        .await;
    let cancelled = scene
        .ask("DELETE", "/v1/servers/nobody/drain", Value::Null)
        .await;
    scene
        .is_refused(cancelled, ErrorCode::UnknownServer, &["nobody"])
        .await;
    let moved = scene.move_to(0, json!({"to": "nobody"})).await;
    scene
        .is_refused(moved, ErrorCode::UnknownServer, &["nobody", "glint status"])
        .await;
    let forgotten = scene
        .ask("POST", "/v1/servers/forget", json!({"server": "nobody"}))
        .await;
    scene
        .is_refused(forgotten, ErrorCode::UnknownServer, &["nobody"])
        .await;
    let moved = scene.move_to(99, json!({"to": "server-0"})).await;
    scene
        .is_refused(moved, ErrorCode::Bad, &["99", "'v'"])
        .await;
    scene.end().await;
}

#[tokio::test]
async fn the_last_server_is_not_drained() {
    let mut scene = Scene::new(1).await;
    let drained = scene.drain("server-0").await;
    let words = ["server-0", "last", "start another server"];
    scene
        .is_refused(drained, ErrorCode::CannotDrain, &words)
        .await;
    scene.end().await;
}

#[tokio::test]
async fn the_last_that_is_not_being_drained_is_not_drained_either() {
    let scene = Scene::new(2).await;
    scene.drain("server-0").await.unwrap();
    let refused = scene.drain("server-1").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CannotDrain, "{refused}");
    let status = scene.by.cluster.status().await;
    assert!(status.servers[0].drain.is_some() && status.servers[1].drain.is_none());
    scene.end().await;
}

#[tokio::test]
async fn a_drain_that_the_others_cannot_hold_is_refused_with_the_numbers() {
    let cluster = Cluster::with_capacity(2, 1 << 20).await;
    let client = cluster.client().await;
    let big = client.vector::<i64>("big", 200_000).partitions(8);
    big.create().await.unwrap();
    let mut scene = Scene::of(cluster).await;
    let drained = scene.drain("server-0").await;
    // 1 600 000 bytes on two servers of 1 MiB.
    let words = [
        "server-0",
        "of its copies",
        "KiB",
        "bytes) free",
        "--memory",
    ];
    scene
        .is_refused(drained, ErrorCode::CannotDrain, &words)
        .await;
    scene.end().await;
}

#[tokio::test]
async fn a_copy_is_not_moved_to_where_it_is() {
    let mut scene = Scene::new(2).await;
    let holder = scene.holder(0).await;
    let moved = scene.move_to(0, json!({"to": holder})).await;
    let words = [holder.as_str(), "already", "name another"];
    scene.is_refused(moved, ErrorCode::CannotMove, &words).await;
    // Nor from where it is not.
    let other = if holder == "server-0" {
        "server-1"
    } else {
        "server-0"
    };
    let moved = scene.move_to(0, json!({"from": other, "to": holder})).await;
    scene
        .is_refused(moved, ErrorCode::CannotMove, &[other, "no copy"])
        .await;
    scene.end().await;
}

#[tokio::test]
async fn a_lost_partition_is_not_moved() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let lost = client.vector::<i64>("lost", 8).partitions(8);
    lost.create().await.unwrap();
    cluster.kill_server(0).await;
    cluster.start_server(0).await;
    let is_lost = |status: &ClusterStatus| status.models[0].state == ModelState::Lost;
    cluster.wait_for(is_lost).await;
    cluster.wait_for_servers(2).await;
    let mut scene = Scene::of(cluster).await;
    let map = scene.by.master.map("lost").await.unwrap();
    let path = format!("/v1/models/lost/partitions/{}/move", map.lost[0]);
    let moved = scene.ask("POST", &path, json!({"to": "server-1"})).await;
    let words = ["lost", "glint model reset lost"];
    scene.is_refused(moved, ErrorCode::CannotMove, &words).await;
    assert_eq!(scene.by.master.map("lost").await.unwrap(), map);
    scene.end().await;
}

#[tokio::test]
async fn more_copies_than_servers_is_a_warning_until_servers_join() {
    let mut cluster = Cluster::prepare(3);
    cluster.start_master().await;
    cluster.start_server(0).await;
    cluster.wait_for_servers(1).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", 12).partitions(4).copies(3);
    let vector = vector.create().await.unwrap();
    vector.push_range(0, &[5; 12]).await.unwrap();
    let model = |status: &ClusterStatus| -> ModelSummary { status.models[0].clone() };
    let one = model(&cluster.status().await);
    assert_eq!(one.state, ModelState::Degraded);
    assert_eq!(
        (one.copies.wanted, one.copies.fewest, one.copies.below),
        (3, 1, 4)
    );
    cluster.start_server(1).await;
    let two = |status: &ClusterStatus| model(status).copies.fewest == 2;
    cluster.wait_for(two).await;
    assert_eq!(model(&cluster.status().await).state, ModelState::Degraded);
    cluster.start_server(2).await;
    let all = |status: &ClusterStatus| {
        let model = model(status);
        model.state == ModelState::Live && model.copies.fewest == 3 && model.copies.below == 0
    };
    cluster.wait_for(all).await;
    // Any two may go.
    cluster.kill_server(0).await;
    cluster.kill_server(1).await;
    assert_eq!(vector.pull_range(0..12).await.unwrap(), [5; 12]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_drain_that_is_asked_for_again_is_the_same_drain_and_a_cancelled_one_is_none() {
    let mut scene = Scene::new(2).await;
    for _ in 0..3 {
        let left = scene.drain("server-0").await.unwrap();
        assert!(left.state.is_some());
    }
    let done = |status: &ClusterStatus| status.servers[0].drain == Some(DrainState::Drained);
    scene.by.cluster.wait_for(done).await;
    let again = scene.drain("server-0").await.unwrap();
    assert_eq!((again.state, again.copies), (Some(DrainState::Drained), 0));
    for _ in 0..2 {
        let path = "/v1/servers/server-0/drain";
        let answer = scene.ask("DELETE", path, Value::Null).await.unwrap();
        let left: Draining = serde_json::from_value(answer).unwrap();
        assert_eq!(left.state, None);
    }
    scene.by.unharmed().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_admins_at_once_each_gets_what_it_asked_for_or_the_reason() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let wide = client.vector::<i64>("wide", 300_000).partitions(12);
    wide.create().await.unwrap();
    let mut scene = Scene::of(cluster).await;
    let holder = scene.holder(0).await;
    let others: Vec<String> = (0..3)
        .map(|n| format!("server-{n}"))
        .filter(|name| *name != holder)
        .collect();
    // Both would have the same partition elsewhere: one move is begun, and it goes there, whether it is over by then or not.
    let other = Wire::to(scene.by.cluster.url());
    let path = "/v1/models/v/partitions/0/move";
    let (one, two) = tokio::join!(
        scene
            .by
            .master
            .json("POST", path, json!({"from": holder, "to": others[0]})),
        other.json("POST", path, json!({"from": holder, "to": others[1]}))
    );
    let (begun, refused) = match (one, two) {
        (Ok(begun), Err(refused)) | (Err(refused), Ok(begun)) => (begun, refused),
        both => panic!("{both:?}"),
    };
    assert_eq!(refused.code, ErrorCode::CannotMove, "{refused}");
    let to = begun["to"].as_str().unwrap().to_owned();
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while scene.holder(0).await != to {
        assert!(tokio::time::Instant::now() < until, "it never gets there");
    }
    scene.by.unharmed().await;
    // Two would empty two servers: both can be. A third one is the last.
    let (one, two) = tokio::join!(scene.drain("server-0"), scene.drain("server-1"));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let third = scene.drain("server-2").await.unwrap_err();
    assert_eq!(third.code, ErrorCode::CannotDrain, "{third}");
    let empty = |status: &ClusterStatus| {
        let drained = |at: usize| status.servers[at].drain == Some(DrainState::Drained);
        drained(0) && drained(1)
    };
    scene.by.cluster.wait_for(empty).await;
    // One ends what another asks for again: it is either, and no error.
    let cancel = scene.ask("DELETE", "/v1/servers/server-0/drain", Value::Null);
    let (cancelled, drained) = tokio::join!(cancel, scene.drain("server-0"));
    assert!(cancelled.is_ok() && drained.is_ok());
    scene.by.unharmed().await;
    scene.end().await;
}
