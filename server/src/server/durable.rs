//! What a partition of a durable model has in the log: how its records get there, and from where on it needs them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use glint_protocol::{
    Boot, Durability, Epoch, ErrorBody, LaneId, ModelSpec, Number,
    frame::{Group, Op},
};

use crate::{
    log::{
        Entry, Log, Place, checksum,
        record::{Header, Kind},
    },
    partition::Description,
    safe::SafePosition,
    server::{copies::Held, state::Slot},
};

/// No record is needed: a snapshot has everything.
const NOTHING: u64 = u64::MAX;

/// A partition's side of the log.
pub(super) struct Durable {
    log: Log,
    boot: Boot,
    durability: Durability,
    /// Where its first record begins that no snapshot has.
    needed_from: AtomicU64,
}

/// The bytes of a push's group, ready for the log: their checksum was taken before the partition was locked.
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    checksum: u32,
    skip: bool,
    sections: u16,
    digest: u32,
}

impl Payload {
    pub(super) fn new(body: &Bytes, group: &Group<'_>) -> Self {
        Self {
            bytes: body.slice_ref(group.bytes),
            checksum: checksum([group.bytes]),
            skip: group.header.op == Op::Skip,
            sections: group.header.sections,
            digest: group.header.digest,
        }
    }

    /// The record of the push, which was applied just now, under the lock of its partition. `before` is the epoch of the record
    /// before.
    pub(super) fn header(
        &self,
        slot: &Slot,
        held: &Held,
        before: Epoch,
        (lane, number, after_loss): (LaneId, Number, Option<Number>),
    ) -> Header {
        let kind = if self.skip { Kind::Skip } else { Kind::Update };
        Header {
            lane,
            number,
            after_loss,
            digest: self.digest,
            sections: self.sections,
            length: self.bytes.len() as u32,
            payload_checksum: self.checksum,
            // Its checksum was taken before the partition was locked.
            ..slot.record(kind, held, before, &[])
        }
    }
}

impl Durable {
    pub(super) fn new(
        log: Log,
        boot: Boot,
        durability: Durability,
        needed_from: Option<u64>,
    ) -> Self {
        Self {
            log,
            boot,
            durability,
            needed_from: AtomicU64::new(needed_from.unwrap_or(NOTHING)),
        }
    }

    pub(super) fn room(&self) -> Result<(), ErrorBody> {
        self.log.admits()
    }

    /// Notes the making of a partition; says where its record ends.
    pub(super) fn made(
        &self,
        description: &Description,
        spec: &ModelSpec,
        epoch: Epoch,
        safe: &Arc<SafePosition>,
    ) -> Result<u64, serde_json::Error> {
        let payload = Bytes::from(serde_json::to_vec(spec)?);
        let header = Header {
            epoch,
            previous: epoch,
            ..self.header(description, Kind::Make, &payload)
        };
        let (place, _) = self.append(header, payload, safe);
        self.log.wake();
        Ok(place.end())
    }

    fn header(&self, description: &Description, kind: Kind, payload: &[u8]) -> Header {
        let Description {
            incarnation,
            partition,
            ..
        } = *description;
        Header::new(kind, incarnation, partition, self.boot, payload)
    }

    /// Has a record written, after those of the partition that came before; says where it lies, and where the log begins by now.
    /// The log is to be woken afterwards.
    pub(super) fn append(
        &self,
        header: Header,
        payload: Bytes,
        safe: &Arc<SafePosition>,
    ) -> (Place, u64) {
        let header = Header {
            boot: self.boot,
            ..header
        };
        let bytes = header.record_bytes();
        let offset = self.log.append(Entry {
            header,
            payload,
            safe: Arc::clone(safe),
            durability: self.durability,
        });
        // Records of one partition come one after another: its lock is held.
        let _ = self.needed_from.compare_exchange(
            NOTHING,
            offset,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        (Place { offset, bytes }, self.log.begin())
    }

    /// Where its first record begins that no snapshot has; none when there is no such record.
    pub(super) fn needed_from(&self) -> Option<u64> {
        let from = self.needed_from.load(Ordering::Relaxed);
        (from != NOTHING).then_some(from)
    }

    /// A snapshot that was cut here is in place; to be called under the lock of the partition.
    pub(super) fn covered(&self, cut: u64, changed_since: bool) {
        let from = if changed_since { cut } else { NOTHING };
        self.needed_from.store(from, Ordering::Relaxed);
    }
}
