//! JSON with numbers that do not fit, or of another shape.

use glint_protocol::{BINARY, ErrorCode, JSON};
use serde_json::{Value, json};

use super::bystander::Bystander;

#[tokio::test]
async fn json_numbers_that_do_not_fit_the_type_are_refused() {
    let mut by = Bystander::new().await;
    by.client.vector::<f32>("f", 4).create().await.unwrap();
    by.client.vector::<i32>("i", 4).create().await.unwrap();
    for (model, value, word) in [
        ("v", json!(9_223_372_036_854_775_808_u64), "i64"),
        ("v", json!(0.5), "i64"),
        ("i", json!(2_147_483_648_i64), "i32"),
        ("f", json!(1e39), "f32"),
        ("i", json!("NaN"), "i32"),
        ("f", json!("many"), "NaN"),
        ("f", json!([1]), ""),
    ] {
        let map = by.master.map(model).await.unwrap();
        let body = json!({"lane": {"birth": 1, "random": "7"}, "number": 1, "groups": [{
            "model": map.incarnation.model, "generation": 1, "partition": 0, "epoch": map.epochs[0], "element": map.spec.element,
            "sections": [{"form": "indices", "indices": [0, 1], "values": [1, value]}]}]});
        let error = by.server.json("POST", "/v1/push", body).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{error}");
        assert!(error.message.contains(word), "{value}: {error}");
        by.unharmed().await;
    }
    for (name, initial) in [("x", json!(0.5)), ("y", json!("NaN"))] {
        let draft = json!({"id": "1", "model": {"name": name, "shape": {"vector": {"keys": 4}}, "element": "i64", "initial": initial}});
        let error = by
            .master
            .json("POST", "/v1/models", draft)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidSpec, "{error}");
    }
    by.end().await;
}

#[tokio::test]
async fn json_of_another_shape_is_refused_with_the_place() {
    let mut by = Bystander::new().await;
    for (body, word) in [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        (r#"{"groups": [], "grops": []}"#, "grops"),
        (r#"{"groups": [{"model": "zz"}]}"#, "zz"),
    ] {
        for path in ["/v1/pull", "/v1/push"] {
            let answer = by
                .server
                .send("POST", path, &[("content-type", JSON)], body.into())
                .await;
            let error: Value = serde_json::from_slice(&answer.1).unwrap();
            assert_eq!(
                (answer.0, error["code"].as_str()),
                (400, Some("bad_request")),
                "{error}"
            );
            if path == "/v1/pull" {
                assert!(error["message"].as_str().unwrap().contains(word), "{error}");
            }
        }
    }
    let (status, answer) = by
        .server
        .send(
            "POST",
            "/v1/push",
            &[("content-type", "text/plain")],
            by.push(),
        )
        .await;
    let error: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        (status, error["code"].as_str()),
        (400, Some("bad_request")),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains(BINARY),
        "{error}"
    );
    by.unharmed().await;
    by.end().await;
}
