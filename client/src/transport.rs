//! Requests to servers: one attempt each. Trying again is the caller's business.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use glint_protocol::{
    BINARY, ErrorBody, ErrorCode, MAX_BODY_BYTES, PROTOCOL_VERSION, VERSION_HEADER, frame::ReadMode,
};
use glint_world::{
    World,
    http::{Connections, Frames, HttpError, Response, Url},
};
use http::{HeaderValue, Method, header::CONTENT_TYPE};
use tokio::time::Instant;

use crate::{
    change::Changes,
    stats::{Counters, count},
};

/// Why an attempt brought no reply.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// No connection: the request was certainly never sent.
    Unsent(String),
    /// Sent, perhaps, and not answered.
    Unanswered(String),
    /// Not waited for: the partition is not, or not any more, where the request went.
    Moved,
    /// The server refused the whole request.
    Refused(ErrorBody),
    /// What came back is no answer of a Glint server.
    NotGlint(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved => f.write_str("the partition has moved to another server"),
            Self::Unsent(text) | Self::Unanswered(text) | Self::NotGlint(text) => f.write_str(text),
            Self::Refused(body) => body.fmt(f),
        }
    }
}

/// An error with all that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        let text = chain(&error);
        match &error {
            HttpError::Connect { .. } => Self::Unsent(text),
            HttpError::Broken { source, .. } if source.is_parse() => Self::NotGlint(text),
            HttpError::TooLong { .. } => Self::NotGlint(text),
            _ => Self::Unanswered(text),
        }
    }
}

/// Pull or push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Pull,
    Push,
}

/// One server, as the client reaches it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Tells servers apart; the same for one URL as long as anybody holds it.
    pub(crate) id: usize,
    pub(crate) connections: Connections,
    /// Where small pulls queue, those of one kind of read mode together; made when the first comes.
    pub(crate) pullers: [std::sync::OnceLock<crate::pull::Puller>; ReadMode::CODES],
}

/// All servers that are in use.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) world: World,
    pub(crate) per_server: usize,
    /// The changes of all maps that this client has.
    pub(crate) changes: Changes,
    timeout: Duration,
    pub(crate) counters: Arc<Counters>,
    servers: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    next: usize,
    by_url: BTreeMap<Url, Weak<Server>>,
}

impl Transport {
    pub(crate) fn new(
        world: World,
        per_server: usize,
        timeout: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            world,
            per_server,
            changes: Changes::default(),
            timeout,
            counters,
            servers: Mutex::default(),
        }
    }

    /// The server at a URL.
    pub(crate) fn server(&self, url: &str) -> Result<Arc<Server>, glint_world::http::UrlError> {
        let url: Url = url.parse()?;
        let mut known = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = known.by_url.get(&url).and_then(Weak::upgrade) {
            return Ok(server);
        }
        // Addresses come and go with the pods: those that nobody uses any more are forgotten.
        known.by_url.retain(|_, server| server.strong_count() > 0);
        let id = known.next;
        known.next += 1;
        let server = Arc::new(Server {
            id,
            connections: Connections::new(self.world.clone(), url.clone(), self.per_server),
            pullers: Default::default(),
        });
        known.by_url.insert(url, Arc::downgrade(&server));
        Ok(server)
    }

    /// When an attempt that starts now is given up.
    pub(crate) fn give_up(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends one request and waits for the head of the reply.
    pub(crate) async fn send(
        &self,
        to: &Connections,
        path: Path,
        body: Frames,
        give_up: Instant,
    ) -> Result<Response, Trouble> {
        count(&self.counters.requests, 1);
        count(&self.counters.bytes_out, body.length());
        let request = request(path, body)?;
        let sending = to.send(request);
        let response = match tokio::time::timeout_at(give_up, sending).await {
            Ok(response) => response?,
            Err(_) => return Err(timed_out(to)),
        };
        let version = response.head.headers.get(VERSION_HEADER);
        let other = version.filter(|version| **version != VERSION).cloned();
        if response.head.status.is_success() {
            if let Some(other) = other {
                // What it has done with the request, nobody knows.
                return Err(Trouble::NotGlint(format!(
                    "{} {}",
                    to.url(),
                    speaks(&other)
                )));
            }
            let content = response.head.headers.get(CONTENT_TYPE);
            if content.is_some_and(|c| c.as_bytes() == BINARY.as_bytes()) {
                return Ok(response);
            }
            return Err(Trouble::NotGlint(format!(
                "what answers at {} is no server of Glint: its answer has content type {content:?}",
                to.url()
            )));
        }
        let status = response.head.status;
        let error = match tokio::time::timeout_at(give_up, response.collect(64 << 10)).await {
            Ok(text) => ErrorBody::from_json(&text?),
            Err(_) => return Err(timed_out(to)),
        };
        if let Some(other) = other {
            let message = speaks(&other);
            let body = ErrorBody::new(ErrorCode::UnsupportedProtocol, message);
            return Err(Trouble::Refused(body));
        }
        if error.code == ErrorCode::Internal && status.is_client_error() {
            return Err(Trouble::NotGlint(format!(
                "what answers at {} is no server of Glint: status {status}, {}",
                to.url(),
                error.message
            )));
        }
        Err(Trouble::Refused(error))
    }

    /// The next bytes of a reply; none at its end.
    pub(crate) async fn next(
        &self,
        to: &Connections,
        response: &mut Response,
        give_up: Instant,
    ) -> Result<Option<Bytes>, Trouble> {
        match tokio::time::timeout_at(give_up, response.next()).await {
            Ok(bytes) => {
                let bytes = bytes?;
                if let Some(bytes) = &bytes {
                    count(&self.counters.bytes_in, bytes.len() as u64);
                }
                Ok(bytes)
            }
            Err(_) => Err(timed_out(to)),
        }
    }

    /// Sends one request and takes the whole reply.
    pub(crate) async fn exchange(
        &self,
        to: &Connections,
        path: Path,
        body: Frames,
        give_up: Instant,
    ) -> Result<Bytes, Trouble> {
        let response = self.send(to, path, body, give_up).await?;
        match tokio::time::timeout_at(give_up, response.collect(2 * MAX_BODY_BYTES)).await {
            Ok(bytes) => {
                let bytes = bytes?;
                count(&self.counters.bytes_in, bytes.len() as u64);
                Ok(bytes)
            }
            Err(_) => Err(timed_out(to)),
        }
    }
}

fn timed_out(to: &Connections) -> Trouble {
    Trouble::Unanswered(format!("{} did not answer in time", to.url()))
}

/// The version of this client, as it says it.
static VERSION: HeaderValue = HeaderValue::from_static("1");

/// What is said of one that speaks another version.
pub(crate) fn speaks(version: &HeaderValue) -> String {
    format!(
        "speaks version {} of the protocol, this client {PROTOCOL_VERSION}; use matching versions of client and cluster",
        version.to_str().unwrap_or("?")
    )
}

fn request(path: Path, body: Frames) -> Result<http::Request<Frames>, Trouble> {
    debug_assert_eq!(VERSION.as_bytes(), PROTOCOL_VERSION.to_string().as_bytes());
    let uri = match path {
        Path::Pull => "/v1/pull",
        Path::Push => "/v1/push",
    };
    http::Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, HeaderValue::from_static(BINARY))
        .header(VERSION_HEADER, VERSION.clone())
        .body(body)
        .map_err(|e| Trouble::Unsent(e.to_string()))
}
