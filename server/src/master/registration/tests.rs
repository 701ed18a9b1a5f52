use glint_protocol::{Durability, ModelId, Partitions, Position, ServerId, control::CopyReport};

mod followed;
mod table;

use super::*;
use crate::master::{
    testing::{self, draft, id, make, registration, request, state_with_servers},
    transition,
};

fn two_partitions(name: &str) -> glint_protocol::ModelDraft {
    let mut draft = draft(name, 10);
    draft.partitions = Partitions::Exactly(2);
    draft
}

#[test]
fn the_same_boot_keeps_what_it_holds() {
    let mut state = state_with_servers(2);
    make(&mut state, two_partitions("w"), 1);
    let request = registration(&state, "s1", 1);
    let before = state.clone();
    assert_eq!(
        register(&mut state, &request, &BTreeSet::new()),
        Ok(Findings::default())
    );
    assert_eq!(state, before);
    let orders = orders(&state, &request.server, request.boot);
    assert_eq!(orders.hold.len(), 1);
    assert!(!orders.hold[0].creating);
    assert_eq!(orders.hold[0].partitions.len(), 1);
}

#[test]
fn another_boot_without_its_values_has_lost_them_at_a_new_epoch() {
    let mut state = state_with_servers(2);
    make(&mut state, two_partitions("w"), 1);
    let before = state.models["w"].clone();
    let mut request = registration(&state, "s1", 2);
    request.copies.clear();
    let findings = register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(findings.lost, [("w".into(), LossReason::Restarted, 1)]);
    let model = state.models["w"].clone();
    assert_eq!(model.lost, [(0, LossReason::Restarted)].into());
    assert!(model.epochs[0] > before.epochs[0] && model.revision > before.revision);
    assert_eq!(
        model.epochs[1], before.epochs[1],
        "the other server's stays"
    );
    assert!(orders(&state, &request.server, request.boot).hold[0].partitions[0].lost);
    // Once more: what is lost is lost already.
    request.boot = Boot(3);
    assert_eq!(
        register(&mut state, &request, &BTreeSet::new()),
        Ok(Findings::default())
    );
    assert_eq!(state.models["w"], model);
}

#[test]
fn a_start_that_a_later_one_has_superseded_never_speaks_again() {
    let mut state = state_with_servers(1);
    make(&mut state, draft("w", 10), 1);
    let first = registration(&state, "s1", 1);
    let mut second = registration(&state, "s1", 2);
    second.copies.clear();
    register(&mut state, &second, &BTreeSet::new()).unwrap();
    let before = state.clone();
    let error = register(&mut state, &first, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::IdentityInUse);
    assert!(error.message.contains("start it anew"), "{error}");
    assert_eq!(state, before);
}

#[test]
fn a_registration_of_the_same_boot_that_arrives_again_after_it_was_given_more_loses_nothing() {
    let mut state = state_with_servers(1);
    let early = registration(&state, "s1", 1);
    make(&mut state, two_partitions("w"), 1);
    let before = state.models["w"].clone();
    assert_eq!(
        register(&mut state, &early, &BTreeSet::new()),
        Ok(Findings::default())
    );
    assert_eq!(state.models["w"], before);
}

#[test]
fn the_same_boot_has_lost_what_it_says() {
    let mut state = state_with_servers(1);
    let incarnation = make(&mut state, two_partitions("w"), 1);
    let mut request = registration(&state, "s1", 1);
    request.copies.remove(1);
    request.lost.push(LostCopy {
        incarnation,
        partition: 1,
    });
    register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(state.models["w"].lost, [(1, LossReason::Missing)].into());
}

#[test]
fn a_model_that_is_being_made_has_nothing_to_lose() {
    let mut state = state_with_servers(1);
    let alive = state.servers.keys().cloned().collect();
    transition::create(
        &mut state,
        &request(1, draft("w", 10)),
        &alive,
        (Durability::Memory, 1),
    )
    .unwrap();
    let before = state.models["w"].clone();
    let mut request = registration(&state, "s1", 2);
    request.copies.clear();
    assert_eq!(
        register(&mut state, &request, &BTreeSet::new()),
        Ok(Findings::default())
    );
    assert_eq!(state.models["w"], before);
    assert!(
        orders(&state, &request.server, request.boot)
            .hold
            .is_empty(),
        "it is ordered by itself"
    );
}

#[test]
fn epochs_rise_above_every_epoch_that_is_reported() {
    let mut state = state_with_servers(1);
    make(&mut state, draft("w", 10), 1);
    let mut request = registration(&state, "s1", 1);
    request.copies[0].epoch = Epoch(500);
    register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(state.models["w"].epochs, [Epoch(501)]);
    assert!(state.models["w"].lost.is_empty());
    assert_eq!(state.fresh_epoch(), Epoch(502));
}

#[test]
fn what_nobody_knows_is_an_orphan_and_what_has_a_tombstone_is_to_be_dropped() {
    let mut state = state_with_servers(1);
    let deleted = make(&mut state, draft("w", 10), 1);
    let mut request = registration(&state, "s1", 1);
    transition::delete(&mut state, "w", None).unwrap();
    transition::dropped(&mut state, &id("s1"), &[deleted]);
    assert!(
        orders(&state, &request.server, request.boot)
            .drop
            .is_empty()
    );
    let stranger = Incarnation {
        model: ModelId(77),
        generation: 1,
    };
    request.copies.push(CopyReport {
        incarnation: stranger,
        partition: 0,
        epoch: Epoch(1),
        position: Position(3),
        last_epoch: Epoch(1),
        follows: glint_protocol::Epoch(0),
    });
    let findings = register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(findings.orphans, [stranger].into());
    let drops = orders(&state, &request.server, request.boot).drop;
    assert_eq!(
        drops.iter().map(|d| d.incarnation).collect::<Vec<_>>(),
        [deleted]
    );
}

#[test]
fn a_copy_of_what_another_server_holds_is_let_go_of() {
    let mut state = state_with_servers(2);
    make(&mut state, two_partitions("w"), 1);
    let before = state.clone();
    let mut request = registration(&state, "s1", 1);
    let mut left = request.copies[0];
    left.partition = 1;
    request.copies.push(left);
    let findings = register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(
        (&findings.orphans, &findings.lost),
        (&BTreeSet::new(), &vec![])
    );
    let held = &state.models["w"].hold(&id("s2"), &state).unwrap();
    let told = &held.partitions[0].copies;
    assert_eq!(told.len(), 1, "its holder has it dropped");
    assert_eq!(
        (&held.peers[told[0].peer as usize].id, told[0].role),
        (&id("s1"), CopyRole::Former)
    );
    let revision = state.models["w"].configured;
    assert!(revision > before.models["w"].configured, "and is told");
}

#[test]
fn a_copy_that_the_master_may_not_know_better_is_kept() {
    let kept = |change: &dyn Fn(&mut State, &mut Register)| {
        let mut state = state_with_servers(2);
        let model = make(&mut state, two_partitions("w"), 1);
        let mut request = registration(&state, "s1", 1);
        let mut left = request.copies[0];
        left.partition = 1;
        request.copies.push(left);
        change(&mut state, &mut request);
        let findings = register(&mut state, &request, &BTreeSet::new()).unwrap();
        assert_eq!(findings.orphans, [model].into());
        assert!(state.models["w"].copies.is_empty());
    };
    kept(&|_, request| request.copies[1].epoch = Epoch(500));
    kept(&|state, request| {
        request.cluster = Some(state.cluster);
        request.term = state.term.next();
    });
    kept(&|state, _| {
        let model = testing::model(state);
        model.lost.insert(1, LossReason::Restarted);
    });
}

#[test]
fn a_new_address_raises_the_revision_so_that_clients_hear_of_it() {
    let mut state = state_with_servers(1);
    make(&mut state, draft("w", 10), 1);
    let before = state.models["w"].revision;
    let mut request = registration(&state, "s1", 1);
    request.url = "http://elsewhere:1".into();
    register(&mut state, &request, &BTreeSet::new()).unwrap();
    let model = &state.models["w"];
    assert!(model.revision > before);
    assert_eq!(state.map(model, 1).servers[0].url, "http://elsewhere:1");
}

#[test]
fn a_server_of_another_cluster_is_refused_while_it_holds_something() {
    let mut state = state_with_servers(1);
    make(&mut state, draft("w", 10), 1);
    let mut request = registration(&state, "s1", 1);
    request.cluster = Some(glint_protocol::ClusterId(0xbad));
    let error = register(&mut state, &request, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::WrongCluster);
    request.copies.clear();
    request.server = ServerId("s2".into());
    assert!(register(&mut state, &request, &BTreeSet::new()).is_ok());
}

#[test]
fn names_and_addresses_that_cannot_be_are_refused() {
    let state = state_with_servers(0);
    for name in ["", "a b", "ä", &"x".repeat(257)] {
        let mut request = registration(&state, "s1", 1);
        request.server = ServerId(name.into());
        let error = check(&state, &request).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
    }
    let mut request = registration(&state, "s1", 1);
    request.url = "s1:1".into();
    let error = check(&state, &request).unwrap_err();
    assert!(error.message.contains("http://"), "{}", error.message);
}
