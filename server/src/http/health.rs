//! Whether a process lives, and whether it is ready: what an orchestrator asks.

use axum::response::{IntoResponse, Response};
use glint_protocol::ErrorCode;

use super::Failure;

/// `GET /livez`: the process answers.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: ready, or `retry` with what is missing.
pub fn readyz(missing: Option<&str>) -> Response {
    match missing {
        None => "ok\n".into_response(),
        Some(missing) => Failure::new(ErrorCode::Retry, missing).into_response(),
    }
}
