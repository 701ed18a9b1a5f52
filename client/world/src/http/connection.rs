//! Connections to one address that are kept between requests: a bounded number, one request at a time on each.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Frames, Url};
use crate::{World, network::CONNECT_TIMEOUT};

/// Why a request got no answer. Whether the other side has acted on it is unknown, except with [`HttpError::Connect`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection could be made: the request was never sent.
    #[error("cannot connect to {url}")]
    Connect {
        /// Whom to.
        url: Url,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what came back was not HTTP.
    #[error("the connection to {url} broke before the answer was complete")]
    Broken {
        /// Whom to.
        url: Url,
        /// Why.
        source: hyper::Error,
    },
    /// The answer is longer than the caller takes.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLong {
        /// Whom from.
        url: Url,
        /// What the caller takes.
        limit: usize,
    },
}

impl HttpError {
    /// Whether the request certainly never left.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

/// The most that is read at once, in bytes. Smaller pieces change hands too often; larger ones would be fresh memory each
/// time with the usual allocator, which gives them back to the system as soon as they are free.
const READ_BYTES: usize = 256 << 10;

/// Connections to one address, made when they are needed and kept as long as they work. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    url: Url,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<SendRequest<Frames>>>,
}

/// An answer whose body is still arriving. The connection is kept for the next request when the body was read to its
/// end, and closed when this is dropped before.
pub struct Response {
    /// Status and headers.
    pub head: http::response::Parts,
    body: Incoming,
    lease: Lease,
}

struct Lease {
    shared: Arc<Shared>,
    sender: Option<SendRequest<Frames>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sender);
        }
    }
}

impl Connections {
    /// At most `limit` connections to `url`, at least 1; further requests wait for one to be free.
    pub fn new(world: World, url: Url, limit: usize) -> Self {
        let permits = Arc::new(Semaphore::new(limit.max(1)));
        Self {
            shared: Arc::new(Shared {
                world,
                url,
                permits,
                idle: Mutex::new(Vec::new()),
            }),
        }
    }

    /// Whom to.
    pub fn url(&self) -> &Url {
        &self.shared.url
    }

    /// Sends a request and waits for the head of its answer. The URI of `request` is a path.
    ///
    /// There is no time-out here: the caller puts one around it. When the future is dropped, the request may have
    /// arrived or not, and its connection is closed.
    ///
    /// # Errors
    /// [`HttpError`]; a kept connection that the other side had closed meanwhile is replaced once, if the request cannot
    /// have been sent.
    pub async fn send(&self, mut request: http::Request<Frames>) -> Result<Response, HttpError> {
        // The semaphore is never closed, so that this cannot fail; a closed one would mean no connection is free, ever.
        let permit = Arc::clone(&self.shared.permits)
            .acquire_owned()
            .await
            .map_err(|e| self.unreachable(io::Error::other(e)))?;
        if let Ok(host) = http::HeaderValue::from_str(self.shared.url.authority()) {
            request
                .headers_mut()
                .entry(http::header::HOST)
                .or_insert(host);
        }
        loop {
            let (mut sender, kept) = match self.take_idle().await {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            let retry = request;
            match sender.try_send_request(retry).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let lease = Lease {
                        shared: Arc::clone(&self.shared),
                        sender: Some(sender),
                        _permit: permit,
                    };
                    return Ok(Response { head, body, lease });
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if kept => request = unsent,
                    _ => return Err(self.broken(error.into_error())),
                },
            }
        }
    }

    async fn take_idle(&self) -> Option<SendRequest<Frames>> {
        loop {
            let mut sender = self
                .shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()?;
            // Right after an answer the connection may still be about to finish it; a closed one says so here.
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Frames>, HttpError> {
        let network = &self.shared.world.network;
        let connecting = tokio::time::timeout(
            CONNECT_TIMEOUT,
            network.connect(self.shared.url.authority()),
        );
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(error)),
            Err(_) => return Err(self.unreachable(io::Error::from(io::ErrorKind::TimedOut))),
        };
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(READ_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e))?;
        self.shared.world.tasks.spawn(Box::pin(async move {
            // What breaks the connection is told to the request that is on it; an idle one ends in silence.
            let _ = connection.await;
        }));
        Ok(sender)
    }

    fn unreachable(&self, source: io::Error) -> HttpError {
        HttpError::Connect {
            url: self.shared.url.clone(),
            source,
        }
    }

    fn broken(&self, source: hyper::Error) -> HttpError {
        HttpError::Broken {
            url: self.shared.url.clone(),
            source,
        }
    }
}

impl Response {
    /// The next bytes of the body as they arrived; none at its end.
    ///
    /// # Errors
    /// [`HttpError::Broken`] when the connection broke before the body was complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            return match self.body.frame().await {
                None => Ok(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(_) => continue,
                },
                Some(Err(source)) => {
                    self.lease.sender = None;
                    Err(HttpError::Broken {
                        url: self.lease.shared.url.clone(),
                        source,
                    })
                }
            };
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`HttpError::Broken`] or [`HttpError::TooLong`].
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, HttpError> {
        let mut first = Bytes::new();
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if first.len() + whole.len() + bytes.len() > limit {
                return Err(HttpError::TooLong {
                    url: self.lease.shared.url.clone(),
                    limit,
                });
            }
            if whole.is_empty() && first.is_empty() {
                first = bytes;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&std::mem::take(&mut first));
                }
                whole.extend_from_slice(&bytes);
            }
        }
        Ok(if whole.is_empty() {
            first
        } else {
            whole.into()
        })
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        // A body that was not read to its end leaves bytes on the connection: it cannot serve another request.
        if !http_body::Body::is_end_stream(&self.body) {
            self.lease.sender = None;
        }
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("url", &self.shared.url)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.head.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use hyper::{server::conn::http1, service::service_fn};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers `/large` with a MiB, everything else with the bytes it was sent; counts the connections it took.
    async fn echo(keep_alive: bool) -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(|request: http::Request<Incoming>| async move {
                    let large = request.uri().path() == "/large";
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let answer = if large { vec![7; 1 << 20].into() } else { body };
                    Ok::<_, Infallible>(http::Response::new(Frames::from(answer)))
                });
                tokio::spawn(
                    http1::Builder::new()
                        .keep_alive(keep_alive)
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (url, accepted)
    }

    fn post(path: &str, body: &'static [u8]) -> http::Request<Frames> {
        http::Request::post(path)
            .body(Frames::from(Bytes::from_static(body)))
            .unwrap()
    }

    #[tokio::test]
    async fn a_connection_serves_one_request_after_another() {
        let (url, accepted) = echo(true).await;
        let connections = Connections::new(World::real(), url, 2);
        for _ in 0..50 {
            let answer = connections
                .send(post("/", b"abc"))
                .await
                .unwrap()
                .collect(100)
                .await
                .unwrap();
            assert_eq!(answer, "abc");
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn no_more_connections_are_made_than_allowed() {
        let (url, accepted) = echo(true).await;
        let connections = Connections::new(World::real(), url, 2);
        let one = async || {
            connections
                .send(post("/large", b""))
                .await
                .unwrap()
                .collect(1 << 21)
                .await
                .unwrap()
                .len()
        };
        let lengths = futures_util::future::join_all((0..20).map(|_| one())).await;
        assert!(lengths.iter().all(|&length| length == 1 << 20));
        assert!(accepted.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_to_its_end_does_not_spoil_the_next() {
        let (url, _) = echo(true).await;
        let connections = Connections::new(World::real(), url, 1);
        for _ in 0..5 {
            let mut response = connections.send(post("/large", b"")).await.unwrap();
            assert!(!response.next().await.unwrap().unwrap().is_empty());
            drop(response);
            let cut = tokio::time::timeout(
                std::time::Duration::from_micros(50),
                connections.send(post("/large", b"")),
            )
            .await;
            drop(cut);
            let answer = connections
                .send(post("/", b"abc"))
                .await
                .unwrap()
                .collect(100)
                .await
                .unwrap();
            assert_eq!(answer, "abc");
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_other_side_closes_is_replaced() {
        let (url, accepted) = echo(false).await;
        let connections = Connections::new(World::real(), url, 1);
        for _ in 0..5 {
            let answer = connections
                .send(post("/", b"abc"))
                .await
                .unwrap()
                .collect(100)
                .await
                .unwrap();
            assert_eq!(answer, "abc");
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn nobody_there_and_too_long_an_answer_are_told_apart() {
        let (url, _) = echo(true).await;
        let connections = Connections::new(World::real(), url, 1);
        let error = connections
            .send(post("/large", b""))
            .await
            .unwrap()
            .collect(1000)
            .await
            .unwrap_err();
        assert!(matches!(error, HttpError::TooLong { limit: 1000, .. }));
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let nobody = Connections::new(World::real(), format!("http://{free}").parse().unwrap(), 1);
        let error = nobody.send(post("/", b"")).await.unwrap_err();
        assert!(error.is_unsent(), "{error}");
    }
}
