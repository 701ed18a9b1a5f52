//! What a server holds, and what it has heard of the master.
//!
//! - `slot`: one partition and what belongs to it, and all of them by model
//! - `find`: the partition that a request names, or why it is not here
//! - `forwarding`: where partitions went that are not here any more
//! - `report`: what the master is told
//! - `tombstones`: why what was dropped is gone

mod find;
mod forwarding;
mod report;
mod slot;
mod tombstones;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use glint_protocol::{
    Boot, ClusterId, ErrorBody, ErrorCode, Incarnation, ModelSpec, ServerId, Term,
    control::{Labels, Volume},
    copies::{Pulse, Silence},
};
use glint_world::{Disk, Shutdown, World, http::Url};
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    ServerConfig,
    copies::{Hello, Origin, Peers, Rate, Receiving},
    traffic::Busiest,
};
use crate::{
    http::body::Bodies,
    log::{Log, LogOptions, volume::Manifest},
    partition::Loss,
};
use forwarding::Forwarding;
pub(super) use slot::{Model, Models, Slot};
pub(super) use tombstones::Tombstones;

/// Everything that the tasks of a server share.
pub(super) struct State {
    pub(super) world: World,
    pub(super) id: ServerId,
    /// The log of durable models, once the data directory was read; none without one.
    pub(super) log: OnceLock<Log>,
    /// Where that log is.
    pub(super) disk: Option<Arc<dyn Disk>>,
    /// Whether the log cannot begin, since that disk is full.
    pub(super) awaits_room: AtomicBool,
    /// Held while files of partitions are put in place or removed.
    pub(super) files: tokio::sync::Mutex<()>,
    /// What the data directory says of itself.
    pub(super) manifest: tokio::sync::Mutex<Option<Manifest>>,
    /// The data directory as this start found it.
    pub(super) volume: OnceLock<Volume>,
    /// Partitions whose files are damaged, and how: what they are is known once the master orders to hold them.
    pub(super) damaged: Mutex<BTreeMap<(Incarnation, u32), Arc<str>>>,
    /// Models that were dropped, and where in the log that is said: their files are cleared away once it is synced.
    pub(super) dropped: Mutex<Vec<(Incarnation, u64)>>,
    /// From where on the log has records of partitions that are being made and are not held yet; [`NOT_MAKING`] if there
    /// are none.
    making: AtomicU64,
    pub(super) boot: Boot,
    pub(super) capacity_bytes: u64,
    /// Where it runs.
    pub(super) labels: Labels,
    pub(super) bodies: Bodies,
    /// Memory for what holders send: of its own, so that servers that wait for each other do not take it from each other.
    pub(super) copied_bodies: Bodies,
    /// What it holds: replaced as a whole, so that requests look it up without a lock.
    pub(super) models: ArcSwap<Models>,
    /// Held while orders are obeyed, one after another.
    pub(super) obeying: tokio::sync::Mutex<()>,
    /// Whether it has registered since its start: until then it knows nothing for certain.
    pub(super) registered: AtomicBool,
    /// Whether values were found to be lost that the master believes to be here.
    pub(super) found_loss: AtomicBool,
    /// Whether it has begun to take leave: it becomes nobody's follower any more.
    pub(super) leaves: AtomicBool,
    pub(super) heard: Mutex<Heard>,
    pub(super) tombstones: Mutex<Tombstones>,
    pub(super) counters: Counters,
    /// The partitions that are asked for most.
    pub(super) busiest: Busiest,
    /// From when on times are counted.
    pub(super) origin: Origin,
    /// The servers that follow partitions of this one.
    pub(super) peers: Peers,
    /// Copies that are arriving.
    pub(super) receiving: Receiving,
    /// How fast states of partitions are sent.
    pub(super) move_rate: Rate,
    /// How the log is kept.
    pub(super) log_options: LogOptions,
    /// Records of a partition that are kept in memory for followers.
    tail_records: usize,
    /// Told when the in-sync set of a partition may have to change.
    pub(super) copies_changed: Notify,
    /// Tasks of copies end with it.
    pub(super) ending: Shutdown,
    pub(super) tasks: TaskTracker,
    /// Those of them that tell others that this server has ceased to serve.
    pub(super) yields: TaskTracker,
    pulse: Mutex<Pulse>,
    sessions: AtomicU64,
    /// The servers that this one follows: which start of each spoke last, or was named by the master as a holder, and when.
    holders: Mutex<BTreeMap<ServerId, (Boot, Instant)>>,
    /// Where partitions went that were let go.
    forwarding: Mutex<Forwarding>,
    /// Copies that were let go, and where in the log that is said, until their files are gone.
    released: Mutex<Vec<((Incarnation, u32), u64)>>,
}

/// Holders that are remembered, and how long after their last word, once there are more.
const MAX_HOLDERS: usize = 4096;
const FORGET_HOLDER: Duration = Duration::from_secs(60);
const NOT_MAKING: u64 = u64::MAX;

/// While it lives, the log keeps the records of partitions that are being made.
pub(super) struct Making<'a> {
    state: &'a State,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.state.making.store(NOT_MAKING, Ordering::SeqCst);
    }
}

/// What it has heard of the master.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) cluster: Option<ClusterId>,
    pub(super) term: Term,
}

/// What it has done since its start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) pulls: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// Followers that were brought level by records that memory had, by records of the log, and by the whole state.
    pub(super) level_from_memory: AtomicU64,
    pub(super) level_from_log: AtomicU64,
    pub(super) level_by_state: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl State {
    pub(super) fn new(world: World, config: &ServerConfig, url: &Url) -> Self {
        let boot = Boot(world.random.bits().max(1));
        let own = || ServerId(url.authority().to_owned());
        let origin = Origin::of(Arc::clone(&world.clock));
        Self {
            world,
            log: OnceLock::new(),
            disk: config.disk.clone(),
            awaits_room: AtomicBool::new(false),
            files: tokio::sync::Mutex::default(),
            manifest: tokio::sync::Mutex::default(),
            volume: OnceLock::new(),
            damaged: Mutex::default(),
            dropped: Mutex::default(),
            making: AtomicU64::new(NOT_MAKING),
            id: config.id.clone().unwrap_or_else(own),
            boot,
            capacity_bytes: config.capacity_bytes,
            labels: config.labels.clone(),
            bodies: Bodies::new(config.buffer_bytes),
            copied_bodies: Bodies::new(config.buffer_bytes / 2),
            models: ArcSwap::default(),
            obeying: tokio::sync::Mutex::default(),
            registered: AtomicBool::new(false),
            found_loss: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            heard: Mutex::default(),
            tombstones: Mutex::default(),
            counters: Counters::default(),
            busiest: Busiest::default(),
            origin,
            peers: Peers::default(),
            receiving: Receiving::default(),
            move_rate: Rate::new(config.move_rate),
            log_options: config.log,
            tail_records: config.tail_records,
            copies_changed: Notify::new(),
            ending: Shutdown::new(),
            tasks: TaskTracker::new(),
            yields: TaskTracker::new(),
            pulse: Mutex::default(),
            sessions: AtomicU64::new(1),
            holders: Mutex::default(),
            forwarding: Mutex::default(),
            released: Mutex::default(),
        }
    }

    /// Whether its disk has no room for what is to be written.
    pub(super) fn disk_is_full(&self) -> bool {
        self.awaits_room.load(Ordering::Relaxed) || self.log.get().is_some_and(Log::is_full)
    }

    /// Runs a task beside the requests, until [`Self::ending`].
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        let task = self.tasks.track_future(async move {
            tokio::select! {
                biased;
                () = ending.cancelled() => {}
                () = task => {}
            }
        });
        self.world.tasks.spawn(Box::pin(task));
    }

    /// How copies notice that others are gone.
    pub(super) fn pulse(&self) -> Pulse {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master has said how.
    pub(super) fn set_pulse(&self, pulse: Pulse) {
        let bounded = Pulse {
            beacon_ms: pulse.beacon_ms.clamp(5, 60_000),
            lease_ms: pulse.lease_ms.clamp(5, 600_000),
            suspicion_ms: pulse.suspicion_ms.clamp(5, 600_000),
        };
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = bounded;
    }

    /// A number for an attachment, above all before.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// The partition of this name, if there is a copy of it here.
    pub(super) fn slot(&self, key: (Incarnation, u32)) -> Option<Arc<Slot>> {
        let models = self.models.load();
        let model = models.by_incarnation.get(&key.0)?;
        model.slots.get(key.1 as usize)?.clone()
    }

    /// Holds other partitions from now on; while [`Self::obeying`] is held.
    pub(super) fn put_models(&self, by_incarnation: BTreeMap<Incarnation, Arc<Model>>) {
        self.models.store(Arc::new(Models { by_incarnation }));
    }

    /// Whether another server speaks to this start of this server, of the same cluster.
    ///
    /// # Errors
    /// `wrong_cluster`, `stale_order`; `retry` before it has registered.
    pub(super) fn greets(&self, hello: &Hello) -> Result<(), ErrorBody> {
        let refuse = |code, message: String| Err(ErrorBody::new(code, message));
        if !self.is_registered() {
            return refuse(
                ErrorCode::Retry,
                format!("server {} has not registered since its start", self.id),
            );
        }
        if self.heard().cluster != Some(hello.cluster) {
            return refuse(
                ErrorCode::WrongCluster,
                format!(
                    "server {} belongs to another cluster than server {}",
                    self.id, hello.server
                ),
            );
        }
        if hello.to != self.boot {
            return refuse(
                ErrorCode::StaleOrder,
                format!(
                    "this is for boot {} of server {}, which has boot {} now",
                    hello.to, self.id, self.boot
                ),
            );
        }
        Ok(())
    }

    /// Notes that a holder has spoken.
    pub(super) fn heard_holder(&self, server: &ServerId, boot: Boot, at: Instant) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.insert(server.clone(), (boot, at));
        if holders.len() > MAX_HOLDERS {
            holders.retain(|_, (_, heard)| at.saturating_duration_since(*heard) < FORGET_HOLDER);
        }
    }

    /// The master names a holder that this server is to follow from now on: it has as long to speak as one that has just spoken,
    /// and is suspected after that though it never does. One that is followed already `goes_on` from its last word.
    pub(super) fn expect_holder(&self, server: &ServerId, boot: Boot, goes_on: bool) {
        let now = self.origin.now();
        {
            let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
            if goes_on && holders.get(server).is_some_and(|(of, _)| *of == boot) {
                return;
            }
        }
        self.heard_holder(server, boot, now);
    }

    /// The holders that have not spoken for so long.
    pub(super) fn silent_holders(&self, now: Instant, limit: Duration) -> Vec<Silence> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders
            .iter()
            .filter_map(|(server, &(boot, heard))| {
                let silent = now.saturating_duration_since(heard);
                (silent > limit).then(|| Silence {
                    server: server.clone(),
                    boot,
                    silent_ms: silent.as_millis() as u64,
                })
            })
            .collect()
    }

    /// Where partitions went that were let go.
    pub(super) fn forwarding(&self) -> MutexGuard<'_, Forwarding> {
        self.forwarding
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies that were let go and whose files may still be there.
    pub(super) fn released(&self) -> MutexGuard<'_, Vec<((Incarnation, u32), u64)>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tombstones(&self) -> MutexGuard<'_, Tombstones> {
        self.tombstones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a partition that the master has placed here is not.
    pub(super) fn why_absent(&self, incarnation: Incarnation, partition: u32) -> Loss {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let why = damaged.get(&(incarnation, partition));
        why.map_or(Loss::Absent, |why| Loss::Damaged(Arc::clone(why)))
    }

    /// Has the master told, once, that a partition has lost its values: the next registration leaves it out.
    pub(super) fn note_loss(&self, slot: &Slot) {
        if !slot.loss_told.swap(true, Ordering::Relaxed) {
            self.found_loss.store(true, Ordering::Release);
        }
    }

    pub(super) fn dropped(&self) -> MutexGuard<'_, Vec<(Incarnation, u64)>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before records of partitions are written that are not held yet, and kept until they are; by one at a
    /// time.
    pub(super) fn begin_making(&self) -> Making<'_> {
        if let Some(log) = self.log.get() {
            self.making.store(log.next_offset(), Ordering::SeqCst);
        }
        Making { state: self }
    }

    /// From where on the log has records of partitions that are being made.
    pub(super) fn making(&self) -> Option<u64> {
        let from = self.making.load(Ordering::SeqCst);
        (from != NOT_MAKING).then_some(from)
    }

    /// How many of its last records are kept in memory of a partition of this model: none when it has no followers.
    pub(super) fn keeps(&self, spec: &ModelSpec) -> Option<usize> {
        (spec.copies() > 1).then_some(self.tail_records)
    }

    /// The starts on its data directory since the last that is known to have registered, that one included.
    pub(super) async fn starts(&self) -> Vec<Boot> {
        let manifest = self.manifest.lock().await;
        manifest
            .as_ref()
            .map_or_else(Vec::new, |m| m.starts.clone())
    }

    /// What a model is of which it holds partitions.
    pub(super) fn spec(&self, incarnation: Incarnation) -> Option<ModelSpec> {
        let models = self.models.load();
        let model = models.by_incarnation.get(&incarnation)?;
        Some(ModelSpec::clone(&model.spec))
    }

    /// Whether it holds exactly this.
    pub(super) fn holds(&self, slot: &Arc<Slot>) -> bool {
        let models = self.models.load();
        let description = &slot.description;
        let model = models.by_incarnation.get(&description.incarnation);
        let held = model.and_then(|m| m.slots.get(description.partition as usize)?.as_ref());
        held.is_some_and(|held| Arc::ptr_eq(held, slot))
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }
}
