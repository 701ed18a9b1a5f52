//! Requests to the master.

use std::time::Duration;

use glint_protocol::{ErrorBody, ErrorCode, JSON, PROTOCOL_VERSION, VERSION_HEADER};
use glint_world::{
    World,
    http::{Connections, Frames, Url},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::http::body::MAX_CONTROL_BYTES;

/// How long the master may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The way to the master. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    connections: Connections,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The master cannot be reached: it may not have started yet.
    Unreachable(String),
    /// It refuses.
    Refused(ErrorBody),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Link {
    pub(super) fn new(world: &World, master: Url) -> Self {
        Self {
            connections: Connections::new(world.clone(), master, 1),
        }
    }

    /// Posts JSON, and reads the answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<T, LinkError> {
        match tokio::time::timeout(ANSWER_WITHIN, self.exchange(path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(LinkError::Unreachable(format!(
                "the master at {} has not answered for {ANSWER_WITHIN:?}",
                self.connections.url()
            ))),
        }
    }

    /// Posts nothing to a path, and reads the answer.
    pub(super) async fn post_to<T: DeserializeOwned>(&self, path: &str) -> Result<T, LinkError> {
        self.exchange(path, &()).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, LinkError> {
        let internal = |why: String| LinkError::Refused(ErrorBody::new(ErrorCode::Internal, why));
        let body = serde_json::to_vec(body).map_err(|error| internal(error.to_string()))?;
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, JSON)
            .header(VERSION_HEADER, PROTOCOL_VERSION.to_string())
            .body(Frames::from(body))
            .map_err(|error| internal(error.to_string()))?;
        let unreachable = |error: glint_world::http::HttpError| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            LinkError::Unreachable(match cause {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            })
        };
        let response = self.connections.send(request).await.map_err(unreachable)?;
        let status = response.head.status;
        let body = response
            .collect(MAX_CONTROL_BYTES)
            .await
            .map_err(unreachable)?;
        if !status.is_success() {
            return Err(LinkError::Refused(ErrorBody::from_json(&body)));
        }
        serde_json::from_slice(&body).map_err(|error| {
            internal(format!(
                "the answer of {} is not that of a master of Glint: {error}",
                self.connections.url()
            ))
        })
    }
}
