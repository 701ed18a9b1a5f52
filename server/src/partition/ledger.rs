//! The ledger: per lane the last number that was settled here, with its digest. It is what makes a repeated push
//! recognisable, and it is bounded: a lane that is not in it and cannot be shown to be new is refused.

use std::collections::BTreeMap;

use glint_protocol::{LaneId, Number};

/// The most lanes that a ledger keeps.
pub const MAX_ENTRIES: usize = 65_536;

/// How a number was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Its update was applied; the digest of its sections.
    Applied(u32),
    /// It was given up.
    Skipped,
}

/// What the ledger knows of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last number that was settled.
    pub number: Number,
    /// How.
    pub mark: Mark,
}

/// The ledger of one partition. Ordered by lane, so that its order is the same wherever it is replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<LaneId, Entry>,
    /// Of lanes whose last number came after a loss: the last that was known then. Kept until the lane's next number, so that
    /// its client hears of the loss though the first answer was lost.
    after_loss: BTreeMap<LaneId, Number>,
    horizon: u64,
}

impl Ledger {
    /// A ledger as it was, from its horizon and entries, and the last numbers that were known of lanes before a loss.
    pub fn restore(
        horizon: u64,
        entries: impl IntoIterator<Item = (LaneId, Entry)>,
        after_loss: impl IntoIterator<Item = (LaneId, Number)>,
    ) -> Self {
        Self {
            entries: entries.into_iter().collect(),
            after_loss: after_loss.into_iter().collect(),
            horizon,
        }
    }

    /// What is known of a lane.
    pub fn entry(&self, lane: LaneId) -> Option<Entry> {
        self.entries.get(&lane).copied()
    }

    /// Lanes born at or before this and not in the ledger may have been evicted, in milliseconds since 1970.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// How many lanes it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is no room for another lane.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES
    }

    /// All lanes and their entries, by lane.
    pub fn iter(&self) -> impl Iterator<Item = (LaneId, Entry)> + '_ {
        self.entries.iter().map(|(&lane, &entry)| (lane, entry))
    }

    /// The last number of a lane that was known before a loss, if its last one came after one.
    pub fn after_loss(&self, lane: LaneId) -> Option<Number> {
        self.after_loss.get(&lane).copied()
    }

    /// All such lanes, by lane.
    pub fn losses(&self) -> impl Iterator<Item = (LaneId, Number)> + '_ {
        self.after_loss.iter().map(|(&lane, &last)| (lane, last))
    }

    pub(super) fn note(
        &mut self,
        lane: LaneId,
        number: Number,
        mark: Mark,
        after_loss: Option<Number>,
    ) {
        self.entries.insert(lane, Entry { number, mark });
        if let Some(last) = after_loss {
            self.after_loss.insert(lane, last);
        } else if !self.after_loss.is_empty() {
            self.after_loss.remove(&lane);
        }
    }

    pub(super) fn evict(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            self.after_loss.remove(lane);
            if self.entries.remove(lane).is_some() {
                self.horizon = self.horizon.max(lane.birth);
            }
        }
    }
}
