use std::sync::Arc;

use axum::body::Body;
use glint_protocol::{
    Boot, ErrorBody, ErrorCode,
    control::{ModelState, ServerState},
};
use glint_world::MemoryStorage;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use super::*;
use crate::master::{
    catalogue::LONGEST_WAIT,
    testing::{Scene, draft, id, request},
};

impl Scene {
    async fn call(&self, method: Method, path: &str, body: String) -> (StatusCode, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body))
            .unwrap();
        let response = self.master.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.call(Method::GET, path, String::new()).await;
        assert_eq!(
            status,
            StatusCode::OK,
            "{path}: {}",
            String::from_utf8_lossy(&body)
        );
        serde_json::from_slice(&body).unwrap()
    }

    async fn create(&self, request: &CreateModel) -> Result<ModelMap, ErrorBody> {
        let body = serde_json::to_string(request).unwrap();
        let (status, body) = self.call(Method::POST, "/v1/models", body).await;
        if status.is_success() {
            Ok(serde_json::from_slice(&body).unwrap())
        } else {
            let error = ErrorBody::from_json(&body);
            assert_eq!(error.code.http_status(), status.as_u16());
            Err(error)
        }
    }
}

#[tokio::test]
async fn a_model_is_made_opened_listed_and_deleted() {
    let scene = Scene::with_servers(&["s1", "s2"]).await;
    let map = scene.create(&request(5, draft("w", 10))).await.unwrap();
    assert!(map.is_consistent());
    assert_eq!(map.servers[0].url, "http://s1:1");
    assert_eq!(
        scene.create(&request(5, draft("w", 10))).await,
        Ok(map.clone())
    );
    assert_eq!(scene.get::<ModelMap>("/v1/models/w").await, map);
    let list: Vec<ModelSummary> = scene.get("/v1/models").await;
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].state, list[0].bytes), (ModelState::Live, 80));
    let made = scene.network.server("s1").told();
    assert!(made[0].hold[0].creating, "{made:?}");

    let path = "/v1/models/w?id=0000000000000005";
    for _ in 0..2 {
        let (status, body) = scene.call(Method::DELETE, path, String::new()).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"{}"[..]));
    }
    let told = scene.network.server("s1").told();
    assert_eq!(told.last().unwrap().drop[0].incarnation, map.incarnation);
    let (_, body) = scene.call(Method::GET, "/v1/models/w", String::new()).await;
    assert_eq!(ErrorBody::from_json(&body).code, ErrorCode::UnknownModel);
}

#[tokio::test(start_paused = true)]
async fn opening_with_the_present_revision_waits_for_a_change_or_the_end_of_the_wait() {
    let scene = Scene::with_servers(&["s1"]).await;
    let map = scene.create(&request(5, draft("w", 10))).await.unwrap();
    let began = tokio::time::Instant::now();
    let path = |wait| format!("/v1/models/w?revision={}&wait_ms={wait}", map.revision);
    assert_eq!(scene.get::<ModelMap>(&path(700)).await, map);
    assert_eq!(began.elapsed(), Duration::from_millis(700));
    assert_eq!(scene.get::<ModelMap>(&path(u64::MAX)).await, map);
    assert_eq!(began.elapsed(), Duration::from_millis(700) + LONGEST_WAIT);
    assert_eq!(
        scene
            .get::<ModelMap>("/v1/models/w?revision=0&wait_ms=9000")
            .await,
        map
    );

    tokio::time::advance(Duration::from_secs(2)).await;
    let change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.register("s1", 2).await.unwrap();
    };
    let before = tokio::time::Instant::now();
    let wait = path(20_000);
    let (changed, ()) = tokio::join!(scene.get::<ModelMap>(&wait), change);
    assert!(changed.revision > map.revision);
    assert_eq!(changed.lost, [0]);
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn bad_requests_are_answered_with_what_to_do() {
    let scene = Scene::with_servers(&[]).await;
    let error = scene.create(&request(1, draft("w", 10))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoServers);
    let cases = [
        (
            Method::POST,
            "/v1/models",
            r#"{"id":"1""#,
            ErrorCode::BadRequest,
        ),
        (Method::GET, "/v1/models/none", "", ErrorCode::UnknownModel),
        (
            Method::GET,
            "/v1/models/w?revision=x",
            "",
            ErrorCode::BadRequest,
        ),
        (
            Method::DELETE,
            "/v1/models/w?id=xyz",
            "",
            ErrorCode::BadRequest,
        ),
        (Method::GET, "/v2/models", "", ErrorCode::NotFound),
        (Method::PUT, "/v1/models", "", ErrorCode::MethodNotAllowed),
    ];
    for (method, path, body, code) in cases {
        let (_, answer) = scene.call(method, path, body.to_owned()).await;
        let error = ErrorBody::from_json(&answer);
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.message.len() > 20, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_register_beat_fall_silent_and_leave_as_the_status_shows() {
    let scene = Scene::start(Arc::new(MemoryStorage::default()), Arc::default()).await;
    scene.network.server("s1");
    let mut register = crate::master::testing::registration(&scene.state(), "s1", 4);
    let body = serde_json::to_string(&register).unwrap();
    let (status, answer) = scene.call(Method::POST, "/v1/servers/register", body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    register.word = ErrorBody::from_json(&answer).detail.unwrap().word;
    let body = serde_json::to_string(&register).unwrap();
    let (status, answer) = scene.call(Method::POST, "/v1/servers/register", body).await;
    assert_eq!(status, StatusCode::OK);
    let registered: Registered = serde_json::from_slice(&answer).unwrap();
    assert_eq!(registered.heartbeat_ms, 50);
    assert_eq!(registered.orders.boot, Boot(4));
    let state = |status: &ClusterStatus| status.servers[0].state;

    let heartbeat = Heartbeat {
        server: id("s1"),
        boot: Boot(4),
        term: registered.orders.term,
        busiest: Vec::new(),
        load: glint_protocol::control::ServerLoad {
            pulls: 9,
            ..Default::default()
        },
    };
    let beat = serde_json::to_string(&heartbeat).unwrap();
    let (status, _) = scene
        .call(Method::POST, "/v1/servers/heartbeat", beat.clone())
        .await;
    assert_eq!(status, StatusCode::OK);
    let status: ClusterStatus = scene.get("/v1/status").await;
    assert_eq!(state(&status), ServerState::Alive);
    assert_eq!(status.servers[0].load.pulls, 9);

    tokio::time::sleep(Duration::from_millis(1200)).await;
    let status: ClusterStatus = scene.get("/v1/status").await;
    assert_eq!(state(&status), ServerState::Silent);

    let leave = serde_json::to_string(&Leave {
        server: id("s1"),
        boot: Boot(4),
    })
    .unwrap();
    scene.call(Method::POST, "/v1/servers/leave", leave).await;
    let status: ClusterStatus = scene.get("/v1/status").await;
    assert_eq!(state(&status), ServerState::Left);
    let (_, answer) = scene
        .call(Method::POST, "/v1/servers/heartbeat", beat)
        .await;
    assert_eq!(ErrorBody::from_json(&answer).code, ErrorCode::NotRegistered);
}

#[tokio::test]
async fn the_status_page_is_whole_by_itself() {
    let scene = Scene::with_servers(&[]).await;
    let (status, page) = scene.call(Method::GET, "/", String::new()).await;
    let page = String::from_utf8(page).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("/v1/status"));
    for outside in ["http://", "https://", "src=", "href=", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}
