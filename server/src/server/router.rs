//! The paths of a server.

use std::sync::atomic::Ordering;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glint_protocol::{
    BINARY, ErrorBody, ErrorCode, JSON, ServerId,
    control::{Orders, ServerLoad},
    data::{GroupResult, PullRequest, PushRequest, Reply, scalars},
    frame::{self, ReplyHeader, ResultHeader, Status},
};
use http::{HeaderValue, header};
use serde::Serialize;

use super::{orders, pull, push, state::ServerState};
use crate::{
    http::{
        Answer, Failure, Json,
        body::{Bounds, Charged},
        extract::parse,
        finish,
        health::{livez, readyz},
    },
    partition::Outcome,
};

/// Every path of a server, with its methods.
pub const PATHS: &[(&str, &str)] = &[
    ("POST", "/v1/pull"),
    ("POST", "/v1/push"),
    ("POST", "/v1/orders"),
    ("GET", "/v1/status"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
];

/// The paths of a server over its state, without a listener.
pub fn router(state: ServerState) -> Router {
    let bodies = state.bodies().clone();
    let router = Router::new()
        .route("/v1/pull", post(answer_pull))
        .route("/v1/push", post(answer_push))
        .route("/v1/orders", post(answer_orders))
        .route("/v1/status", get(status))
        .route("/livez", get(livez))
        .route("/readyz", get(ready))
        .with_state(state);
    finish(router, bodies)
}

/// What a server says of itself: `GET /v1/status`.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ServerStatus {
    /// Its name.
    pub id: ServerId,
    /// This start of it.
    pub boot: glint_protocol::Boot,
    /// Its cluster, once it is registered.
    pub cluster: Option<glint_protocol::ClusterId>,
    /// What it has done.
    pub load: ServerLoad,
    /// What it holds.
    pub copies: Vec<glint_protocol::control::CopyReport>,
}

async fn status(State(state): State<ServerState>) -> Json<ServerStatus> {
    let cluster = state.allegiance().cluster;
    Json(ServerStatus {
        id: state.id().clone(),
        boot: state.boot(),
        cluster,
        load: state.load(),
        copies: state.copies(),
    })
}

async fn ready(State(state): State<ServerState>) -> Response {
    readyz((!state.is_registered()).then_some("not registered with a master yet"))
}

async fn answer_orders(
    State(state): State<ServerState>,
    Json(orders): Json<Orders>,
) -> Answer<Json<serde_json::Value>> {
    orders::obey(&state, orders)?;
    Ok(Json(serde_json::json!({})))
}

/// What form a body has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Json,
}

async fn body(state: &ServerState, request: Request) -> Result<(Form, Charged), Failure> {
    let form = match request
        .headers()
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
    {
        Some(kind) if kind == BINARY.as_bytes() => Form::Binary,
        Some(kind) if kind.starts_with(JSON.as_bytes()) => Form::Json,
        other => {
            let other = other.map_or("no content type".into(), |kind| {
                format!("content type '{}'", String::from_utf8_lossy(kind))
            });
            return Err(Failure::new(
                ErrorCode::BadRequest,
                format!(
                    "{other} is not understood here; send the header content-type: {JSON} (or {BINARY})"
                ),
            ));
        }
    };
    let body = state
        .bodies()
        .read(request.into_body(), Bounds::DATA)
        .await?;
    state
        .counters()
        .bytes_in
        .fetch_add(body.as_ref().len() as u64, Ordering::Relaxed);
    Ok((form, body))
}

fn binary(state: &ServerState, reply: Charged) -> Response {
    state
        .counters()
        .bytes_out
        .fetch_add(reply.as_ref().len() as u64, Ordering::Relaxed);
    let mut response = Response::new(Body::from(reply.freeze()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(BINARY));
    response
}

async fn answer_pull(State(state): State<ServerState>, request: Request) -> Answer<Response> {
    state.counters().pulls.fetch_add(1, Ordering::Relaxed);
    let (form, body) = body(&state, request).await?;
    if form == Form::Binary {
        let reply = pull::pull(&state, body.as_ref())?;
        return Ok(binary(&state, reply));
    }
    let request: PullRequest = parse(body.as_ref())?;
    let reply = pull::pull(&state, &request.to_frame()?)?;
    let elements: Vec<_> = request
        .groups
        .iter()
        .map(|group| Some(group.element))
        .collect();
    Ok(Json(to_json(reply.as_ref(), &elements)?).into_response())
}

async fn answer_push(State(state): State<ServerState>, request: Request) -> Answer<Response> {
    state.counters().pushes.fetch_add(1, Ordering::Relaxed);
    let (form, body) = body(&state, request).await?;
    if form == Form::Binary {
        let verdicts = push::push(&state, body.as_ref()).await?;
        drop(body);
        let mut reply = state.bodies().take(0)?;
        push::reply(&verdicts, reply.bytes_mut());
        return Ok(binary(&state, reply));
    }
    let request: PushRequest = parse(body.as_ref())?;
    let verdicts = push::push(&state, &request.to_frame()?).await?;
    let results = verdicts
        .into_iter()
        .map(|verdict| {
            let (status, error) = match verdict.outcome {
                Outcome::Applied => ("applied", None),
                Outcome::Skipped => ("skipped", None),
                Outcome::Refused(error) => ("error", Some(error)),
            };
            GroupResult {
                status: status.into(),
                epoch: verdict.epoch,
                position: verdict.position,
                values: None,
                error,
            }
        })
        .collect();
    Ok(Json(Reply { results }).into_response())
}

/// The reply to a pull as JSON, from its frame.
fn to_json(
    frame: &[u8],
    elements: &[Option<glint_protocol::ElementType>],
) -> Result<Reply, ErrorBody> {
    let mut rest = &frame[ReplyHeader::SIZE.min(frame.len())..];
    let mut results = Vec::with_capacity(elements.len());
    for element in elements {
        let header = ResultHeader::decode(rest)?;
        let (payload, after) = rest[frame::ResultHeader::SIZE..].split_at(header.length as usize);
        rest = after;
        let (status, values, error) = match (header.status, element) {
            (Status::Values, Some(element)) => ("values", Some(scalars(payload, *element)), None),
            _ => ("error", None, Some(ErrorBody::from_json(payload))),
        };
        results.push(GroupResult {
            status: status.into(),
            epoch: header.epoch,
            position: header.position,
            values,
            error,
        });
    }
    Ok(Reply { results })
}
