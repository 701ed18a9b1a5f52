//! One file of the log: a header of 72 bytes, twice, so that one flipped bit does not make it unreadable; then records, one
//! after another.
//!
//! A segment says where in the stream it begins, and thereby where the one before it ends: what that has beyond is not part
//! of the stream any more. Files that nobody needs are used again, since pages that the system has are filled much faster than
//! fresh ones: so behind the end of the stream there may be old records, which are none at that place. [`parse`] takes a whole file apart and judges nothing: it tells what is there and what is
//! damaged, and [`super::recovery`] decides what that means. What it needs for that is not in the file's own header (but in
//! its name and in the data directory's file): records can be read where the header cannot.

use std::ops::Range;

use bytes::Bytes;
use glint_protocol::{Boot, Incarnation, Position, VolumeId};
use glint_world::disk::PARTIAL;

use super::{
    checksum,
    record::{ALIGNMENT, Header},
    u32_at, u64_at,
};

const MAGIC: u64 = u64::from_le_bytes(*b"GLINTLOG");
/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes of one header.
const ONE_HEADER: usize = 72;
/// Bytes before the first record.
pub const HEADER_BYTES: usize = 2 * ONE_HEADER;
const PREFIX: &str = "log-";

/// What a segment says of itself.
///
/// Layout: magic 0 (u64), version 8 (u32), reserved 12, volume 16, start 24, synced 32, life 40, boot 48 (u64 each),
/// follows 56 (u64), reserved 64, checksum 68 (u32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The data directory that it belongs to.
    pub volume: VolumeId,
    /// Where in the stream its first record begins.
    pub start: u64,
    /// Up to where the stream was known to be on the disk when it was made.
    pub synced: u64,
    /// How many processes had started on the data directory when it was made: those of later ones have more.
    pub life: u64,
    /// The start of the server that made it.
    pub boot: Boot,
    /// Where the stream before it ends: where it begins itself, but after a recovery whose snapshots were ahead of the log,
    /// or that missed its end.
    pub follows: u64,
}

/// The name of the segment that begins here.
pub fn name(start: u64) -> String {
    format!("{PREFIX}{start:016x}")
}

/// The name of a segment that is kept to be used again: what is in it means nothing.
pub fn spare_name(start: u64) -> String {
    format!("{}{PARTIAL}", name(start))
}

/// Where the segment of this name begins; none when it is no segment's name.
pub fn start_of(name_of: &str) -> Option<u64> {
    let start = u64::from_str_radix(name_of.strip_prefix(PREFIX)?, 16).ok()?;
    // No stream is ever that long, and places in it can be added.
    (start <= u64::MAX / 2 && name(start) == name_of).then_some(start)
}

/// Why a segment's header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It was written by a later version.
    Newer(u32),
    /// It is damaged, or not there.
    Damaged,
}

impl SegmentHeader {
    /// To bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut both = [0; HEADER_BYTES];
        for one in both.chunks_exact_mut(ONE_HEADER) {
            one.copy_from_slice(&self.encode_one());
        }
        both
    }

    fn encode_one(&self) -> [u8; ONE_HEADER] {
        let mut out = [0; ONE_HEADER];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(8, &VERSION.to_le_bytes());
        put(16, &self.volume.0.to_le_bytes());
        put(24, &self.start.to_le_bytes());
        put(32, &self.synced.to_le_bytes());
        put(40, &self.life.to_le_bytes());
        put(48, &self.boot.0.to_le_bytes());
        put(56, &self.follows.to_le_bytes());
        let sum = checksum([&out[..68]]);
        out[68..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// From the first bytes of a file.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let both = bytes.get(..HEADER_BYTES).ok_or(Unreadable::Damaged)?;
        let (first, second) = both.split_at(ONE_HEADER);
        match Self::decode_one(first) {
            Err(Unreadable::Damaged) => Self::decode_one(second),
            decided => decided,
        }
    }

    fn decode_one(bytes: &[u8]) -> Result<Self, Unreadable> {
        if u64_at(bytes, 0) != MAGIC || checksum([&bytes[..68]]) != u32_at(bytes, 68) {
            return Err(Unreadable::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            newer => return Err(Unreadable::Newer(newer)),
        }
        Ok(Self {
            volume: VolumeId(u64_at(bytes, 16)),
            start: u64_at(bytes, 24),
            synced: u64_at(bytes, 32),
            life: u64_at(bytes, 40),
            boot: Boot(u64_at(bytes, 48)),
            follows: u64_at(bytes, 56),
        })
    }
}

/// A record where it lies.
#[derive(Clone, Debug)]
pub struct Located {
    /// What it says of itself.
    pub header: Header,
    /// Its payload.
    pub payload: Bytes,
}

/// Bytes of the stream that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the stream.
    pub range: Range<u64>,
    /// Whose record it is, and to which position it moved its partition, where its header is whole.
    pub whose: Option<(Incarnation, u32, Position)>,
}

/// What is in a segment.
#[derive(Clone, Debug)]
pub enum Item {
    /// A whole record.
    Record(Located),
    /// Something else.
    Damage(Damage),
}

impl Item {
    /// Where in the stream it lies.
    pub fn range(&self) -> Range<u64> {
        match self {
            Self::Record(record) => {
                let start = record.header.offset;
                start..start + record.header.record_bytes()
            }
            Self::Damage(damage) => damage.range.clone(),
        }
    }
}

/// A segment, taken apart.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What it says of itself, unless that is damaged.
    pub header: Option<SegmentHeader>,
    /// What is in it, in the order of the stream, without gaps.
    pub items: Vec<Item>,
    /// Where in the stream the file ends.
    pub end: u64,
}

/// Takes the file of the segment that begins at `start` (by its name) apart; `salt` is that of the data directory.
///
/// # Errors
/// The version of the format, when it is a later one.
pub fn parse(file: &Bytes, start: u64, salt: u64) -> Result<Segment, u32> {
    let header = match SegmentHeader::decode(file) {
        Ok(header) => Some(header),
        Err(Unreadable::Newer(version)) => return Err(version),
        Err(Unreadable::Damaged) => None,
    };
    let body = file.slice(HEADER_BYTES.min(file.len())..);
    let mut items = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let offset = start + at as u64;
        let Some(record) = Header::decode(&body[at..], salt, offset) else {
            let next = next_header(&body, at + ALIGNMENT, start, salt).unwrap_or(body.len());
            items.push(Item::Damage(Damage {
                range: offset..start + next as u64,
                whose: None,
            }));
            at = next;
            continue;
        };
        let begin = at + Header::SIZE;
        let end = begin + record.length as usize;
        let next = at + record.record_bytes() as usize;
        let payload = (next <= body.len()).then(|| body.slice(begin..end));
        match payload {
            Some(payload) if checksum([&payload[..]]) == record.payload_checksum => {
                items.push(Item::Record(Located {
                    header: record,
                    payload,
                }));
            }
            _ => items.push(Item::Damage(Damage {
                range: offset..start + next.min(body.len()) as u64,
                whose: Some((record.incarnation, record.partition, record.position)),
            })),
        }
        at = next;
    }
    Ok(Segment {
        header,
        items,
        end: start + body.len() as u64,
    })
}

/// The place of the next whole header at or after `from`.
fn next_header(body: &[u8], from: usize, start: u64, salt: u64) -> Option<usize> {
    (from.next_multiple_of(ALIGNMENT)..body.len())
        .step_by(ALIGNMENT)
        .find(|&at| Header::decode(&body[at..], salt, start + at as u64).is_some())
}
