//! Pull and push over the router, in binary and in JSON.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn what_is_pushed_is_pulled_and_each_group_has_its_result_in_order() {
    let server = serving().await;
    let body = push(1, &[add(1, 2, &[5, 6]), add(0, 0, &[1])]);
    let results = ask(&server, "/v1/push", body).await;
    let statuses: Vec<_> = results.iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(
        statuses,
        [
            (Status::Applied, Position(1)),
            (Status::Applied, Position(1))
        ]
    );
    assert_eq!(values(&server, 0).await, [1, 0, 0, 0, 0]);
    assert_eq!(values(&server, 1).await, [0, 0, 5, 6, 0]);
}

#[tokio::test]
async fn the_same_request_twice_is_answered_twice_and_applied_once() {
    let server = serving().await;
    for _ in 0..3 {
        let results = ask(&server, "/v1/push", push(1, &[add(0, 0, &[1])])).await;
        assert_eq!((results[0].0, results[0].1), (Status::Applied, Position(1)));
    }
    assert_eq!(values(&server, 0).await[0], 1);
    assert_eq!(super::super::status::status(&server.state).load.repeated, 2);
}

#[tokio::test]
async fn one_bad_group_does_not_harm_the_others() {
    let server = serving().await;
    let mut wrong_epoch = add(1, 0, &[1]);
    wrong_epoch.header.epoch = Epoch(2);
    let body = push(1, &[add(0, 0, &[1]), wrong_epoch]);
    let results = ask(&server, "/v1/push", body).await;
    assert_eq!(results[0].0, Status::Applied);
    assert_eq!(results[1].0, Status::Error(ErrorCode::StaleMap));
    let body = push(2, &[add(0, 4, &[1, 1]), add(1, 0, &[1])]);
    let results = ask(&server, "/v1/push", body).await;
    assert_eq!(results[0].0, Status::Error(ErrorCode::Bad));
    assert_eq!(results[1].0, Status::Applied);
    assert_eq!(values(&server, 0).await, [1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_skip_settles_a_number_over_the_wire() {
    let server = serving().await;
    let mut skip = group(Op::Skip, 0, Vec::new());
    skip.header.digest = 0;
    let results = ask(&server, "/v1/push", push(1, &[skip])).await;
    assert_eq!(results[0].0, Status::Skipped);
    let results = ask(&server, "/v1/push", push(1, &[add(0, 0, &[1])])).await;
    assert_eq!(results[0].0, Status::Skipped);
    assert_eq!(values(&server, 0).await[0], 0);
}

fn json_push(number: u64) -> Value {
    json!({
        "lane": {"birth": LANE.birth, "random": "1"}, "number": number,
        "groups": [{"model": "7", "generation": 1, "partition": 0, "epoch": 3, "prev": number - 1, "element": "i64",
            "sections": [{"form": "indices", "indices": [2, 0, 2], "values": [5, 7, 1]}]}],
    })
}

#[tokio::test]
async fn json_and_binary_are_one_path() {
    let server = serving().await;
    let (status, kind, reply) = post(&server, "/v1/push", JSON, json_push(1).to_string()).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, JSON));
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(
        reply,
        json!({"results": [{"status": "applied", "epoch": 3, "position": 1}]})
    );
    assert_eq!(values(&server, 0).await, [7, 0, 6, 0, 0]);

    // The same push in binary is recognised as the one that came in JSON.
    let mut bytes = Vec::new();
    write::indices(&mut bytes, Some(Rule::Add), 8, &[2, 0, 2], false);
    i64::append(&[5, 7, 1], &mut bytes);
    let same = group(Op::Update, 0, bytes);
    let results = ask(&server, "/v1/push", push(1, &[same])).await;
    assert_eq!((results[0].0, results[0].1), (Status::Applied, Position(1)));

    let request = json!({"groups": [{"model": "7", "generation": 1, "partition": 0, "epoch": 3, "element": "i64",
        "sections": [{"form": "indices", "indices": [2]}, {"form": "range", "start": 0, "count": 2}]}]});
    // A parameter of the content type does not matter.
    let json = "application/json; charset=utf-8";
    let (_, _, reply) = post(&server, "/v1/pull", json, request.to_string()).await;
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["results"][0]["values"], json!([6, 7, 0]));
}

#[tokio::test]
async fn a_result_that_is_an_error_says_so_in_json_too() {
    let server = serving().await;
    let mut request = json_push(1);
    request["groups"][0]["epoch"] = json!(9);
    let (status, _, reply) = post(&server, "/v1/push", JSON, request.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["results"][0]["status"], "error");
    assert_eq!(reply["results"][0]["error"]["code"], "not_yet");
    assert_eq!(reply["results"][0]["error"]["detail"]["epoch"], 3);
}

#[tokio::test]
async fn the_status_counts_what_was_done() {
    let server = serving().await;
    ask(&server, "/v1/push", push(1, &[add(0, 0, &[1])])).await;
    values(&server, 0).await;
    let request = Request::get("/v1/status").body(Body::empty()).unwrap();
    let response = server.router().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: super::super::status::ServerStatus = serde_json::from_slice(&body).unwrap();
    assert!(status.registered);
    assert_eq!(
        (status.cluster, status.id.0.as_str()),
        (Some(CLUSTER), "server-0:7200")
    );
    let load = status.load;
    assert_eq!((load.pulls, load.pushes, load.ledger_entries), (1, 1, 1));
    assert_eq!((load.partitions, load.value_bytes), (2, 80));
    assert!(load.bytes_in > 0 && load.bytes_out > 0);
    let copies = &status.models[0].partitions;
    assert_eq!(
        (copies[0].position, copies[0].ledger_entries),
        (Position(1), 1)
    );
    assert_eq!(
        (copies[1].position, copies[1].ledger_entries),
        (Position(0), 0)
    );
}

#[tokio::test]
async fn the_paths_for_measurements_do_what_the_wire_does() {
    let server = serving().await;
    let now = server.state.world.clock.unix_ms();
    let body = push(1, &[add(0, 0, &[1])]);
    for _ in 0..2 {
        let reply = server.push_body(&body, now).unwrap();
        assert_eq!(results(&reply)[0].0, Status::Applied);
    }
    assert_eq!(values(&server, 0).await[0], 1);
    for _ in 0..2 {
        let reply = server.merge_body(&body).unwrap();
        assert_eq!(results(&reply)[0].0, Status::Applied);
    }
    assert_eq!(
        values(&server, 0).await[0],
        3,
        "without the ledger each copy counts"
    );
    let reply = server.pull_body(&pull(&[read(0)])).unwrap();
    assert_eq!(results(&reply)[0].0, Status::Values);
}
