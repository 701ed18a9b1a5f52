//! A server: holds partitions in memory, answers pull and push, obeys the master.
//!
//! - `state`: which partitions are here, at which epoch; lookups take no lock
//! - `slot`: one partition here, its lock, and the position up to which it is safe
//! - `pull`, `push`: a body to a reply
//! - `orders`: what the master says is to be held and dropped
//! - `registration`: telling the master that this server lives
//! - `upkeep`: eviction of idle lanes
//! - `router`: the paths
//!
//! It touches the outside only through its [`World`].

mod orders;
mod pull;
mod push;
mod registration;
mod router;
mod slot;
mod state;
mod upkeep;

use std::time::Duration;

use glint_protocol::{MAX_DEADLINE_MS, ServerId};
use glint_world::{Listener, Shutdown, World, http::Url};

use crate::serve::{Limits, serve};

pub use push::push_body;
pub use router::{PATHS, ServerStatus, router};
pub use state::ServerState;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name; the address under which it is reached when none is given.
    pub id: Option<ServerId>,
    /// Where the master answers.
    pub master: Url,
    /// Where clients and the master reach this server; where it listens when none is given.
    pub advertise: Option<Url>,
    /// Bytes of values that it may hold.
    pub capacity_bytes: u64,
    /// Bytes that bodies and answers of requests in flight may take together.
    pub buffer_bytes: usize,
    /// The longest deadline that an operation may have. A lane that was idle for ten times as long is forgotten.
    pub max_deadline: Duration,
    /// Bounds of its connections.
    pub limits: Limits,
}

impl ServerConfig {
    /// A server of `master` that may hold `capacity_bytes` of values; the rest by default.
    pub fn new(master: Url, capacity_bytes: u64) -> Self {
        Self {
            id: None,
            master,
            advertise: None,
            capacity_bytes,
            buffer_bytes: 256 << 20,
            max_deadline: Duration::from_millis(MAX_DEADLINE_MS),
            limits: Limits::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The listener does not say where it listens.
    #[error("cannot tell the address that the server listens at")]
    Address(#[source] std::io::Error),
    /// It listens at all addresses of the machine and does not know under which one others reach it.
    #[error(
        "the server listens at {0}, which is no address for others to connect to; say under which URL they reach it (--advertise http://HOST:PORT)"
    )]
    Advertise(std::net::SocketAddr),
}

/// Runs a server until `shutdown`: then it takes no more connections, finishes the requests in flight, tells the master
/// that it leaves, and returns.
///
/// # Errors
/// [`ServerError`], before it has served anything.
pub async fn run(
    world: World,
    config: ServerConfig,
    listener: Box<dyn Listener>,
    shutdown: Shutdown,
) -> Result<(), ServerError> {
    let address = listener.address().map_err(ServerError::Address)?;
    let url = match &config.advertise {
        Some(url) => url.clone(),
        None if address.ip().is_unspecified() => return Err(ServerError::Advertise(address)),
        None => format!("http://{address}")
            .parse()
            .map_err(|_| ServerError::Advertise(address))?,
    };
    let limits = config.limits;
    let state = ServerState::new(world.clone(), config, url);
    tracing::info!(server = %state.id(), url = %state.url(), "serving");
    let accept = serve(
        world,
        listener,
        router(state.clone()),
        limits,
        shutdown.clone(),
    );
    let register = registration::run(state.clone(), shutdown.clone());
    let upkeep = upkeep::run(state.clone(), shutdown);
    tokio::join!(accept, register, upkeep);
    // Only now is nothing in flight any more.
    registration::leave(&state).await;
    tracing::info!(server = %state.id(), "left");
    Ok(())
}
