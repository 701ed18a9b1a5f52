use std::collections::BTreeSet;

use axum::{Router, body::Body};
use glint_world::{MemoryStorage, Shutdown, World};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use tower::ServiceExt;

use super::*;
use crate::{
    master::{Master, MasterConfig},
    server::{Server, ServerConfig},
};

fn server() -> Router {
    let url = "http://127.0.0.1:1".parse().unwrap();
    Server::new(
        World::real(),
        &ServerConfig::new(url, 1),
        &"http://s:1".parse().unwrap(),
    )
    .router()
}

async fn master() -> Router {
    let storage = Arc::new(MemoryStorage::default());
    Master::start(
        World::real(),
        storage,
        MasterConfig::default(),
        Shutdown::new(),
    )
    .await
    .unwrap()
    .router()
}

async fn code(router: &Router, method: &str, path: &str) -> (StatusCode, Option<ErrorBody>) {
    let request = Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(path.replace("{name}", "nothing"))
        .body(Body::empty())
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).ok())
}

#[tokio::test]
async fn what_is_described_is_there_and_nothing_else_is() {
    let (server, master) = (server(), master().await);
    let methods = ["get", "post", "put", "delete", "patch"];
    let paths: BTreeSet<_> = ENDPOINTS.iter().map(|e| e.path).collect();
    for (router, mine, who) in [
        (&server, At::Server, "server"),
        (&master, At::Master, "master"),
    ] {
        for &path in &paths {
            let here: Vec<_> = ENDPOINTS
                .iter()
                .filter(|e| e.path == path && (e.at == mine || matches!(e.at, At::Both | At::Each)))
                .map(|e| e.method)
                .collect();
            for method in methods {
                let (status, error) = code(router, method, path).await;
                let code = error.map(|error| error.code);
                let expected = if here.contains(&method) {
                    None
                } else if here.is_empty() {
                    Some(glint_protocol::ErrorCode::NotFound)
                } else {
                    Some(glint_protocol::ErrorCode::MethodNotAllowed)
                };
                let found = code.filter(|code| {
                    use glint_protocol::ErrorCode::{MethodNotAllowed, NotFound};
                    matches!(code, NotFound | MethodNotAllowed)
                });
                assert_eq!(found, expected, "{method} {path} at the {who}: {status}");
            }
        }
        // What a router knows is in its debug text: no path of it is left out of the description.
        let text = format!("{router:?}");
        let (routes, _) = text.split_once("fallback_router").unwrap();
        let known: BTreeSet<_> = routes
            .split('"')
            .filter(|part| part.starts_with('/'))
            .collect();
        let described: BTreeSet<_> = ENDPOINTS
            .iter()
            .filter(|e| e.at == mine || matches!(e.at, At::Both | At::Each))
            .map(|e| e.path)
            .collect();
        assert_eq!(known, described, "{who}: {text}");
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$ref" => {
                        found.insert(text.clone());
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_field_has_its_words() {
    let description = description();
    let mut found = BTreeSet::new();
    references(&description, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in &found {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        let schema = &description["components"]["schemas"][name];
        assert!(schema.is_object(), "{name} is missing");
        assert!(
            schema["description"].is_string() || name == "Scalar",
            "{name} has no description"
        );
    }
    let push = &description["components"]["schemas"]["PushGroup"]["properties"];
    assert!(
        push["prev"].is_object() && push["sections"].is_object(),
        "{push}"
    );
}

#[tokio::test]
async fn it_is_served_by_both() {
    for router in [server(), master().await] {
        let request = Request::get("/v1/openapi.json")
            .body(Body::empty())
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let served: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(served, description());
    }
}
