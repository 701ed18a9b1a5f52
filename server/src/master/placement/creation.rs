//! A new model: every partition has one copy, and goes to the server with the fewest bytes that has room for it.

use super::{Effort, Partition, Server, Standing, plan};

/// A server that may take partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that are placed on it already.
    pub(crate) placed: u64,
    /// Bytes that it may take.
    pub(crate) free: u64,
}

/// Per partition, given its bytes, the index of the server in `rooms` that shall hold it; none when they do not fit.
///
/// Each partition goes to the server with the fewest bytes that still has room for it; among equals to the one with the
/// fewest partitions of this model, then to the first: so equal servers take partitions in turn, and where room is no
/// limit no two servers that took some differ by more than the largest partition.
pub(crate) fn place(sizes: &[u64], rooms: &[Room]) -> Option<Vec<u32>> {
    let servers: Vec<Server> = rooms.iter().map(Room::as_server).collect();
    let partitions: Vec<Partition> = sizes.iter().map(|&bytes| unmade(bytes)).collect();
    let plan = plan(&servers, &partitions, Effort::Mend);
    if !plan.unplaced.is_empty() || plan.changes.len() != sizes.len() {
        return None;
    }
    let mut holders = vec![0; sizes.len()];
    for change in plan.changes {
        holders[change.partition as usize] = change.holder;
    }
    Some(holders)
}

impl Room {
    fn as_server(&self) -> Server {
        Server {
            zone: None,
            node: None,
            capacity: Some(self.placed.saturating_add(self.free)),
            other_bytes: self.placed,
            durable: true,
            standing: Standing::Live,
        }
    }
}

fn unmade(bytes: u64) -> Partition {
    Partition {
        model: 0,
        bytes,
        copies: 1,
        durable: false,
        holder: None,
        members: Vec::new(),
        learners: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: u64 = u64::MAX;

    fn rooms(placed: &[u64], free: u64) -> Vec<Room> {
        placed.iter().map(|&placed| Room { placed, free }).collect()
    }

    fn added(sizes: &[u64], holders: &[u32], servers: usize) -> Vec<u64> {
        let mut sums = vec![0; servers];
        for (&holder, &size) in holders.iter().zip(sizes) {
            sums[holder as usize] += size;
        }
        sums
    }

    #[test]
    fn equal_servers_take_neighbouring_partitions_in_turn() {
        for size in [0, 7] {
            let holders = place(&[size; 7], &rooms(&[5, 5, 5], WIDE)).unwrap();
            assert_eq!(holders, [0, 1, 2, 0, 1, 2, 0]);
        }
    }

    #[test]
    fn an_emptier_server_takes_until_it_has_as_much_as_the_others() {
        let holders = place(&[10; 6], &rooms(&[40, 0], WIDE)).unwrap();
        assert_eq!(holders, [1, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn room_is_never_exceeded_and_large_partitions_find_theirs_first() {
        assert_eq!(place(&[6, 6], &rooms(&[0], 11)), None);
        assert_eq!(place(&[1], &[]), None);
        assert_eq!(place(&[], &[]), Some(vec![]));
        // In order, the two small ones would take a gap of each server, and the large one find none.
        let holders = place(&[3, 3, 10], &rooms(&[0, 0], 10)).unwrap();
        assert_eq!(holders, [1, 1, 0]);
    }

    proptest! {
        #[test]
        fn where_room_is_no_limit_servers_differ_by_one_partition_at_most(
            sizes in prop::collection::vec(0u64..1000, 0..200),
            placed in prop::collection::vec(0u64..5000, 1..12),
        ) {
            let holders = place(&sizes, &rooms(&placed, WIDE)).unwrap();
            prop_assert_eq!(&holders, &place(&sizes, &rooms(&placed, WIDE)).unwrap());
            let added = added(&sizes, &holders, placed.len());
            let totals: Vec<u64> = placed.iter().zip(&added).map(|(p, a)| p + a).collect();
            let least = *totals.iter().min().unwrap();
            let largest = sizes.iter().copied().max().unwrap_or(0);
            for (total, added) in totals.iter().zip(&added) {
                prop_assert!(*added == 0 || *total <= least + largest, "{totals:?}");
            }
        }

        #[test]
        fn what_is_placed_fits_and_what_is_refused_could_not_be_had_in_equal_parts(
            count in 0usize..100, size in 1u64..50, free in prop::collection::vec(0u64..1000, 1..8),
        ) {
            let rooms: Vec<Room> = free.iter().map(|&free| Room { placed: 1000 - free, free }).collect();
            let sizes = vec![size; count];
            let slots: u64 = free.iter().map(|f| f / size).sum();
            match place(&sizes, &rooms) {
                Some(holders) => {
                    for (added, free) in added(&sizes, &holders, free.len()).iter().zip(&free) {
                        prop_assert!(added <= free);
                    }
                }
                None => prop_assert!((count as u64) > slots),
            }
        }
    }
}
