//! The master's paths.

use std::time::Duration;

use axum::{
    Router,
    extract::State as Shared,
    response::{Html, IntoResponse},
    routing::{get, post, put},
};
use glint_protocol::{
    ModelId, ModelMap, ServerId,
    admin::{
        Adoption, DrainServers, Draining, ForgetServer, ModelCopies, MoveCopy, PlannedMove,
        RebalancePlan, ResetModel, Uncertain,
    },
    control::{
        ClusterStatus, CreateModel, Heartbeat, Labels, Leave, Left, ModelSummary, Recovering,
        Register, Registered,
    },
    copies::{ChangeCopies, CopiesChanged, Suspect},
    ids::Revision,
};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::Master;
use crate::http::{Answer, Json, Path, Query, body::Bodies, finish, health};

/// Memory that the bodies of all requests may take together.
const BODY_BUDGET: usize = 256 << 20;

/// The answer that says nothing but that it was done.
#[derive(Serialize)]
struct Done {}

/// Query of `GET /v1/models/{name}`.
#[derive(Deserialize)]
struct Open {
    revision: Option<Revision>,
    wait_ms: Option<u64>,
}

/// Query of `POST /v1/servers/{name}/drain`.
#[derive(Deserialize)]
struct Drain {
    #[serde(default)]
    returns: bool,
}

/// Query of `POST /v1/rebalance`.
#[derive(Deserialize)]
struct Rebalance {
    #[serde(default)]
    dry_run: bool,
}

/// Query of `POST /v1/adopt/finish`.
#[derive(Deserialize)]
struct Finish {
    #[serde(default)]
    uncertain: Uncertain,
}

/// Query of `DELETE /v1/models/{name}`.
#[derive(Deserialize)]
struct Delete {
    id: Option<ModelId>,
}

impl Master {
    /// Its paths, for a listener or for a test.
    pub fn router(&self) -> Router {
        let router = Router::new()
            .route("/", get(page))
            .route("/livez", get(health::livez))
            .route("/readyz", get(|| async { health::readyz(None) }))
            .route("/v1/openapi.json", get(crate::openapi::serve))
            .route("/v1/status", get(status))
            .route("/v1/models", get(models).post(create))
            .route("/v1/models/{name}", get(open).delete(delete))
            .route("/v1/models/{name}/copies", get(copies))
            .route("/v1/models/{name}/reset", post(reset))
            .route(
                "/v1/models/{name}/partitions/{partition}/move",
                post(move_copy),
            )
            .route("/v1/servers/register", post(register))
            .route("/v1/servers/recovering", post(recovering))
            .route("/v1/servers/heartbeat", post(heartbeat))
            .route("/v1/servers/leave", post(leave))
            .route("/v1/servers/change", post(change))
            .route("/v1/servers/suspect", post(suspect))
            .route("/v1/servers/forget", post(forget))
            .route("/v1/servers/drain", post(drain_all))
            .route("/v1/servers/{name}/drain", post(drain).delete(cancel_drain))
            .route("/v1/servers/{name}/labels", put(place_server))
            .route("/v1/rebalance", post(rebalance))
            .route("/v1/adopt/finish", post(finish_adoption))
            .with_state(self.clone());
        finish(router, Bodies::new(BODY_BUDGET))
    }
}

async fn page() -> impl IntoResponse {
    // The page brings all it needs, and talks to nobody but this master.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    (
        [(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        )],
        Html(include_str!("page.html")),
    )
}

async fn status(Shared(master): Shared<Master>) -> Json<ClusterStatus> {
    Json(master.status())
}

async fn models(Shared(master): Shared<Master>) -> Json<Vec<ModelSummary>> {
    Json(master.models())
}

async fn create(
    Shared(master): Shared<Master>,
    Json(request): Json<CreateModel>,
) -> Answer<Json<ModelMap>> {
    Ok(Json(master.create(request).await?))
}

async fn open(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
    Query(query): Query<Open>,
) -> Answer<Json<ModelMap>> {
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0));
    Ok(Json(master.open(&name, query.revision, wait).await?))
}

async fn delete(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
    Query(query): Query<Delete>,
) -> Answer<Json<Done>> {
    master.delete(&name, query.id).await?;
    Ok(Json(Done {}))
}

async fn copies(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
) -> Answer<Json<ModelCopies>> {
    Ok(Json(master.copies(&name)?))
}

async fn reset(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
    Json(request): Json<ResetModel>,
) -> Answer<Json<ModelMap>> {
    Ok(Json(master.reset(&name, request).await?))
}

async fn move_copy(
    Shared(master): Shared<Master>,
    Path((name, partition)): Path<(String, u32)>,
    Json(request): Json<MoveCopy>,
) -> Answer<Json<PlannedMove>> {
    Ok(Json(master.move_copy(name, partition, request).await?))
}

async fn recovering(
    Shared(master): Shared<Master>,
    Json(word): Json<Recovering>,
) -> Answer<Json<Done>> {
    master.recovering(&word)?;
    Ok(Json(Done {}))
}

async fn forget(
    Shared(master): Shared<Master>,
    Json(request): Json<ForgetServer>,
) -> Answer<Json<Done>> {
    master.forget(request).await?;
    Ok(Json(Done {}))
}

async fn drain(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
    Query(query): Query<Drain>,
) -> Answer<Json<Draining>> {
    Ok(Json(master.drain(ServerId(name), query.returns).await?))
}

async fn drain_all(
    Shared(master): Shared<Master>,
    Json(request): Json<DrainServers>,
) -> Answer<Json<Vec<Draining>>> {
    Ok(Json(master.drain_all(request.servers).await?))
}

async fn cancel_drain(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
) -> Answer<Json<Draining>> {
    Ok(Json(master.cancel_drain(ServerId(name)).await?))
}

async fn place_server(
    Shared(master): Shared<Master>,
    Path(name): Path<String>,
    Json(labels): Json<Labels>,
) -> Answer<Json<Labels>> {
    Ok(Json(master.place_server(ServerId(name), labels).await?))
}

async fn rebalance(
    Shared(master): Shared<Master>,
    Query(query): Query<Rebalance>,
) -> Answer<Json<RebalancePlan>> {
    Ok(Json(master.rebalance(query.dry_run).await?))
}

async fn finish_adoption(
    Shared(master): Shared<Master>,
    Query(query): Query<Finish>,
) -> Answer<Json<Adoption>> {
    Ok(Json(master.finish_adoption(query.uncertain).await?))
}

async fn register(
    Shared(master): Shared<Master>,
    Json(request): Json<Register>,
) -> Answer<Json<Registered>> {
    Ok(Json(master.register(request).await?))
}

async fn heartbeat(
    Shared(master): Shared<Master>,
    Json(request): Json<Heartbeat>,
) -> Answer<Json<Done>> {
    master.heartbeat(&request)?;
    Ok(Json(Done {}))
}

async fn leave(Shared(master): Shared<Master>, Json(request): Json<Leave>) -> Answer<Json<Left>> {
    Ok(Json(master.leave(&request).await?))
}

async fn change(
    Shared(master): Shared<Master>,
    Json(request): Json<ChangeCopies>,
) -> Answer<Json<CopiesChanged>> {
    Ok(Json(master.change(request).await?))
}

async fn suspect(Shared(master): Shared<Master>, Json(word): Json<Suspect>) -> Answer<Json<Done>> {
    master.suspect(&word).await?;
    Ok(Json(Done {}))
}

#[cfg(test)]
#[path = "router/tests.rs"]
mod tests;
