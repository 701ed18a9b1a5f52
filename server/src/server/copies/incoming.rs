//! Copies whose state is still arriving. They take no part in anything until they are whole; what they are going to replace stays.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use glint_protocol::{Epoch, ModelSpec, Position, ServerId};

use super::wire::Key;
use crate::{
    log::{
        record::Header,
        replayed,
        snapshot::{self, About},
        u32_at,
    },
    partition::{Description, Partition, Values, ledger::Ledger},
};

/// Attachments that were ended are remembered for so many partitions.
const MOST_FLOORS: usize = 1 << 16;

/// A copy whose state is arriving.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) description: Description,
    pub(super) spec: Arc<ModelSpec>,
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) session: u64,
    pub(super) holder: ServerId,
    /// How many values are to arrive.
    count: usize,
    /// How many have arrived.
    arrived: usize,
    /// Their bytes, to be read without a lock.
    arrived_bytes: Arc<AtomicU64>,
}

/// Why a copy cannot go on arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Something before is missing, or it is not what was announced.
    Gap,
    /// There is no memory for it.
    Full,
}

/// What is known of a copy before its values arrive, and before there is memory for them.
pub(super) struct Announced {
    pub(super) description: Description,
    spec: Arc<ModelSpec>,
    ledger: Ledger,
    last: (Epoch, Position),
}

impl Announced {
    /// Everything but the values.
    pub(super) fn read(key: Key, content: &Bytes) -> Result<Self, Broken> {
        let (length, rest) = content.split_at_checked(4).ok_or(Broken::Gap)?;
        let (about, ledger) = rest
            .split_at_checked(u32_at(length, 0) as usize)
            .ok_or(Broken::Gap)?;
        let about: About = serde_json::from_slice(about).map_err(|_| Broken::Gap)?;
        let valid = (about.incarnation, about.partition) == key
            && about.spec.check().is_ok()
            && about.partition < about.spec.partition_count;
        let ledger = snapshot::decode_ledger(ledger)
            .filter(|_| valid)
            .ok_or(Broken::Gap)?;
        let spec = Arc::new(about.spec);
        Ok(Self {
            description: Description::new(&spec, key.0, key.1),
            spec,
            ledger,
            last: (about.epoch, about.position),
        })
    }
}

impl Incoming {
    /// Begins with everything but the values, which get their memory.
    pub(super) fn begin(
        announced: Announced,
        (epoch, session): (Epoch, u64),
        holder: ServerId,
    ) -> Result<Self, Broken> {
        let Announced {
            description,
            spec,
            ledger,
            last: (last, position),
        } = announced;
        let count = usize::try_from(description.value_count()).map_err(|_| Broken::Full)?;
        let values = Values::with_capacity(description.element, count);
        let values = values.map_err(|_| Broken::Full)?;
        let partition = Partition::restore(values, ledger, position, last);
        Ok(Self {
            description,
            spec,
            partition,
            epoch,
            session,
            holder,
            count,
            arrived: 0,
            arrived_bytes: Arc::default(),
        })
    }

    /// Takes values of a piece that begins with the value `at`, `offset` bytes into it, if they are the next; those that came before
    /// are fine.
    pub(super) fn piece(&mut self, at: u64, offset: usize, values: &[u8]) -> Result<(), Broken> {
        let size = self.description.element.size();
        let at = usize::try_from(at).map_err(|_| Broken::Gap)?;
        let at = at.checked_add(offset / size).ok_or(Broken::Gap)?;
        let whole = values.len().is_multiple_of(size) && offset.is_multiple_of(size);
        let end = at.checked_add(values.len() / size).ok_or(Broken::Gap)?;
        if at > self.arrived || !whole || end > self.count {
            return Err(Broken::Gap);
        }
        let Some(fresh) = values.get((self.arrived - at) * size..) else {
            return Ok(());
        };
        self.partition.put_values(self.arrived, fresh);
        self.arrived = self.arrived.max(end);
        let bytes = (self.arrived * size) as u64;
        self.arrived_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a record, if it is the next; one that came before is fine.
    pub(super) fn append(&mut self, header: &Header, payload: &[u8]) -> Result<(), Broken> {
        if header.position <= self.partition.position() {
            return Ok(());
        }
        if !replayed::follows(&self.partition, header) {
            return Err(Broken::Gap);
        }
        // It may change values that have not arrived: those are as they were after it.
        self.partition.put_zeros(self.count);
        replayed::apply(&self.description, &mut self.partition, header, payload)
            .map_err(|_| Broken::Gap)
    }

    /// Whether all values have arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.arrived == self.count
    }

    /// Its last record.
    pub(super) fn position(&self) -> Position {
        self.partition.position()
    }
}

/// What is arriving at a server, and which attachments have ended.
#[derive(Debug, Default)]
pub(in crate::server) struct Receiving {
    arriving: Mutex<Arriving>,
}

/// A copy that is arriving, as all know it: what takes long is done under a lock of its own.
#[derive(Debug)]
struct Arrival {
    epoch: Epoch,
    session: u64,
    /// Bytes of its values, and of those that have arrived.
    bytes: u64,
    arrived: Arc<AtomicU64>,
    /// None once it was put in place, or turned out to be broken.
    copy: Arc<Mutex<Option<Incoming>>>,
}

#[derive(Debug, Default)]
pub(super) struct Arriving {
    copies: BTreeMap<Key, Arrival>,
    /// Per partition: attachments up to this one are not taken any more.
    floors: BTreeMap<Key, (Epoch, u64)>,
    /// Per partition: the last attachment whose state began to arrive. It does so once: a late copy of what it began with would
    /// otherwise bring back what has been put in place already, and records would be in twice.
    begun: BTreeMap<Key, (Epoch, u64)>,
    /// Partitions for whose values memory is being taken, and how much. That takes a while for a large one, and whoever sends it
    /// may ask again meanwhile.
    preparing: BTreeMap<Key, u64>,
}

impl Arriving {
    /// Whether an attachment may still be taken.
    pub(super) fn admits(&self, key: Key, epoch: Epoch, session: u64) -> bool {
        self.floors
            .get(&key)
            .is_none_or(|floor| *floor < (epoch, session))
    }

    /// Whether the state of this attachment, or of a later one, has begun to arrive.
    pub(super) fn has_begun(&self, key: Key, epoch: Epoch, session: u64) -> bool {
        self.begun
            .get(&key)
            .is_some_and(|begun| *begun >= (epoch, session))
    }

    /// Memory for a copy is going to be taken; false when it is already. What came by an earlier attachment goes first.
    pub(super) fn prepare(&mut self, key: Key, bytes: u64) -> bool {
        if self.preparing.contains_key(&key) {
            return false;
        }
        self.copies.remove(&key);
        self.preparing.insert(key, bytes);
        true
    }

    /// It was taken, or there is none.
    pub(super) fn prepared(&mut self, key: Key) {
        self.preparing.remove(&key);
    }

    /// The state of a copy begins to arrive.
    pub(super) fn begin(&mut self, key: Key, incoming: Incoming) {
        self.begun.insert(key, (incoming.epoch, incoming.session));
        let arrival = Arrival {
            epoch: incoming.epoch,
            session: incoming.session,
            bytes: incoming.description.value_bytes(),
            arrived: Arc::clone(&incoming.arrived_bytes),
            copy: Arc::new(Mutex::new(Some(incoming))),
        };
        self.copies.insert(key, arrival);
    }

    fn of(&self, key: Key, attachment: (Epoch, u64)) -> Option<&Arrival> {
        let found = self.copies.get(&key);
        found.filter(|arrival| (arrival.epoch, arrival.session) == attachment)
    }
}

impl Receiving {
    pub(super) fn lock(&self) -> MutexGuard<'_, Arriving> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the whole state comes by this attachment: then a copy that was there before takes no part in it.
    pub(super) fn brings_all(&self, key: Key, epoch: Epoch, session: u64) -> bool {
        self.lock().begun.get(&key) == Some(&(epoch, session))
    }

    /// Whether the state of this attachment is arriving.
    pub(super) fn is_receiving(&self, key: Key, epoch: Epoch, session: u64) -> bool {
        self.lock().of(key, (epoch, session)).is_some()
    }

    /// Does something to the copy that is arriving by this attachment; none when none is. While it is done, others go on.
    pub(super) fn with<T>(
        &self,
        key: Key,
        attachment: (Epoch, u64),
        work: impl FnOnce(&mut Option<Incoming>) -> T,
    ) -> Option<T> {
        let copy = Arc::clone(&self.lock().of(key, attachment)?.copy);
        let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
        copy.is_some().then(|| work(&mut copy))
    }

    /// Takes out the copy that has arrived by this attachment, if it is whole.
    pub(super) fn take_whole(&self, key: Key, attachment: (Epoch, u64)) -> Option<Incoming> {
        let whole = self.with(key, attachment, |copy| copy.take_if(|c| c.is_whole()));
        let whole = whole.flatten()?;
        self.end(key, attachment);
        Some(whole)
    }

    /// Nothing more is taken for the copy that was arriving by this attachment.
    pub(super) fn end(&self, key: Key, attachment: (Epoch, u64)) {
        let mut arriving = self.lock();
        if arriving.of(key, attachment).is_some() {
            arriving.copies.remove(&key);
        }
    }

    /// Bytes of values that are arriving.
    pub(in crate::server) fn bytes(&self) -> u64 {
        let arriving = self.lock();
        let here: u64 = arriving.copies.values().map(|arrival| arrival.bytes).sum();
        here + arriving.preparing.values().sum::<u64>()
    }

    /// Bytes of values that have arrived of those.
    pub(in crate::server) fn arrived(&self) -> u64 {
        let copies = &self.lock().copies;
        let arrived = copies.values().map(|a| a.arrived.load(Ordering::Relaxed));
        arrived.sum()
    }

    /// Takes no attachment of a partition up to this one any more; false when a later one has begun.
    pub(super) fn forbid(&self, key: Key, epoch: Epoch, session: u64) -> bool {
        let mut arriving = self.lock();
        if let Some(incoming) = arriving.copies.get(&key) {
            if (incoming.epoch, incoming.session) > (epoch, session) {
                return false;
            }
            arriving.copies.remove(&key);
        }
        if arriving.floors.len() >= MOST_FLOORS {
            // A late message of that attachment would then be answered with an offer that nobody made: it is refused for its
            // session at the latest.
            arriving.floors.pop_first();
        }
        let floor = arriving.floors.entry(key).or_default();
        *floor = (*floor).max((epoch, session));
        true
    }

    /// Whether a copy was let go at this epoch or a later one, by the holder that follows: an order to hold it that is not of
    /// a later epoch comes late. To be obeyed it would make a partition that is lost out of one that another server holds.
    pub(in crate::server) fn was_let_go(&self, key: Key, epoch: Epoch) -> bool {
        let floors = &self.lock().floors;
        floors.get(&key).is_some_and(|(floor, _)| *floor >= epoch)
    }

    /// Lets go of what was dropped.
    pub(in crate::server) fn forget(&self, gone: impl Fn(&Key) -> bool) {
        let mut arriving = self.lock();
        arriving.copies.retain(|key, _| !gone(key));
        arriving.floors.retain(|key, _| !gone(key));
        arriving.begun.retain(|key, _| !gone(key));
    }
}
