//! A partition: one slice of a model's values with its ledger, as a deterministic state machine.
//!
//! Everything here is synchronous, without clock, randomness or I/O. What changes a partition is a [`Record`], and
//! [`Partition::apply`] is a pure function of the records in their order: a log of them, replayed, gives the same values
//! and the same ledger, bit for bit. [`Partition::judge_and_apply`] decides what a push becomes; whatever such a decision
//! needs of the outside (the time of day) is an argument.
//!
//! - [`values`]: the values in memory
//! - [`check`]: whether a group is valid, before anything changes
//! - [`rule`]: merging, straight from a frame's bytes
//! - [`read`]: the same forms, read into a reply
//! - [`ledger`]: what makes a repeated push recognisable
//! - [`cut`]: its whole state at one position, read piece by piece while updates go on
//! - [`judge`]: the table by which a push is judged

pub mod check;
pub mod cut;
pub mod judge;
pub mod ledger;
pub mod read;
pub mod rule;
pub mod values;

use std::{collections::TryReserveError, sync::Arc};

use glint_protocol::{
    Durability, ElementType, Epoch, Incarnation, LaneId, LossReason, ModelSpec, Number, Position,
    Rule, frame::Section, partitioner::partition_size,
};

pub use judge::{Outcome, Verdict};
pub use ledger::Ledger;
use ledger::{Entry, Mark, Place};
pub use values::Values;

/// What never changes in the life of a partition.
#[derive(Clone, Debug)]
pub struct Description {
    /// The model's name, for messages.
    pub model: Arc<str>,
    /// Which model.
    pub incarnation: Incarnation,
    /// Which partition of it.
    pub partition: u32,
    /// Keys (a matrix: rows) of this partition.
    pub keys: u64,
    /// Values per key: 1 for a vector, the columns of a matrix.
    pub cols: u32,
    /// Whether the model is a matrix.
    pub matrix: bool,
    /// The type of its values.
    pub element: ElementType,
    /// How updates are merged.
    pub rule: Rule,
    /// What an acknowledged push survives.
    pub durability: Durability,
}

impl Description {
    /// Of one partition of a model.
    pub fn new(spec: &ModelSpec, incarnation: Incarnation, partition: u32) -> Self {
        Self {
            model: spec.name.as_str().into(),
            incarnation,
            partition,
            keys: partition_size(spec, partition),
            cols: spec.shape.cols(),
            matrix: spec.shape.is_matrix(),
            element: spec.element,
            rule: spec.rule,
            durability: spec.durability(),
        }
    }

    /// How many values it has.
    pub fn value_count(&self) -> u64 {
        self.keys.saturating_mul(self.cols.into())
    }

    /// Bytes of its values.
    pub fn value_bytes(&self) -> u64 {
        self.value_count()
            .saturating_mul(self.element.size() as u64)
    }
}

/// One record of a partition's log: what moves it from one position to the next.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// Merge values, and note the lane's number.
    Update {
        /// The lane.
        lane: LaneId,
        /// Its number.
        number: Number,
        /// The last number of the lane that was known, where its client remembered a later one.
        after_loss: Option<Number>,
        /// Digest of the sections, as the client computed it.
        digest: u32,
        /// The sections; valid for the partition.
        sections: &'a [Section<'a>],
    },
    /// Note the lane's number; no value moves.
    Skip {
        /// The lane.
        lane: LaneId,
        /// Its number.
        number: Number,
        /// The last number of the lane that was known, where its client remembered a later one.
        after_loss: Option<Number>,
    },
    /// Forget lanes, and refuse every unknown lane born at or before the youngest of them.
    Evict {
        /// The lanes.
        lanes: &'a [LaneId],
    },
}

/// Why a partition cannot serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server was told to hold it and has no values of it.
    Absent,
    /// The master says so, and why if it knows.
    Told(Option<LossReason>),
    /// A client remembers an acknowledgement of it that is not in the ledger.
    Forgotten,
    /// An update was interrupted by a defect of the program, so that nobody knows how much of it is in.
    Interrupted,
    /// What its files had is damaged or missing; which, and where.
    Damaged(Arc<str>),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "its server started again without them",
            Self::Told(None) => "the master has given them up",
            Self::Told(Some(reason)) => return reason.fmt(f),
            Self::Forgotten => "an acknowledged update is missing",
            Self::Interrupted => "an update was interrupted by a defect of the server",
            Self::Damaged(what) => what,
        })
    }
}

/// One slice of a model.
#[derive(Debug)]
pub struct Partition {
    values: Values,
    ledger: Ledger,
    position: Position,
    epoch: Epoch,
    /// The epoch of the last record.
    last: Epoch,
    loss: Option<Loss>,
    /// Set while its state is read piece by piece.
    reading: Option<cut::Reading>,
}

impl Partition {
    /// A partition with the model's initial value everywhere.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(
        description: &Description,
        spec: &ModelSpec,
        epoch: Epoch,
    ) -> Result<Self, TryReserveError> {
        let count = usize::try_from(description.value_count()).unwrap_or(usize::MAX);
        Ok(Self {
            values: Values::new(spec.element, count, spec.initial)?,
            ledger: Ledger::default(),
            position: Position(0),
            epoch,
            last: epoch,
            loss: None,
            reading: None,
        })
    }

    /// A partition as it was after the record at this epoch and position.
    pub fn restore(values: Values, ledger: Ledger, position: Position, last: Epoch) -> Self {
        Self {
            values,
            ledger,
            position,
            epoch: last,
            last,
            loss: None,
            reading: None,
        }
    }

    /// Puts values from their little-endian bytes, from this place on: in the place of others, or behind the last.
    pub fn put_values(&mut self, at: usize, bytes: &[u8]) {
        self.values.put_le(at, bytes);
    }

    /// Puts zeros behind the last value, up to so many values.
    pub fn put_zeros(&mut self, count: usize) {
        self.values.grow(count);
    }

    /// A partition that should be here and is not: it answers `lost`, and holds no values.
    pub fn absent(description: &Description, epoch: Epoch, loss: Loss) -> Self {
        Self {
            values: Values::empty(description.element),
            ledger: Ledger::default(),
            position: Position(0),
            epoch,
            last: epoch,
            loss: Some(loss),
            reading: None,
        }
    }

    /// Applies a record: the only way in which values, ledger and position change. The record must be valid.
    pub fn apply(&mut self, rule: Rule, cols: u32, record: Record<'_>) -> Position {
        self.apply_at(None, rule, cols, record)
    }

    /// The same, when the lane of the record was found in the ledger already.
    fn apply_at(
        &mut self,
        place: Option<Place>,
        rule: Rule,
        cols: u32,
        record: Record<'_>,
    ) -> Position {
        let noted = match record {
            Record::Update {
                lane,
                number,
                after_loss,
                digest,
                sections,
            } => {
                if let Some(reading) = &mut self.reading {
                    reading.keep(&self.values, cols, sections);
                }
                rule::apply(&mut self.values, rule, cols, sections);
                Some((lane, number, Mark::Applied(digest), after_loss))
            }
            Record::Skip {
                lane,
                number,
                after_loss,
            } => Some((lane, number, Mark::Skipped, after_loss)),
            Record::Evict { lanes } => {
                self.ledger.evict(lanes);
                None
            }
        };
        if let Some((lane, number, mark, after_loss)) = noted {
            let place = place.unwrap_or_else(|| self.ledger.find(lane));
            self.ledger
                .note(place, lane, Entry { number, mark }, after_loss);
        }
        self.position = self.position.next();
        self.last = self.epoch;
        self.position
    }

    /// The last record was written at this epoch, though the partition may be at a later one.
    pub fn written_at(&mut self, epoch: Epoch) {
        self.last = epoch;
    }

    /// Merges values without the ledger: for measuring what the ledger costs.
    pub fn merge_only(&mut self, rule: Rule, cols: u32, sections: &[Section<'_>]) {
        rule::apply(&mut self.values, rule, cols, sections);
        self.position = self.position.next();
    }

    /// Its values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Its ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many records it has applied.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The epoch at which it is served.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The epoch of its last record: with the position it names that record for ever.
    pub fn last_epoch(&self) -> Epoch {
        self.last
    }

    /// Raises the epoch; a lower one is ignored.
    pub fn raise_epoch(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Why it cannot serve, if it cannot.
    pub fn loss(&self) -> Option<&Loss> {
        self.loss.as_ref()
    }

    /// Makes it lost: only another incarnation of the model serves again.
    pub fn lose(&mut self, loss: Loss) {
        self.loss.get_or_insert(loss);
    }
}

#[cfg(test)]
mod tests;
