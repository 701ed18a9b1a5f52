//! Bodies, paths and queries as types; what does not fit is a `bad_request` that says why.

use axum::extract::{FromRequest, FromRequestParts, Request};
use glint_protocol::{ErrorBody, ErrorCode, JSON};
use http::{HeaderValue, header, request::Parts};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Failure,
    body::{Bodies, Bounds},
};

/// A JSON body, as an argument or as an answer. As an argument it needs [`Bodies`] in the router's extensions, which
/// [`super::finish`] puts there. Its content type is not looked at, so that `curl -d` works as it is.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// The parts of a path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

/// The query behind a path.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

/// Parses JSON.
///
/// # Errors
/// `bad_request`, with the place and the field that does not fit.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorBody> {
    serde_json::from_slice(bytes).map_err(|error| {
        ErrorBody::new(
            ErrorCode::BadRequest,
            format!("the body is not the JSON that this path takes: {error}; see /v1/openapi.json"),
        )
    })
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bodies = request.extensions().get::<Bodies>().cloned();
        let bodies = bodies.unwrap_or_else(|| Bodies::new(0));
        let body = bodies.read(request.into_body(), Bounds::CONTROL).await?;
        Ok(Self(parse(body.as_ref())?))
    }
}

impl<T: Serialize> axum::response::IntoResponse for Json<T> {
    fn into_response(self) -> axum::response::Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => (
                [(header::CONTENT_TYPE, HeaderValue::from_static(JSON))],
                bytes,
            )
                .into_response(),
            Err(error) => Failure::new(
                ErrorCode::Internal,
                format!("the answer cannot be written as JSON: {error}"),
            )
            .into_response(),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(|error| bad(format!("the path does not fit: {}", error.body_text())))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|query| Self(query.0))
            .map_err(|error| {
                bad(format!(
                    "the query '{}' does not fit: {}",
                    parts.uri.query().unwrap_or_default(),
                    error.body_text()
                ))
            })
    }
}
