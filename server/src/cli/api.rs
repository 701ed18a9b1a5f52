//! The master's JSON, for the commands that look at a cluster and change it.

use std::time::Duration;

use anyhow::Context;
use glint_protocol::{ErrorBody, ErrorCode, JSON, PROTOCOL_VERSION, VERSION_HEADER, error::Retry};
use glint_world::{
    World,
    http::{Connections, Frames, HttpError, Url},
};
use http::Method;
use serde::{Serialize, de::DeserializeOwned};

/// The longest answer: the maps of many large models.
const ANSWER_BYTES: usize = 64 << 20;
/// The pause between two tries of what may succeed later.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one answer is waited for at least, however short the time-out.
const ANSWER_AT_LEAST: Duration = Duration::from_secs(1);
/// How long one answer may take at most: the master itself holds none back for longer than 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Which cluster a command talks to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// URL of the master.
    #[arg(
        long,
        value_name = "URL",
        env = "GLINT_URL",
        default_value = "http://127.0.0.1:7100"
    )]
    pub(crate) master: String,
    /// Seconds to wait for what may succeed later, such as a cluster without servers yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) timeout: u64,
}

/// A master to talk to.
pub(crate) struct Api {
    pub(crate) world: World,
    connections: Connections,
    timeout: Duration,
}

impl Target {
    /// The master, not yet spoken to.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        let url: Url = self.master.parse()?;
        let world = World::real();
        let connections = Connections::new(world.clone(), url, 1);
        Ok(Api {
            world,
            connections,
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

impl Api {
    /// `GET`s what is at a path.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, &()).await
    }

    /// Sends `body` as JSON, again and again while it may succeed later, until the time-out.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = if method == Method::GET || method == Method::DELETE {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        let until = tokio::time::Instant::now() + self.timeout;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let patience = left.clamp(ANSWER_AT_LEAST, ANSWER_WITHIN);
            let answer = self
                .once(method.clone(), path, body.clone(), patience)
                .await?;
            let error = match answer {
                Ok(bytes) => return self.parse(&bytes),
                Err(error) => error,
            };
            let over = tokio::time::Instant::now() + PAUSE > until;
            if error.code.retry() != Retry::Later || over {
                return Err(error.into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> anyhow::Result<Result<Vec<u8>, ErrorBody>> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, JSON)
            .header(VERSION_HEADER, PROTOCOL_VERSION.to_string())
            .body(Frames::from(body))
            .context("the request cannot be formed")?;
        let exchange = async {
            let response = self.connections.send(request).await?;
            let status = response.head.status;
            Ok((status, response.collect(ANSWER_BYTES).await?))
        };
        let url = self.connections.url();
        let (status, bytes) = match tokio::time::timeout(patience, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(no_answer(url, error)),
            Err(_) => anyhow::bail!(
                "the master at {url} has not answered within {patience:.0?}: it may be waiting for its servers, and what was asked \
                 may still be done; look at it with `glint status`, or wait longer with --timeout SECONDS"
            ),
        };
        if status.is_success() {
            return Ok(Ok(bytes.to_vec()));
        }
        let error = ErrorBody::from_json(&bytes);
        if error.code == ErrorCode::Internal && serde_json::from_slice::<ErrorBody>(&bytes).is_err()
        {
            return Err(not_a_master(url));
        }
        Ok(Err(error))
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> anyhow::Result<T> {
        serde_json::from_slice(bytes).map_err(|_| not_a_master(self.connections.url()))
    }
}

fn no_answer(url: &Url, error: HttpError) -> anyhow::Error {
    if error.is_unsent() {
        let why = anyhow::Error::new(error);
        anyhow::anyhow!("{why:#}; {START}")
    } else {
        not_a_master(url)
    }
}

/// What to type when there is no master.
pub(crate) const START: &str =
    "start one with: glint local --servers 2, or say where it is with --master URL or GLINT_URL";

fn not_a_master(url: &Url) -> anyhow::Error {
    anyhow::anyhow!(
        "what answers at {url} is not a master of Glint; give its URL with --master or GLINT_URL"
    )
}
