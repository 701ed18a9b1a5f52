//! One partition and what belongs to it here; and all of them, found without a lock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use glint_protocol::{Boot, Epoch, ErrorBody, ErrorCode, Incarnation, ModelSpec};

use crate::{
    log::record::Header,
    partition::{Description, Loss, Partition},
    safe::SafePosition,
    server::{
        copies::{Answering, Following, Held, Role},
        durable::Durable,
        eviction::Idleness,
        traffic::Traffic,
    },
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
    pub(in crate::server) spec: Arc<ModelSpec>,
    held: Mutex<Held>,
    /// Whether the holder may answer now.
    pub(in crate::server) answering: Answering,
    /// Whether it was there when this server started: promises from before are forgotten.
    pub(in crate::server) recovered: bool,
    /// Whether a copy that was received counts.
    installed: AtomicBool,
    /// The attachment by which it was received; 0 of both if it was made here.
    received: (Epoch, u64),
    /// Whether its records go anywhere but to the log, to be read without the lock.
    copied: AtomicBool,
    /// When its verdicts may be told.
    pub(in crate::server) safe: Arc<SafePosition>,
    /// What it has in the log; none of a `memory` model.
    pub(in crate::server) durable: Option<Durable>,
    /// Whether the master knows, or is about to be told, that its values are lost.
    pub(super) loss_told: AtomicBool,
    /// What it was asked for, to be read without the lock.
    pub(in crate::server) traffic: Traffic,
    /// Entries in its ledger, to be read without the lock.
    pub(in crate::server) entries: AtomicU64,
    /// Since when its lanes are idle, as seen from time to time.
    pub(in crate::server) idleness: Mutex<Idleness>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// A partition that is held here from now on; for `keeps`, see [`Held::new`].
    pub(in crate::server) fn new(
        description: Description,
        spec: Arc<ModelSpec>,
        partition: Partition,
        durable: Option<Durable>,
        keeps: Option<usize>,
    ) -> Self {
        let held = Held::new(partition, Role::Holder, &description, keeps);
        Self::with(description, spec, held, durable)
    }

    /// A partition that the data directory has: whose it is, the master says.
    pub(in crate::server) fn recovered(
        description: Description,
        spec: Arc<ModelSpec>,
        partition: Partition,
        durable: Option<Durable>,
        keeps: Option<usize>,
    ) -> Self {
        let role = Role::Follower(Following::default());
        let held = Held::new(partition, role, &description, keeps);
        Self {
            recovered: true,
            ..Self::with(description, spec, held, durable)
        }
    }

    /// A copy that came by this attachment; one of a logged model counts once it is [installed](Self::installed).
    pub(in crate::server) fn received(
        description: Description,
        spec: Arc<ModelSpec>,
        held: Held,
        durable: Option<Durable>,
        attachment: (Epoch, u64),
    ) -> Self {
        Self {
            installed: AtomicBool::new(durable.is_none()),
            received: attachment,
            ..Self::with(description, spec, held, durable)
        }
    }

    fn with(
        description: Description,
        spec: Arc<ModelSpec>,
        held: Held,
        durable: Option<Durable>,
    ) -> Self {
        let safe = SafePosition::default();
        // What was there at its beginning is safe: it was recovered from a synced log, or is only in memory.
        safe.raise(held.position());
        let entries = AtomicU64::new(held.ledger().len() as u64);
        Self {
            description,
            spec,
            copied: AtomicBool::new(held.is_copied()),
            held: Mutex::new(held),
            answering: Answering::default(),
            recovered: false,
            installed: AtomicBool::new(true),
            received: (Epoch(0), 0),
            safe: Arc::new(safe),
            durable,
            loss_told: AtomicBool::new(false),
            traffic: Traffic::default(),
            entries,
            idleness: Mutex::default(),
        }
    }

    /// Which partition it is.
    pub(in crate::server) fn key(&self) -> (Incarnation, u32) {
        (self.description.incarnation, self.description.partition)
    }

    /// The partition, for a moment: never hold this across an await.
    pub(in crate::server) fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked may have been in the midst of an update: nobody knows how much of it is in, so that
            // neither serving on nor taking its retry would be right.
            let mut partition = poisoned.into_inner();
            partition.lose(Loss::Interrupted);
            self.held.clear_poison();
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

    /// Notes a record that was applied just now, under the lock: in the log, and on its way to every follower. The log is to be
    /// woken afterwards.
    pub(in crate::server) fn note(&self, held: &mut Held, header: Header, payload: &Bytes) {
        if let Some(durable) = &self.durable {
            let (place, begin) = durable.append(header, payload.clone(), &self.safe);
            held.lies_at(header.position, place, begin);
        }
        if held.is_copied() {
            held.copy_out(self.key(), header, payload);
        }
        self.changed(held);
    }

    /// The record that was applied just now, under the lock; the log fills in which start of the server writes it.
    pub(in crate::server) fn record(
        &self,
        kind: crate::log::record::Kind,
        held: &Held,
        before: Epoch,
        payload: &[u8],
    ) -> Header {
        let (incarnation, partition) = self.key();
        Header {
            epoch: held.last_epoch(),
            position: held.position(),
            previous: before,
            ..Header::new(kind, incarnation, partition, Boot::default(), payload)
        }
    }

    /// Whether records go anywhere but to the memory of this process.
    pub(in crate::server) fn is_recorded(&self) -> bool {
        self.durable.is_some() || self.is_copied()
    }

    /// Whether records go anywhere but to the log.
    pub(in crate::server) fn is_copied(&self) -> bool {
        self.copied.load(Ordering::Relaxed)
    }

    /// To be called under the lock when the copies have changed.
    pub(in crate::server) fn note_copied(&self, copied: bool) {
        self.copied.store(copied, Ordering::Relaxed);
    }

    /// Whether a copy that was received counts.
    pub(in crate::server) fn is_installed(&self) -> bool {
        self.installed.load(Ordering::Acquire)
    }

    /// A copy that was received counts from now on.
    pub(in crate::server) fn installed(&self) {
        self.installed.store(true, Ordering::Release);
    }

    /// Whether it is a copy that has come as a whole, and its holder has not said yet that acknowledgements wait for it.
    pub(in crate::server) fn is_new_copy(&self) -> bool {
        self.received != (Epoch(0), 0) && self.lock().has_just_come(self.received)
    }

    /// Whether it came by this attachment.
    pub(in crate::server) fn is_of(&self, epoch: Epoch, session: u64) -> bool {
        self.received == (epoch, session)
    }

    /// Whether another push may be taken: there is room for its record, and there are copies enough.
    pub(in crate::server) fn room(&self, held: &Held) -> Result<(), ErrorBody> {
        if held.is_copied() {
            self.copies_admit(held)?;
        }
        self.durable.as_ref().map_or(Ok(()), Durable::room)
    }

    /// Whether there are as many copies in sync as the model asks for.
    ///
    /// # Errors
    /// `not_enough_copies`.
    pub(in crate::server) fn has_copies(&self, held: &Held) -> Result<(), ErrorBody> {
        let (needed, has) = (usize::from(self.spec.min_in_sync()), held.in_sync());
        if has < needed {
            return Err(ErrorBody::new(
                ErrorCode::NotEnoughCopies,
                format!(
                    "partition {} of model '{}' has {has} copies in sync and takes pushes with {needed} only (min_in_sync); send again \
                     when servers are back",
                    self.description.partition, self.description.model
                ),
            ));
        }
        Ok(())
    }

    fn copies_admit(&self, held: &Held) -> Result<(), ErrorBody> {
        self.has_copies(held)?;
        if held.is_congested() {
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                format!(
                    "a follower of partition {} of model '{}' does not keep up; send again after a pause",
                    self.description.partition, self.description.model
                ),
            ));
        }
        Ok(())
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
