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
        Entry, Log, checksum,
        record::{Header, Kind, encode_lanes},
    },
    partition::{Description, Partition},
    safe::SafePosition,
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
    bytes: Bytes,
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
        let end = self.append(header, payload, safe);
        self.log.wake();
        Ok(end)
    }

    /// Notes a push that was applied just now, under the lock of its partition; the log is to be woken afterwards. `before` is
    /// the epoch of the record before.
    pub(super) fn pushed(
        &self,
        description: &Description,
        partition: &Partition,
        before: Epoch,
        (lane, number): (LaneId, Number),
        payload: Payload,
        safe: &Arc<SafePosition>,
    ) {
        let kind = if payload.skip {
            Kind::Skip
        } else {
            Kind::Update
        };
        let header = Header {
            epoch: partition.last_epoch(),
            position: partition.position(),
            previous: before,
            lane,
            number,
            digest: payload.digest,
            sections: payload.sections,
            length: payload.bytes.len() as u32,
            payload_checksum: payload.checksum,
            // Its checksum was taken before the partition was locked.
            ..self.header(description, kind, &[])
        };
        self.append(header, payload.bytes, safe);
    }

    /// Notes that lanes were forgotten just now, under the lock of the partition.
    pub(super) fn evicted(
        &self,
        description: &Description,
        partition: &Partition,
        before: Epoch,
        lanes: &[LaneId],
        safe: &Arc<SafePosition>,
    ) {
        let payload = Bytes::from(encode_lanes(lanes));
        let header = Header {
            epoch: partition.last_epoch(),
            position: partition.position(),
            previous: before,
            ..self.header(description, Kind::Evict, &payload)
        };
        self.append(header, payload, safe);
        self.log.wake();
    }

    fn header(&self, description: &Description, kind: Kind, payload: &[u8]) -> Header {
        let Description {
            incarnation,
            partition,
            ..
        } = *description;
        Header::new(kind, incarnation, partition, self.boot, payload)
    }

    fn append(&self, header: Header, payload: Bytes, safe: &Arc<SafePosition>) -> u64 {
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
        offset + bytes
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
