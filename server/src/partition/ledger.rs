//! The ledger: per lane the last number that was settled here, with its digest. It is what makes a repeated push
//! recognisable, and it is bounded: a lane that is not in it and cannot be shown to be new is refused.

use std::collections::{BTreeMap, BTreeSet};

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
    /// By lane. A list and no tree: every push searches it, which takes fewer instructions, and new lanes are born last, so
    /// that they come to its end. (One that claims an early birth moves all later ones, at most 2.5 MiB.)
    entries: Vec<(LaneId, Entry)>,
    /// Of lanes whose last number came after a loss: the last that was known then. Kept until the lane's next number, so that
    /// its client hears of the loss though the first answer was lost.
    after_loss: BTreeMap<LaneId, Number>,
    horizon: u64,
}

/// Where a lane stands in a ledger, or would stand; until the ledger changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(Result<usize, usize>);

/// The order of lanes as one number, which the processor compares without a branch.
fn rank(lane: LaneId) -> u128 {
    u128::from(lane.birth) << 64 | u128::from(lane.random)
}

impl Ledger {
    /// A ledger as it was, from its horizon and entries, and the last numbers that were known of lanes before a loss.
    pub fn restore(
        horizon: u64,
        entries: impl IntoIterator<Item = (LaneId, Entry)>,
        after_loss: impl IntoIterator<Item = (LaneId, Number)>,
    ) -> Self {
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        Self {
            entries: entries.into_iter().collect(),
            after_loss: after_loss.into_iter().collect(),
            horizon,
        }
    }

    /// What is known of a lane.
    pub fn entry(&self, lane: LaneId) -> Option<Entry> {
        self.at(self.find(lane))
    }

    /// Looks for a lane.
    pub(super) fn find(&self, lane: LaneId) -> Place {
        let found = self
            .entries
            .binary_search_by_key(&rank(lane), |&(other, _)| rank(other));
        Place(found)
    }

    /// What stands at a place.
    pub(super) fn at(&self, place: Place) -> Option<Entry> {
        let at = place.0.ok()?;
        self.entries.get(at).map(|&(_, entry)| entry)
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
        self.entries.iter().copied()
    }

    /// The last number of a lane that was known before a loss, if its last one came after one.
    pub fn after_loss(&self, lane: LaneId) -> Option<Number> {
        self.after_loss.get(&lane).copied()
    }

    /// All such lanes, by lane.
    pub fn losses(&self) -> impl Iterator<Item = (LaneId, Number)> + '_ {
        self.after_loss.iter().map(|(&lane, &last)| (lane, last))
    }

    /// Notes a number of a lane, which was found at this place.
    pub(super) fn note(
        &mut self,
        place: Place,
        lane: LaneId,
        entry: Entry,
        after_loss: Option<Number>,
    ) {
        match place.0 {
            Ok(at) => self.entries[at].1 = entry,
            Err(at) => self.entries.insert(at, (lane, entry)),
        }
        if let Some(last) = after_loss {
            self.after_loss.insert(lane, last);
        } else if !self.after_loss.is_empty() {
            self.after_loss.remove(&lane);
        }
    }

    pub(super) fn evict(&mut self, lanes: &[LaneId]) {
        let lanes: BTreeSet<_> = lanes.iter().copied().collect();
        for lane in &lanes {
            self.after_loss.remove(lane);
        }
        self.entries.retain(|(lane, _)| {
            let stays = !lanes.contains(lane);
            if !stays {
                self.horizon = self.horizon.max(lane.birth);
            }
            stays
        });
        // What many lanes took is given back.
        self.entries.shrink_to(2 * self.entries.len());
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn however_lanes_come_and_go_it_has_what_a_map_by_lane_would_have() {
        let mut random = StdRng::seed_from_u64(7);
        let (mut ledger, mut map) = (Ledger::default(), BTreeMap::new());
        let mut horizon = 0;
        for number in 1..5000 {
            let mut lane = || LaneId {
                birth: random.random_range(1..30),
                random: random.random_range(0..5),
            };
            let other = lane();
            if number % 50 == 0 {
                // In any order, some twice, some that it does not have.
                let gone: Vec<_> = (0..40).map(|_| lane()).collect();
                ledger.evict(&gone);
                for lane in &gone {
                    if map.remove(lane).is_some() {
                        horizon = horizon.max(lane.birth);
                    }
                }
            } else {
                let lane = lane();
                let entry = Entry {
                    number: Number(number),
                    mark: Mark::Applied(number as u32),
                };
                ledger.note(ledger.find(lane), lane, entry, None);
                map.insert(lane, entry);
                assert_eq!(ledger.entry(lane), Some(entry));
            }
            assert_eq!(ledger.entry(other), map.get(&other).copied());
            assert!(ledger.iter().eq(map.iter().map(|(&lane, &e)| (lane, e))));
            assert_eq!((ledger.len(), ledger.horizon()), (map.len(), horizon));
        }
        // As it is restored, in whatever order it is told.
        let mut entries: Vec<_> = ledger.iter().collect();
        entries.reverse();
        assert_eq!(Ledger::restore(horizon, entries, []), ledger);
    }
}
