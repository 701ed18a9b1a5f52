//! The catalogue: models belong to the cluster, are found by name, and end by an explicit delete.

use std::sync::Arc;

use glint::{Client, Error, Partitioning, Rule};
use glint_protocol::{
    ErrorCode, LaneId, Location, Partitioner, Rule as WireRule, error::GoneReason, frame::write,
};
use glint_tests::{
    cluster::Cluster,
    wire::{Target, Wire},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_model_is_created_opened_listed_and_deleted_by_name() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let made = client.vector::<f32>("w", 100).create().await.unwrap();
    made.push(&[7], &[1.5]).await.unwrap();
    let opened = client.open_vector::<f32>("w").await.unwrap();
    assert_eq!(opened.pull(&[7]).await.unwrap(), [1.5]);
    let same = client
        .vector::<f32>("w", 100)
        .open_or_create()
        .await
        .unwrap();
    assert_eq!(same.pull(&[7]).await.unwrap(), [1.5]);
    client
        .matrix::<i64>("a", 3, 3)
        .open_or_create()
        .await
        .unwrap();
    let names: Vec<String> = client
        .models()
        .await
        .unwrap()
        .iter()
        .map(|m| m.spec.name.clone())
        .collect();
    assert_eq!(names, ["a", "w"]);
    client.delete("w").await.unwrap();
    assert!(matches!(
        client.open_vector::<f32>("w").await,
        Err(Error::UnknownModel { .. })
    ));
    assert!(matches!(
        client.delete("w").await,
        Err(Error::UnknownModel { .. })
    ));
    assert_eq!(client.models().await.unwrap().len(), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn a_model_outlives_the_client_that_made_it() {
    let cluster = Cluster::start(1).await;
    let maker = cluster.client().await;
    let made = maker.vector::<i64>("v", 10).create().await.unwrap();
    made.push(&[3], &[42]).await.unwrap();
    drop((made, maker));
    let other = cluster.client().await;
    let vector = other.open_vector::<i64>("v").await.unwrap();
    assert_eq!(vector.pull(&[3]).await.unwrap(), [42]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_name_is_taken_once_and_another_spec_is_refused_with_the_difference() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    client.vector::<f32>("w", 100).create().await.unwrap();
    let again = client.vector::<f32>("w", 100).create().await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    let other = client
        .vector::<f32>("w", 200)
        .rule(Rule::Max)
        .open_or_create()
        .await;
    let Err(Error::SpecMismatch { differences, .. }) = &other else {
        panic!("{other:?}");
    };
    let fields: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["shape", "rule"]);
    let text = other.unwrap_err().to_string();
    assert!(text.contains("200") && text.contains("100"), "{text}");
    cluster.stop().await;
}

#[tokio::test]
async fn many_clients_that_open_or_create_one_model_at_once_all_get_the_same() {
    let cluster = Cluster::start(2).await;
    let clients: Vec<Client> =
        futures_util::future::join_all((0..8).map(|_| cluster.client())).await;
    let opened = clients
        .iter()
        .map(|c| c.vector::<i64>("v", 1_000).open_or_create());
    let vectors = futures_util::future::join_all(opened).await;
    let pushes = vectors.iter().map(|v| v.as_ref().unwrap().push(&[5], &[1]));
    assert!(
        futures_util::future::join_all(pushes)
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(vectors[0].as_ref().unwrap().pull(&[5]).await.unwrap(), [8]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_repeated_request_to_create_finds_the_model_that_it_made() {
    let cluster = Cluster::start(1).await;
    let master = Wire::to(cluster.url());
    let request = |id: &str| json!({"id": id, "model": {"name": "v", "shape": {"vector": {"keys": 10}}, "element": "i64"}});
    let made = master
        .json("POST", "/v1/models", request("1"))
        .await
        .unwrap();
    let again = master
        .json("POST", "/v1/models", request("1"))
        .await
        .unwrap();
    assert_eq!(made, again);
    let other = master
        .json("POST", "/v1/models", request("2"))
        .await
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::AlreadyExists);
    // A late repetition, after the model was deleted, does not bring it back.
    master
        .json("DELETE", "/v1/models/v", Value::Null)
        .await
        .unwrap();
    let late = master
        .json("POST", "/v1/models", request("1"))
        .await
        .unwrap_err();
    assert_eq!(late.code, ErrorCode::Gone);
    assert_eq!(cluster.status().await.models.len(), 0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_model_made_again_under_its_name_is_another_and_a_late_push_to_the_old_one_is_refused() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let old = client.vector::<i64>("v", 10).create().await.unwrap();
    old.push(&[1], &[5]).await.unwrap();
    let before = Target::new(&Wire::to(cluster.url()).map("v").await.unwrap(), 0);
    client.delete("v").await.unwrap();
    let new = client.vector::<i64>("v", 10).create().await.unwrap();
    let error = old.push(&[1], &[7]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Gone {
                reason: GoneReason::Deleted,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(old.pull(&[1]).await, Err(Error::Gone { .. })));
    // The same from a client that keeps no rule, at the old model's epoch and at the new one's.
    let mut sections = Vec::new();
    write::range(&mut sections, Some(WireRule::Add), 8, 0, 1);
    sections.extend_from_slice(&7_i64.to_le_bytes());
    let lane = LaneId {
        birth: 1,
        random: 1,
    };
    let after = Target::new(&Wire::to(cluster.url()).map("v").await.unwrap(), 0);
    let server = Wire::to(&before.url);
    for epoch in [before.epoch, after.epoch] {
        let late = Target {
            epoch,
            ..before.clone()
        };
        let outcomes = server
            .frame("/v1/push", late.push(lane, 1, 0, &sections, 1))
            .await
            .unwrap();
        assert_eq!(outcomes[0].code(), Some(ErrorCode::Gone));
    }
    assert_eq!(new.pull_range(0..10).await.unwrap(), [0; 10]);
    new.push(&[1], &[3]).await.unwrap();
    assert_eq!(new.pull(&[1]).await.unwrap(), [3]);
    cluster.stop().await;
}

#[tokio::test]
async fn deleted_models_give_their_memory_back() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    for round in 0..3 {
        let vector = client.vector::<f64>("v", 100_000).create().await.unwrap();
        vector.push(&[round], &[1.0]).await.unwrap();
        client.delete("v").await.unwrap();
    }
    cluster
        .wait_for(|status| status.servers[0].load.value_bytes == 0)
        .await;
    assert_eq!(cluster.status().await.servers[0].placed_bytes, 0);
    cluster.stop().await;
}

/// Even keys before odd ones.
#[derive(Debug)]
struct EvenFirst(u64);

impl Partitioner for EvenFirst {
    fn sizes(&self) -> Vec<u64> {
        vec![self.0.div_ceil(2), self.0 / 2]
    }
    fn locate(&self, key: u64) -> Location {
        Location {
            partition: (key % 2) as u32,
            local: key / 2,
        }
    }
    fn key(&self, partition: u32, local: u64) -> u64 {
        local * 2 + u64::from(partition)
    }
}

#[tokio::test]
async fn a_partitioner_of_ones_own_decides_and_a_client_without_it_is_told_so() {
    let cluster = Cluster::start(2).await;
    let client = Client::builder(cluster.url())
        .partitioner("even-first", Arc::new(EvenFirst(9)))
        .connect()
        .await
        .unwrap();
    let named = Partitioning::Named {
        name: "even-first".into(),
        sizes: vec![5, 4],
    };
    let vector = client
        .vector::<i64>("v", 9)
        .partitioning(named)
        .create()
        .await
        .unwrap();
    let keys: Vec<u64> = (0..9).collect();
    let values: Vec<i64> = (0..9).map(|v| v * v).collect();
    vector.push(&keys, &values).await.unwrap();
    assert_eq!(vector.pull_range(0..9).await.unwrap(), values);
    let map = Wire::to(cluster.url()).map("v").await.unwrap();
    let odd = Target::new(&map, 1);
    let mut sections = Vec::new();
    write::range(&mut sections, None, 8, 0, 4);
    let outcomes = Wire::to(&odd.url)
        .frame("/v1/pull", odd.pull(&sections, 1))
        .await
        .unwrap();
    let expected: Vec<u8> = [1_i64, 9, 25, 49]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert_eq!(
        outcomes,
        [glint_tests::wire::Outcome::Values(expected.into())]
    );
    let stranger = cluster.client().await;
    let error = stranger.open_vector::<i64>("v").await.unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { .. }), "{error:?}");
    assert!(error.to_string().contains("even-first"), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn boundaries_of_ones_own_cut_a_model_where_they_say() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let matrix = client
        .matrix::<f32>("m", 10, 2)
        .partitioning(Partitioning::Boundaries {
            starts: vec![0, 1, 1, 9],
        })
        .create()
        .await
        .unwrap();
    let rows: Vec<u64> = (0..10).rev().collect();
    let values: Vec<f32> = (0..20).map(|v| v as f32).collect();
    matrix.push_rows(&rows, &values).await.unwrap();
    assert_eq!(matrix.pull_rows(&rows).await.unwrap(), values);
    assert_eq!(
        Wire::to(cluster.url())
            .map("m")
            .await
            .unwrap()
            .spec
            .partition_count,
        4
    );
    cluster.stop().await;
}
