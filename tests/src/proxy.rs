//! A proxy between clients and servers that harms whole HTTP requests, as a seed decides: drops, delays, reorders and
//! repeats them (also later, after newer ones), and cuts requests and answers at any byte.
//!
//! A Rust client goes through it by a [`World`](glint_world::World) with [`Proxy::network`]; another program by
//! [`Proxy::route`], which gives the proxy's address for a server's.

mod fate;
mod message;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use glint_world::{BoxFuture, BoxStream, Listener, Network, Random, Tcp};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use fate::Fate;
pub use fate::{Faults, Suffered};
use message::Reader;

/// The proxy. Cheap to clone; its tasks end with the runtime.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    random: Random,
    faults: Mutex<Faults>,
    suffered: Mutex<Suffered>,
    /// Address of a server -> address of the listener that stands for it.
    routes: tokio::sync::Mutex<BTreeMap<String, SocketAddr>>,
    /// Requests that are still held back.
    held: AtomicU64,
}

impl Proxy {
    /// A proxy whose faults follow from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            shared: Arc::new(Shared {
                random: Random::from_seed(seed),
                faults: Mutex::new(faults),
                suffered: Mutex::default(),
                routes: tokio::sync::Mutex::default(),
                held: AtomicU64::new(0),
            }),
        }
    }

    /// A network on which every connection goes through the proxy.
    pub fn network(&self) -> Arc<dyn Network> {
        Arc::new(self.clone())
    }

    /// Changes the faults from here on.
    pub fn set(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// What has happened so far.
    pub fn suffered(&self) -> Suffered {
        *lock(&self.shared.suffered)
    }

    /// Where to connect for `host:port`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn route(&self, address: &str) -> io::Result<SocketAddr> {
        let mut routes = self.shared.routes.lock().await;
        if let Some(&route) = routes.get(address) {
            return Ok(route);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let route = listener.local_addr()?;
        routes.insert(address.to_owned(), route);
        let (proxy, address) = (self.clone(), address.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (proxy, address) = (proxy.clone(), address.clone());
                tokio::spawn(async move {
                    // An error here is a connection that broke, which is the trade of this proxy.
                    let _ = proxy.connection(stream, &address).await;
                });
            }
        });
        Ok(route)
    }

    /// Waits until everything that was held back has arrived.
    pub async fn settle(&self) {
        while self.shared.held.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn connection(&self, client: TcpStream, address: &str) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (read, mut answers) = client.into_split();
        let mut requests = Reader::new(read);
        let mut server: Option<Upstream> = None;
        while let Some(request) = requests.message().await? {
            let fate = lock(&self.shared.faults).draw(&self.shared.random);
            lock(&self.shared.suffered).count(fate);
            match fate {
                Fate::Drop => return Ok(()),
                Fate::Late(hold) => {
                    self.later(address, request, hold);
                    return Ok(());
                }
                Fate::CutRequest(at) => {
                    let mut cut = Upstream::connect(address).await?;
                    cut.requests
                        .write_all(&request[..part(&request, at)])
                        .await?;
                    return Ok(());
                }
                Fate::Delay(hold) => tokio::time::sleep(hold).await,
                Fate::Replay(hold) => self.later(address, request.clone(), hold),
                Fate::Pass | Fate::CutReply(_) | Fate::Twice | Fate::LateAnswer(_) => {}
            }
            let upstream = match &mut server {
                Some(upstream) => upstream,
                none => none.insert(Upstream::connect(address).await?),
            };
            let mut answer = upstream.exchange(&request).await?;
            if fate == Fate::Twice {
                answer = upstream.exchange(&request).await?;
            }
            if let Fate::CutReply(at) = fate {
                answers.write_all(&answer[..part(&answer, at)]).await?;
                return Ok(());
            }
            if let Fate::LateAnswer(after) = fate {
                tokio::time::sleep(after).await;
            }
            answers.write_all(&answer).await?;
        }
        Ok(())
    }

    /// Delivers a request after `hold`; nobody waits for the answer.
    fn later(&self, address: &str, request: Vec<u8>, hold: Duration) {
        let (shared, address) = (Arc::clone(&self.shared), address.to_owned());
        shared.held.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            if let Ok(mut upstream) = Upstream::connect(&address).await {
                // A server that is gone meanwhile is one way for a late request to end.
                let _ = if is_poll(&request) {
                    upstream.requests.write_all(&request).await
                } else {
                    upstream.exchange(&request).await.map(drop)
                };
            }
            shared.held.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// A connection to a server.
struct Upstream {
    requests: tokio::net::tcp::OwnedWriteHalf,
    answers: Reader<tokio::net::tcp::OwnedReadHalf>,
}

impl Upstream {
    async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, requests) = stream.into_split();
        Ok(Self {
            requests,
            answers: Reader::new(read),
        })
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.requests.write_all(request).await?;
        self.answers
            .message()
            .await?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Whether a request asks to be held until something happens: what would come of it is for nobody.
fn is_poll(request: &[u8]) -> bool {
    let line = request.split(|&b| b == b'\r').next().unwrap_or_default();
    line.windows(8).any(|part| part == b"wait_ms=")
}

/// How many bytes a fraction of a message is: any number from none to all but one.
fn part(message: &[u8], fraction: f64) -> usize {
    (message.len() as f64 * fraction) as usize
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network for Proxy {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let route = self.route(address).await?;
            let stream = TcpStream::connect(route).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Tcp.listen(address)
    }
}
