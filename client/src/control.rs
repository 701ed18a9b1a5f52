//! Talking to the master: JSON, tried again until the deadline.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use glint_protocol::{
    ClusterId, ErrorBody, ErrorCode, JSON, ModelMap, PROTOCOL_VERSION, RequestId, VERSION_HEADER,
    admin::ResetModel,
    control::{ClusterStatus, CreateModel, ModelSummary},
    error::Retry,
    ids::Revision,
};
use glint_world::{
    World,
    http::{Connections, Frames, HttpError, Url},
};
use http::{HeaderValue, Method, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    ClientOptions, Error, Result,
    retry::{Attempts, Pauses},
    stats::{Counters, count},
    transport::{chain, speaks},
};

/// The longest answer of the master: a map of 65 536 partitions takes about 2 MiB.
const LONGEST_ANSWER: usize = 64 << 20;
/// Connections to the master.
const CONNECTIONS: usize = 2;
/// Connections on which polls are held: one per model that is used.
const POLLS: usize = 64;

/// The master, as this client reaches it.
#[derive(Debug)]
pub(crate) struct Control {
    connections: Connections,
    polls: Connections,
    timeout: Duration,
    pauses: Arc<Pauses>,
    counters: Arc<Counters>,
}

/// Why one call brought no answer.
enum Failed {
    /// It may be tried again.
    Later(String, Option<ErrorCode>),
    /// It may not.
    Never(Error),
    /// The master said no; what that means depends on the call.
    Refused(ErrorBody),
}

impl Control {
    pub(crate) fn new(
        world: World,
        url: Url,
        options: &ClientOptions,
        pauses: Arc<Pauses>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            polls: Connections::new(world.clone(), url.clone(), POLLS),
            connections: Connections::new(world, url, CONNECTIONS),
            timeout: options.request_timeout,
            pauses,
            counters,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.connections.url().to_string()
    }

    pub(crate) async fn status(&self, deadline: Instant) -> Result<ClusterStatus> {
        self.call(Method::GET, "/v1/status", Bytes::new(), deadline, "")
            .await
    }

    pub(crate) async fn models(&self, deadline: Instant) -> Result<Vec<ModelSummary>> {
        self.call(Method::GET, "/v1/models", Bytes::new(), deadline, "")
            .await
    }

    pub(crate) async fn create(&self, model: &CreateModel, deadline: Instant) -> Result<ModelMap> {
        let body = serde_json::to_vec(model).map_err(|e| Error::InvalidSpec {
            message: e.to_string(),
        })?;
        let name = &model.model.name;
        self.call(Method::POST, "/v1/models", body.into(), deadline, name)
            .await
    }

    /// Deletes the model that has this name now; a repeated request never deletes another that took its name meanwhile.
    pub(crate) async fn delete(&self, name: &str, deadline: Instant) -> Result<()> {
        let id = self.map(name, deadline).await?.incarnation.model;
        let path = format!("{}?id={id}", path_of(name)?);
        let _: serde_json::Value = self
            .call(Method::DELETE, &path, Bytes::new(), deadline, name)
            .await?;
        Ok(())
    }

    /// Resets the model that has this name now, once however often the request is repeated.
    pub(crate) async fn reset(&self, name: &str, id: RequestId, deadline: Instant) -> Result<()> {
        let model = self.map(name, deadline).await?.incarnation.model;
        let request = ResetModel {
            id,
            model: Some(model),
        };
        let path = format!("{}/reset", path_of(name)?);
        let body = serde_json::to_vec(&request).map_err(|e| Error::InvalidSpec {
            message: e.to_string(),
        })?;
        let _: ModelMap = self
            .call(Method::POST, &path, body.into(), deadline, name)
            .await?;
        Ok(())
    }

    pub(crate) async fn map(&self, name: &str, deadline: Instant) -> Result<ModelMap> {
        self.call(Method::GET, &path_of(name)?, Bytes::new(), deadline, name)
            .await
    }

    /// The map, in a single attempt: whoever refreshes has its own pauses.
    pub(crate) async fn map_once(&self, name: &str) -> Result<ModelMap> {
        let path = path_of(name)?;
        let asked = self.once(Method::GET, &path, &Bytes::new()).await;
        self.map_of(asked, name)
    }

    /// The map once it has another revision, or when the master has held the request for so long; in a single attempt.
    pub(crate) async fn next_map(
        &self,
        name: &str,
        revision: Revision,
        hold: Duration,
    ) -> Result<ModelMap> {
        let path = format!(
            "{}?revision={revision}&wait_ms={}",
            path_of(name)?,
            hold.as_millis()
        );
        let timeout = hold + self.timeout;
        let polls = &self.polls;
        let body = Bytes::new();
        let answer = self.ask(polls, timeout, Method::GET, &path, &body).await;
        self.map_of(answer, name)
    }

    fn map_of(&self, answer: Result<Bytes, Failed>, name: &str) -> Result<ModelMap> {
        let mut attempts = Attempts::new();
        attempts.count = 1;
        match answer.and_then(|text| self.decode(&text)) {
            Ok(map) => Ok(map),
            Err(Failed::Later(cause, _)) => {
                attempts.failed(&cause);
                Err(Error::Unreachable {
                    url: self.url(),
                    tried: attempts.tried(),
                })
            }
            Err(Failed::Never(error)) => Err(error),
            Err(Failed::Refused(body)) => Err(self.refused(body, name)),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Instant,
        model: &str,
    ) -> Result<T> {
        let mut attempts = Attempts::new();
        let mut code = None;
        loop {
            attempts.count += 1;
            let once = self.once(method.clone(), path, &body);
            let answer = if let Ok(answer) = tokio::time::timeout_at(deadline, once).await {
                answer.and_then(|text| self.decode(&text))
            } else {
                // What went wrong before says more than that time was up in the middle of another attempt.
                let before = attempts.last.clone();
                let cause = before.unwrap_or_else(|| "the deadline passed".into());
                Err(Failed::Later(cause, code))
            };
            match answer {
                Ok(value) => return Ok(value),
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Refused(body)) => return Err(self.refused(body, model)),
                Err(Failed::Later(cause, last)) => {
                    attempts.failed(&cause);
                    code = last;
                }
            }
            count(&self.counters.retries, 1);
            let pause = self.pauses.next(attempts.count);
            if Instant::now() + pause >= deadline {
                let tried = attempts.tried();
                return Err(match code {
                    Some(ErrorCode::NoServers) => Error::NoServers { tried },
                    Some(_) => Error::DeadlineExceeded {
                        what: format!("a {method} of {path} at the master"),
                        tried,
                    },
                    None => Error::Unreachable {
                        url: self.url(),
                        tried,
                    },
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, method: Method, path: &str, body: &Bytes) -> Result<Bytes, Failed> {
        let connections = &self.connections;
        self.ask(connections, self.timeout, method, path, body)
            .await
    }

    async fn ask(
        &self,
        connections: &Connections,
        timeout: Duration,
        method: Method,
        path: &str,
        body: &Bytes,
    ) -> Result<Bytes, Failed> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, HeaderValue::from_static(JSON))
            .header(
                VERSION_HEADER,
                HeaderValue::from(u16::from(PROTOCOL_VERSION)),
            )
            .body(Frames::from(body.clone()))
            .map_err(|e| Failed::Later(e.to_string(), None))?;
        let answer = tokio::time::timeout(timeout, async {
            let response = connections.send(request).await?;
            let (status, version) = (
                response.head.status,
                response.head.headers.get(VERSION_HEADER).cloned(),
            );
            Ok((status, version, response.collect(LONGEST_ANSWER).await?))
        });
        let (status, version, text) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.broken(&error)),
            Err(_) => {
                return Err(Failed::Later(
                    format!("the master did not answer within {timeout:?}"),
                    None,
                ));
            }
        };
        if let Some(version) = version
            && version != HeaderValue::from(u16::from(PROTOCOL_VERSION))
        {
            return Err(Failed::Never(Error::UnsupportedProtocol {
                url: self.url(),
                message: format!("it {}", speaks(&version)),
            }));
        }
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_slice::<ErrorBody>(&text) {
            Ok(body) if body.code.retry() == Retry::Later => {
                Err(Failed::Later(body.to_string(), Some(body.code)))
            }
            // A server answers like a master, but has no models to list or make.
            Ok(body) if matches!(body.code, ErrorCode::NotFound | ErrorCode::MethodNotAllowed) => {
                Err(self.stranger(format!("it answers {path} with: {}", body.message)))
            }
            Ok(body) => Err(Failed::Refused(body)),
            Err(_) if status.is_server_error() => {
                // Such as a proxy in front of a master that is being replaced.
                Err(Failed::Later(format!("status {status}"), None))
            }
            Err(_) => Err(self.stranger(format!("it answers with status {status}"))),
        }
    }

    fn decode<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T, Failed> {
        serde_json::from_slice(text)
            .map_err(|e| self.stranger(format!("its answer does not read: {e}")))
    }

    fn broken(&self, error: &HttpError) -> Failed {
        let strange = matches!(error, HttpError::Broken { source, .. } if source.is_parse())
            || matches!(error, HttpError::TooLong { .. });
        if strange {
            self.stranger(chain(error))
        } else {
            Failed::Later(chain(error), None)
        }
    }

    fn refused(&self, body: ErrorBody, model: &str) -> Error {
        let model = model.to_owned();
        match body.code {
            ErrorCode::UnknownModel => Error::UnknownModel { model },
            ErrorCode::AlreadyExists => Error::AlreadyExists { model },
            ErrorCode::SpecMismatch => Error::SpecMismatch {
                model,
                differences: body.detail.map(|d| d.differences).unwrap_or_default(),
            },
            ErrorCode::InvalidSpec => Error::InvalidSpec {
                message: body.message,
            },
            ErrorCode::DoesNotFit => Error::DoesNotFit {
                message: body.message,
            },
            _ => Error::refusal(body, self.url()),
        }
    }

    fn stranger(&self, found: String) -> Failed {
        Failed::Never(Error::NotGlint {
            url: self.url(),
            found,
        })
    }
}

fn path_of(name: &str) -> Result<String> {
    glint_protocol::spec::check_name(name)
        .map_err(|e| Error::InvalidSpec { message: e.message })?;
    Ok(format!("/v1/models/{name}"))
}

/// Refuses a master of another cluster than the client was made for.
pub(crate) fn same_cluster(url: &str, expected: ClusterId, found: ClusterId) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::WrongCluster {
        url: url.to_owned(),
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
