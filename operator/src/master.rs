//! Talks to the master of a parameter server over HTTP, as the operator needs it. Every call is bounded in time and size.

use bytes::Bytes;
use glint_protocol::{
    ErrorBody, ErrorCode, ServerId,
    admin::{DrainServers, Draining},
    control::{ClusterStatus, Labels},
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::observe::PATIENCE;

/// The status of a thousand servers and models fits well.
const MOST_BYTES: usize = 64 << 20;

/// Asks masters.
#[derive(Clone, Debug)]
pub struct Masters {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Why a master did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// It did not answer, or not as a master does.
    #[error("{0}")]
    Unreachable(String),
    /// It refused.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
}

impl MasterError {
    /// Whether servers cannot be emptied as things are; it says why, with numbers.
    pub fn refuses_to_drain(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code == ErrorCode::CannotDrain)
    }
}

impl Default for Masters {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        Self {
            client: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(std::time::Duration::from_secs(20))
                .pool_max_idle_per_host(1)
                .build(connector),
        }
    }
}

impl Masters {
    /// Servers and models of the cluster whose master is at `url`.
    pub async fn status(&self, url: &str) -> Result<ClusterStatus, MasterError> {
        self.call(Method::GET, format!("{url}/v1/status"), None::<&()>)
            .await
    }

    /// Has servers emptied, all of them or none.
    pub async fn drain(&self, url: &str, servers: &[String]) -> Result<Vec<Draining>, MasterError> {
        let servers = servers.iter().cloned().map(ServerId).collect();
        let request = DrainServers { servers };
        self.call(
            Method::POST,
            format!("{url}/v1/servers/drain"),
            Some(&request),
        )
        .await
    }

    /// Has a server emptied no longer: what is on it stays.
    pub async fn keep(&self, url: &str, server: &str) -> Result<Draining, MasterError> {
        let url = format!("{url}/v1/servers/{server}/drain");
        self.call(Method::DELETE, url, None::<&()>).await
    }

    /// Tells where a server runs.
    pub async fn place(
        &self,
        url: &str,
        server: &str,
        labels: &Labels,
    ) -> Result<Labels, MasterError> {
        let url = format!("{url}/v1/servers/{server}/labels");
        self.call(Method::PUT, url, Some(labels)).await
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        url: String,
        body: Option<&Q>,
    ) -> Result<A, MasterError> {
        let unreachable = |e: &dyn std::fmt::Display| {
            MasterError::Unreachable(format!("the master at {url} does not answer: {e}"))
        };
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| unreachable(&e))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| unreachable(&e))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| {
                // The cause says more than "client error (Connect)".
                let cause = std::error::Error::source(&e).map(ToString::to_string);
                unreachable(&cause.unwrap_or_else(|| e.to_string()))
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BYTES)
                .collect()
                .await
                .map_err(|e| unreachable(&e))?
                .to_bytes();
            if status.is_success() {
                return serde_json::from_slice(&body).map_err(|e| unreachable(&e));
            }
            Err(match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(error) => MasterError::Refused(error),
                Err(_) => unreachable(&status),
            })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable(&format!("nothing within {PATIENCE:?}"))))
    }
}
