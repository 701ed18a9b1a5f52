//! The server's paths.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Body,
    extract::{Request, State as Shared},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use glint_protocol::{MAX_BODY_BYTES, control::Orders};
use http::{Method, header};
use serde::Serialize;

use super::{
    Server, copies, json, metrics, opening, orders, pull, push,
    request::Format,
    state::{Counters, State},
    status::{ServerStatus, status},
};
use crate::{
    http::{Answer, Json, body::Bounds, finish, guarded, health, reading::Reading},
    openapi,
    serve::Responder,
};

const PULL: &str = "/v1/pull";
const PUSH: &str = "/v1/push";

/// The paths of a server, as a listener answers them. Pulls and pushes do not pass the router: its way to a handler, with what is
/// copied and allocated on it, takes more instructions than all of a small push.
#[derive(Clone)]
pub struct Paths {
    state: Arc<State>,
    router: Router,
}

/// By which way a request is answered.
enum Way {
    Pull(Arc<State>),
    Push(Arc<State>),
    Router(Router),
}

impl Responder for Paths {
    fn respond(&self, request: Request) -> impl Future<Output = Response> + Send + 'static {
        let is_post = request.method() == Method::POST;
        let way = match request.uri().path() {
            PULL if is_post => Way::Pull(Arc::clone(&self.state)),
            PUSH if is_post => Way::Push(Arc::clone(&self.state)),
            _ => Way::Router(self.router.clone()),
        };
        async move {
            match way {
                Way::Pull(state) => guarded(request, |r| answer_pull(Shared(state), r)).await,
                Way::Push(state) => guarded(request, |r| answer_push(Shared(state), r)).await,
                Way::Router(router) => router.respond(request).await,
            }
        }
    }
}

/// The answer that says nothing but that it was done.
#[derive(Serialize)]
struct Done {}

impl Server {
    /// Its paths, for a listener.
    pub fn paths(&self) -> Paths {
        Paths {
            state: Arc::clone(&self.state),
            router: self.router(),
        }
    }

    /// Its paths as a router, for a test.
    pub fn router(&self) -> Router {
        let state = Arc::clone(&self.state);
        let bodies = state.bodies.clone();
        let router = Router::new()
            .route("/livez", get(health::livez))
            .route("/readyz", get(ready))
            .route("/v1/openapi.json", get(openapi::serve))
            .route("/v1/status", get(show))
            .route("/metrics", get(measure))
            .route("/v1/orders", post(obey))
            .route("/v1/copies", post(take_copies))
            .route("/v1/copies/beacon", post(hear_beacon))
            .route("/v1/copies/yield", post(hear_yield))
            .route(PULL, post(answer_pull))
            .route(PUSH, post(answer_push))
            .with_state(state);
        finish(router, bodies)
    }
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    let missing = if state.is_registered() {
        None
    } else if state.awaits_room.load(Ordering::Relaxed) {
        Some(opening::AWAITS_ROOM)
    } else {
        Some("the server has not registered with the master yet")
    };
    health::readyz(missing)
}

async fn show(Shared(state): Shared<Arc<State>>) -> Json<ServerStatus> {
    Json(status(&state))
}

async fn measure(Shared(state): Shared<Arc<State>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (content_type, metrics::text(&state)).into_response()
}

async fn obey(Shared(state): Shared<Arc<State>>, Json(orders): Json<Orders>) -> Answer<Json<Done>> {
    orders::obey(&state, orders).await?;
    Ok(Json(Done {}))
}

/// The largest body that a holder sends.
pub(super) const COPIES: Bounds = Bounds {
    limit: 48 << 20,
    declared: true,
};

async fn take_copies(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Answer<Json<copies::Answers>> {
    let body = Reading::new(request.into_body(), &state.copied_bodies, COPIES)?;
    Ok(Json(copies::take(&state, body).await?))
}

async fn hear_beacon(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Answer<Json<copies::Heard>> {
    let body = state
        .copied_bodies
        .read(request.into_body(), COPIES)
        .await?;
    Ok(Json(copies::hear_beacon(&state, body.freeze())?))
}

async fn hear_yield(Shared(state): Shared<Arc<State>>, request: Request) -> Answer<Json<Done>> {
    let body = state
        .copied_bodies
        .read(request.into_body(), COPIES)
        .await?;
    copies::hear_yield(&state, body.as_ref())?;
    Ok(Json(Done {}))
}

async fn answer_pull(Shared(state): Shared<Arc<State>>, request: Request) -> Answer<Response> {
    let format = Format::of(request.headers())?;
    let body = state.bodies.read(request.into_body(), Bounds::DATA).await?;
    Counters::add(&state.counters.bytes_in, body.as_ref().len() as u64);
    let reply = match format {
        Format::Binary => pull::answer(&state, body.as_ref(), MAX_BODY_BYTES)?.freeze(),
        Format::Json => json::pull(&state, body.as_ref())?.into(),
    };
    Ok(respond(&state, format, reply))
}

async fn answer_push(Shared(state): Shared<Arc<State>>, request: Request) -> Answer<Response> {
    let format = Format::of(request.headers())?;
    let body = state.bodies.read(request.into_body(), Bounds::DATA).await?;
    Counters::add(&state.counters.bytes_in, body.as_ref().len() as u64);
    let reply = match format {
        Format::Binary => {
            let body = body.freeze();
            let mut judged = push::judge(&state, &body, || state.world.clock.unix_ms())?;
            // The bytes are merged: another request may have the buffer while the verdicts wait, unless the log has it.
            drop(body);
            push::all_settled(&state, &mut judged).await?;
            push::reply(&state, &judged)?.freeze()
        }
        Format::Json => json::push(&state, body.as_ref()).await?.into(),
    };
    Ok(respond(&state, format, reply))
}

fn respond(state: &State, format: Format, reply: Bytes) -> Response {
    Counters::add(&state.counters.bytes_out, reply.len() as u64);
    let mut response = Response::new(Body::from(reply));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, format.content_type());
    response
}
