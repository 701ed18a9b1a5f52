use glint_protocol::{Durability, LossReason};

use std::collections::BTreeSet;

use super::*;
use crate::master::{
    registration::register,
    testing::{copied, id, ids, model, registration},
};

/// These servers live.
fn living<const N: usize>(names: [&str; N]) -> Fleet {
    Fleet {
        alive: ids(names),
        ..Fleet::default()
    }
}

fn refused(state: &mut State, name: &str, alive: &Fleet) -> ErrorBody {
    let before = state.clone();
    let error = begin(state, &id(name), alive, false).unwrap_err();
    assert_eq!(*state, before, "a refusal changes nothing");
    error
}

#[test]
fn draining_twice_is_as_once_and_cancelling_too() {
    let mut state = copied(2, 4, 1, Durability::Memory);
    let alive = living(["s1", "s2"]);
    let first = begin(&mut state, &id("s1"), &alive, false).unwrap();
    assert_eq!(first.state, Some(DrainState::Draining));
    assert_eq!((first.copies, first.bytes), (2, 128));
    let before = state.clone();
    assert_eq!(begin(&mut state, &id("s1"), &alive, false), Ok(first));
    assert_eq!(state, before);
    let cancelled = cancel(&mut state, &id("s1")).unwrap();
    assert_eq!((cancelled.state, cancelled.copies), (None, 2));
    assert_eq!(cancel(&mut state, &id("s1")), Ok(cancelled));
}

#[test]
fn an_unknown_server_and_the_last_one_are_refused() {
    let mut state = copied(2, 4, 1, Durability::Memory);
    let alive = living(["s1", "s2"]);
    let unknown = refused(&mut state, "s9", &alive);
    assert_eq!(unknown.code, ErrorCode::UnknownServer);
    let unknown = cancel(&mut state, &id("s9")).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownServer);
    let error = refused(&mut state, "s1", &living(["s1"]));
    assert_eq!(error.code, ErrorCode::CannotDrain);
    assert!(error.message.contains("last"), "{error}");
    begin(&mut state, &id("s1"), &alive, false).unwrap();
    let error = refused(&mut state, "s2", &alive);
    assert!(
        error.message.contains("last"),
        "the other is going: {error}"
    );
}

#[test]
fn one_that_is_not_empty_when_nobody_is_left_is_told_so() {
    let mut state = copied(2, 4, 1, Durability::Memory);
    begin(&mut state, &id("s1"), &living(["s1", "s2"]), false).unwrap();
    let error = refused(&mut state, "s1", &living(["s1"]));
    assert_eq!(error.code, ErrorCode::CannotDrain);
    assert!(error.message.contains("last"), "{error}");
}

#[test]
fn several_are_drained_or_none() {
    let mut state = copied(3, 6, 1, Durability::Memory);
    let alive = living(["s1", "s2", "s3"]);
    let mut tried = state.clone();
    let both = [id("s3"), id("s2")];
    let drained = begin_all(&mut tried, &both, &alive).unwrap();
    assert_eq!(drained.len(), 2);
    assert!(both.iter().all(|id| tried.servers[id].draining));
    // Each alone would fit.
    state.servers.get_mut(&id("s1")).unwrap().capacity_bytes = 128 + 130;
    begin(&mut state.clone(), &id("s2"), &alive, false).unwrap();
    let error = begin_all(&mut state.clone(), &both, &alive).unwrap_err();
    assert_eq!(error.code, ErrorCode::CannotDrain);
    for part in ["64 bytes", "130 bytes"] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
}

#[test]
fn what_the_rest_cannot_hold_is_refused_with_the_numbers() {
    let mut state = copied(3, 6, 1, Durability::Memory);
    let alive = living(["s1", "s2", "s3"]);
    for name in ["s2", "s3"] {
        state.servers.get_mut(&id(name)).unwrap().capacity_bytes = 128 + 63;
    }
    let error = refused(&mut state, "s1", &alive);
    assert_eq!(error.code, ErrorCode::CannotDrain);
    for part in ["128 bytes", "126 bytes", "2 of its copies", "--memory"] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    state.servers.get_mut(&id("s3")).unwrap().capacity_bytes += 65;
    begin(&mut state, &id("s1"), &alive, false).unwrap();
    // What is promised to the first is not there for a second.
    let error = refused(&mut state, "s2", &alive);
    assert_eq!(error.code, ErrorCode::CannotDrain);
}

#[test]
fn a_durable_model_needs_another_server_with_a_data_directory() {
    let mut state = copied(2, 2, 1, Durability::Sync);
    state.servers.get_mut(&id("s2")).unwrap().volume = None;
    let error = refused(&mut state, "s1", &living(["s1", "s2"]));
    assert!(error.message.contains("--data-dir"), "{error}");
}

#[test]
fn a_copy_that_others_have_too_is_no_hindrance_and_neither_is_what_is_lost() {
    let mut state = copied(2, 2, 2, Durability::Memory);
    for server in state.servers.values_mut() {
        server.capacity_bytes = 128;
    }
    begin(&mut state, &id("s1"), &living(["s1", "s2"]), false).unwrap();
    let mut state = copied(2, 2, 1, Durability::Memory);
    state.servers.get_mut(&id("s2")).unwrap().capacity_bytes = 64;
    model(&mut state).lost.insert(0, LossReason::Restarted);
    let left = begin(&mut state, &id("s1"), &living(["s1", "s2"]), false).unwrap();
    assert_eq!(left.lost, 1);
}

#[test]
fn a_server_that_drained_itself_to_end_is_back_when_it_starts_again_and_one_that_an_admin_drains_is_not()
 {
    for (admin_too, stays) in [(false, false), (true, true)] {
        let mut state = copied(3, 3, 1, Durability::Memory);
        let alive = living(["s1", "s2", "s3"]);
        begin(&mut state, &id("s1"), &alive, true).unwrap();
        begin(&mut state, &id("s1"), &alive, true).unwrap();
        if admin_too {
            begin(&mut state, &id("s1"), &alive, false).unwrap();
            begin(&mut state, &id("s1"), &alive, true).unwrap();
        }
        let same = state.servers[&id("s1")].boot.0;
        let again = [same, same + 1].map(|boot| {
            let request = registration(&state, "s1", boot);
            register(&mut state, &request, &BTreeSet::new()).unwrap();
            drain_state(&state, &id("s1")).is_some()
        });
        assert_eq!(again, [true, stays], "the same process, and another");
    }
}
