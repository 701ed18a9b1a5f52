//! The law of lanes, spoken by hand: what a server answers to repeated, late, conflicting, skipped and forgotten pushes.
//! The table itself is tested beside the code that judges; here it is seen through sockets, in both forms of the wire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use glint_protocol::{
    Epoch, ErrorCode, LaneId, ModelMap, Rule,
    frame::{Kind, RequestHeader, write},
};
use glint_tests::{
    cluster::Cluster,
    wire::{Outcome, Target, Wire},
};
use serde_json::json;

struct Hand {
    cluster: Cluster,
    map: ModelMap,
    server: Wire,
    target: Target,
    lane: LaneId,
}

impl Hand {
    async fn new() -> Self {
        let cluster = Cluster::start(1).await;
        let client = cluster.client().await;
        client
            .vector::<i64>("v", 10)
            .partitions(2)
            .create()
            .await
            .unwrap();
        let map = Wire::to(cluster.url()).map("v").await.unwrap();
        let target = Target::new(&map, 0);
        let server = Wire::to(&target.url);
        Self {
            cluster,
            map,
            server,
            target,
            lane: LaneId {
                birth: 1_700_000_000_000,
                random: 0xfeed,
            },
        }
    }

    /// Adds `value` to local key 0 of the target.
    async fn add(&self, lane: LaneId, number: u64, prev: u64, value: i64) -> Outcome {
        let body = self
            .target
            .push(lane, number, prev, &Self::section(value), 1);
        self.server.frame("/v1/push", body).await.unwrap().remove(0)
    }

    fn section(value: i64) -> Vec<u8> {
        let mut section = Vec::new();
        write::indices(&mut section, Some(Rule::Add), 8, &[0], false);
        section.extend_from_slice(&value.to_le_bytes());
        section
    }

    async fn skip(&self, number: u64, prev: u64) -> Outcome {
        let body = self.target.skip(self.lane, number, prev);
        self.server.frame("/v1/push", body).await.unwrap().remove(0)
    }

    async fn value(&self) -> i64 {
        let mut section = Vec::new();
        write::indices(&mut section, None, 8, &[0], false);
        let outcomes = self
            .server
            .frame("/v1/pull", self.target.pull(&section, 1))
            .await
            .unwrap();
        let Outcome::Values(bytes) = &outcomes[0] else {
            panic!("{outcomes:?}");
        };
        i64::from_le_bytes(bytes[..].try_into().unwrap())
    }
}

#[tokio::test]
async fn a_repeated_number_is_answered_as_applied_and_not_applied_again() {
    let hand = Hand::new().await;
    for _ in 0..3 {
        assert_eq!(hand.add(hand.lane, 1, 0, 5).await, Outcome::Applied(1));
    }
    assert_eq!(hand.add(hand.lane, 2, 1, 7).await, Outcome::Applied(2));
    assert_eq!(hand.value().await, 12);
    hand.cluster.stop().await;
}

#[tokio::test]
async fn a_number_below_the_last_is_superseded_and_one_with_other_sections_is_a_conflict() {
    let hand = Hand::new().await;
    hand.add(hand.lane, 3, 0, 5).await;
    assert_eq!(
        hand.add(hand.lane, 2, 0, 5).await.code(),
        Some(ErrorCode::Superseded)
    );
    assert_eq!(
        hand.add(hand.lane, 3, 0, 6).await.code(),
        Some(ErrorCode::LaneConflict)
    );
    assert_eq!(hand.value().await, 5);
    hand.cluster.stop().await;
}

#[tokio::test]
async fn a_skipped_number_is_never_applied_and_a_skip_of_an_applied_one_says_so() {
    let hand = Hand::new().await;
    assert_eq!(hand.skip(1, 0).await, Outcome::Skipped);
    assert_eq!(
        hand.add(hand.lane, 1, 0, 5).await,
        Outcome::Skipped,
        "the late original"
    );
    assert!(matches!(
        hand.add(hand.lane, 2, 1, 7).await,
        Outcome::Applied(_)
    ));
    assert!(matches!(hand.skip(2, 1).await, Outcome::Applied(_)));
    assert_eq!(hand.value().await, 7);
    hand.cluster.stop().await;
}

#[tokio::test]
async fn a_lane_from_the_future_is_refused_with_the_servers_clock() {
    let hand = Hand::new().await;
    let lane = LaneId {
        birth: u64::MAX,
        random: 1,
    };
    let Outcome::Error(error) = hand.add(lane, 1, 0, 5).await else {
        panic!();
    };
    assert_eq!(error.code, ErrorCode::LaneFromFuture);
    assert!(error.detail.unwrap().now.unwrap() > 1_700_000_000_000);
    assert_eq!(hand.value().await, 0);
    hand.cluster.stop().await;
}

#[tokio::test]
async fn another_epoch_is_refused_in_either_direction_and_a_generation_to_come_too() {
    let hand = Hand::new().await;
    for (epoch, code) in [
        (0, ErrorCode::StaleMap),
        (hand.target.epoch.0 + 9, ErrorCode::NotYet),
    ] {
        let target = Target {
            epoch: Epoch(epoch),
            ..hand.target.clone()
        };
        let body = target.push(hand.lane, 1, 0, &Hand::section(5), 1);
        let outcomes = hand.server.frame("/v1/push", body).await.unwrap();
        assert_eq!(outcomes[0].code(), Some(code));
    }
    let mut other = hand.target.clone();
    other.incarnation.generation += 1;
    let body = other.push(hand.lane, 1, 0, &Hand::section(5), 1);
    let code = hand.server.frame("/v1/push", body).await.unwrap()[0].code();
    assert_eq!(code, Some(ErrorCode::StaleMap));
    assert_eq!(hand.value().await, 0);
    hand.cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_remembers_more_than_the_server_finds_the_loss_before_anything_is_built_on_it()
 {
    let hand = Hand::new().await;
    assert_eq!(
        hand.add(hand.lane, 9, 8, 5).await.code(),
        Some(ErrorCode::Lost)
    );
    // From here on the partition says so to everyone; the other partition of the model goes on.
    let mut section = Vec::new();
    write::indices(&mut section, None, 8, &[0], false);
    let outcomes = hand
        .server
        .frame("/v1/pull", hand.target.pull(&section, 1))
        .await
        .unwrap();
    assert_eq!(outcomes[0].code(), Some(ErrorCode::Lost));
    let other = Target::new(&hand.map, 1);
    let outcomes = hand
        .server
        .frame("/v1/pull", other.pull(&section, 1))
        .await
        .unwrap();
    assert!(matches!(outcomes[0], Outcome::Values(_)));
    hand.cluster.stop().await;
}

#[tokio::test]
async fn one_bad_group_of_a_request_leaves_the_others_and_each_gets_its_result_in_order() {
    let hand = Hand::new().await;
    let other = Target::new(&hand.map, 1);
    let mut bad = Vec::new();
    write::indices(&mut bad, Some(Rule::Add), 8, &[99], false);
    bad.extend_from_slice(&1_i64.to_le_bytes());
    let first = hand.target.push(hand.lane, 1, 0, &bad, 1);
    let second = other.push(hand.lane, 1, 0, &Hand::section(4), 1);
    let mut body = RequestHeader {
        groups: 2,
        ..RequestHeader::decode(&first).unwrap()
    }
    .encode()
    .to_vec();
    body.extend_from_slice(&first[RequestHeader::SIZE..]);
    body.extend_from_slice(&second[RequestHeader::SIZE..]);
    assert_eq!(RequestHeader::decode(&body).unwrap().kind, Kind::Push);
    let outcomes = hand.server.frame("/v1/push", body).await.unwrap();
    assert_eq!(outcomes[0].code(), Some(ErrorCode::Bad));
    assert_eq!(outcomes[1], Outcome::Applied(1));
    assert_eq!(hand.value().await, 0);
    // A bad number is settled but leaves no entry: the next may come.
    assert_eq!(hand.add(hand.lane, 2, 0, 3).await, Outcome::Applied(1));
    hand.cluster.stop().await;
}

#[tokio::test]
async fn a_number_sent_in_binary_is_recognised_when_it_comes_again_in_json() {
    let hand = Hand::new().await;
    assert_eq!(hand.add(hand.lane, 1, 0, 5).await, Outcome::Applied(1));
    let again = json!({"lane": {"birth": hand.lane.birth, "random": "feed"}, "number": 1, "groups": [{
        "model": hand.map.incarnation.model, "generation": 1, "partition": 0, "epoch": hand.target.epoch, "element": "i64",
        "sections": [{"form": "indices", "indices": [0], "values": [5]}]}]});
    let answer = hand.server.json("POST", "/v1/push", again).await.unwrap();
    assert_eq!(answer["results"][0]["status"], "applied");
    assert_eq!(hand.value().await, 5);
    hand.cluster.stop().await;
}

#[tokio::test]
async fn a_lane_idle_for_ten_times_the_longest_deadline_is_forgotten_and_never_applied_on_suspicion()
 {
    let longest = Duration::from_millis(250);
    let cluster = Cluster::with_max_deadline(1, longest).await;
    let client = cluster.client_for(longest).await;
    let vector = client.vector::<i64>("v", 10).create().await.unwrap();
    let map = Wire::to(cluster.url()).map("v").await.unwrap();
    let (target, server) = (Target::new(&map, 0), Wire::to(&Target::new(&map, 0).url));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let lane = LaneId {
        birth: now,
        random: 0xfeed,
    };
    let body = target.push(lane, 1, 0, &Hand::section(5), 1);
    assert_eq!(
        server.frame("/v1/push", body.clone()).await.unwrap(),
        [Outcome::Applied(1)]
    );
    vector.push(&[1], &[1]).await.unwrap();
    cluster
        .wait_for(|status| {
            status.servers[0].load.ledger_entries == 0 && status.servers[0].load.pushes > 0
        })
        .await;
    // A very late copy of what was applied, and the next number: neither can be told from an unknown lane any more.
    for body in [body, target.push(lane, 2, 1, &Hand::section(7), 1)] {
        let outcomes = server.frame("/v1/push", body).await.unwrap();
        let Outcome::Error(error) = &outcomes[0] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(error.code, ErrorCode::LaneExpired);
        assert!(error.detail.as_ref().unwrap().horizon.unwrap() >= now);
    }
    assert_eq!(vector.pull(&[0, 1]).await.unwrap(), [5, 1]);
    // A client whose lanes were forgotten opens new ones by itself.
    vector.push(&[1], &[1]).await.unwrap();
    assert_eq!(vector.pull(&[1]).await.unwrap(), [2]);
    cluster.stop().await;
}
