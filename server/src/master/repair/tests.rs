use glint_protocol::Durability;

use super::*;
use crate::master::testing::{CAPACITY, copied, id, ids, model, who};

fn all(state: &State) -> Fleet {
    Fleet {
        alive: state.servers.keys().cloned().collect(),
        gone: BTreeSet::new(),
    }
}

/// A model that wants so many copies and has one of each partition.
fn bare(servers: usize, partitions: u32, copies: u8) -> State {
    let mut state = copied(servers, partitions, copies, Durability::Memory);
    let model = model(&mut state);
    for partition in 0..partitions {
        for server in 0..servers as u32 {
            model.strike(partition, server);
        }
    }
    model.tidy();
    state
}

fn mend(state: &mut State, fleet: &Fleet) -> Vec<Step> {
    let steps = plan(state, fleet);
    take(state, &steps);
    steps
}

/// Has all learners become in sync, as their holders would ask.
fn attach(state: &mut State) {
    let model = model(state);
    for partition in 0..model.spec.partition_count {
        let learners: Vec<u32> = model.copies[&partition].of(CopyRole::Learner).collect();
        for server in learners {
            model.set_role(partition, server, Some(CopyRole::InSync));
        }
    }
}

#[test]
fn missing_copies_are_placed_evenly_on_other_servers_until_all_are_there() {
    let mut state = bare(4, 16, 3);
    let fleet = all(&state);
    for _ in 0..8 {
        mend(&mut state, &fleet);
        attach(&mut state);
    }
    let model = &state.models["w"];
    for partition in 0..16 {
        assert_eq!(
            in_sync(&model.copies[&partition]),
            3,
            "{}",
            who(&state, partition)
        );
    }
    for name in ["s1", "s2", "s3", "s4"] {
        assert_eq!(model.bytes_on(&id(name)), 12 * 64, "{name}");
    }
    assert_eq!(mend(&mut state, &fleet), []);
}

#[test]
fn more_copies_than_servers_are_had_as_far_as_they_go_and_completed_by_who_joins() {
    let mut state = bare(2, 1, 3);
    let fleet = all(&state);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    attach(&mut state);
    assert_eq!(mend(&mut state, &fleet), []);
    let joins = state.servers[&id("s1")].clone();
    state.servers.insert(id("s3"), joins);
    let fleet = all(&state);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 in sync, s3 learner");
}

#[test]
fn copies_are_kept_in_different_zones_then_on_different_machines() {
    let mut state = bare(4, 1, 2);
    for (name, zone, node) in [
        ("s1", "a", "m1"),
        ("s2", "a", "m1"),
        ("s3", "a", "m2"),
        ("s4", "b", "m3"),
    ] {
        let labels = &mut state.servers.get_mut(&id(name)).unwrap().labels;
        (labels.zone, labels.node) = (Some(zone.into()), Some(node.into()));
    }
    for (living, expected) in [
        (ids(["s1", "s2", "s3", "s4"]), Some("s4")),
        (ids(["s1", "s2", "s3"]), Some("s3")),
        (ids(["s1", "s2"]), Some("s2")),
        (ids(["s1"]), None),
        (ids(["s2", "s3"]), None),
    ] {
        let fleet = Fleet {
            alive: living,
            gone: BTreeSet::new(),
        };
        let steps = plan(&state, &fleet);
        assert_eq!(steps.first().map(|s| s.server.clone()), expected.map(id));
    }
}

#[test]
fn so_many_are_attached_at_once_as_one_server_may_send_or_receive() {
    let mut state = bare(2, 8, 2);
    let fleet = all(&state);
    let large = SMALL_FLOWS.1;
    model(&mut state).sizes = vec![large; 8].into();
    let steps = mend(&mut state, &fleet);
    assert_eq!(steps.len(), 2 * FLOWS, "four each way");
    let mut state = bare(2, 8, 2);
    model(&mut state).sizes = vec![large; 8].into();
    let third = state.servers[&id("s1")].clone();
    state.servers.insert(id("s3"), third);
    let model = model(&mut state);
    model.holders = vec![0; 8];
    let fleet = all(&state);
    assert_eq!(
        mend(&mut state, &fleet).len(),
        FLOWS,
        "one sends all of them"
    );
    assert_eq!(
        mend(&mut state, &fleet),
        [],
        "and goes on when they are there"
    );
}

#[test]
fn a_learner_on_a_server_that_is_gone_makes_room_for_one_that_lives() {
    let mut state = bare(3, 1, 2);
    let only_two = Fleet {
        alive: ids(["s1", "s2"]),
        gone: BTreeSet::new(),
    };
    mend(&mut state, &only_two);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    let gone = Fleet {
        alive: ids(["s1"]),
        gone: ids(["s2", "s3"]),
    };
    assert_eq!(
        mend(&mut state, &gone),
        [],
        "it may come back, and nobody else is there"
    );
    let gone = Fleet {
        alive: ids(["s1", "s3"]),
        gone: ids(["s2"]),
    };
    mend(&mut state, &gone);
    assert_eq!(who(&state, 0), "s1, s2 former, s3 learner");
}

#[test]
fn what_is_too_many_goes_and_never_one_that_is_needed() {
    use CopyRole::{InSync, Learner};
    for (second, third, expected) in [
        (InSync, Learner, "s1, s2 in sync, s3 former"),
        (Learner, InSync, "s1, s2 former, s3 in sync"),
        (InSync, InSync, "s1, s2 in sync, s3 former"),
        (Learner, Learner, "s1, s2 learner, s3 learner"),
    ] {
        let mut state = bare(3, 1, 2);
        let model = model(&mut state);
        for (name, role) in [("s2", second), ("s3", third)] {
            let server = model.intern(&id(name));
            model.set_role(0, server, Some(role));
        }
        let fleet = all(&state);
        mend(&mut state, &fleet);
        assert_eq!(who(&state, 0), expected);
    }
}

#[test]
fn nothing_comes_to_a_server_that_is_drained_or_full() {
    let mut state = bare(3, 1, 2);
    let fleet = all(&state);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    state.servers.get_mut(&id("s2")).unwrap().draining = true;
    mend(&mut state, &fleet);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 former, s3 learner");
    let mut state = bare(3, 1, 2);
    state.servers.get_mut(&id("s2")).unwrap().capacity_bytes = 63;
    assert_eq!(state.servers[&id("s3")].capacity_bytes, CAPACITY);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s3 learner");
}

#[test]
fn a_model_of_one_copy_and_a_lost_partition_are_left_alone() {
    let mut state = copied(3, 3, 1, Durability::Memory);
    let fleet = all(&state);
    assert_eq!(mend(&mut state, &fleet), []);
    let mut state = bare(3, 1, 2);
    model(&mut state)
        .lost
        .insert(0, glint_protocol::LossReason::Restarted);
    assert_eq!(mend(&mut state, &fleet), []);
}
