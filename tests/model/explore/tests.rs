//! The explorer finds what there is to find.

use super::*;

/// Counts up by 1 or 3; at `trap` it may fall into a hole without a way out.
struct Counter {
    wrong: u32,
    trap: Option<u32>,
}

const HOLE: u32 = 100;

impl Model for Counter {
    type State = u32;
    type Action = u32;

    fn first(&self) -> u32 {
        0
    }
    fn actions(&self, state: &u32, actions: &mut Vec<u32>) {
        if *state < 9 {
            actions.extend([1, 3]);
        }
        if self.trap == Some(*state) {
            actions.push(HOLE);
        }
    }
    fn after(&self, state: &u32, action: &u32) -> Option<u32> {
        Some(if *action == HOLE {
            HOLE
        } else {
            state + action
        })
    }
    fn broken(&self, state: &u32) -> Option<&'static str> {
        (*state == self.wrong).then_some("never wrong")
    }
    fn sights(&self, state: &u32) -> u32 {
        u32::from(*state == 5)
    }
    fn progress(&self, state: &u32) -> Progress {
        Progress {
            settled: (9..HOLE).contains(state),
            ended: false,
            healthy: *state == 4,
        }
    }
    fn is_from_outside(&self, action: &u32) -> bool {
        *action == 1
    }
}

const ALL: Extent = Extent {
    states: 1000,
    settles: true,
};

#[test]
fn the_trace_to_what_breaks_is_a_shortest_one() {
    let found = explore(
        &Counter {
            wrong: 7,
            trap: None,
        },
        ALL,
    );
    let violation = found.violation.unwrap();
    assert_eq!(violation.property, "never wrong");
    assert_eq!(violation.trace.len(), 3);
}

#[test]
fn every_state_is_reached_once_and_what_is_never_seen_is_missing() {
    let found = explore(
        &Counter {
            wrong: 99,
            trap: None,
        },
        ALL,
    );
    assert!(found.violation.is_none());
    assert_eq!((found.states, found.sights, found.healthy), (12, 1, 1));
    let found = explore(
        &Counter {
            wrong: 5,
            trap: None,
        },
        ALL,
    );
    assert_eq!(found.violation.unwrap().trace.len(), 3);
}

#[test]
fn a_state_without_a_way_to_the_end_is_found() {
    let found = explore(
        &Counter {
            wrong: 99,
            trap: Some(6),
        },
        ALL,
    );
    let violation = found.violation.unwrap();
    assert_eq!(violation.property, "from every state all can still settle");
    assert_eq!(violation.trace, ["3", "3", "100"]);
}

#[test]
fn an_exploration_that_is_cut_short_says_so() {
    let few = Extent {
        states: 3,
        settles: true,
    };
    assert!(
        explore(
            &Counter {
                wrong: 99,
                trap: None
            },
            few
        )
        .cut_short
    );
}
