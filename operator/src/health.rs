//! What probes and Prometheus ask of the operator.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How this process fares.
#[derive(Debug, Default)]
pub struct Health {
    /// Whether the definition of `ParameterServer` is there and can be read.
    definition: AtomicBool,
    /// What is counted.
    pub metrics: Metrics,
}

impl Health {
    /// `ParameterServer`s can be read from now on.
    pub fn is_defined(&self) {
        self.definition.store(true, Ordering::Relaxed);
        self.metrics.is_defined(true);
    }
}

/// Answers `/livez`, `/readyz` and `/metrics` until `stop`.
pub async fn serve(
    health: Arc<Health>,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(health))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    if health.definition.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "ParameterServers cannot be read: the definition is not installed, or the role does not allow it; see the log\n",
        )
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.metrics.text())
}
