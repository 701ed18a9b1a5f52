//! What becomes of partitions with several copies when one of their servers registers: every row of the table of `judge`.

use glint_protocol::{Durability, OsBoot, VolumeId, copies::CopyRole};

use super::*;
use crate::master::testing::{copied, ids, model, volume, who};

/// How a server comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Back {
    /// The same process.
    Same,
    /// Another process on the same data directory.
    Again,
    /// The same, after its machine stopped without warning.
    Rebooted,
    /// With another data directory.
    Emptied,
}

use Back::{Again, Emptied, Rebooted, Same};

/// The registration of a server of [`copied`], with its copies at this position.
fn back(state: &State, name: &str, how: Back, position: u64) -> Register {
    let boot = state.servers[&id(name)].boot.0;
    let known = state.servers[&id(name)].volume.unwrap();
    let mut request = registration(state, name, if how == Same { boot } else { boot + 1 });
    // What it has does not depend on what it would be told to hold now.
    request.copies = vec![CopyReport {
        incarnation: state.models["w"].incarnation,
        partition: 0,
        epoch: Epoch(1),
        position: Position(position),
        last_epoch: Epoch(1),
        follows: glint_protocol::Epoch(0),
    }];
    request.volume = Some(if how == Same {
        known
    } else {
        volume(known.start + 1)
    });
    if how == Rebooted {
        request.os_boot = OsBoot(77);
    }
    if how == Emptied {
        request.volume = Some(glint_protocol::control::Volume {
            id: VolumeId(9),
            ..volume(1)
        });
        request.copies.clear();
    }
    request
}

fn comes(
    state: &mut State,
    name: &str,
    how: Back,
    position: u64,
    living: &BTreeSet<ServerId>,
) -> Findings {
    let request = back(state, name, how, position);
    let findings = register(state, &request, living).unwrap();
    let again = state.clone();
    // What is heard twice changes nothing more.
    register(state, &request, living).unwrap();
    assert_eq!(*state, again);
    findings
}

fn is_held_by(state: &State, name: &str) -> bool {
    let hold = state.models["w"].hold(&id(name), state);
    hold.is_some_and(|hold| !hold.partitions.is_empty())
}

#[test]
fn a_holder_that_started_again_is_replaced_by_one_in_sync_that_lives() {
    for durability in Durability::ALL {
        for how in [Again, Rebooted, Emptied] {
            let mut state = copied(2, 1, 2, durability);
            let before = state.models["w"].epochs[0];
            let findings = comes(&mut state, "s1", how, 5, &ids(["s2"]));
            assert_eq!(who(&state, 0), "s2, s1 learner", "{durability} {how:?}");
            assert_eq!((findings.promoted, findings.lost), (1, vec![]));
            assert!(state.models["w"].epochs[0] > before);
        }
    }
}

#[test]
fn a_holder_that_started_again_whole_goes_on_with_its_set_when_the_others_are_silent() {
    for (durability, how) in [
        (Durability::Sync, Again),
        (Durability::Sync, Rebooted),
        (Durability::Async, Again),
    ] {
        let mut state = copied(2, 1, 2, durability);
        let before = state.models["w"].clone();
        comes(&mut state, "s1", how, 5, &BTreeSet::new());
        assert_eq!(who(&state, 0), "s1, s2 in sync");
        assert!(state.models["w"].epochs[0] > before.epochs[0]);
        assert!(state.models["w"].revision_of(0) > before.revision_of(0));
        assert!(is_held_by(&state, "s1"));
    }
}

#[test]
fn a_holder_that_came_back_without_its_values_waits_for_one_in_sync() {
    for (durability, how) in [
        (Durability::Memory, Again),
        (Durability::Sync, Emptied),
        (Durability::Async, Rebooted),
    ] {
        let mut state = copied(2, 1, 2, durability);
        let findings = comes(&mut state, "s1", how, 5, &BTreeSet::new());
        assert_eq!((findings.vacated, findings.lost), (1, vec![]));
        assert!(state.models["w"].is_vacant(0) && !is_held_by(&state, "s1"));
        // The same process speaks again.
        assert_eq!(
            super::super::super::failover::fill_vacant(&mut state, &ids(["s2"])),
            1
        );
        assert_eq!(who(&state, 0), "s2, s1 learner");
    }
}

#[test]
fn when_all_were_restarted_one_that_is_whole_holds_and_if_none_can_be_left_all_is_lost() {
    for (durability, first, second, expected) in [
        (Durability::Sync, Emptied, Again, "s2, s1 learner"),
        (Durability::Sync, Emptied, Rebooted, "s2, s1 learner"),
        (Durability::Async, Rebooted, Again, "s2, s1 learner"),
        (Durability::Memory, Again, Again, "lost"),
        (Durability::Sync, Emptied, Emptied, "lost"),
        (Durability::Async, Emptied, Rebooted, "s2, s1 learner"),
    ] {
        let mut state = copied(2, 1, 2, durability);
        comes(&mut state, "s1", first, 5, &BTreeSet::new());
        let findings = comes(&mut state, "s2", second, 4, &BTreeSet::new());
        let lost = state.models["w"].lost.contains_key(&0);
        let now = if lost {
            "lost".to_owned()
        } else {
            who(&state, 0)
        };
        assert_eq!(now, expected, "{durability} {first:?} {second:?}");
        assert_eq!(!findings.lost.is_empty(), lost);
        assert!(!state.models["w"].is_vacant(0));
    }
}

#[test]
fn after_a_power_failure_the_async_copy_with_the_latest_record_holds() {
    for (order, positions, expected) in [
        (["s1", "s2"], [5, 9], "s2, s1 learner"),
        (["s1", "s2"], [9, 5], "s1, s2 learner"),
        (["s2", "s1"], [9, 5], "s2, s1 learner"),
        (["s2", "s1"], [5, 9], "s1, s2 learner"),
    ] {
        let mut state = copied(2, 1, 2, Durability::Async);
        for (name, position) in order.into_iter().zip(positions) {
            comes(&mut state, name, Rebooted, position, &BTreeSet::new());
        }
        assert_eq!(who(&state, 0), expected, "{order:?} {positions:?}");
        assert!(state.models["w"].lost.is_empty());
    }
}

#[test]
fn a_claim_counts_for_nothing_once_the_holder_went_on_alone() {
    let mut state = copied(2, 1, 2, Durability::Async);
    comes(&mut state, "s2", Rebooted, 5, &ids(["s1"]));
    assert_eq!(who(&state, 0), "s1, s2 learner");
    // It lived all the time; then its data directory was lost, and with it what it acknowledged alone.
    comes(&mut state, "s1", Same, 9, &BTreeSet::new());
    comes(&mut state, "s1", Emptied, 0, &BTreeSet::new());
    assert_eq!(state.models["w"].lost, [(0, LossReason::Emptied)].into());
}

#[test]
fn a_follower_that_started_again_stays_in_sync_if_it_is_whole_and_is_attached_anew_if_not() {
    for (durability, how, expected) in [
        (Durability::Memory, Same, "s1, s2 in sync"),
        (Durability::Memory, Again, "s1, s2 learner"),
        (Durability::Async, Again, "s1, s2 in sync"),
        (Durability::Async, Rebooted, "s1, s2 learner"),
        (Durability::Sync, Rebooted, "s1, s2 in sync"),
        (Durability::Sync, Emptied, "s1, s2 learner"),
    ] {
        let mut state = copied(2, 1, 2, durability);
        let before = state.models["w"].clone();
        comes(&mut state, "s2", how, 5, &ids(["s1"]));
        assert_eq!(who(&state, 0), expected, "{durability} {how:?}");
        let now = &state.models["w"];
        assert_eq!(now.epochs, before.epochs);
        assert_eq!(now.revision_of(0) > before.revision_of(0), how != Same);
        assert!(now.lost.is_empty());
    }
}

#[test]
fn what_a_follower_says_to_be_lost_is_in_sync_no_more() {
    let mut state = copied(2, 1, 2, Durability::Sync);
    let mut request = back(&state, "s2", Same, 5);
    request.copies.clear();
    request.lost.push(LostCopy {
        incarnation: state.models["w"].incarnation,
        partition: 0,
    });
    register(&mut state, &request, &ids(["s1"])).unwrap();
    assert_eq!(who(&state, 0), "s1, s2 learner");
    let mut request = back(&state, "s1", Same, 5);
    request.lost.push(LostCopy {
        incarnation: state.models["w"].incarnation,
        partition: 0,
    });
    model(&mut state).set_role(0, 1, Some(CopyRole::InSync));
    register(&mut state, &request, &ids(["s2"])).unwrap();
    assert_eq!(who(&state, 0), "s2, s1 learner", "the holder's too");
}

#[test]
fn a_copy_that_a_server_follows_is_no_orphan() {
    let mut state = copied(2, 1, 2, Durability::Sync);
    let findings = comes(&mut state, "s2", Same, 5, &ids(["s1"]));
    assert!(findings.orphans.is_empty());
}
