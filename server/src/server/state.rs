//! What a server holds, and what it has heard of the master.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use glint_protocol::{
    Boot, ClusterId, ErrorBody, ErrorCode, Incarnation, ModelId, ModelSpec, ServerId, Term,
    control::{CopyReport, HeldModel, ServerLoad, Volume},
    error::GoneReason,
    frame::GroupHeader,
};
use glint_world::{Disk, World, http::Url};

use super::{ServerConfig, durable::Durable, eviction::Idleness};
use crate::{
    http::body::Bodies,
    log::{Log, volume::Manifest},
    partition::{Description, Loss, Partition},
    safe::SafePosition,
};

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

/// What it has heard of the master.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) cluster: Option<ClusterId>,
    pub(super) term: Term,
}

/// The models of which a server holds partitions.
#[derive(Clone, Default)]
pub(super) struct Models {
    pub(super) by_incarnation: BTreeMap<Incarnation, Arc<Model>>,
}

/// One model, as far as a server holds it.
pub(super) struct Model {
    pub(super) spec: Arc<ModelSpec>,
    /// As many as the model has partitions; those that are not here are none.
    pub(super) slots: Vec<Option<Arc<Slot>>>,
}

/// One partition and what belongs to it here.
pub(super) struct Slot {
    pub(super) description: Description,
    partition: Mutex<Partition>,
    /// When its verdicts may be told.
    pub(super) safe: Arc<SafePosition>,
    /// What it has in the log; none of a `memory` model.
    pub(super) durable: Option<Durable>,
    /// Whether the master knows, or is about to be told, that its values are lost.
    loss_told: AtomicBool,
    /// Entries in its ledger, to be read without the lock.
    pub(super) entries: AtomicU64,
    /// Since when its lanes are idle, as seen from time to time.
    pub(super) idleness: Mutex<Idleness>,
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

/// Models that were dropped, so that a late request is told why; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    by_model: BTreeMap<ModelId, (u32, GoneReason)>,
    order: VecDeque<ModelId>,
}

/// Tombstones that are kept.
const MAX_TOMBSTONES: usize = 16_384;

impl Tombstones {
    /// Notes why a model is gone up to a generation.
    pub(super) fn put(&mut self, incarnation: Incarnation, reason: GoneReason) {
        let entry = self.by_model.get_mut(&incarnation.model);
        match entry {
            Some((generation, _)) if *generation > incarnation.generation => {}
            Some(entry) => *entry = (incarnation.generation, reason),
            None => {
                if self.order.len() >= MAX_TOMBSTONES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.by_model.remove(&oldest);
                }
                self.order.push_back(incarnation.model);
                self.by_model
                    .insert(incarnation.model, (incarnation.generation, reason));
            }
        }
    }

    /// Why this incarnation is gone, if it was dropped.
    pub(super) fn reason(&self, incarnation: Incarnation) -> Option<GoneReason> {
        let &(generation, reason) = self.by_model.get(&incarnation.model)?;
        (incarnation.generation <= generation).then_some(reason)
    }
}

impl Slot {
    pub(super) fn new(
        description: Description,
        partition: Partition,
        durable: Option<Durable>,
    ) -> Self {
        let safe = SafePosition::default();
        // What was there at its beginning is safe: it was recovered from a synced log, or is only in memory.
        safe.raise(partition.position());
        Self {
            description,
            partition: Mutex::new(partition),
            safe: Arc::new(safe),
            durable,
            loss_told: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            idleness: Mutex::default(),
        }
    }

    /// The partition, for a moment: never hold this across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, Partition> {
        self.partition.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked may have been in the midst of an update: nobody knows how much of it is in, so that
            // neither serving on nor taking its retry would be right.
            let mut partition = poisoned.into_inner();
            partition.lose(Loss::Interrupted);
            self.partition.clear_poison();
            partition
        })
    }

    /// The master has said by itself that the values are lost.
    pub(super) fn loss_is_known(&self) {
        self.loss_told.store(true, Ordering::Relaxed);
    }

    /// To be called under the lock after each change.
    pub(super) fn changed(&self, partition: &Partition) {
        self.entries
            .store(partition.ledger().len() as u64, Ordering::Relaxed);
        if self.durable.is_none() {
            // The only copy is this one, in memory: what is applied is as safe as it gets.
            self.safe.raise(partition.position());
        }
    }

    /// Whether there is room for the record of another push.
    pub(super) fn room(&self) -> Result<(), ErrorBody> {
        self.durable.as_ref().map_or(Ok(()), Durable::room)
    }
}

impl Models {
    /// All partitions, by incarnation and index.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.by_incarnation
            .values()
            .flat_map(|model| model.slots.iter().flatten())
    }

    /// Bytes of the values of all partitions that have values.
    pub(super) fn bytes(&self) -> u64 {
        self.slots()
            .map(|slot| slot.lock().values().bytes() as u64)
            .sum()
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

    /// The partition that a group names.
    ///
    /// # Errors
    /// `retry`, `gone`, `bad` or `stale_map`, as the first lines of the table say.
    pub(super) fn find<'a>(
        &self,
        models: &'a Models,
        header: &GroupHeader,
    ) -> Result<&'a Arc<Slot>, ErrorBody> {
        if !self.is_registered() {
            return Err(ErrorBody::new(
                ErrorCode::Retry,
                format!(
                    "server {} has not registered with the master since its start; send it again after a pause",
                    self.id
                ),
            ));
        }
        let incarnation = header.incarnation;
        let Some(model) = models.by_incarnation.get(&incarnation) else {
            return Err(self.unknown(models, incarnation));
        };
        match model.slots.get(header.partition as usize) {
            Some(Some(slot)) => Ok(slot),
            Some(None) => Err(ErrorBody::new(
                ErrorCode::StaleMap,
                format!(
                    "server {} does not hold partition {} of model '{}'; take a fresh map",
                    self.id, header.partition, model.spec.name
                ),
            )),
            None => Err(ErrorBody::new(
                ErrorCode::Bad,
                format!(
                    "partition {} is out of range: model '{}' has {} partitions",
                    header.partition,
                    model.spec.name,
                    model.slots.len()
                ),
            )),
        }
    }

    fn unknown(&self, models: &Models, incarnation: Incarnation) -> ErrorBody {
        let gone = |reason, what: String| {
            ErrorBody::new(ErrorCode::Gone, what).with(|detail| detail.reason = Some(reason))
        };
        if let Some(reason) = self.tombstones().reason(incarnation) {
            let what = match reason {
                GoneReason::Deleted => "was deleted",
                GoneReason::Reset => "was reset",
                GoneReason::Restored => "was restored from a checkpoint",
                GoneReason::Unknown => "is gone",
            };
            return gone(
                reason,
                format!("model {incarnation} {what}; open it again by its name"),
            );
        }
        let first = Incarnation {
            generation: 0,
            ..incarnation
        };
        let known = models
            .by_incarnation
            .range(first..)
            .map(|(i, _)| i)
            .take_while(|i| i.model == incarnation.model)
            .last();
        match known {
            // The client has heard of the new generation before this server has. `gone` would settle the number, and
            // a late copy of the request could still be applied once the generation is here.
            Some(known) if known.generation < incarnation.generation => ErrorBody::new(
                ErrorCode::StaleMap,
                format!(
                    "model {incarnation} is at generation {} here; ask the master for the map, or send it again after a pause",
                    known.generation
                ),
            ),
            _ => gone(
                GoneReason::Unknown,
                format!(
                    "server {} knows no model {incarnation}; open it by its name",
                    self.id
                ),
            ),
        }
    }

    /// What it holds, for the master; what is lost is left out, since it is not there any more.
    pub(super) fn copies(&self) -> Vec<CopyReport> {
        let models = self.models.load();
        let report = |slot: &Arc<Slot>| {
            let partition = slot.lock();
            partition.loss().is_none().then(|| CopyReport {
                incarnation: slot.description.incarnation,
                partition: slot.description.partition,
                epoch: partition.epoch(),
                position: partition.position(),
                last_epoch: partition.last_epoch(),
            })
        };
        models.slots().filter_map(report).collect()
    }

    /// The models of which it holds partitions.
    pub(super) fn held_models(&self) -> Vec<HeldModel> {
        let models = self.models.load();
        models
            .by_incarnation
            .iter()
            .map(|(&incarnation, model)| HeldModel {
                incarnation,
                spec: ModelSpec::clone(&model.spec),
            })
            .collect()
    }

    pub(super) fn load(&self) -> ServerLoad {
        let models = self.models.load();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut load = ServerLoad {
            pulls: read(&self.counters.pulls),
            pushes: read(&self.counters.pushes),
            repeated: read(&self.counters.repeated),
            bytes_in: read(&self.counters.bytes_in),
            bytes_out: read(&self.counters.bytes_out),
            ..ServerLoad::default()
        };
        for slot in models.slots() {
            load.partitions += 1;
            load.value_bytes += slot.description.value_bytes();
            load.ledger_entries += read(&slot.entries);
        }
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(model: u64, generation: u32) -> Incarnation {
        Incarnation {
            model: ModelId(model),
            generation,
        }
    }

    #[test]
    fn tombstones_cover_lower_generations_and_are_bounded() {
        let mut tombstones = Tombstones::default();
        tombstones.put(incarnation(1, 3), GoneReason::Reset);
        tombstones.put(incarnation(1, 2), GoneReason::Deleted);
        assert_eq!(
            tombstones.reason(incarnation(1, 1)),
            Some(GoneReason::Reset)
        );
        assert_eq!(tombstones.reason(incarnation(1, 4)), None);
        for model in 2..2 + MAX_TOMBSTONES as u64 {
            tombstones.put(incarnation(model, 1), GoneReason::Deleted);
        }
        assert_eq!(tombstones.reason(incarnation(1, 1)), None);
        assert_eq!(tombstones.by_model.len(), MAX_TOMBSTONES);
        assert_eq!(tombstones.order.len(), MAX_TOMBSTONES);
    }
}
