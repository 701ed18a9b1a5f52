//! What a server knows: the partitions that are here, the master it obeys, and what it has done.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use glint_protocol::{
    Boot, ClusterId, ErrorBody, ErrorCode, Incarnation, ModelId, ModelSpec, ServerId, Term,
    control::{CopyReport, ServerLoad},
    error::GoneReason,
};
use glint_world::{World, http::Url};

use super::{ServerConfig, slot::Slot};
use crate::http::body::Bodies;

/// Models that are remembered after they were dropped, so that late requests learn why.
const REMEMBERED: usize = 10_000;

/// A model of which partitions are here.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) spec: Arc<ModelSpec>,
    pub(super) incarnation: Incarnation,
    pub(super) slots: BTreeMap<u32, Arc<Slot>>,
}

/// What is here, as one value that is replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Models {
    pub(super) held: BTreeMap<ModelId, Arc<Model>>,
    gone: BTreeMap<ModelId, (u32, GoneReason)>,
    /// The order in which they went, to forget the oldest.
    went: VecDeque<ModelId>,
}

impl Models {
    /// Remembers that all generations of a model up to this one are gone.
    pub(super) fn bury(&mut self, incarnation: Incarnation, reason: GoneReason) {
        let known = self.gone.get(&incarnation.model);
        if known.is_some_and(|&(generation, _)| generation >= incarnation.generation) {
            return;
        }
        if self
            .gone
            .insert(incarnation.model, (incarnation.generation, reason))
            .is_none()
        {
            self.went.push_back(incarnation.model);
        }
        while self.went.len() > REMEMBERED {
            if let Some(oldest) = self.went.pop_front() {
                self.gone.remove(&oldest);
            }
        }
    }

    /// Whether a message about this incarnation comes too late.
    pub(super) fn is_buried(&self, incarnation: Incarnation) -> bool {
        self.gone
            .get(&incarnation.model)
            .is_some_and(|&(generation, _)| generation >= incarnation.generation)
    }

    /// The slot of a partition, or why it has none.
    pub(super) fn find(
        &self,
        incarnation: Incarnation,
        partition: u32,
    ) -> Result<&Arc<Slot>, ErrorBody> {
        let model = match self.held.get(&incarnation.model) {
            Some(model) if model.incarnation == incarnation => model,
            found => return Err(self.missing(incarnation, found.map(|m| m.incarnation))),
        };
        model.slots.get(&partition).ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::StaleMap,
                format!("partition {partition} of model '{}' is not on this server; ask the master for the map", model.spec.name),
            )
        })
    }

    fn missing(&self, asked: Incarnation, here: Option<Incarnation>) -> ErrorBody {
        let gone = |reason: GoneReason, what: &str| {
            ErrorBody::new(
                ErrorCode::Gone,
                format!("model {asked} {what}; open it again by its name"),
            )
            .with(|detail| detail.reason = Some(reason))
        };
        if let Some(&(generation, reason)) = self.gone.get(&asked.model)
            && generation >= asked.generation
        {
            let what = match reason {
                GoneReason::Deleted => "was deleted",
                GoneReason::Reset => "was reset",
                GoneReason::Restored => "was restored",
                GoneReason::Unknown => "is gone",
            };
            return gone(reason, what);
        }
        if here.is_some_and(|here| here.generation > asked.generation) {
            return gone(GoneReason::Reset, "was reset or restored");
        }
        // Never heard of, or of a generation to come: the master's map may be ahead of its orders.
        ErrorBody::new(
            ErrorCode::StaleMap,
            format!("this server holds nothing of model {asked}; ask the master for the map"),
        )
    }
}

/// What the server knows of its master.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allegiance {
    /// The cluster, once it has registered.
    pub(super) cluster: Option<ClusterId>,
    /// The highest term it has heard.
    pub(super) term: Term,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) pulls: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

/// A server's state. Cheap to clone; clones are the same server.
#[derive(Clone, Debug)]
pub struct ServerState {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: World,
    config: ServerConfig,
    id: ServerId,
    url: Url,
    boot: Boot,
    bodies: Bodies,
    registered: AtomicBool,
    allegiance: Mutex<Allegiance>,
    /// Read by every request without a lock; replaced by orders, which hold `changing`.
    models: ArcSwap<Models>,
    changing: Mutex<()>,
    counters: Counters,
}

impl ServerState {
    /// A server that is reached at `url`, holds nothing and is not registered yet.
    pub fn new(world: World, config: ServerConfig, url: Url) -> Self {
        let boot = Boot(world.random.bits());
        let id = config
            .id
            .clone()
            .unwrap_or_else(|| ServerId(url.authority().to_owned()));
        let bodies = Bodies::new(config.buffer_bytes);
        Self {
            shared: Arc::new(Shared {
                world,
                config,
                id,
                url,
                boot,
                bodies,
                registered: AtomicBool::new(false),
                allegiance: Mutex::default(),
                models: ArcSwap::default(),
                changing: Mutex::default(),
                counters: Counters::default(),
            }),
        }
    }

    /// Its name.
    pub fn id(&self) -> &ServerId {
        &self.shared.id
    }

    /// Where it is reached.
    pub fn url(&self) -> &Url {
        &self.shared.url
    }

    /// This start of it.
    pub fn boot(&self) -> Boot {
        self.shared.boot
    }

    /// Whether it is registered with a master, and so serves.
    pub fn is_registered(&self) -> bool {
        self.shared.registered.load(Ordering::Acquire)
    }

    pub(super) fn set_registered(&self, registered: bool) {
        self.shared.registered.store(registered, Ordering::Release);
    }

    pub(super) fn world(&self) -> &World {
        &self.shared.world
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.shared.config
    }

    pub(super) fn bodies(&self) -> &Bodies {
        &self.shared.bodies
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(super) fn allegiance(&self) -> MutexGuard<'_, Allegiance> {
        self.shared
            .allegiance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is here now.
    pub(super) fn models(&self) -> arc_swap::Guard<Arc<Models>> {
        self.shared.models.load()
    }

    /// Replaces what is here; changes come one after another.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Models) -> T) -> T {
        let _one = self
            .shared
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut models = Models::clone(&self.shared.models.load());
        let result = change(&mut models);
        self.shared.models.store(Arc::new(models));
        result
    }

    /// Every copy that is here, for the master.
    pub(super) fn copies(&self) -> Vec<CopyReport> {
        let models = self.models();
        let mut copies = Vec::new();
        for model in models.held.values() {
            for (&partition, slot) in &model.slots {
                let held = slot.lock();
                if held.loss().is_none() {
                    copies.push(CopyReport {
                        incarnation: model.incarnation,
                        partition,
                        epoch: held.epoch(),
                        position: held.position(),
                    });
                }
            }
        }
        copies
    }

    /// What it has done, for heartbeats and the status.
    pub(super) fn load(&self) -> ServerLoad {
        let (mut value_bytes, mut partitions, mut ledger_entries) = (0, 0, 0);
        for slot in self
            .models()
            .held
            .values()
            .flat_map(|model| model.slots.values())
        {
            partitions += 1;
            let held = slot.lock();
            if held.loss().is_none() {
                value_bytes += slot.description.value_bytes();
                ledger_entries += held.ledger().len() as u64;
            }
        }
        let counters = self.counters();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerLoad {
            value_bytes,
            partitions,
            pulls: count(&counters.pulls),
            pushes: count(&counters.pushes),
            repeated: count(&counters.repeated),
            bytes_in: count(&counters.bytes_in),
            bytes_out: count(&counters.bytes_out),
            ledger_entries,
        }
    }
}
