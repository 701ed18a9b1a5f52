//! The ledger stays within its bound over a million pushes by lanes that come and go.

use std::collections::VecDeque;

use super::*;
use crate::partition::ledger::MAX_ENTRIES;

#[test]
fn a_million_pushes_by_lanes_that_come_and_go_stay_within_the_bound_and_sum_exactly() {
    const LANES: usize = 1000;
    let mut alone = Alone::vector(1);
    let bytes = add_section(1);
    let mut born = 0;
    let mut live: VecDeque<(LaneId, u64)> = VecDeque::new();
    let mut gone: VecDeque<LaneId> = VecDeque::new();
    let mut largest = 0;
    for push in 0..1_000_000u64 {
        if live.len() < LANES {
            born += 1;
            live.push_back((lane(NOW + born, born), 0));
        }
        // Each lane in turn; after twenty pushes it goes, and its entry is idle.
        let Some((mine, last)) = live.pop_front() else {
            continue;
        };
        let header = GroupHeader {
            prev: Number(last),
            ..alone.header(Op::Update, &bytes, 1)
        };
        let verdict = alone.judge(mine, last + 1, header, &bytes);
        assert_eq!(verdict.outcome, Outcome::Applied, "push {push}");
        if push % 7 == 0 {
            assert!(alone.judge(mine, last + 1, header, &bytes).repeated);
        }
        if last + 1 < 20 {
            live.push_back((mine, last + 1));
        } else {
            gone.push_back(mine);
        }
        if gone.len() > 2000 {
            let idle: Vec<_> = gone.drain(..1000).collect();
            alone.evict(&idle);
        }
        largest = largest.max(alone.partition.ledger().len());
    }
    assert_eq!(alone.first(), 1_000_000);
    assert!(born > 40_000, "lanes came and went: {born}");
    assert!(largest <= LANES + 2001, "{largest} entries");
    assert!(largest < MAX_ENTRIES);
}
