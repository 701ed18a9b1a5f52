//! What is around every router.

use std::panic::AssertUnwindSafe;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use glint_protocol::{ErrorCode, PROTOCOL_VERSION, VERSION_HEADER};
use http::{HeaderName, HeaderValue};

use super::{Failure, body::Bodies};

/// Completes a router: unknown paths and methods, another protocol version and panics are answered with an error of the
/// protocol, and bodies are read within the budget of `bodies`.
pub fn finish(router: Router, bodies: Bodies) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn(|request, next: Next| {
            guarded(request, |request| next.run(request))
        }))
        .layer(axum::Extension(bodies))
}

async fn unknown_path(request: Request) -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        format!(
            "there is nothing at {}; see /v1/openapi.json for what is here",
            request.uri().path()
        ),
    )
}

async fn unknown_method(request: Request) -> Failure {
    Failure::new(
        ErrorCode::MethodNotAllowed,
        format!(
            "{} does not take {}; see /v1/openapi.json",
            request.uri().path(),
            request.method()
        ),
    )
}

// Made once: checking every letter of them takes longer than anything that is done with them.
static VERSION_NAME: HeaderName = HeaderName::from_static(VERSION_HEADER);
static VERSION: HeaderValue = HeaderValue::from_static("1");

/// Answers a request within what is around every path: another protocol version and panics are answered with an error of the
/// protocol, and every answer says which version this side speaks.
pub async fn guarded<F>(request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output: IntoResponse>,
{
    debug_assert_eq!(VERSION.as_bytes(), PROTOCOL_VERSION.to_string().as_bytes());
    let mut response = checked(request, answer).await;
    let headers = response.headers_mut();
    headers.insert(&VERSION_NAME, VERSION.clone());
    response
}

async fn checked<F>(request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output: IntoResponse>,
{
    if let Some(version) = request.headers().get(&VERSION_NAME)
        && version != VERSION
    {
        return Failure::new(
            ErrorCode::UnsupportedProtocol,
            format!(
                "the request has protocol version {}, this side speaks {PROTOCOL_VERSION}; use matching versions of client and server",
                String::from_utf8_lossy(version.as_bytes())
            ),
        )
        .into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // Locks that a panic poisons are taken regardless: what they guard is changed only after all that may fail.
    if let Ok(answer) = AssertUnwindSafe(answer(request)).catch_unwind().await {
        return answer.into_response();
    }
    tracing::error!(%method, path, "a request made the program panic");
    Failure::new(
        ErrorCode::Internal,
        "a defect of the program; its log has the place. Whether the request had an effect is unknown",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use glint_protocol::ErrorBody;
    use http_body_util::BodyExt;
    use serde::Deserialize;
    use tower::ServiceExt;

    use super::*;
    use crate::http::{Json, Path, Query};

    #[derive(Deserialize)]
    struct Wait {
        wait_ms: u64,
    }

    fn router() -> Router {
        let router = Router::new()
            .route(
                "/here",
                get(|Query(wait): Query<Wait>| async move { wait.wait_ms.to_string() }),
            )
            .route("/panic", get(panicking))
            .route(
                "/path/{number}",
                get(|Path(number): Path<u32>| async move { number.to_string() }),
            )
            .route(
                "/json",
                axum::routing::post(|Json(text): Json<String>| async move { text }),
            );
        finish(router, Bodies::new(0))
    }

    async fn panicking() -> &'static str {
        panic!("on purpose")
    }

    async fn ask(
        method: &str,
        path: &str,
        version: Option<&str>,
        body: &'static str,
    ) -> Result<Vec<u8>, ErrorBody> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(version) = version {
            request = request.header(VERSION_HEADER, version);
        }
        let response = router()
            .oneshot(request.body(Body::from(body)).unwrap())
            .await
            .unwrap();
        let status = response.status();
        assert_eq!(response.headers()[VERSION_HEADER], "1", "{path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let error: ErrorBody = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(error.code.http_status(), status.as_u16());
        Err(error)
    }

    #[tokio::test]
    async fn what_goes_wrong_is_always_answered_with_an_error_of_the_protocol() {
        for (method, path, version, body, code, hint) in [
            ("GET", "/nowhere", None, "", ErrorCode::NotFound, "/nowhere"),
            (
                "POST",
                "/here",
                None,
                "",
                ErrorCode::MethodNotAllowed,
                "POST",
            ),
            (
                "GET",
                "/here?wait_ms=long",
                None,
                "",
                ErrorCode::BadRequest,
                "wait_ms=long",
            ),
            ("GET", "/here", None, "", ErrorCode::BadRequest, "wait_ms"),
            ("GET", "/path/x", None, "", ErrorCode::BadRequest, "path"),
            ("GET", "/path/%ff", None, "", ErrorCode::BadRequest, "path"),
            ("POST", "/json", None, "{", ErrorCode::BadRequest, "JSON"),
            ("GET", "/panic", None, "", ErrorCode::Internal, "defect"),
            (
                "GET",
                "/here?wait_ms=1",
                Some("2"),
                "",
                ErrorCode::UnsupportedProtocol,
                "version 2",
            ),
        ] {
            let error = ask(method, path, version, body).await.unwrap_err();
            assert_eq!(error.code, code, "{method} {path}");
            assert!(error.message.contains(hint), "{}", error.message);
        }
    }

    #[tokio::test]
    async fn what_fits_is_answered() {
        assert_eq!(
            ask("GET", "/here?wait_ms=5", Some("1"), "").await.unwrap(),
            b"5"
        );
        assert_eq!(ask("GET", "/path/7", None, "").await.unwrap(), b"7");
        assert_eq!(ask("POST", "/json", None, "\"x\"").await.unwrap(), b"x");
    }
}
