use std::collections::BTreeSet;

use glint_protocol::{Durability, LossReason};

use super::*;
use crate::master::testing::{copied, id, model, who};

fn all(state: &State) -> Fleet {
    Fleet {
        alive: state.servers.keys().cloned().collect(),
        gone: BTreeSet::new(),
    }
}

fn ask(
    state: &mut State,
    partition: u32,
    from: Option<&str>,
    to: &str,
) -> Result<PlannedMove, ErrorBody> {
    let request = MoveCopy {
        from: from.map(id),
        to: id(to),
    };
    let fleet = all(state);
    begin(state, "w", partition, &request, &fleet)
}

#[test]
fn the_holders_copy_or_a_named_one_goes_where_it_is_told_and_asking_again_is_fine() {
    let mut state = copied(4, 4, 2, Durability::Memory);
    assert_eq!(who(&state, 0), "s1, s2 in sync");
    for _ in 0..2 {
        let planned = ask(&mut state, 0, None, "s3").unwrap();
        assert_eq!((planned.from, planned.to), (id("s1"), id("s3")));
        assert_eq!(who(&state, 0), "s1, s2 in sync, s3 learner");
    }
    let planned = ask(&mut state, 1, Some("s3"), "s4").unwrap();
    assert_eq!((planned.from, planned.bytes), (id("s3"), 64));
    assert_eq!(who(&state, 1), "s2, s3 in sync, s4 learner");
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_reason_and_nothing_changes() {
    let mut state = copied(4, 4, 2, Durability::Sync);
    model(&mut state).lost.insert(3, LossReason::Restarted);
    for (name, change) in [("s5", 0), ("s6", 1), ("s7", 2)] {
        let mut server = state.servers[&id("s1")].clone();
        match change {
            0 => server.draining = true,
            1 => server.volume = None,
            _ => server.capacity_bytes = 63,
        }
        state.servers.insert(id(name), server);
    }
    ask(&mut state, 2, None, "s1").unwrap();
    let before = state.clone();
    for (partition, from, to, code, says) in [
        (0, None, "s1", ErrorCode::CannotMove, "already"),
        (0, Some("s2"), "s2", ErrorCode::CannotMove, "already"),
        (0, None, "s2", ErrorCode::CannotMove, "different servers"),
        (
            0,
            Some("s3"),
            "s4",
            ErrorCode::CannotMove,
            "its holder is s1",
        ),
        (3, None, "s2", ErrorCode::CannotMove, "lost"),
        (
            2,
            None,
            "s2",
            ErrorCode::CannotMove,
            "on its way from s3 to s1",
        ),
        (0, None, "s5", ErrorCode::CannotMove, "glint drain --cancel"),
        (0, None, "s6", ErrorCode::CannotMove, "--data-dir"),
        (0, None, "s7", ErrorCode::CannotMove, "63 B free"),
        (0, None, "nobody", ErrorCode::UnknownServer, "glint status"),
        (0, Some("nobody"), "s4", ErrorCode::UnknownServer, "nobody"),
        (4, None, "s4", ErrorCode::Bad, "0 to 3"),
    ] {
        let error = ask(&mut state, partition, from, to).unwrap_err();
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains(says), "{says}: {}", error.message);
        assert_eq!(state, before);
    }
    let request = MoveCopy {
        from: None,
        to: id("s4"),
    };
    let fleet = all(&state);
    let error = begin(&mut state, "x", 0, &request, &fleet).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownModel);
    let mut fleet = all(&state);
    for (gone, says) in [("s1", "nobody to send it"), ("s4", "does not answer")] {
        fleet.alive.remove(&id(gone));
        let error = begin(&mut state, "w", 0, &request, &fleet).unwrap_err();
        assert!(error.message.contains(says), "{says}: {}", error.message);
    }
}
