//! Where in the log the last records of a partition lie: more of them than memory keeps, for followers that were away for longer.

use std::collections::VecDeque;

use glint_protocol::Position;

use crate::log::Place;

/// Bytes of records whose places are kept at most.
const MOST: u64 = 256 << 20;

/// The places of records in the order of their positions, without gaps, up to the last of the partition.
#[derive(Debug)]
pub(in crate::server) struct Trail {
    places: VecDeque<Place>,
    last: Position,
    bytes: u64,
    /// Bytes of records whose places are kept.
    budget: u64,
}

impl Trail {
    /// Keeps as much as is worth it for a partition of so many bytes of values: beyond half of them its state is sent sooner,
    /// since a record costs its follower more than as many bytes of values do.
    pub(super) fn new(value_bytes: u64) -> Self {
        Self {
            places: VecDeque::new(),
            last: Position(0),
            bytes: 0,
            budget: (value_bytes / 2).clamp(64 << 10, MOST),
        }
    }

    /// Keeps where the last record lies; the log begins at `begin` by now.
    pub(super) fn push(&mut self, position: Position, place: Place, begin: u64) {
        if self.last.next() != position {
            self.places.clear();
            self.bytes = 0;
        }
        self.last = position;
        self.bytes += place.bytes;
        self.places.push_back(place);
        while let Some(first) = self.places.front()
            && (self.bytes > self.budget || first.offset < begin)
        {
            self.bytes -= first.bytes;
            self.places.pop_front();
        }
    }

    /// Where the records after a position lie, up to about so many bytes and at least one; none when it does not reach back to it,
    /// or there are none.
    pub(super) fn after(&self, position: Position, most: u64) -> Option<Vec<Place>> {
        if self.last <= position {
            return None;
        }
        let lacks = usize::try_from(self.last.0.checked_sub(position.0)?).ok()?;
        let first = self.places.len().checked_sub(lacks)?;
        let mut bytes = 0;
        let taken = self.places.range(first..).take_while(|place| {
            let fits = bytes == 0 || bytes + place.bytes <= most;
            bytes += place.bytes;
            fits
        });
        Some(taken.copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(records: std::ops::RangeInclusive<u64>, begin: u64) -> Trail {
        let mut trail = Trail::new(0);
        for position in records {
            let place = Place {
                offset: position * 1000,
                bytes: 200,
            };
            trail.push(Position(position), place, begin);
        }
        trail
    }

    #[test]
    fn who_lacks_the_last_records_is_told_where_they_lie_a_piece_at_a_time() {
        let trail = trail(5..=9, 0);
        let offsets = |position, most| {
            let places = trail.after(Position(position), most)?;
            Some(places.iter().map(|p| p.offset).collect::<Vec<_>>())
        };
        assert_eq!(offsets(7, 1000), Some(vec![8000, 9000]));
        assert_eq!(offsets(4, 400), Some(vec![5000, 6000]));
        assert_eq!(offsets(4, 1), Some(vec![5000]));
        assert_eq!(offsets(9, 1000), None);
        assert_eq!(offsets(3, 1000), None);
        assert_eq!(offsets(10, 1000), None);
        assert!(Trail::new(0).after(Position(0), 1000).is_none());
    }

    #[test]
    fn what_the_log_has_no_more_and_what_is_beyond_the_bound_is_forgotten() {
        assert!(trail(1..=9, 6500).after(Position(5), 1000).is_none());
        assert!(trail(1..=9, 6500).after(Position(6), 1000).is_some());
        let many = trail(1..=1000, 0);
        assert_eq!(many.bytes, 200 * ((64 << 10) / 200));
        assert!(many.after(Position(1000 - 327), 1000).is_some());
        assert!(many.after(Position(1000 - 328), 1000).is_none());
    }

    #[test]
    fn a_gap_is_not_bridged() {
        let mut trail = trail(1..=3, 0);
        let place = Place {
            offset: 9000,
            bytes: 200,
        };
        trail.push(Position(6), place, 0);
        assert!(trail.after(Position(3), 1000).is_none());
        assert_eq!(trail.after(Position(5), 1000), Some(vec![place]));
    }
}
