use glint_protocol::{Boot, Durability, Epoch, ids::Revision};

use super::*;
use crate::master::{
    copies::Move,
    registration::register,
    testing::{copied, id, model, registration, who},
};

/// What the holder of a partition asks for, knowing its configuration.
fn asks(state: &State, partition: u32, in_sync: &[&str]) -> ChangeCopies {
    let model = &state.models["w"];
    ChangeCopies {
        server: model.holder(partition).clone(),
        boot: Boot(1),
        changes: vec![CopyChange {
            incarnation: model.incarnation,
            partition,
            epoch: model.epochs[partition as usize],
            revision: model.revision_of(partition),
            in_sync: in_sync.iter().map(|name| id(name)).collect(),
            detached: Vec::new(),
        }],
    }
}

/// One partition held by s1, in sync with s2, with s3 a learner and s4 a former copy.
fn four() -> State {
    let mut state = copied(4, 1, 2, Durability::Memory);
    let model = model(&mut state);
    for (name, role) in [("s3", CopyRole::Learner), ("s4", CopyRole::Former)] {
        let server = model.intern(&id(name));
        model.set_role(0, server, Some(role));
    }
    state
}

#[test]
fn what_the_holder_asks_for_is_taken_as_far_as_it_may_and_raises_the_revision() {
    for (asked, expected) in [
        (&["s2", "s3"][..], "s1, s2 in sync, s3 in sync, s4 former"),
        (&["s3"], "s1, s2 learner, s3 in sync, s4 former"),
        (&[], "s1, s2 learner, s3 learner, s4 former"),
        // Who is to go is not in sync, and who has no copy even less.
        (
            &["s2", "s4", "s9", "s1"],
            "s1, s2 in sync, s3 learner, s4 former",
        ),
    ] {
        let mut state = four();
        let before = state.clone();
        let request = asks(&state, 0, asked);
        assert_eq!(change(&mut state, &request), Ok(1));
        assert_eq!(who(&state, 0), expected);
        let (now, then) = (&state.models["w"], &before.models["w"]);
        assert!(now.revision_of(0) > then.revision_of(0));
        assert_eq!(now.epochs, then.epochs);
        let is_settled = !expected.contains("learner");
        assert_eq!(
            now.revision > then.revision,
            is_settled,
            "clients know when all is settled"
        );
        let held = &orders(&state, &request).hold[0].partitions[0];
        assert_eq!(held.revision, now.revision_of(0));
        // The same request again finds another configuration.
        let after = state.clone();
        assert_eq!(change(&mut state, &request), Ok(0));
        assert_eq!(state, after);
    }
}

#[test]
fn a_change_of_another_configuration_changes_nothing_and_is_told_the_present_one() {
    let base = four();
    let right = asks(&base, 0, &["s2", "s3"]);
    let mut wrong = Vec::new();
    for spoil in [
        |c: &mut CopyChange| c.epoch = Epoch(c.epoch.0 + 1),
        |c: &mut CopyChange| c.revision = Revision(c.revision.0 - 1),
        |c: &mut CopyChange| c.revision = Revision(c.revision.0 + 1),
        |c: &mut CopyChange| c.partition = 7,
        |c: &mut CopyChange| c.incarnation.generation += 1,
    ] {
        let mut request = right.clone();
        spoil(&mut request.changes[0]);
        wrong.push(request);
    }
    let mut another = right.clone();
    another.server = id("s2");
    wrong.push(another.clone());
    for request in wrong {
        let mut state = base.clone();
        assert_eq!(change(&mut state, &request), Ok(0), "{request:?}");
        assert_eq!(state, base);
    }
    let told = orders(&base, &another);
    assert!(told.hold[0].partitions.is_empty());
    assert_eq!(told.hold[0].followed[0].epoch, base.models["w"].epochs[0]);
}

#[test]
fn another_start_of_the_holder_is_refused() {
    let mut state = four();
    let mut request = asks(&state, 0, &[]);
    request.boot = Boot(2);
    let before = state.clone();
    let error = change(&mut state, &request).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotRegistered);
    assert_eq!(state, before);
}

#[test]
fn a_late_word_that_a_learner_has_everything_counts_for_nothing_once_it_has_started_again() {
    for durability in Durability::ALL {
        let mut state = copied(3, 1, 2, durability);
        let learner = model(&mut state).intern(&id("s3"));
        model(&mut state).set_role(0, learner, Some(CopyRole::Learner));
        let late = asks(&state, 0, &["s2", "s3"]);
        let mut again = registration(&state, "s3", 2);
        again.volume = Some(crate::master::testing::volume(2));
        register(&mut state, &again, &BTreeSet::new()).unwrap();
        assert_eq!(change(&mut state, &late), Ok(0));
        assert_eq!(who(&state, 0), "s1, s2 in sync, s3 learner");
    }
}

#[test]
fn a_move_of_the_holder_ends_in_the_change_that_adds_who_comes() {
    let mut state = four();
    let (from, to) = (0, 2);
    let copies = model(&mut state).copies.get_mut(&0).unwrap();
    copies.moving = Some(Move { from, to });
    let before = state.models["w"].clone();
    let request = asks(&state, 0, &["s2", "s3"]);
    assert_eq!(change(&mut state, &request), Ok(1));
    assert_eq!(who(&state, 0), "s3, s1 former, s2 in sync, s4 former");
    let now = &state.models["w"];
    assert!(now.epochs[0] > before.epochs[0]);
    assert!(now.revision > before.revision, "clients are to know");
    let told = orders(&state, &request);
    let followed = &told.hold[0].followed[0];
    assert_eq!(followed.epoch, now.epochs[0], "it lets the other begin");
    let holder = &told.hold[0].peers[followed.holder as usize];
    assert_eq!(holder.id, id("s3"));
}

#[test]
fn what_is_detached_is_forgotten_with_its_server_if_nothing_else_is_there() {
    let mut state = four();
    let mut request = asks(&state, 0, &["s2"]);
    request.changes[0].detached = ["s2", "s4"].map(id).into();
    assert_eq!(change(&mut state, &request), Ok(1));
    assert_eq!(who(&state, 0), "s1, s2 in sync, s3 learner");
    assert!(!state.is_needed(&id("s4")));
    assert_eq!(state.placed_bytes(&id("s4")), 0);
}
