use glint_protocol::{Boot, Durability, copies::CopyRole};

use super::*;
use crate::master::testing::{copied, id, model};

#[test]
fn a_holder_is_told_of_its_copies_and_a_follower_of_its_holder() {
    let mut state = copied(3, 3, 2, Durability::Memory);
    state.servers.get_mut(&id("s2")).unwrap().boot = Boot(5);
    let hold = state.models["w"].hold(&id("s1"), &state).unwrap();
    let [held] = &hold.partitions[..] else {
        panic!("{hold:?}")
    };
    assert_eq!((held.partition, held.copies[0].role), (0, CopyRole::InSync));
    let peer = &hold.peers[held.copies[0].peer as usize];
    assert_eq!((&peer.id, peer.boot), (&id("s2"), Boot(5)));
    assert_eq!(peer.url, "http://s2:1");
    let [followed] = &hold.followed[..] else {
        panic!("{hold:?}")
    };
    assert_eq!(followed.partition, 2);
    assert_eq!(hold.peers[followed.holder as usize].id, id("s3"));
    assert_eq!(state.models["w"].hold(&id("s9"), &state), None);
}

#[test]
fn one_copy_costs_nothing() {
    let state = copied(2, 4, 1, Durability::Memory);
    let hold = state.models["w"].hold(&id("s1"), &state).unwrap();
    assert!(hold.peers.is_empty() && hold.followed.is_empty());
    assert!(hold.partitions.iter().all(|held| held.copies.is_empty()));
}

#[test]
fn only_what_has_changed_since_is_said_again() {
    let mut state = copied(3, 6, 2, Durability::Memory);
    let since = state.models["w"].configured;
    let changed = |state: &State, server: &str| {
        let model = &state.models["w"];
        let hold = model.hold_since(&id(server), Some(since), state).unwrap();
        let held = hold.partitions.iter().map(|held| held.partition);
        held.chain(hold.followed.iter().map(|f| f.partition))
            .collect::<Vec<_>>()
    };
    assert_eq!(changed(&state, "s1"), [0u32; 0]);
    let revision = state.fresh_revision();
    model(&mut state).revised(3, revision);
    assert_eq!(state.models["w"].configured, revision);
    assert_eq!(changed(&state, "s1"), [3]);
    assert_eq!(changed(&state, "s2"), [3], "its follower");
    assert_eq!(changed(&state, "s3"), [0u32; 0]);
    let revision = state.fresh_revision();
    model(&mut state).renewed(revision);
    assert_eq!(changed(&state, "s1").len(), 4, "everything");
}

#[test]
fn who_is_not_registered_is_left_out_and_who_lost_what_it_held_holds_nothing() {
    let mut state = copied(2, 1, 2, Durability::Memory);
    let gone = state.servers.remove(&id("s2")).unwrap();
    let hold = state.models["w"].hold(&id("s1"), &state).unwrap();
    assert!(hold.partitions[0].copies.is_empty() && hold.peers.is_empty());
    state.servers.insert(id("s2"), gone);
    model(&mut state).copies.get_mut(&0).unwrap().vacant = true;
    let hold = state.models["w"].hold(&id("s1"), &state).unwrap();
    assert!(hold.partitions.is_empty());
}
