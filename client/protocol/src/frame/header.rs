//! The fixed headers of frames, field by field, with their offsets.

use super::read::ReadMode;
use crate::{
    PROTOCOL_VERSION,
    element::ElementType,
    error::{ErrorBody, ErrorCode},
    ids::{Epoch, Incarnation, LaneId, ModelId, Number, Position},
};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"GLNT";

fn malformed(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, message)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut array = [0; 2];
    array.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(array)
}
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A request to read.
    Pull = 1,
    /// A request to update.
    Push = 2,
    /// The answer to a pull.
    PullReply = 3,
    /// The answer to a push.
    PushReply = 4,
}

impl Kind {
    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::PullReply => "reply to a pull",
            Self::PushReply => "reply to a push",
        }
    }
}

fn check_frame(bytes: &[u8], size: usize, kinds: &[Kind]) -> Result<Kind, ErrorBody> {
    if bytes.len() < size {
        return Err(malformed(format!(
            "the frame ends after {} of the {size} bytes of its header",
            bytes.len()
        )));
    }
    if bytes[..4] != MAGIC {
        return Err(malformed(
            "the body is no frame of Glint: it does not start with 'GLNT'; for JSON send content-type application/json",
        ));
    }
    if bytes[4] != PROTOCOL_VERSION {
        return Err(ErrorBody::new(
            ErrorCode::UnsupportedProtocol,
            format!(
                "the frame has protocol version {}, this side speaks {PROTOCOL_VERSION}; use matching versions of client and server",
                bytes[4]
            ),
        ));
    }
    let kind = kinds.iter().copied().find(|&k| k as u8 == bytes[5]);
    kind.ok_or_else(|| {
        malformed(format!(
            "frame kind {} is not a {} frame",
            bytes[5],
            kinds.first().map_or("", |k| k.name())
        ))
    })
}

/// Header of a request, 48 bytes: magic 0, version 4, kind 5, flags 6 (u16, 0), groups 8 (u32), reserved 12 (0),
/// lane birth 16 (u64), lane random 24 (u64), number 32 (u64), reserved 40 (8 bytes, 0). A pull has no lane: zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// [`Kind::Pull`] or [`Kind::Push`].
    pub kind: Kind,
    /// How many groups follow.
    pub groups: u32,
    /// Lane of a push.
    pub lane: LaneId,
    /// Number of a push.
    pub number: Number,
}

impl RequestHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 48;

    /// To bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = PROTOCOL_VERSION;
        out[5] = self.kind as u8;
        out[8..12].copy_from_slice(&self.groups.to_le_bytes());
        out[16..24].copy_from_slice(&self.lane.birth.to_le_bytes());
        out[24..32].copy_from_slice(&self.lane.random.to_le_bytes());
        out[32..40].copy_from_slice(&self.number.0.to_le_bytes());
        out
    }

    /// From the first bytes of a frame.
    ///
    /// # Errors
    /// `bad_request` or `unsupported_protocol`, saying what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, ErrorBody> {
        let kind = check_frame(bytes, Self::SIZE, &[Kind::Pull, Kind::Push])?;
        Ok(Self {
            kind,
            groups: u32_at(bytes, 8),
            lane: LaneId {
                birth: u64_at(bytes, 16),
                random: u64_at(bytes, 24),
            },
            number: Number(u64_at(bytes, 32)),
        })
    }
}

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Read values.
    Pull = 1,
    /// Merge values.
    Update = 2,
    /// Settle a number that was given up: the ledger moves, no value does.
    Skip = 3,
}

/// Header of a group, 48 bytes: model 0 (u64), generation 8 (u32), partition 12 (u32), epoch 16 (u64), prev or, in a pull, the
/// bound of the read mode 24 (u64), digest 32 (u32), op 36 (u8), element 37 (u8), sections 38 (u16), length of all sections in
/// bytes 40 (u32), read mode of a pull 44 (u8), reserved 45 (0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The model, as the client knows it.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: u32,
    /// The epoch at which the client believes the server to hold it.
    pub epoch: Epoch,
    /// Push: the last number of this lane that was acknowledged for this partition, 0 if none.
    pub prev: Number,
    /// Push: [`digest`](super::digest) of the group; 0 for a skip.
    pub digest: u32,
    /// Pull: which copies may answer it. A server of before there were copies takes it for [`ReadMode::Latest`], which is
    /// never less than what was asked for.
    pub read: ReadMode,
    /// What the group does.
    pub op: Op,
    /// Element type of the model; none for a skip.
    pub element: Option<ElementType>,
    /// How many sections follow.
    pub sections: u16,
    /// Their bytes.
    pub length: u32,
}

impl GroupHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 48;

    /// To bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0..8].copy_from_slice(&self.incarnation.model.0.to_le_bytes());
        out[8..12].copy_from_slice(&self.incarnation.generation.to_le_bytes());
        out[12..16].copy_from_slice(&self.partition.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        let (mode, bound) = match self.op {
            Op::Pull => self.read.to_wire(),
            Op::Update | Op::Skip => (0, self.prev.0),
        };
        out[24..32].copy_from_slice(&bound.to_le_bytes());
        out[32..36].copy_from_slice(&self.digest.to_le_bytes());
        out[36] = self.op as u8;
        out[37] = self.element.map_or(0, ElementType::code);
        out[38..40].copy_from_slice(&self.sections.to_le_bytes());
        out[40..44].copy_from_slice(&self.length.to_le_bytes());
        out[44] = mode;
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// `bad_request`, saying what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, ErrorBody> {
        if bytes.len() < Self::SIZE {
            return Err(malformed(format!(
                "a group's header ends after {} of {} bytes",
                bytes.len(),
                Self::SIZE
            )));
        }
        let op = match bytes[36] {
            1 => Op::Pull,
            2 => Op::Update,
            3 => Op::Skip,
            other => {
                return Err(malformed(format!(
                    "a group has op {other}; 1 is pull, 2 update, 3 skip"
                )));
            }
        };
        let element = ElementType::from_code(bytes[37]);
        if element.is_none() && !(op == Op::Skip && bytes[37] == 0) {
            return Err(malformed(format!(
                "a group has element type {}; 1 is i32, 2 i64, 3 f32, 4 f64",
                bytes[37]
            )));
        }
        let bound = u64_at(bytes, 24);
        let (prev, read) = match op {
            Op::Pull => (0, ReadMode::from_wire(bytes[44], bound)?),
            Op::Update | Op::Skip => (bound, ReadMode::Latest),
        };
        Ok(Self {
            incarnation: Incarnation {
                model: ModelId(u64_at(bytes, 0)),
                generation: u32_at(bytes, 8),
            },
            partition: u32_at(bytes, 12),
            epoch: Epoch(u64_at(bytes, 16)),
            prev: Number(prev),
            digest: u32_at(bytes, 32),
            read,
            op,
            element,
            sections: u16_at(bytes, 38),
            length: u32_at(bytes, 40),
        })
    }
}

/// Header of a section, 32 bytes: form 0 (u8), index width 1 (u8: 0, 4 or 8), rule 2 (u8; 0 in a pull), flags 3 (0),
/// extension length 4 (u16, 0), reserved 6 (0), start 8 (u64), count 16 (u64), value bytes 24 (u32; 0 in a pull), columns 28 (u32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionHeader {
    /// Code of the form: see [`super::section::Form`].
    pub form: u8,
    /// Bytes of one index: 4 or 8; 0 in a range.
    pub index_width: u8,
    /// Code of the update rule; 0 in a pull.
    pub rule: u8,
    /// Bytes that follow the header and belong to a later version of the protocol; 0 in this one.
    pub extension: u16,
    /// First value of a range.
    pub start: u64,
    /// How many values (range), indices, rows or pairs.
    pub count: u64,
    /// Bytes of values at the end of the section; 0 in a pull.
    pub value_bytes: u32,
    /// Columns of the matrix in a section of rows; 0 elsewhere.
    pub cols: u32,
}

impl SectionHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 32;

    /// To bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0] = self.form;
        out[1] = self.index_width;
        out[2] = self.rule;
        out[4..6].copy_from_slice(&self.extension.to_le_bytes());
        out[8..16].copy_from_slice(&self.start.to_le_bytes());
        out[16..24].copy_from_slice(&self.count.to_le_bytes());
        out[24..28].copy_from_slice(&self.value_bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.cols.to_le_bytes());
        out
    }

    /// From at least [`Self::SIZE`] bytes; none when there are fewer.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < Self::SIZE {
            return None;
        }
        Some(Self {
            form: bytes[0],
            index_width: bytes[1],
            rule: bytes[2],
            extension: u16_at(bytes, 4),
            start: u64_at(bytes, 8),
            count: u64_at(bytes, 16),
            value_bytes: u32_at(bytes, 24),
            cols: u32_at(bytes, 28),
        })
    }
}

/// Header of a reply, 16 bytes: magic 0, version 4, kind 5, flags 6 (u16, 0), results 8 (u32), reserved 12 (0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// [`Kind::PullReply`] or [`Kind::PushReply`].
    pub kind: Kind,
    /// How many results follow: as many as the request had groups.
    pub results: u32,
}

impl ReplyHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 16;

    /// To bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = PROTOCOL_VERSION;
        out[5] = self.kind as u8;
        out[8..12].copy_from_slice(&self.results.to_le_bytes());
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// `bad_request` or `unsupported_protocol`, saying what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, ErrorBody> {
        let kind = check_frame(bytes, Self::SIZE, &[Kind::PullReply, Kind::PushReply])?;
        Ok(Self {
            kind,
            results: u32_at(bytes, 8),
        })
    }
}

/// How a group ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0: a pull's values follow.
    Values,
    /// 1: the update is in, now or since an earlier copy of the request.
    Applied,
    /// 2: the number was settled by a skip.
    Skipped,
    /// 16 and above: an error, whose body follows as JSON.
    Error(ErrorCode),
}

impl Status {
    /// Its number in a frame.
    pub const fn number(self) -> u16 {
        match self {
            Self::Values => 0,
            Self::Applied => 1,
            Self::Skipped => 2,
            Self::Error(code) => code as u16,
        }
    }
}

/// Header of a result, 32 bytes: status 0 (u16), flags 2 (u16), payload length 4 (u32), epoch 8 (u64), position 16 (u64),
/// last or age 24 (u64). Flag 1: the partition has forgotten updates of this lane, all those after number `last`. Flag 2: a copy
/// that is not the holder was read, whose values were whole `age` milliseconds ago. Without a flag the field is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultHeader {
    /// How the group ended.
    pub status: Status,
    /// Bytes of payload.
    pub length: u32,
    /// Epoch of the partition at the server; 0 when it is not there.
    pub epoch: Epoch,
    /// Log position of the partition that was read, or at which the push's verdict was formed.
    pub position: Position,
    /// Push to an `async` model: the last number of this lane that the partition knew, when it is below the `prev` of the
    /// group. What was acknowledged in between is lost: the machine stopped before it was on the disk.
    pub after_loss: Option<Number>,
    /// Pull that a copy answered which is not the holder: its values have everything in that was acknowledged so many
    /// milliseconds ago.
    pub age_ms: Option<u64>,
}

/// A result's flag: the partition has lost updates of the lane.
const AFTER_LOSS: u16 = 1;
/// A result's flag: the values are those of a copy that is not the holder.
const AGED: u16 = 2;

impl ResultHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 32;

    /// To bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0..2].copy_from_slice(&self.status.number().to_le_bytes());
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        if let Some(last) = self.after_loss {
            Self::flag_loss(&mut out, last);
        } else if let Some(age) = self.age_ms {
            out[2..4].copy_from_slice(&AGED.to_le_bytes());
            out[24..32].copy_from_slice(&age.to_le_bytes());
        }
        out
    }

    /// Notes in an encoded header that the partition has forgotten updates after the number `last` of the lane.
    pub fn flag_loss(encoded: &mut [u8], last: Number) {
        encoded[2..4].copy_from_slice(&AFTER_LOSS.to_le_bytes());
        encoded[24..32].copy_from_slice(&last.0.to_le_bytes());
    }

    /// From bytes. A status that this version does not know becomes [`ErrorCode::Internal`].
    ///
    /// # Errors
    /// `bad_request` when there are too few bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ErrorBody> {
        if bytes.len() < Self::SIZE {
            return Err(malformed(format!(
                "a result's header ends after {} of {} bytes",
                bytes.len(),
                Self::SIZE
            )));
        }
        let status = match u16_at(bytes, 0) {
            0 => Status::Values,
            1 => Status::Applied,
            2 => Status::Skipped,
            number => Status::Error(ErrorCode::from_number(number).unwrap_or(ErrorCode::Internal)),
        };
        let (flags, argument) = (u16_at(bytes, 2), u64_at(bytes, 24));
        Ok(Self {
            status,
            length: u32_at(bytes, 4),
            epoch: Epoch(u64_at(bytes, 8)),
            position: Position(u64_at(bytes, 16)),
            after_loss: (flags & AFTER_LOSS != 0).then_some(Number(argument)),
            age_ms: (flags & (AFTER_LOSS | AGED) == AGED).then_some(argument),
        })
    }
}
