//! One record of the log as bytes: a header of 128 bytes, the payload, and zeros up to a multiple of 8.
//!
//! The header has a checksum of its own, salted with the data directory's random number: bytes that a client pushed are never
//! taken for a header. It names the record for ever (incarnation, partition, epoch, position), the record before it in its
//! partition (the epoch of it), and how far the stream was known to be on the disk when it was written.

use glint_protocol::{Boot, Epoch, Incarnation, LaneId, ModelId, Number, Position};

use super::{checksum, u32_at, u64_at};

const MAGIC: u32 = u32::from_le_bytes(*b"GREC");
/// Records begin at multiples of this many bytes.
pub const ALIGNMENT: usize = 8;
/// The largest payload: that of the largest body, and of the largest spec.
pub const MAX_PAYLOAD: usize = 32 << 20;
/// In place of a partition's number: all partitions of the model.
pub const ALL_PARTITIONS: u32 = u32::MAX;

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Makes the partition, with initial values everywhere; the payload is the model's spec as JSON.
    Make = 1,
    /// Merges values; the payload is the sections, as they were pushed.
    Update = 2,
    /// Settles a number without a value.
    Skip = 3,
    /// Forgets lanes; the payload is their ids, 16 bytes each: birth, random.
    Evict = 4,
    /// Ends all partitions of the model, up to this generation.
    Drop = 5,
    /// A copy begins that came from another server: its records go on from a snapshot that is written after this. Until that is in
    /// place, what was before counts, without the records after this.
    Replace = 6,
    /// The copy of the partition was let go.
    Release = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Make,
        Self::Update,
        Self::Skip,
        Self::Evict,
        Self::Drop,
        Self::Replace,
        Self::Release,
    ];
}

/// What a record says of itself.
///
/// Layout: magic 0 (u32), kind 4 (u8), reserved 5, sections 6 (u16), payload length 8 (u32), payload checksum 12 (u32),
/// offset 16, synced 24, model 32 (u64 each), generation 40 (u32), partition 44 (u32), epoch 48, position 56, previous
/// epoch 64, boot 72, lane birth 80, lane random 88, number 96 (u64 each), digest 104 (u32), after a loss 108 (u32: 1
/// if so), last known number 112 (u64), reserved 120 to 123, checksum 124 (u32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it does.
    pub kind: Kind,
    /// The model.
    pub incarnation: Incarnation,
    /// The partition; [`ALL_PARTITIONS`] in a drop.
    pub partition: u32,
    /// The epoch at which it was written.
    pub epoch: Epoch,
    /// The position to which it moves its partition; 0 in a make and a drop.
    pub position: Position,
    /// The epoch of the record before it in its partition.
    pub previous: Epoch,
    /// The start of the server that wrote it.
    pub boot: Boot,
    /// Of an update or a skip: the lane.
    pub lane: LaneId,
    /// Of an update or a skip: the lane's number.
    pub number: Number,
    /// Of an update or a skip that came after a loss: the last number of the lane that was known then.
    pub after_loss: Option<Number>,
    /// Of an update: the client's digest of the sections.
    pub digest: u32,
    /// Of an update: how many sections the payload has.
    pub sections: u16,
    /// Bytes of the payload.
    pub length: u32,
    /// Checksum of the payload.
    pub payload_checksum: u32,
    /// Where in the stream it begins.
    pub offset: u64,
    /// Up to where the stream was known to be on the disk when it was written.
    pub synced: u64,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = 128;

    /// A record of this kind, with this payload, of no lane, at position 0 of epoch 0; the log fills in where it lies.
    pub fn new(
        kind: Kind,
        incarnation: Incarnation,
        partition: u32,
        boot: Boot,
        payload: &[u8],
    ) -> Self {
        Self {
            kind,
            incarnation,
            partition,
            epoch: Epoch(0),
            position: Position(0),
            previous: Epoch(0),
            boot,
            lane: LaneId {
                birth: 0,
                random: 0,
            },
            number: Number(0),
            after_loss: None,
            digest: 0,
            sections: 0,
            length: payload.len() as u32,
            payload_checksum: checksum([payload]),
            offset: 0,
            synced: 0,
        }
    }

    /// Bytes that the whole record takes in the stream.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.length as usize)
    }

    /// To bytes.
    pub fn encode(&self, salt: u64) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(4, &[self.kind as u8]);
        put(6, &self.sections.to_le_bytes());
        put(8, &self.length.to_le_bytes());
        put(12, &self.payload_checksum.to_le_bytes());
        put(16, &self.offset.to_le_bytes());
        put(24, &self.synced.to_le_bytes());
        put(32, &self.incarnation.model.0.to_le_bytes());
        put(40, &self.incarnation.generation.to_le_bytes());
        put(44, &self.partition.to_le_bytes());
        put(48, &self.epoch.0.to_le_bytes());
        put(56, &self.position.0.to_le_bytes());
        put(64, &self.previous.0.to_le_bytes());
        put(72, &self.boot.0.to_le_bytes());
        put(80, &self.lane.birth.to_le_bytes());
        put(88, &self.lane.random.to_le_bytes());
        put(96, &self.number.0.to_le_bytes());
        put(104, &self.digest.to_le_bytes());
        if let Some(last) = self.after_loss {
            put(108, &1_u32.to_le_bytes());
            put(112, &last.0.to_le_bytes());
        }
        let sum = checksum([&salt.to_le_bytes()[..], &out[..124]]);
        out[124..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// From bytes; none when they are not a header of the log with this salt, at this offset of the stream.
    pub fn decode(bytes: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let bytes = bytes.get(..Self::SIZE)?;
        if u32_at(bytes, 0) != MAGIC || u64_at(bytes, 16) != offset {
            return None;
        }
        if checksum([&salt.to_le_bytes()[..], &bytes[..124]]) != u32_at(bytes, 124) {
            return None;
        }
        let length = u32_at(bytes, 8);
        if length as usize > MAX_PAYLOAD {
            return None;
        }
        let kind = Kind::ALL.into_iter().find(|&k| k as u8 == bytes[4])?;
        Some(Self {
            kind,
            incarnation: Incarnation {
                model: ModelId(u64_at(bytes, 32)),
                generation: u32_at(bytes, 40),
            },
            partition: u32_at(bytes, 44),
            epoch: Epoch(u64_at(bytes, 48)),
            position: Position(u64_at(bytes, 56)),
            previous: Epoch(u64_at(bytes, 64)),
            boot: Boot(u64_at(bytes, 72)),
            lane: LaneId {
                birth: u64_at(bytes, 80),
                random: u64_at(bytes, 88),
            },
            number: Number(u64_at(bytes, 96)),
            after_loss: (u32_at(bytes, 108) != 0).then(|| Number(u64_at(bytes, 112))),
            digest: u32_at(bytes, 104),
            sections: u16::from_le_bytes([bytes[6], bytes[7]]),
            length,
            payload_checksum: u32_at(bytes, 12),
            offset,
            synced: u64_at(bytes, 24),
        })
    }
}

/// Bytes that a record with a payload of this length takes in the stream.
pub fn record_bytes(payload: usize) -> u64 {
    (Header::SIZE + payload.next_multiple_of(ALIGNMENT)) as u64
}

/// The payload of an evict.
pub fn encode_lanes(lanes: &[LaneId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lanes.len() * 16);
    for lane in lanes {
        out.extend_from_slice(&lane.birth.to_le_bytes());
        out.extend_from_slice(&lane.random.to_le_bytes());
    }
    out
}

/// The lanes of an evict.
pub fn decode_lanes(payload: &[u8]) -> Vec<LaneId> {
    let lane = |bytes: &[u8]| LaneId {
        birth: u64_at(bytes, 0),
        random: u64_at(bytes, 8),
    };
    payload.chunks_exact(16).map(lane).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(kind: Kind, seed: u64) -> Header {
        let of = |n: u64| {
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(n as u32)
        };
        Header {
            kind,
            incarnation: Incarnation {
                model: ModelId(of(1)),
                generation: of(2) as u32,
            },
            partition: of(3) as u32,
            epoch: Epoch(of(4)),
            position: Position(of(5)),
            previous: Epoch(of(6)),
            boot: Boot(of(7)),
            lane: LaneId {
                birth: of(8),
                random: of(9),
            },
            number: Number(of(10)),
            after_loss: seed.is_multiple_of(2).then(|| Number(of(17))),
            digest: of(11) as u32,
            sections: of(12) as u16,
            length: (of(13) as usize % MAX_PAYLOAD) as u32,
            payload_checksum: of(14) as u32,
            offset: of(15),
            synced: of(16),
        }
    }

    #[test]
    fn a_header_survives_its_bytes_and_is_taken_for_nothing_else() {
        for (seed, kind) in Kind::ALL.into_iter().enumerate() {
            let header = header(kind, seed as u64 + 1);
            let bytes = header.encode(7);
            assert_eq!(Header::decode(&bytes, 7, header.offset), Some(header));
            assert_eq!(
                Header::decode(&bytes, 8, header.offset),
                None,
                "another log"
            );
            assert_eq!(
                Header::decode(&bytes, 7, header.offset + 8),
                None,
                "another place"
            );
            assert_eq!(Header::decode(&bytes[..127], 7, header.offset), None);
        }
    }

    #[test]
    fn a_bit_flipped_anywhere_is_noticed() {
        let header = header(Kind::Update, 3);
        let bytes = header.encode(7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Header::decode(&flipped, 7, header.offset),
                None,
                "bit {bit}"
            );
        }
    }

    #[test]
    fn lanes_survive_their_bytes() {
        let lanes: Vec<_> = (1..4)
            .map(|i| LaneId {
                birth: i,
                random: !i,
            })
            .collect();
        assert_eq!(decode_lanes(&encode_lanes(&lanes)), lanes);
        assert!(decode_lanes(&[0; 15]).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Header::decode(&bytes, 1, 0), None);
        }
    }
}
