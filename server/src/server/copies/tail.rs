//! The last records of a partition, kept for followers that lack only these: after a fail-over, or a short absence.

use std::collections::VecDeque;

use bytes::Bytes;
use glint_protocol::{Epoch, Position};

use crate::log::record::Header;

/// A payload that is kept only while somebody is waited for who lacks it.
const LARGE: usize = 64 << 10;

/// Records in the order of their positions, without gaps, up to the last of the partition.
#[derive(Debug, Default)]
pub(in crate::server) struct Tail {
    records: VecDeque<(Header, Bytes)>,
    bytes: usize,
    /// Bytes of payload that may be kept.
    budget: usize,
    /// Records that are kept at most.
    most: usize,
}

impl Tail {
    /// Keeps as much as is worth it for a partition of so many bytes of values: beyond that its state is sent sooner, or its
    /// records are read from the log. And not more than so many records.
    pub(super) fn new(value_bytes: u64, most: usize) -> Self {
        Self {
            budget: (value_bytes / 8).clamp(64 << 10, 4 << 20) as usize,
            most,
            ..Self::default()
        }
    }

    /// Keeps the last record; a large one only if it is `awaited`.
    pub(super) fn push(&mut self, header: Header, payload: &Bytes, awaited: bool) {
        let large = payload.len() > LARGE;
        if large && !awaited {
            // Not worth its copy: a follower that lacks it gets it from the log, or the state.
            self.clear();
            return;
        }
        // A payload is a part of a request's body: without a copy all of that would be kept.
        let payload = if large {
            payload.clone()
        } else {
            Bytes::copy_from_slice(payload)
        };
        self.bytes += payload.len();
        self.records.push_back((header, payload));
        while self.bytes > self.budget || self.records.len() > self.most {
            let Some((_, dropped)) = self.records.pop_front() else {
                break;
            };
            self.bytes -= dropped.len();
        }
    }

    /// Keeps nothing that is here: the partition goes on from elsewhere.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }

    /// What a copy lacks whose last record is this one; none when the records do not reach back to it, or it has records that
    /// are not of this history.
    pub(super) fn since(&self, last: (Epoch, Position)) -> Option<Vec<(Header, Bytes)>> {
        let (epoch, position) = last;
        let first = self.records.front()?.0.position;
        let skip = usize::try_from(position.next().0.checked_sub(first.0)?).ok()?;
        let (next, _) = self.records.get(skip)?;
        (next.previous == epoch && next.position == position.next())
            .then(|| self.records.iter().skip(skip).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{Boot, Incarnation, ModelId};

    use super::*;
    use crate::log::record::Kind;

    fn record(epoch: u64, position: u64, previous: u64) -> Header {
        let model = Incarnation {
            model: ModelId(1),
            generation: 1,
        };
        Header {
            epoch: Epoch(epoch),
            position: Position(position),
            previous: Epoch(previous),
            ..Header::new(Kind::Skip, model, 0, Boot(1), &[])
        }
    }

    fn tail() -> Tail {
        let mut tail = Tail::new(1 << 20, 100);
        for (epoch, position, previous) in [(1, 4, 1), (1, 5, 1), (3, 6, 1), (3, 7, 3)] {
            let payload = Bytes::from(vec![0; 10]);
            tail.push(record(epoch, position, previous), &payload, false);
        }
        tail
    }

    #[test]
    fn a_copy_of_the_same_history_gets_what_it_lacks() {
        for (last, lacks) in [((1, 3), 4), ((1, 5), 2), ((3, 6), 1)] {
            let since = tail().since((Epoch(last.0), Position(last.1)));
            assert_eq!(since.map(|records| records.len()), Some(lacks), "{last:?}");
        }
    }

    #[test]
    fn a_copy_of_another_history_or_from_long_ago_gets_everything_anew() {
        // Position 6 of epoch 2 was never in this history; 2 is further back than is kept; nothing lies beyond 7.
        for last in [(2, 6), (2, 5), (1, 2), (3, 7), (4, 9)] {
            assert!(
                tail().since((Epoch(last.0), Position(last.1))).is_none(),
                "{last:?}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut tail = Tail::new(0, 100);
        for position in 1..100 {
            let payload = Bytes::from(vec![0; 8 << 10]);
            tail.push(record(1, position, 1), &payload, false);
        }
        assert!(tail.bytes <= 64 << 10 && tail.records.len() == 8);
        assert!(tail.since((Epoch(1), Position(91))).is_some());
        assert!(tail.since((Epoch(1), Position(90))).is_none());
        let mut few = Tail::new(1 << 20, 2);
        for position in 1..10 {
            few.push(record(1, position, 1), &Bytes::new(), false);
        }
        assert_eq!(few.records.len(), 2);
    }

    #[test]
    fn a_large_record_is_kept_while_somebody_is_waited_for_who_lacks_it() {
        for awaited in [false, true] {
            let mut tail = tail();
            let payload = Bytes::from(vec![0; LARGE + 1]);
            tail.push(record(3, 8, 3), &payload, awaited);
            let since = tail.since((Epoch(3), Position(6)));
            assert_eq!(since.map(|records| records.len()), awaited.then_some(2));
        }
    }
}
