//! The master: which servers live, which models exist, which server holds which partition. Never on the path of a pull or
//! push.
//!
//! - `state`, `copies`: what it knows for ever, and `transition`, `reset`, `registration`, `adoption`, `change`, `failover`,
//!   `drain`, `by_hand`, `step`: how that changes, all pure
//! - `placement`: where copies should be, asked through `survey`; `plan`, `flows`: what of it may begin now
//! - `file`, `register`, `journal`: the state on disk; a change is durable before anyone sees it
//! - `membership`: who lives
//! - `watch`, `mend`: what it does from time to time, and whenever something has changed
//! - `orders`, `hold`: keeps every server told of what it is to hold and to drop
//! - `catalogue`: create, open, list, delete, status; `overview`: where the copies of a model are
//! - `router`: the paths
//!
//! It touches the outside only through its [`World`] and its [`Storage`].

mod admin;
mod adoption;
mod by_hand;
mod catalogue;
mod change;
mod config;
mod copies;
mod drain;
mod failover;
mod file;
mod flows;
mod hold;
mod journal;
mod membership;
mod mend;
mod orders;
mod overview;
mod place;
pub mod placement;
mod plan;
mod published;
mod register;
mod registration;
mod reset;
mod router;
mod size;
mod state;
mod step;
mod survey;
#[cfg(test)]
mod testing;
mod transition;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use glint_protocol::{
    Boot, ClusterId, ErrorBody, ErrorCode, Incarnation, ServerId, Term,
    control::{Register, Registered},
    copies::Pulse,
};
use glint_world::{Listener, Shutdown, Storage, World};
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

pub use config::{MasterConfig, MasterError};
pub use file::FileError;
pub use size::Size;

use crate::serve::serve;
use journal::Journal;
use membership::Membership;
use orders::Courier;
use plan::Fleet;
use register::{FileRegister, Version};
use state::State;

/// Whether these bytes are the state of a master, as the file `master` of its data directory has it.
///
/// # Errors
/// [`FileError`].
pub fn check_file(bytes: &[u8]) -> Result<(), FileError> {
    file::decode(bytes).map(|_| ())
}

/// Heartbeats that a server must miss until the master, too, takes it for gone when others say so.
const HEARTBEATS_MISSED: u32 = 3;

/// A running master, for whoever embeds it. Cheap to clone; [`run`] is the usual way to have one.
#[derive(Clone)]
pub struct Master {
    shared: Arc<Shared>,
}

/// What all tasks of a master share.
struct Shared {
    world: World,
    config: MasterConfig,
    journal: Journal,
    /// Locked for a moment only, never across an await.
    membership: Mutex<Membership>,
    /// Servers that have made their partitions of a model that is being made, and under which boot.
    confirmed: Mutex<BTreeMap<Incarnation, BTreeMap<ServerId, Boot>>>,
    /// Which server last refused to make its partitions of a model, and why.
    hindered: Mutex<BTreeMap<Incarnation, (ServerId, ErrorBody)>>,
    couriers: Mutex<BTreeMap<ServerId, Courier>>,
    /// Told whenever a server has registered.
    arrivals: Notify,
    tasks: TaskTracker,
    /// No new work from here on.
    shutdown: Shutdown,
    /// The writer may end: nobody is left to ask it.
    closed: Shutdown,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is changed in single steps: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a master until `shutdown`, then settles what is in flight.
///
/// # Errors
/// [`MasterError`] when its state cannot be read or written at the start.
pub async fn run(
    world: World,
    storage: Arc<dyn Storage>,
    config: MasterConfig,
    listener: Box<dyn Listener>,
    shutdown: Shutdown,
) -> Result<(), MasterError> {
    let limits = config.limits;
    // A disk that fails ends the master alone.
    let shutdown = shutdown.child_token();
    let master = Master::start(world.clone(), storage, config, shutdown.clone()).await?;
    let broken = master.shared.journal.broken().clone();
    let ending = async {
        broken.wait().await;
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = ending => {}
        () = serve(world, listener, master.router(), limits, shutdown.clone()) => {}
    }
    master.stop().await;
    broken
        .error()
        .map_or(Ok(()), |error| Err(MasterError::Unsynced(error)))
}

impl Master {
    /// Starts a master without a listener: a new term, durable when this returns.
    ///
    /// # Errors
    /// [`MasterError`].
    pub async fn start(
        world: World,
        storage: Arc<dyn Storage>,
        config: MasterConfig,
        shutdown: Shutdown,
    ) -> Result<Self, MasterError> {
        if config.heartbeat.is_zero() || config.silent_after < config.heartbeat * 3 {
            return Err(MasterError::Intervals {
                heartbeat: config.heartbeat,
                silent_after: config.silent_after,
            });
        }
        let Pulse {
            beacon_ms,
            lease_ms,
            suspicion_ms,
        } = config.pulse;
        if beacon_ms == 0 || lease_ms.min(suspicion_ms) / 2 < beacon_ms {
            return Err(MasterError::Pulse(config.pulse));
        }
        let register = Arc::new(FileRegister::new(storage, file::NAME));
        let (state, version) = begin_term(&world, &*register, config.adopt).await?;
        tracing::info!(
            cluster = %state.cluster, term = %state.term, models = state.models.len(), servers = state.servers.len(),
            "master started"
        );
        let membership = Membership::new(
            state.term,
            config.silent_after,
            config.forget_after,
            state.servers.iter().map(|(id, s)| (id.clone(), s.boot)),
            Instant::now(),
        );
        let servers: Vec<ServerId> = state.servers.keys().cloned().collect();
        let (journal, writer) = journal::open(register, version, state);
        let shared = Arc::new(Shared {
            world,
            config,
            journal,
            membership: Mutex::new(membership),
            confirmed: Mutex::default(),
            hindered: Mutex::default(),
            couriers: Mutex::default(),
            arrivals: Notify::new(),
            tasks: TaskTracker::new(),
            shutdown,
            closed: Shutdown::new(),
        });
        shared.spawn(writer.run(shared.closed.clone()));
        shared.spawn(watch::watch_over(Arc::clone(&shared)));
        shared.spawn(mend::mend(Arc::clone(&shared)));
        for server in servers {
            shared.courier(&server);
        }
        Ok(Self { shared })
    }

    /// Waits until every task has ended; call it after `shutdown`, when no more requests come.
    pub async fn stop(&self) {
        self.shared.shutdown.cancel();
        self.shared.closed.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        tracing::info!("master stopped");
    }

    /// Waits until its disk has failed so that it must end; for ever, if it does not.
    pub async fn failed(&self) -> MasterError {
        MasterError::Unsynced(self.shared.journal.broken().wait().await)
    }

    /// Enters a server, and tells it what it holds.
    ///
    /// # Errors
    /// `retry` with a word to repeat for a start that is new, `identity_in_use`, `wrong_cluster`, `bad_request`, `busy`,
    /// `storage_failed`.
    pub async fn register(&self, request: Register) -> Result<Registered, ErrorBody> {
        registration::check_name(&request.server)?;
        let entered = self.enter(&request).await;
        if let Err(error) = &entered
            && error.code != ErrorCode::Retry
        {
            self.shared
                .membership()
                .refuse(&request, error, Instant::now());
        }
        entered
    }

    async fn enter(&self, request: &Register) -> Result<Registered, ErrorBody> {
        let shared = &self.shared;
        let state = shared.journal.state();
        registration::check(&state, request)?;
        let known = state.servers.get(&request.server);
        if known.is_none_or(|known| known.boot != request.boot) {
            let word = shared.world.random.bits();
            shared.membership().repeats_word(request, word)?;
        }
        shared
            .membership()
            .claim(&request.server, request.boot, Instant::now())?;
        let (inside, asked) = (Arc::clone(shared), request.clone());
        let findings = shared
            .journal
            .change(move |state| {
                let before = state.servers.get(&asked.server);
                let returns = before.is_some_and(|s| s.returns && s.boot != asked.boot);
                let joins = inside.config.rebalance
                    && (before.is_none() || returns)
                    && !state.models.is_empty()
                    && state.adopting.is_none();
                let findings = registration::register(state, &asked, &inside.running())?;
                // Who was not here before, or has moved everything away to end, gets its share.
                state.levelling |= joins;
                Ok(findings)
            })
            .await?;
        let registered =
            shared
                .membership()
                .registered(&request.server, request.boot, Instant::now());
        if !registered {
            return Err(ErrorBody::new(
                ErrorCode::IdentityInUse,
                format!(
                    "another server named {} has registered; give this one another name (--id)",
                    request.server
                ),
            ));
        }
        tracing::info!(
            server = %request.server, url = request.url, boot = %request.boot, copies = request.copies.len(),
            capacity = %Size(request.capacity_bytes), durable = request.volume.is_some(), "server registered"
        );
        findings.tell(&request.server);
        shared.courier(&request.server).wake.notify_one();
        shared.arrivals.notify_waiters();
        let state = shared.journal.state();
        shared.membership().raise_term(state.term);
        if state.adopting.is_some() && !adoption::knows(&state, request) {
            // What it has counts when it says so again, once it has heard the term of this answer.
            shared
                .membership()
                .asks_again(&request.server, request.boot);
        }
        Ok(Registered {
            cluster: state.cluster,
            heartbeat_ms: shared.config.heartbeat.as_millis() as u64,
            pulse: shared.config.pulse,
            orders: registration::orders(&state, &request.server, request.boot),
        })
    }
}

/// The state that this start begins with: a term above every earlier one, durable.
async fn begin_term(
    world: &World,
    register: &dyn register::Register,
    adopt: bool,
) -> Result<(State, Version), MasterError> {
    let (seen, loaded) = register.read().await.map_err(MasterError::Load)?;
    let mut state = match loaded {
        Some(bytes) => {
            let mut state = file::decode(&bytes)?;
            state.term = Term(state.term.0 + 1);
            state
        }
        None => State::new(ClusterId(world.random.bits())),
    };
    if adopt && state.adopting.is_none() {
        if !state.models.is_empty() || !state.tombstones.is_empty() {
            return Err(MasterError::Adopt {
                cluster: state.cluster,
                models: state.models.len(),
            });
        }
        // Servers that hold nothing may have come to it before an admin saw what was wrong: they come again.
        state.servers.clear();
        state.adopting = Some(Arc::default());
    }
    if state.adopting.is_some() {
        tracing::warn!(
            "adopting what servers hold; when all have come, end it with: glint adopt --finish"
        );
    }
    let version = journal::store(register, seen, &state)
        .await
        .map_err(|failed| MasterError::Store(failed.told()))?;
    Ok((state, version))
}

impl Shared {
    fn membership(&self) -> MutexGuard<'_, Membership> {
        lock(&self.membership)
    }

    /// Servers that a new model may be placed on.
    fn alive(&self) -> BTreeSet<ServerId> {
        self.membership().alive().cloned().collect()
    }

    /// Servers that were heard of late enough to take over from one that was not.
    fn running(&self) -> BTreeSet<ServerId> {
        let limit = self.config.heartbeat * HEARTBEATS_MISSED;
        self.membership().heard_within(limit, Instant::now())
    }

    /// Who may get copies, and who is gone.
    fn fleet(&self) -> Fleet {
        let now = Instant::now();
        let membership = self.membership();
        let gone = membership.absent_for(self.config.replace_after, now);
        Fleet {
            alive: membership.alive().cloned().collect(),
            gone: gone.into_iter().collect(),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.track_future(task);
        self.world.tasks.spawn(Box::pin(task));
    }

    /// The courier of a server, who is sent out if there is none.
    fn courier(self: &Arc<Self>, server: &ServerId) -> Courier {
        let mut couriers = lock(&self.couriers);
        if let Some(courier) = couriers.get(server) {
            return courier.clone();
        }
        let courier = Courier {
            wake: Arc::new(Notify::new()),
            end: self.shutdown.child_token(),
        };
        couriers.insert(server.clone(), courier.clone());
        self.spawn(orders::run(
            Arc::clone(self),
            server.clone(),
            courier.clone(),
        ));
        courier
    }

    /// Remembers why a model is not made yet.
    fn note_hindrance(&self, incarnation: Incarnation, server: &ServerId, error: &ErrorBody) {
        lock(&self.hindered).insert(incarnation, (server.clone(), error.clone()));
    }

    /// Why a model is not made yet, if a server has said so.
    fn hindered(&self, incarnation: Incarnation) -> Option<(ServerId, ErrorBody)> {
        lock(&self.hindered).get(&incarnation).cloned()
    }

    /// Notes that a server has made its partitions of a model; the last one makes it live.
    async fn confirm(
        &self,
        incarnation: Incarnation,
        server: &ServerId,
        boot: Boot,
    ) -> Result<(), ErrorBody> {
        let confirmed = {
            let mut all = lock(&self.confirmed);
            let confirmed = all.entry(incarnation).or_default();
            confirmed.insert(server.clone(), boot);
            confirmed.clone()
        };
        let live = self
            .journal
            .change(move |state| Ok(transition::make_live(state, incarnation, &confirmed)))
            .await?;
        if live {
            tracing::info!(model = %incarnation, "model is live");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Master")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
