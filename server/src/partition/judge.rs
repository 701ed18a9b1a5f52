//! The table by which the holder of a partition judges a group of a push: the first line that fits. It is the law of
//! exactly-once, and each line was found by a model checker to be needed.

use glint_protocol::{
    Durability, Epoch, ErrorBody, ErrorCode, LaneId, Number, Position,
    frame::{GroupHeader, Op},
};

use super::{
    Description, Loss, Partition, Record,
    check::Checked,
    ledger::{Mark, Place},
};

/// How far a lane's birth may lie ahead of the server's clock, in milliseconds: a day. A birth far in the future would
/// never be covered by a horizon, or push the horizon ahead of all honest lanes.
pub const FUTURE_MS: u64 = 24 * 60 * 60 * 1000;

/// How a group ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The update is in: now, or since an earlier copy.
    Applied,
    /// The number was settled by a skip.
    Skipped,
    /// Refused; nothing changed (but that the partition may be found lost).
    Refused(ErrorBody),
}

/// A judgement, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How the group ended.
    pub outcome: Outcome,
    /// The epoch of the partition.
    pub epoch: Epoch,
    /// The position at which the verdict was formed: it may be told once this is safe.
    pub position: Position,
    /// Whether it was answered from the ledger.
    pub repeated: bool,
    /// The last number of the lane that was known, when its client remembers a later one: the partition is of an `async`
    /// model, and has forgotten updates. Repetitions of the number say it again.
    pub after_loss: Option<Number>,
}

/// A group of a push.
#[derive(Clone, Copy, Debug)]
pub struct Pushed<'a> {
    /// The lane of the request.
    pub lane: LaneId,
    /// Its number.
    pub number: Number,
    /// The group's header.
    pub header: &'a GroupHeader,
}

impl Partition {
    /// Judges one group of a push, and applies it if it is new.
    ///
    /// `checked` is what [`super::check::check`] said of it: the spec and the bytes do not depend on the partition's
    /// state, so that they are looked at before the partition is locked. `room` says whether there is room for the record
    /// of a new update; it refuses nothing else. `now` tells the time of day in milliseconds since 1970, and is asked only
    /// for a lane that is not known.
    ///
    /// The group's digest is the client's and is not computed again: it tells two requests under one number apart, and a
    /// client that lies about it harms nothing but its own lane; computing it would cost more than all the rest of the
    /// ledger.
    pub fn judge_and_apply(
        &mut self,
        description: &Description,
        pushed: Pushed<'_>,
        checked: Result<&Checked<'_>, &ErrorBody>,
        room: Result<(), ErrorBody>,
        now: impl FnOnce() -> u64,
    ) -> Verdict {
        match self.judge(description, pushed, checked, room, now) {
            Ok(Judgement::Repeated(outcome)) => Verdict {
                // The answer that said so may have been lost.
                after_loss: self.ledger().after_loss(pushed.lane),
                ..self.verdict(outcome, true)
            },
            Ok(Judgement::New {
                record,
                place,
                after_loss,
            }) => {
                let outcome = match record {
                    Record::Skip { .. } => Outcome::Skipped,
                    Record::Update { .. } | Record::Evict { .. } => Outcome::Applied,
                };
                self.apply_at(Some(place), description.rule, description.cols, record);
                Verdict {
                    after_loss,
                    ..self.verdict(outcome, false)
                }
            }
            Err(error) => {
                if error.code == ErrorCode::Lost {
                    self.lose(Loss::Forgotten);
                }
                self.verdict(Outcome::Refused(error), false)
            }
        }
    }

    /// What every request to a partition meets first: whether it is lost, or is served at another epoch.
    pub fn admit(&self, description: &Description, epoch: Epoch) -> Result<(), ErrorBody> {
        if self.loss().is_none() && epoch == self.epoch() {
            return Ok(());
        }
        Err(self.not_admitted(description, epoch))
    }

    #[cold]
    fn not_admitted(&self, description: &Description, epoch: Epoch) -> ErrorBody {
        if let Some(loss) = self.loss() {
            return lost(description, loss);
        }
        let (code, message) = if epoch < self.epoch() {
            (
                ErrorCode::StaleMap,
                format!(
                    "partition {} of model '{}' is at epoch {} here, the request at {epoch}; take a fresh map",
                    description.partition,
                    description.model,
                    self.epoch()
                ),
            )
        } else {
            (
                ErrorCode::NotYet,
                format!(
                    "partition {} of model '{}' is at epoch {} here, and the request already at {epoch}; send it again after a pause",
                    description.partition,
                    description.model,
                    self.epoch()
                ),
            )
        };
        ErrorBody::new(code, message).with(|detail| detail.epoch = Some(self.epoch()))
    }

    fn judge<'a>(
        &self,
        description: &Description,
        pushed: Pushed<'_>,
        checked: Result<&'a Checked<'a>, &ErrorBody>,
        room: Result<(), ErrorBody>,
        now: impl FnOnce() -> u64,
    ) -> Result<Judgement<'a>, ErrorBody> {
        let Pushed {
            lane,
            number,
            header,
        } = pushed;
        self.admit(description, header.epoch)?;
        let checked = checked.map_err(ErrorBody::clone)?;
        let refuse = |code, message: String| Err(ErrorBody::new(code, message));
        let ledger = self.ledger();
        let place = ledger.find(lane);
        let last = match ledger.at(place) {
            Some(entry) if number < entry.number => {
                return refuse(
                    ErrorCode::Superseded,
                    format!(
                        "number {number} of lane {lane} is below {}, its last here; open a new lane",
                        entry.number
                    ),
                );
            }
            Some(entry) if number == entry.number => {
                return match (entry.mark, header.op) {
                    (Mark::Skipped, _) => Ok(Judgement::Repeated(Outcome::Skipped)),
                    (Mark::Applied(_), Op::Skip) => Ok(Judgement::Repeated(Outcome::Applied)),
                    (Mark::Applied(digest), _) if digest == header.digest => {
                        Ok(Judgement::Repeated(Outcome::Applied))
                    }
                    (Mark::Applied(_), _) => refuse(
                        ErrorCode::LaneConflict,
                        format!(
                            "number {number} of lane {lane} was used here with other sections; two processes share the lane, or a repeated request was changed: open a new lane"
                        ),
                    ),
                };
            }
            Some(entry) => entry.number,
            None => {
                self.admit_lane(description, lane, now())?;
                Number(0)
            }
        };
        let forgotten = last < header.prev;
        if forgotten {
            tracing::error!(
                model = %description.model, partition = description.partition, %lane, %last, prev = %header.prev,
                "a client remembers an acknowledgement that is not here: the partition has lost updates"
            );
            if description.durability != Durability::Async {
                return Err(lost(description, &Loss::Forgotten));
            }
        }
        room?;
        let after_loss = forgotten.then_some(last);
        let record = match header.op {
            Op::Skip => Record::Skip {
                lane,
                number,
                after_loss,
            },
            Op::Update | Op::Pull => Record::Update {
                lane,
                number,
                after_loss,
                digest: header.digest,
                sections: &checked.sections,
            },
        };
        Ok(Judgement::New {
            record,
            place,
            after_loss,
        })
    }

    /// Whether a lane that has no entry may have one.
    fn admit_lane(
        &self,
        description: &Description,
        lane: LaneId,
        now: u64,
    ) -> Result<(), ErrorBody> {
        let ledger = self.ledger();
        let horizon = ledger.horizon();
        if lane.birth <= horizon {
            let error = ErrorBody::new(
                ErrorCode::LaneExpired,
                format!(
                    "lane {lane} has no entry here and was born at or before the horizon {horizon}; open a new lane with a later birth"
                ),
            );
            return Err(error.with(|detail| detail.horizon = Some(horizon)));
        }
        if lane.birth > now.saturating_add(FUTURE_MS) {
            let error = ErrorBody::new(
                ErrorCode::LaneFromFuture,
                format!(
                    "lane {lane} was born more than a day ahead of this server's clock ({now}); set the clocks, and open a new lane"
                ),
            );
            return Err(error.with(|detail| detail.now = Some(now)));
        }
        if ledger.is_full() {
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                format!(
                    "the ledger of partition {} of model '{}' has its {} lanes; idle ones are evicted in time: send again after a pause, and use fewer lanes",
                    description.partition,
                    description.model,
                    ledger.len()
                ),
            ));
        }
        Ok(())
    }

    fn verdict(&self, outcome: Outcome, repeated: bool) -> Verdict {
        Verdict {
            outcome,
            epoch: self.epoch(),
            position: self.position(),
            repeated,
            after_loss: None,
        }
    }
}

enum Judgement<'a> {
    Repeated(Outcome),
    New {
        record: Record<'a>,
        /// Of its lane.
        place: Place,
        after_loss: Option<Number>,
    },
}

fn lost(description: &Description, loss: &Loss) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Lost,
        format!(
            "the values of partition {} of model '{}' are lost: {loss}. Start the model again from its initial value with: glint model reset {}",
            description.partition, description.model, description.model
        ),
    )
}
