//! One partition's share of a numbered request, from the moment it is frozen until its number is settled.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use glint_protocol::{
    Epoch, ErrorCode, Number,
    error::{ErrorBody, Retry},
    frame::{self, GroupHeader, Kind, Op, ReadMode, RequestHeader, Status},
};
use glint_world::http::Frames;
use tokio::time::Instant;

use super::{
    book::{LaneTag, Slot},
    ticket::Piece,
};
use crate::{
    Applied, Error,
    pull::{refusal, take_hint},
    reply::Answer,
    retry::Attempts,
    routing::Model,
    transport::Trouble,
};

/// Sections up to this many bytes are copied into one buffer; larger ones go to the network from where they are.
const COPIED: usize = 4096;

/// The shortest time that an attempt to settle is given.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(100);
/// Longer than any request takes.
const LONG: Duration = Duration::from_secs(3600);

/// The time, by the timers and by the clock on the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

/// What is frozen: the same sections under the same lane and number in every copy.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) slot: Slot,
    pub(crate) model: Arc<Model>,
    pub(crate) partition: u32,
    pub(crate) lane: Arc<LaneTag>,
    pub(crate) number: Number,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) digest: u32,
    pub(crate) length: usize,
    pub(crate) attempts: Attempts,
    /// A copy may have left: without one the number needs no settling.
    pub(crate) sent: bool,
    /// All its operations are given up: only the number is to be settled.
    pub(crate) skip: bool,
    /// The server that it was sent to last, and the epoch at which.
    pub(crate) server: usize,
    pub(crate) epoch: Epoch,
    /// Its place in the request.
    pub(crate) place: usize,
    /// How many answers of the master had come then.
    pub(crate) answers: u64,
    /// The time of day when it was frozen, in milliseconds since 1970.
    frozen_ms: u64,
}

/// What an attempt means for a group.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Settled: the update is in.
    Applied,
    /// Settled: the number is in the ledger, the update is not in.
    Skipped,
    /// Its number is settled or cannot be settled; its operations have failed.
    Failed(Error, LaneEnd),
    /// The same again.
    Again { fresh_map: bool },
    /// Certainly not applied, and its lane is too old: the same sections under a number of a new lane.
    Reissue { horizon: Option<u64> },
}

/// What becomes of the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneEnd {
    /// It goes on.
    Keep,
    /// It gives no more numbers; what is out on it is still settled.
    Replace,
    /// It has ended, with all that is out on it.
    End,
}

impl Group {
    pub(crate) fn freeze(
        slot: Slot,
        lane: Arc<LaneTag>,
        number: Number,
        pieces: Vec<Piece>,
        now: Now,
    ) -> Option<Self> {
        let first = pieces.first()?;
        let (model, partition) = (Arc::clone(&first.model), first.partition);
        let sections = pieces.iter().map(|piece| &piece.section[..]);
        let digest = frame::digest(model.incarnation, partition, sections);
        let length = pieces.iter().map(|piece| piece.section.len()).sum();
        Some(Self {
            slot,
            model,
            partition,
            lane,
            number,
            digest,
            length,
            pieces,
            attempts: Attempts::since(now.instant),
            sent: false,
            skip: false,
            server: usize::MAX,
            epoch: Epoch(0),
            place: 0,
            answers: 0,
            frozen_ms: now.unix_ms,
        })
    }

    /// Whether its partition is elsewhere than where it was sent last.
    pub(crate) fn has_moved(&self) -> bool {
        let at = (self.partition, self.server, self.epoch);
        !self.model.is_held(at.0, at.1, at.2)
    }

    /// It was sent, and is not waited for where that was: what became of it there is unknown.
    pub(crate) fn abandon(&mut self) {
        self.sent = true;
        self.note(&Trouble::Moved);
        self.attempts.moved();
    }

    /// Whether the deadline has passed. Timers stand still while a machine is suspended, the time of day does not: servers may
    /// have forgotten the lane meanwhile.
    fn is_late(&self, now: Now) -> bool {
        let allowed = self
            .deadline()
            .saturating_duration_since(self.attempts.since);
        let passed = Duration::from_millis(now.unix_ms.saturating_sub(self.frozen_ms));
        now.instant > self.deadline() || passed > allowed
    }

    /// The last deadline of its operations.
    fn deadline(&self) -> Instant {
        let deadlines = self.pieces.iter().map(|piece| piece.ticket.deadline);
        deadlines.max().unwrap_or(self.attempts.since)
    }

    /// When it is no longer tried, only settled: when every operation in it has come so far.
    pub(crate) fn settle_by(&self) -> Instant {
        let times = self.pieces.iter().map(|piece| piece.ticket.settle_by);
        times.max().unwrap_or(self.attempts.since)
    }

    /// When even settling is given up.
    pub(crate) fn give_up_by(&self, timeout: Duration) -> Instant {
        self.deadline() + timeout
    }

    /// When an attempt that starts now is to be given up, at the latest: so early that the number can still be settled
    /// before the deadline.
    pub(crate) fn give_up_attempt(&self, now: Instant) -> Instant {
        let settle_by = self.settle_by();
        if now < settle_by {
            return settle_by;
        }
        let rest = self.deadline().saturating_duration_since(now);
        if rest.is_zero() {
            // The callers have their answer; for the lane there is no hurry.
            return now + LONG;
        }
        now + (rest / 2).max(SHORTEST_ATTEMPT)
    }

    fn note(&mut self, cause: &dyn ToString) {
        let cause = cause.to_string();
        for piece in &self.pieces {
            piece.ticket.note(self.attempts.count, &cause);
        }
        self.attempts.failed(&cause);
    }

    fn note_refusal(&mut self, body: &ErrorBody) {
        self.note(body);
        self.attempts.refused(body, self.epoch);
    }

    pub(crate) fn unknown(&self, cause: impl Into<String>) -> Error {
        Error::Unknown {
            model: self.model.name().to_owned(),
            cause: cause.into(),
            tried: self.attempts.tried(),
        }
    }

    pub(crate) fn not_applied(&self) -> Error {
        Error::DeadlineExceeded {
            what: format!("a push to model '{}'", self.model.name()),
            tried: self.attempts.tried(),
        }
    }

    /// After a refusal: certainly not applied if this was the only copy.
    fn doubt(&self) -> Applied {
        if self.attempts.count > 1 {
            Applied::Unknown
        } else {
            Applied::No
        }
    }

    /// Ends its operations.
    pub(crate) fn end(self, end: &Result<(), Error>) {
        for piece in self.pieces {
            piece.end(end.clone());
        }
    }

    /// Judges the answer of a server to this group.
    pub(crate) fn judge(&mut self, answer: &Answer, now: Now) -> Verdict {
        if self.lane.has_ended() {
            return Verdict::Failed(self.unknown("its lane has ended"), LaneEnd::Keep);
        }
        match answer.status {
            Status::Applied => Verdict::Applied,
            Status::Skipped => Verdict::Skipped,
            Status::Values => {
                self.note(&"values answer a push");
                Verdict::Again { fresh_map: true }
            }
            Status::Error(code) => {
                let body = answer
                    .error()
                    .unwrap_or_else(|| ErrorBody::new(code, String::new()));
                self.note_refusal(&body);
                self.judge_error(body, now)
            }
        }
    }

    fn judge_error(&mut self, body: ErrorBody, now: Now) -> Verdict {
        let failed = |error| Verdict::Failed(error, LaneEnd::Keep);
        let applied = self.doubt();
        match body.code {
            ErrorCode::Bad => failed(refusal(&self.model, self.partition, body, Applied::No)),
            ErrorCode::Gone => failed(refusal(&self.model, self.partition, body, applied)),
            ErrorCode::Lost => Verdict::Failed(
                refusal(&self.model, self.partition, body, applied),
                LaneEnd::Replace,
            ),
            ErrorCode::LaneExpired if self.is_late(now) => {
                Verdict::Failed(self.unknown(body.to_string()), LaneEnd::Replace)
            }
            ErrorCode::LaneExpired if self.skip => {
                Verdict::Failed(self.not_applied(), LaneEnd::Replace)
            }
            ErrorCode::LaneExpired => Verdict::Reissue {
                horizon: body.detail.and_then(|d| d.horizon),
            },
            ErrorCode::StaleMap => {
                take_hint(&self.model, self.partition, &body);
                Verdict::Again { fresh_map: true }
            }
            // Such as from a holder without its lease, or one that has come back: another may hold it by now.
            ErrorCode::Retry => Verdict::Again { fresh_map: true },
            code => match code.retry() {
                Retry::Later => Verdict::Again { fresh_map: false },
                Retry::FreshMap => Verdict::Again { fresh_map: true },
                Retry::NewLane => Verdict::Failed(self.unknown(body.to_string()), LaneEnd::End),
                Retry::Never => self.refused(body),
            },
        }
    }

    /// A refusal that another attempt would not change.
    fn refused(&self, body: ErrorBody) -> Verdict {
        match self.doubt() {
            Applied::No => {
                let (holder, _) = self.model.holder(self.partition);
                let url = holder.connections.url().to_string();
                Verdict::Failed(Error::refusal(body, url), LaneEnd::Keep)
            }
            // An earlier copy may still be on its way, and nothing here settles it.
            Applied::Unknown => Verdict::Failed(self.unknown(body.to_string()), LaneEnd::Replace),
        }
    }

    /// Judges that a whole request brought no answer.
    pub(crate) fn judge_trouble(&mut self, trouble: &Trouble) -> Verdict {
        if self.lane.has_ended() {
            return Verdict::Failed(self.unknown("its lane has ended"), LaneEnd::Keep);
        }
        self.note(trouble);
        match trouble {
            Trouble::Unsent(_) => Verdict::Again { fresh_map: true },
            Trouble::Unanswered(_) | Trouble::NotGlint(_) | Trouble::Moved => {
                self.sent = true;
                Verdict::Again { fresh_map: true }
            }
            Trouble::Refused(body) => {
                self.sent = true;
                match body.code.retry() {
                    Retry::Later => Verdict::Again {
                        fresh_map: body.code == ErrorCode::Retry,
                    },
                    Retry::FreshMap => Verdict::Again { fresh_map: true },
                    Retry::Never | Retry::NewLane => self.refused(body.clone()),
                }
            }
        }
    }

    fn header(&self, prev: Number) -> GroupHeader {
        GroupHeader {
            incarnation: self.model.incarnation,
            partition: self.partition,
            epoch: self.epoch,
            prev,
            digest: if self.skip { 0 } else { self.digest },
            read: ReadMode::Latest,
            op: if self.skip { Op::Skip } else { Op::Update },
            element: (!self.skip).then_some(self.model.spec.element),
            sections: if self.skip {
                0
            } else {
                self.pieces.len() as u16
            },
            length: if self.skip { 0 } else { self.length as u32 },
        }
    }
}

/// The body of a request: groups of one lane and number, each with its `prev`.
pub(crate) fn compose(groups: &[Group], prev: impl Fn(&Group) -> Number) -> Frames {
    let mut frames = Frames::default();
    let Some(first) = groups.first() else {
        return frames;
    };
    let small: usize = groups
        .iter()
        .flat_map(|group| &group.pieces)
        .map(|piece| piece.section.len())
        .filter(|&length| length <= COPIED)
        .sum();
    let room = RequestHeader::SIZE + groups.len() * GroupHeader::SIZE + small;
    let mut head = Vec::with_capacity(room);
    let header = RequestHeader {
        kind: Kind::Push,
        groups: groups.len() as u32,
        lane: first.lane.id,
        number: first.number,
    };
    head.extend_from_slice(&header.encode());
    for group in groups {
        head.extend_from_slice(&group.header(prev(group)).encode());
        if group.skip {
            continue;
        }
        for piece in &group.pieces {
            if piece.section.len() <= COPIED {
                head.extend_from_slice(&piece.section);
            } else {
                frames.push(Bytes::from(std::mem::take(&mut head)));
                frames.push(piece.section.clone());
            }
        }
    }
    frames.push(Bytes::from(head));
    frames
}
