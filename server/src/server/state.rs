//! What a server holds, and what it has heard of the master.
//!
//! - `slot`: one partition and what belongs to it, and all of them by model
//! - `find`: the partition that a request names, or why it is not here
//! - `report`: what the master is told
//! - `tombstones`: why what was dropped is gone

mod find;
mod report;
mod slot;
mod tombstones;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use glint_protocol::{Boot, ClusterId, Incarnation, ModelSpec, ServerId, Term, control::Volume};
use glint_world::{Disk, World, http::Url};

use super::ServerConfig;
use crate::{
    http::body::Bodies,
    log::{Log, volume::Manifest},
    partition::Loss,
};
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
    pub(super) bodies: Bodies,
    /// What it holds: replaced as a whole, so that requests look it up without a lock.
    pub(super) models: ArcSwap<Models>,
    /// Held while orders are obeyed, one after another.
    pub(super) obeying: tokio::sync::Mutex<()>,
    /// Whether it has registered since its start: until then it knows nothing for certain.
    pub(super) registered: AtomicBool,
    /// Whether values were found to be lost that the master believes to be here.
    pub(super) found_loss: AtomicBool,
    pub(super) heard: Mutex<Heard>,
    pub(super) tombstones: Mutex<Tombstones>,
    pub(super) counters: Counters,
}

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
        Self {
            world,
            log: OnceLock::new(),
            disk: config.disk.clone(),
            files: tokio::sync::Mutex::default(),
            manifest: tokio::sync::Mutex::default(),
            volume: OnceLock::new(),
            damaged: Mutex::default(),
            dropped: Mutex::default(),
            making: AtomicU64::new(NOT_MAKING),
            id: config.id.clone().unwrap_or_else(own),
            boot,
            capacity_bytes: config.capacity_bytes,
            bodies: Bodies::new(config.buffer_bytes),
            models: ArcSwap::default(),
            obeying: tokio::sync::Mutex::default(),
            registered: AtomicBool::new(false),
            found_loss: AtomicBool::new(false),
            heard: Mutex::default(),
            tombstones: Mutex::default(),
            counters: Counters::default(),
        }
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
