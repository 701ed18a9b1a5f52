//! Errors as answers: the only place where an error becomes an HTTP status.

use axum::response::{IntoResponse, Response};
use glint_protocol::{ErrorBody, ErrorCode, JSON};
use http::{HeaderValue, StatusCode, header};

/// An error on its way to the caller: a handler returns `Result<_, Failure>` and uses `?` on errors of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub ErrorBody);

/// What a handler returns.
pub type Answer<T> = Result<T, Failure>;

impl Failure {
    /// An error with nothing but its message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(ErrorBody::new(code, message))
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self(body)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.0.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        // The rest of a body that was not read would have to be read before the connection could serve again.
        if matches!(self.0.code, ErrorCode::TooLarge | ErrorCode::TooSlow) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_answered_with_its_status_and_its_body_as_json() {
        for &code in ErrorCode::ALL {
            let response = Failure::new(code, "why").into_response();
            assert_eq!(response.status().as_u16(), code.http_status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], JSON);
        }
    }
}
