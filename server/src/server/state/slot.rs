//! One partition and what belongs to it here; and all of them, found without a lock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use glint_protocol::{ErrorBody, Incarnation, ModelSpec};

use crate::{
    partition::{Description, Loss, Partition},
    safe::SafePosition,
    server::{durable::Durable, eviction::Idleness},
};

/// The models of which a server holds partitions.
#[derive(Clone, Default)]
pub(in crate::server) struct Models {
    pub(in crate::server) by_incarnation: BTreeMap<Incarnation, Arc<Model>>,
}

/// One model, as far as a server holds it.
pub(in crate::server) struct Model {
    pub(in crate::server) spec: Arc<ModelSpec>,
    /// As many as the model has partitions; those that are not here are none.
    pub(in crate::server) slots: Vec<Option<Arc<Slot>>>,
}

/// One partition and what belongs to it here.
pub(in crate::server) struct Slot {
    pub(in crate::server) description: Description,
    partition: Mutex<Partition>,
    /// When its verdicts may be told.
    pub(in crate::server) safe: Arc<SafePosition>,
    /// What it has in the log; none of a `memory` model.
    pub(in crate::server) durable: Option<Durable>,
    /// Whether the master knows, or is about to be told, that its values are lost.
    pub(super) loss_told: AtomicBool,
    /// Entries in its ledger, to be read without the lock.
    pub(in crate::server) entries: AtomicU64,
    /// Since when its lanes are idle, as seen from time to time.
    pub(in crate::server) idleness: Mutex<Idleness>,
}

impl Slot {
    pub(in crate::server) fn new(
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

    /// Which partition it is.
    pub(in crate::server) fn key(&self) -> (Incarnation, u32) {
        (self.description.incarnation, self.description.partition)
    }

    /// The partition, for a moment: never hold this across an await.
    pub(in crate::server) fn lock(&self) -> MutexGuard<'_, Partition> {
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
    pub(in crate::server) fn loss_is_known(&self) {
        self.loss_told.store(true, Ordering::Relaxed);
    }

    /// To be called under the lock after each change.
    pub(in crate::server) fn changed(&self, partition: &Partition) {
        self.entries
            .store(partition.ledger().len() as u64, Ordering::Relaxed);
        if self.durable.is_none() {
            // The only copy is this one, in memory: what is applied is as safe as it gets.
            self.safe.raise(partition.position());
        }
    }

    /// Whether there is room for the record of another push.
    pub(in crate::server) fn room(&self) -> Result<(), ErrorBody> {
        self.durable.as_ref().map_or(Ok(()), Durable::room)
    }
}

impl Models {
    /// All partitions, by incarnation and index.
    pub(in crate::server) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.by_incarnation
            .values()
            .flat_map(|model| model.slots.iter().flatten())
    }

    /// Bytes of the values of all partitions that have values.
    pub(in crate::server) fn bytes(&self) -> u64 {
        self.slots()
            .map(|slot| slot.lock().values().bytes() as u64)
            .sum()
    }
}
