//! A server: holds partitions in memory, answers pull and push, and obeys the master.
//!
//! - `state`: the partitions it holds, found without a lock, each with one short lock of its own
//! - `pull`, `push`, `json`: the data path, in binary and in JSON
//! - `copies`: followers, their attachment, and taking over
//! - `durable`: what a partition of a durable model has in the log
//! - `keeper`: writes snapshots, so that the log stays short, and clears away what is dropped
//! - `orders`: what the master tells it to hold and to drop
//! - `opening`: reading the data directory at the start
//! - `registration`, `link`: making itself known to the master, and staying so
//! - `departure`: taking leave
//! - `eviction`: forgetting idle lanes
//! - `status`: what it holds and has done
//! - `traffic`: which partitions are asked for most
//! - `metrics`: the same for Prometheus
//!
//! It touches the outside only through its [`World`].

mod copies;
mod departure;
mod durable;
mod eviction;
mod json;
mod keeper;
mod link;
mod metrics;
mod opening;
mod orders;
mod pull;
mod push;
mod registration;
mod request;
mod router;
mod state;
pub mod status;
mod traffic;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use glint_protocol::{
    Boot, ErrorBody, ErrorCode, MAX_BODY_BYTES, MAX_DEADLINE_MS, ServerId,
    control::{Labels, Orders, Registered},
};
use glint_world::{BoxFuture, Disk, Listener, Shutdown, World, http::Url};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{
    http::{body::Charged, reading::Reading},
    log::{LogFailure, LogOptions, recovery::RecoveryError, volume::VolumeError},
    serve::{Limits, serve},
};
pub use router::Paths;
use state::State;

/// Bytes a second at which states of partitions are sent to other servers, unless told otherwise.
pub const MOVE_RATE: u64 = 64 << 20;

/// How long a server may take to move what it holds before it ends, unless told otherwise: less than Kubernetes waits.
pub const GRACE: Duration = Duration::from_secs(25);

/// What becomes of what a server holds when it is told to end. What others have copies of is theirs at once in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShutdown {
    /// It is moved to other servers first, as far as they have room and the time lasts.
    Drain,
    /// It is on the disk before the end, if its durability is `async` or `sync`.
    #[default]
    Flush,
    /// Nothing: what `async` models had not synced is left to the operating system.
    Nothing,
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name: the same over restarts, unlike that of any other server of the cluster; by default the address under
    /// which it is reached.
    pub id: Option<ServerId>,
    /// Where the master answers.
    pub master: Url,
    /// The URL by which clients and the master reach this server; by default the address that it listens on.
    pub advertise: Option<Url>,
    /// Bytes of values that it may hold.
    pub capacity_bytes: u64,
    /// Where it runs: copies of a partition are kept apart by it.
    pub labels: Labels,
    /// The longest deadline that an operation of this cluster may have; not below what the master is told.
    pub max_deadline: Duration,
    /// How long a lane must be idle until its entry may go, at least 10 × `max_deadline`; by default exactly that.
    pub idle: Option<Duration>,
    /// Memory in bytes that the bodies and answers of all requests may take together.
    pub buffer_bytes: usize,
    /// Where it keeps the logs and snapshots of durable models; without one it can hold `memory` models only.
    pub disk: Option<Arc<dyn Disk>>,
    /// How its log is kept.
    pub log: LogOptions,
    /// Records of a partition that are kept in memory for followers that lack only these.
    pub tail_records: usize,
    /// Bytes a second at which states of partitions are sent to other servers; none without a limit.
    pub move_rate: Option<u64>,
    /// What becomes of what it holds when it is told to end.
    pub on_shutdown: OnShutdown,
    /// How long that may take.
    pub grace: Duration,
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
            labels: Labels::default(),
            max_deadline: Duration::from_millis(MAX_DEADLINE_MS),
            idle: None,
            buffer_bytes: 512 << 20,
            disk: None,
            log: LogOptions::default(),
            tail_records: 4096,
            move_rate: Some(MOVE_RATE),
            on_shutdown: OnShutdown::default(),
            grace: GRACE,
            limits: Limits::default(),
        }
    }

    fn idle(&self) -> Duration {
        self.idle.unwrap_or(self.max_deadline * 10)
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Its listener does not know where it listens.
    #[error("the address that the server listens on is unknown")]
    Listener(#[source] io::Error),
    /// It listens on all addresses, none of which others could use.
    #[error(
        "the server listens on {0}, which others cannot connect to; say how they reach it (--advertise http://HOST:PORT)"
    )]
    NoAddress(SocketAddr),
    /// An idle lane would be forgotten before its last push may be given up.
    #[error(
        "lanes would be forgotten after {idle:?}, with deadlines of up to {max_deadline:?}; make the first at least ten times the second"
    )]
    Idle {
        /// The configured time.
        idle: Duration,
        /// The configured deadline.
        max_deadline: Duration,
    },
    /// Its data directory is not one that it can use.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// What its data directory has cannot be had back.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Its data directory cannot be written.
    #[error(
        "the data directory cannot be written: {0}; make room or mend its disk, and start the server again"
    )]
    Disk(#[source] io::Error),
    /// Its log cannot be written any more.
    #[error(transparent)]
    Log(#[from] LogFailure),
}

/// A server without listener and tasks: for whoever embeds it, for tests and for measurements. Cheap to clone; [`run`] is
/// the usual way to have one.
#[derive(Clone)]
pub struct Server {
    state: Arc<State>,
}

/// Runs a server until `shutdown`: registers with the master, as often as it takes, and serves. Then settles what is in
/// flight and takes leave.
///
/// # Errors
/// [`ServerError`] when it cannot start.
pub async fn run(
    world: World,
    config: ServerConfig,
    listener: Box<dyn Listener>,
    shutdown: Shutdown,
) -> Result<(), ServerError> {
    if config.idle() < config.max_deadline * 10 {
        return Err(ServerError::Idle {
            idle: config.idle(),
            max_deadline: config.max_deadline,
        });
    }
    let url = advertised(&config, &*listener)?;
    let server = Server::new(world.clone(), &config, &url);
    let id = server.id();
    tracing::info!(
        %id, %url, boot = %server.boot(), capacity_bytes = config.capacity_bytes, master = %config.master,
        "server started"
    );
    let link = link::Link::new(&world, config.master.clone());
    // Ends once what others have copies of is handed over to them, or when the data directory fails.
    let stop = Shutdown::new();
    // Once nothing more is to be moved: until then the master must hear this server, also one that starts anew meanwhile.
    let leaving = stop.child_token();
    let tasks = TaskTracker::new();
    let spawn =
        |task: BoxFuture<'static, ()>| world.tasks.spawn(Box::pin(tasks.track_future(task)));
    let (failed, mut failure) = oneshot::channel();
    let life = life(
        Arc::clone(&server.state),
        config.clone(),
        link.clone(),
        url.to_string(),
        leaving.clone(),
        stop.clone(),
    );
    let departure = departure::run(
        Arc::clone(&server.state),
        link.clone(),
        config.clone(),
        shutdown,
        (leaving, stop.clone()),
    );
    spawn(Box::pin(departure));
    let ends = stop.clone();
    spawn(Box::pin(async move {
        if let Err(error) = life.await {
            // Whoever runs this server hears of it once all requests have ended.
            let _ = failed.send(error);
            ends.cancel();
        }
    }));
    let changes = copies::run_changes(Arc::clone(&server.state), link.clone(), stop.clone());
    spawn(Box::pin(changes));
    let eviction = eviction::run(Arc::clone(&server.state), config.idle(), stop.clone());
    spawn(Box::pin(eviction));

    serve(world.clone(), listener, server.paths(), config.limits, stop).await;
    // Verdicts that waited for followers are told: nothing is left to do for those.
    server.state.ending.cancel();
    server.state.tasks.close();
    server.state.tasks.wait().await;
    tasks.close();
    tasks.wait().await;
    if let Ok(error) = failure.try_recv() {
        tracing::error!(%id, %error, "server ended");
        return Err(error);
    }
    if config.on_shutdown != OnShutdown::Nothing {
        server.flush().await?;
    }
    tracing::info!(%id, "server stopped");
    Ok(())
}

/// Reads the data directory if there is one, then keeps the server registered, until `stop`.
async fn life(
    state: Arc<State>,
    config: ServerConfig,
    link: link::Link,
    url: String,
    leaving: Shutdown,
    stop: Shutdown,
) -> Result<(), ServerError> {
    let Some(disk) = &config.disk else {
        registration::run(state, link, url, leaving).await;
        return Ok(());
    };
    let log = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        opened = opening::open(&state, disk, config.log, &link) => opened?,
    };
    let keeping = keeper::run(
        Arc::clone(&state),
        Arc::clone(disk),
        log.clone(),
        config.log,
        stop.clone(),
    );
    let registering = registration::run(state, link, url, leaving);
    let both = async {
        tokio::join!(keeping, registering);
    };
    tokio::select! {
        biased;
        failure = log.failed() => Err(failure.into()),
        () = both => Ok(()),
    }
}

fn advertised(config: &ServerConfig, listener: &dyn Listener) -> Result<Url, ServerError> {
    if let Some(url) = &config.advertise {
        return Ok(url.clone());
    }
    let address = listener.address().map_err(ServerError::Listener)?;
    let url = format!("http://{address}");
    match url.parse() {
        Ok(url) if !address.ip().is_unspecified() => Ok(url),
        _ => Err(ServerError::NoAddress(address)),
    }
}

impl Server {
    /// A server that is reached at `url`, holds nothing and is not registered.
    pub fn new(world: World, config: &ServerConfig, url: &Url) -> Self {
        Self {
            state: Arc::new(State::new(world, config, url)),
        }
    }

    /// Puts everything on the disk that was taken, and notes that the end was in order.
    async fn flush(&self) -> Result<(), ServerError> {
        let (Some(log), Some(disk)) = (self.state.log.get(), &self.state.disk) else {
            return Ok(());
        };
        log.close().await?;
        let mut manifest = self.state.manifest.lock().await;
        if let Some(manifest) = manifest.as_mut() {
            manifest.clean = true;
            manifest.end = log.synced();
            manifest.store(&**disk).await.map_err(ServerError::Disk)?;
        }
        Ok(())
    }

    /// Its name.
    pub fn id(&self) -> &ServerId {
        &self.state.id
    }

    /// This start of it.
    pub fn boot(&self) -> Boot {
        self.state.boot
    }

    /// Obeys the master's answer to a registration; from then on it serves.
    ///
    /// # Errors
    /// `wrong_cluster` when it holds partitions of another cluster, and those of [`Self::obey`].
    pub async fn registered(&self, answer: Registered) -> Result<(), ErrorBody> {
        registration::registered(&self.state, answer).await
    }

    /// Obeys orders of the master.
    ///
    /// # Errors
    /// `stale_order`, `wrong_cluster`, `invalid_spec`, `bad_request`, `does_not_fit`; what they order to hold is then not
    /// held.
    pub async fn obey(&self, orders: Orders) -> Result<(), ErrorBody> {
        orders::obey(&self.state, orders).await
    }

    /// Answers the binary body of a push, as `POST /v1/push` does, at this time of day (milliseconds since 1970).
    ///
    /// # Errors
    /// `bad_request`, `unsupported_protocol` or `busy` for the request as a whole.
    pub fn push_body(&self, body: &[u8], now: u64) -> Result<Bytes, ErrorBody> {
        push::now(&self.state, body, now)
    }

    /// Does what a push does, without ledger and table: what exactly-once costs is the difference. For measurements; no
    /// path leads here.
    ///
    /// # Errors
    /// Those of [`Self::push_body`].
    pub fn merge_body(&self, body: &[u8]) -> Result<Bytes, ErrorBody> {
        push::merge_only(&self.state, body)
    }

    /// Answers the binary body of a pull, as `POST /v1/pull` does.
    ///
    /// # Errors
    /// `bad_request`, `unsupported_protocol`, `too_large` or `busy` for the request as a whole.
    pub fn pull_body(&self, body: &[u8]) -> Result<Bytes, ErrorBody> {
        pull::answer(&self.state, body, MAX_BODY_BYTES).map(Charged::freeze)
    }

    /// Takes what a holder sends to a server that follows partitions of it, as `POST /v1/copies` does; the answer as JSON.
    ///
    /// # Errors
    /// `bad_request`, `stale_order`, `wrong_cluster` or `retry`.
    pub async fn copies_body(&self, body: Bytes) -> Result<serde_json::Value, ErrorBody> {
        let body = Reading::new(body.into(), &self.state.copied_bodies, router::COPIES)?;
        let answers = copies::take(&self.state, body).await?;
        serde_json::to_value(answers)
            .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))
    }

    /// Hears a holder's beacon, as `POST /v1/copies/beacon` does.
    ///
    /// # Errors
    /// `bad_request`, `stale_order`, `wrong_cluster` or `retry`.
    pub fn beacon_body(&self, body: Bytes) -> Result<(), ErrorBody> {
        copies::hear_beacon(&self.state, body).map(drop)
    }

    /// Hears that a holder has ceased to serve, as `POST /v1/copies/yield` does.
    ///
    /// # Errors
    /// `bad_request`, `stale_order`, `wrong_cluster` or `retry`.
    pub fn yield_body(&self, body: &[u8]) -> Result<(), ErrorBody> {
        copies::hear_yield(&self.state, body)
    }
}

#[cfg(test)]
mod tests;
