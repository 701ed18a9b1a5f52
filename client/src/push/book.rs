//! What a lane knows of the partitions it pushes to: what waits, what is unsettled, what was acknowledged last. No I/O.
//!
//! The rule that it keeps: **at most one unsettled number per lane and partition**. A partition whose number is unsettled
//! is not handed out again; the others go on with higher numbers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use glint_protocol::{Incarnation, LaneId, Number};

use crate::spread::Spreading;

/// A lane that numbers were taken from. Requests keep it, so that they learn when it ends.
#[derive(Debug)]
pub(crate) struct LaneTag {
    pub(crate) id: LaneId,
    ended: AtomicBool,
}

impl LaneTag {
    /// Whether nothing that is still unsettled on it can be settled any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// A partition in the book.
pub(crate) type Slot = usize;

#[derive(Debug)]
struct Page<P> {
    waiting: VecDeque<P>,
    /// The last number that was acknowledged, and the lane it belongs to.
    last: Option<(LaneId, Number)>,
    unsettled: bool,
    /// Whether it is in a list of those that may be sent.
    listed: bool,
}

/// The book of one lane's task: it outlives the lanes that the task opens one after another.
#[derive(Debug)]
pub(crate) struct Book<P> {
    lane: Arc<LaneTag>,
    next: Number,
    horizon: u64,
    pages: Vec<Page<P>>,
    places: HashMap<(Incarnation, u32), Slot, Spreading>,
    free: Vec<Slot>,
}

impl<P> Book<P> {
    /// A book with its first lane, born at `now` (milliseconds since 1970).
    pub(crate) fn new(now: u64, random: u64) -> Self {
        Self {
            lane: tag(now, random),
            next: Number(1),
            horizon: 0,
            pages: Vec::new(),
            places: HashMap::default(),
            free: Vec::new(),
        }
    }

    /// The lane that new numbers belong to.
    pub(crate) fn lane(&self) -> &Arc<LaneTag> {
        &self.lane
    }

    /// Opens another lane. Numbers of the one before stay as they are, settled or not.
    pub(crate) fn open_lane(&mut self, now: u64, random: u64) {
        self.lane = tag(now.max(self.horizon + 1), random);
        self.next = Number(1);
    }

    /// Remembers the highest horizon heard: later lanes are born above it.
    pub(crate) fn hear_horizon(&mut self, horizon: u64) {
        self.horizon = self.horizon.max(horizon);
    }

    /// A number that no request had before.
    pub(crate) fn take_number(&mut self) -> Number {
        let number = self.next;
        self.next = number.next();
        number
    }

    /// Adds what waits for a partition. `Some` when the partition is to be listed as one that may be sent.
    pub(crate) fn add(&mut self, key: (Incarnation, u32), piece: P) -> Option<Slot> {
        let slot = match self.places.get(&key) {
            Some(&slot) => slot,
            None => self.open_page(key),
        };
        self.pages[slot].waiting.push_back(piece);
        self.list(slot)
    }

    fn open_page(&mut self, key: (Incarnation, u32)) -> Slot {
        let page = Page {
            waiting: VecDeque::new(),
            last: None,
            unsettled: false,
            listed: false,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.pages[slot] = page;
            slot
        } else {
            self.pages.push(page);
            self.pages.len() - 1
        };
        self.places.insert(key, slot);
        slot
    }

    fn list(&mut self, slot: Slot) -> Option<Slot> {
        let page = &mut self.pages[slot];
        if page.unsettled || page.listed || page.waiting.is_empty() {
            return None;
        }
        page.listed = true;
        Some(slot)
    }

    /// What waits for a listed partition, oldest first: to be taken from the front.
    pub(crate) fn waiting(&mut self, slot: Slot) -> &mut VecDeque<P> {
        &mut self.pages[slot].waiting
    }

    /// A listed partition turned out to have nothing to send.
    pub(crate) fn unlist(&mut self, slot: Slot) {
        self.pages[slot].listed = false;
    }

    /// What was taken from a listed partition is about to be sent under a number: it is unsettled from now on.
    pub(crate) fn begin(&mut self, slot: Slot) {
        let page = &mut self.pages[slot];
        debug_assert!(!page.unsettled && page.listed);
        page.unsettled = true;
        page.listed = false;
    }

    /// The last number of `lane` that was acknowledged for a partition; 0 if none.
    pub(crate) fn prev(&self, slot: Slot, lane: LaneId) -> Number {
        match self.pages[slot].last {
            Some((of, number)) if of == lane => number,
            _ => Number(0),
        }
    }

    /// The unsettled number of a partition is settled, or given up together with its lane. `acknowledged` is it when it
    /// is in the ledger. `Some` when the partition is to be listed again.
    pub(crate) fn settle(
        &mut self,
        slot: Slot,
        acknowledged: Option<(LaneId, Number)>,
    ) -> Option<Slot> {
        let page = &mut self.pages[slot];
        debug_assert!(page.unsettled);
        page.unsettled = false;
        if acknowledged.is_some() {
            page.last = acknowledged;
        }
        self.list(slot)
    }

    /// How many partitions it has pages for.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Drops the pages of idle partitions whose model `used` does not name.
    pub(crate) fn forget(&mut self, used: impl Fn(Incarnation) -> bool) {
        let (pages, free) = (&self.pages, &mut self.free);
        self.places.retain(|key, &mut slot| {
            let page = &pages[slot];
            let idle = !page.unsettled && !page.listed && page.waiting.is_empty();
            let keep = !idle || used(key.0);
            if !keep {
                free.push(slot);
            }
            keep
        });
        // The order in a map is not the same in two runs; that of the free pages must be.
        free.sort_unstable();
    }

    /// Whether nothing waits and nothing is unsettled.
    pub(crate) fn is_idle(&self) -> bool {
        self.pages
            .iter()
            .all(|page| page.waiting.is_empty() && !page.unsettled)
    }
}

fn tag(birth: u64, random: u64) -> Arc<LaneTag> {
    Arc::new(LaneTag {
        id: LaneId { birth, random },
        ended: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn key(partition: u32) -> (Incarnation, u32) {
        (Incarnation::default(), partition)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u32),
        Send,
        Settle(prop::sample::Index, bool),
        NewLane,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..6).prop_map(Step::Add),
            4 => Just(Step::Send),
            4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, a)| Step::Settle(i, a)),
            1 => Just(Step::NewLane),
        ]
    }

    proptest! {
        #[test]
        fn a_partition_has_one_unsettled_number_and_keeps_its_order(steps in prop::collection::vec(step(), 0..300)) {
            let mut book = Book::new(100, 1);
            let mut ready = VecDeque::new();
            let mut out: Vec<(Slot, LaneId, Number, u32)> = Vec::new();
            let mut used = BTreeSet::new();
            let mut settled: BTreeMap<u32, u32> = BTreeMap::new();
            let (mut pieces, mut lanes) = (0u32, 1);
            for step in steps {
                match step {
                    Step::Add(partition) => {
                        pieces += 1;
                        ready.extend(book.add(key(partition), pieces));
                    }
                    Step::Send => {
                        let Some(slot) = ready.pop_front() else { continue };
                        prop_assert!(out.iter().all(|(other, ..)| *other != slot), "two unsettled numbers");
                        let piece = book.waiting(slot).pop_front().unwrap();
                        book.begin(slot);
                        let (lane, number) = (book.lane().id, book.take_number());
                        prop_assert!(used.insert((lane, number)), "a number was used twice");
                        prop_assert!(book.prev(slot, lane) < number);
                        out.push((slot, lane, number, piece));
                    }
                    Step::Settle(index, acknowledged) => {
                        if out.is_empty() { continue }
                        let (slot, lane, number, piece) = out.remove(index.index(out.len()));
                        let partition = book.places.iter().find(|(_, at)| **at == slot).unwrap().0.1;
                        prop_assert!(settled.insert(partition, piece).is_none_or(|before| before < piece), "out of order");
                        ready.extend(book.settle(slot, acknowledged.then_some((lane, number))));
                        if acknowledged {
                            prop_assert_eq!(book.prev(slot, lane), number);
                        }
                    }
                    Step::NewLane => {
                        lanes += 1;
                        book.open_lane(100, lanes);
                    }
                }
            }
            while let Some((slot, ..)) = out.pop() {
                ready.extend(book.settle(slot, None));
            }
            while let Some(slot) = ready.pop_front() {
                book.waiting(slot).clear();
                book.unlist(slot);
            }
            prop_assert!(book.is_idle(), "something waits that nobody will send");
        }
    }

    #[test]
    fn a_lane_is_born_above_every_horizon_heard() {
        let mut book: Book<()> = Book::new(100, 1);
        book.hear_horizon(500);
        book.hear_horizon(300);
        book.open_lane(200, 2);
        assert_eq!(book.lane().id.birth, 501);
        assert_eq!(book.take_number(), Number(1));
        book.open_lane(900, 3);
        assert_eq!(book.lane().id.birth, 900);
    }

    #[test]
    fn what_one_lane_acknowledged_says_nothing_about_another() {
        let mut book = Book::new(100, 1);
        let slot = book.add(key(0), ()).unwrap();
        book.waiting(slot).pop_front();
        book.begin(slot);
        let first = book.lane().id;
        let number = book.take_number();
        assert!(book.settle(slot, Some((first, number))).is_none());
        assert_eq!(book.prev(slot, first), number);
        book.open_lane(100, 2);
        assert_eq!(book.prev(slot, book.lane().id), Number(0));
    }

    #[test]
    fn pages_of_models_that_nobody_uses_are_dropped_unless_something_waits() {
        let mut book = Book::new(100, 1);
        for partition in 0..3 {
            let slot = book.add(key(partition), ()).unwrap();
            if partition != 1 {
                book.waiting(slot).clear();
                book.unlist(slot);
            }
        }
        book.forget(|_| false);
        assert_eq!(book.len(), 1);
        assert!(book.add(key(7), ()).is_some(), "a freed page is used again");
        assert_eq!(book.pages.len(), 3);
    }
}
