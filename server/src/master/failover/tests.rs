use glint_protocol::{Durability, LossReason};

use super::*;
use crate::master::testing::{copied, id, ids, model, who};

#[test]
fn what_a_server_held_is_spread_over_those_in_sync_that_live_at_one_fresh_epoch() {
    let mut state = copied(3, 6, 3, Durability::Memory);
    let before = state.models["w"].clone();
    let living = ids(["s1", "s2", "s3"]);
    assert_eq!(promote_others(&mut state, &id("s1"), &living), 2);
    let now = state.models["w"].clone();
    let heirs: BTreeSet<&ServerId> = [0, 3].map(|p| now.holder(p)).into();
    assert_eq!(heirs, [&id("s2"), &id("s3")].into());
    assert_eq!(who(&state, 0), "s2, s1 learner, s3 in sync");
    assert_eq!(now.epochs[0], now.epochs[3]);
    assert!(now.epochs[0] > before.epochs[0] && now.revision > before.revision);
    for partition in [1, 2, 4, 5] {
        assert_eq!(now.epochs[partition], before.epochs[partition]);
        assert_eq!(
            now.revision_of(partition as u32),
            before.revision_of(partition as u32)
        );
    }
    assert_eq!(promote_others(&mut state, &id("s1"), &living), 0, "once");
}

#[test]
fn without_another_copy_in_sync_that_lives_nothing_changes() {
    for (copies, living) in [
        (2, ids([])),
        (2, ids(["s1", "s3"])),
        (1, ids(["s1", "s2", "s3"])),
    ] {
        let mut state = copied(3, 1, copies, Durability::Sync);
        let before = state.clone();
        assert_eq!(promote_others(&mut state, &id("s1"), &living), 0);
        assert_eq!(state, before);
    }
    let mut state = copied(2, 1, 2, Durability::Memory);
    model(&mut state).set_role(0, 1, Some(CopyRole::Learner));
    let before = state.clone();
    assert_eq!(promote_others(&mut state, &id("s1"), &ids(["s2"])), 0);
    assert_eq!(state, before, "a learner may lack what was acknowledged");
}

#[test]
fn what_is_lost_stays_lost() {
    let mut state = copied(2, 1, 2, Durability::Memory);
    model(&mut state).lost.insert(0, LossReason::Restarted);
    assert_eq!(promote_others(&mut state, &id("s1"), &ids(["s2"])), 0);
}

#[test]
fn a_partition_without_holder_gets_one_as_soon_as_a_copy_in_sync_is_there() {
    let mut state = copied(3, 3, 2, Durability::Memory);
    model(&mut state).copies.get_mut(&0).unwrap().vacant = true;
    assert!(!has_vacant(&state, &ids(["s1", "s3"])));
    assert!(has_vacant(&state, &ids(["s2"])));
    assert_eq!(fill_vacant(&mut state, &ids(["s2", "s3"])), 1);
    assert_eq!(who(&state, 0), "s2, s1 learner");
    assert!(!has_vacant(&state, &ids(["s1", "s2", "s3"])));
}

#[test]
fn only_who_is_in_sync_with_something_that_a_server_holds_may_suspect_it() {
    // Partition 0 is held by s1 and followed by s2, the next by s2 and s3, the last by s3 and s4.
    let mut state = copied(4, 3, 2, Durability::Sync);
    let may = |state: &State| {
        let all = ["s1", "s2", "s3", "s4"];
        let pairs = all.iter().flat_map(|by| all.map(|of| (*by, of)));
        pairs
            .filter(|(by, of)| may_suspect(state, &id(by), &id(of)))
            .collect::<Vec<_>>()
    };
    assert_eq!(may(&state), [("s2", "s1"), ("s3", "s2"), ("s4", "s3")]);
    model(&mut state).set_role(0, 1, Some(CopyRole::Learner));
    assert_eq!(may(&state), [("s3", "s2"), ("s4", "s3")]);
    model(&mut state).set_role(0, 1, Some(CopyRole::Former));
    assert_eq!(may(&state), [("s3", "s2"), ("s4", "s3")]);
    assert!(!may_suspect(&state, &id("s9"), &id("s1")));
}
