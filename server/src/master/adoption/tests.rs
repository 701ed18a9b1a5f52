use glint_protocol::{
    Boot, ClusterId, Durability, ModelId, OsBoot, Partitions, Position, VolumeId,
    control::{CopyReport, HeldCopy, HeldModel, LostCopy, Volume},
};

use super::*;
use crate::master::{
    registration::{Findings, register},
    testing::{draft, id},
    transition,
};

const OLD: ClusterId = ClusterId(0x01d);

fn empty() -> State {
    let mut state = State::new(ClusterId(0xe));
    state.adopting = Some(Arc::default());
    state
}

fn incarnation(model: u64, generation: u32) -> Incarnation {
    Incarnation {
        model: ModelId(model),
        generation,
    }
}

fn spec(name: &str, partitions: u32) -> ModelSpec {
    let mut draft = draft(name, 100);
    draft.partitions = Partitions::Exactly(partitions);
    draft.durability = Some(Durability::Sync);
    draft.resolve(1).unwrap()
}

/// The word of a server that holds what it has: (model, partition, epoch, (epoch of the last record, position)).
fn says(
    name: &str,
    models: &[(Incarnation, &ModelSpec)],
    copies: &[(Incarnation, u32, u64, u64, u64)],
) -> Register {
    Register {
        server: id(name),
        url: format!("http://{name}:1"),
        boot: Boot(1),
        cluster: Some(OLD),
        capacity_bytes: 1 << 30,
        copies: copies
            .iter()
            .map(
                |&(incarnation, partition, epoch, last_epoch, position)| CopyReport {
                    incarnation,
                    partition,
                    epoch: Epoch(epoch),
                    position: Position(position),
                    last_epoch: Epoch(last_epoch),
                    follows: Epoch(0),
                },
            )
            .collect(),
        lost: Vec::new(),
        holds: copies
            .iter()
            .map(|&(incarnation, partition, ..)| HeldCopy {
                incarnation,
                partition,
                with: Vec::new(),
            })
            .collect(),
        models: models
            .iter()
            .map(|&(incarnation, spec)| HeldModel {
                incarnation,
                spec: spec.clone(),
            })
            .collect(),
        volume: Some(Volume {
            id: VolumeId(1),
            start: 3,
            clean: true,
        }),
        starts: Vec::new(),
        labels: glint_protocol::control::Labels::default(),
        os_boot: OsBoot(1),
        term: glint_protocol::Term(7),
        word: None,
    }
}

/// A server registers, and does so again once it has heard the master's term.
fn hear(state: &mut State, request: &Register) -> Findings {
    register(state, request, &BTreeSet::new()).unwrap();
    let again = Register {
        term: state.term,
        ..request.clone()
    };
    register(state, &again, &BTreeSet::new()).unwrap()
}

/// The server knows the values of these partitions to be lost, and has nothing else.
fn lost(mut request: Register, partitions: &[(Incarnation, u32)]) -> Register {
    let losses = partitions.iter();
    request.lost = losses
        .map(|&(incarnation, partition)| LostCopy {
            incarnation,
            partition,
        })
        .collect();
    request
}

fn end(state: &mut State) -> Result<Adoption, ErrorBody> {
    finish(state, Uncertain::Refuse)
}

fn copied(name: &str) -> ModelSpec {
    let mut draft = draft(name, 100);
    draft.partitions = Partitions::Exactly(1);
    draft.durability = Some(Durability::Sync);
    draft.copies = Some(2);
    draft.resolve(1).unwrap()
}

/// The server holds its first copy by a master's word, and waits for these.
fn holding(mut request: Register, with: &[&str]) -> Register {
    let copy = request.copies[0];
    request.holds = vec![HeldCopy {
        incarnation: copy.incarnation,
        partition: copy.partition,
        with: with.iter().map(|name| id(name)).collect(),
    }];
    request
}

/// The server has started since, and has heard of no holder.
fn started(mut request: Register) -> Register {
    request.holds.clear();
    request
}

/// The server follows the holder of this epoch.
fn following(request: Register, epoch: u64) -> Register {
    let mut request = started(request);
    request.copies[0].follows = Epoch(epoch);
    request
}

#[test]
fn the_first_server_with_partitions_says_which_cluster_it_is_and_epochs_and_term_rise_above_its_own()
 {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 2));
    let stranger = says("s9", &[], &[]);
    let error = register(&mut state, &stranger, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::Retry);
    hear(&mut state, &says("s1", &[w], &[(w.0, 0, 40, 40, 5)]));
    assert_eq!(state.cluster, OLD);
    assert!(state.term > glint_protocol::Term(7));
    assert!(state.epoch > Epoch(40));
    assert!(state.models.is_empty(), "half of a model does not serve");
    let other = Register {
        cluster: Some(ClusterId(0xbad)),
        ..says("s2", &[w], &[(w.0, 1, 1, 1, 1)])
    };
    assert_eq!(
        register(&mut state, &other, &BTreeSet::new())
            .unwrap_err()
            .code,
        ErrorCode::WrongCluster
    );
    hear(&mut state, &stranger);
}

#[test]
fn epochs_rise_above_those_of_holders_that_only_their_followers_remember() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 1));
    let beyond = 2 * AHEAD + 40;
    hear(
        &mut state,
        &following(says("s1", &[w], &[(w.0, 0, 4, 4, 5)]), beyond),
    );
    assert!(state.epoch > Epoch(beyond));
}

#[test]
fn a_model_serves_as_soon_as_all_its_partitions_are_found() {
    let mut state = empty();
    let (w, v) = (
        (incarnation(1, 1), &spec("w", 2)),
        (incarnation(2, 1), &spec("v", 1)),
    );
    let found = hear(
        &mut state,
        &says("s1", &[w, v], &[(w.0, 0, 4, 4, 5), (v.0, 0, 6, 6, 9)]),
    );
    assert_eq!(found.adopted, ["v"]);
    assert!(found.orphans.is_empty() && found.lost.is_empty());
    let waiting = not_yet(state.adopting.as_ref().unwrap(), "w");
    assert_eq!(waiting.code, ErrorCode::Retry);
    assert!(
        waiting.message.contains("1 of its 2 partitions"),
        "{waiting}"
    );
    let found = hear(&mut state, &says("s2", &[w], &[(w.0, 1, 3, 3, 5)]));
    assert_eq!(found.adopted, ["w"]);
    let model = &state.models["w"];
    assert_eq!(model.servers, [id("s1"), id("s2")]);
    assert_eq!(model.holders, [0, 1]);
    assert!(model.lost.is_empty() && model.epochs.iter().all(|&e| e > Epoch(6)));
    // Restarted, it is judged as any server that is known.
    let mut again = says("s2", &[w], &[(w.0, 1, 3, 3, 5)]);
    (again.boot, again.volume) = (
        Boot(2),
        Some(Volume {
            id: VolumeId(1),
            start: 4,
            clean: true,
        }),
    );
    assert!(hear(&mut state, &again).lost.is_empty());
    let summary = end(&mut state).unwrap();
    assert!(
        summary
            .models
            .iter()
            .all(|m| m.live && m.found == m.partitions)
    );
    assert_eq!(end(&mut state).unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn of_two_copies_the_one_with_the_higher_epoch_of_its_last_record_and_then_position_is_taken() {
    for (first, second, winner) in [
        ((4, 9), (5, 1), "s2"),
        ((5, 1), (4, 9), "s1"),
        ((4, 8), (4, 9), "s2"),
        ((4, 9), (4, 8), "s1"),
    ] {
        let mut state = empty();
        let w = (incarnation(1, 1), &spec("w", 2));
        hear(
            &mut state,
            &started(says("s1", &[w], &[(w.0, 0, 9, first.0, first.1)])),
        );
        hear(
            &mut state,
            &started(says("s2", &[w], &[(w.0, 0, 9, second.0, second.1)])),
        );
        let summary = end(&mut state).unwrap();
        assert_eq!(*state.models["w"].holder(0), id(winner));
        assert_eq!(summary.orphans.len(), 1, "{:?}", summary.orphans);
    }
}

#[test]
fn what_was_not_found_is_lost_once_an_admin_ends_the_adoption() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 3));
    hear(&mut state, &says("s1", &[w], &[(w.0, 1, 4, 4, 5)]));
    let summary = end(&mut state).unwrap();
    assert_eq!((summary.models[0].found, summary.models[0].live), (1, true));
    let expected = [(0, LossReason::NotFound), (2, LossReason::NotFound)];
    assert_eq!(state.models["w"].lost, expected.into());
    assert!(state.adopting.is_none());
}

#[test]
fn of_two_models_of_one_name_the_later_serves_and_the_other_is_an_orphan() {
    let (old, new) = (
        (incarnation(1, 1), &spec("w", 1)),
        (incarnation(2, 1), &spec("w", 2)),
    );
    let mut state = empty();
    // The old one is whole at once, and still does not serve: a later one of its name is known.
    let found = hear(
        &mut state,
        &says(
            "s1",
            &[old, new],
            &[(old.0, 0, 4, 4, 5), (new.0, 0, 8, 8, 1)],
        ),
    );
    assert!(found.adopted.is_empty());
    let found = hear(&mut state, &says("s2", &[new], &[(new.0, 1, 8, 8, 1)]));
    assert_eq!(found.adopted, ["w"]);
    assert_eq!(state.models["w"].incarnation, new.0);
    let summary = end(&mut state).unwrap();
    assert!(
        summary.orphans.iter().any(|o| o.contains("later model")),
        "{:?}",
        summary.orphans
    );
}

#[test]
fn of_two_generations_of_a_model_only_the_later_counts() {
    let spec = spec("w", 1);
    let (first, second) = ((incarnation(1, 1), &spec), (incarnation(1, 2), &spec));
    for order in [[first, second], [second, first]] {
        let mut state = empty();
        let copies = order.map(|(i, _)| (i, 0, 4, 4, 5));
        hear(&mut state, &says("s1", &order, &copies));
        assert_eq!(state.models["w"].incarnation, second.0);
        assert_eq!(end(&mut state).unwrap().orphans.len(), 1);
    }
}

#[test]
fn a_server_that_registers_again_with_less_has_less() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 3));
    hear(
        &mut state,
        &says("s1", &[w], &[(w.0, 0, 4, 4, 5), (w.0, 1, 4, 4, 5)]),
    );
    hear(&mut state, &says("s1", &[w], &[(w.0, 1, 4, 4, 5)]));
    end(&mut state).unwrap();
    assert_eq!(
        state.models["w"].lost.keys().copied().collect::<Vec<_>>(),
        [0, 2]
    );
}

#[test]
fn nothing_is_made_while_servers_may_still_report_what_there_is() {
    let mut state = empty();
    let request = crate::master::testing::request(5, draft("new", 10));
    let make = |state: &mut State| {
        transition::create(state, &request, &BTreeSet::new(), (Durability::Memory, 1))
    };
    let error = make(&mut state).unwrap_err();
    assert_eq!(error.code, ErrorCode::Retry);
    assert!(error.message.contains("glint adopt --finish"), "{error}");
    end(&mut state).unwrap();
    assert_eq!(make(&mut state).unwrap_err().code, ErrorCode::NoServers);
}

#[test]
fn reports_that_contradict_themselves_are_orphans_and_harm_nothing() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 1));
    let unknown = incarnation(9, 1);
    hear(
        &mut state,
        &says("s1", &[w], &[(w.0, 7, 4, 4, 5), (unknown, 0, 4, 4, 5)]),
    );
    assert!(state.models.is_empty());
    assert_eq!(end(&mut state).unwrap().orphans.len(), 2);
}

#[test]
fn what_a_server_says_counts_once_it_has_heard_the_term_of_this_master() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 1));
    let word = says("s1", &[w], &[(w.0, 0, 4, 4, 5)]);
    let found = register(&mut state, &word, &BTreeSet::new()).unwrap();
    assert!(found.adopted.is_empty() && !knows(&state, &word));
    let summary = state.adopting.as_ref().unwrap().summary(&state);
    assert!(summary.servers.is_empty() && summary.cluster_known);
    let found = hear(&mut state, &word);
    assert_eq!(found.adopted, ["w"]);
    assert!(state.epoch.0 > AHEAD && state.term.0 > AHEAD);
    // A word from before says that it has to be said again.
    let summary = state.adopting.as_ref().unwrap().summary(&state);
    assert_eq!(summary.servers, [id("s1")]);
    register(&mut state, &word, &BTreeSet::new()).unwrap();
    let summary = state.adopting.as_ref().unwrap().summary(&state);
    assert!(summary.servers.is_empty());
}

#[test]
fn a_late_word_that_a_server_has_nothing_has_it_say_again_what_it_has() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 2));
    hear(&mut state, &says("s1", &[w], &[(w.0, 0, 4, 4, 5)]));
    let late = says("s1", &[], &[]);
    register(&mut state, &late, &BTreeSet::new()).unwrap();
    assert!(!knows(&state, &late));
    let summary = state.adopting.as_ref().unwrap().summary(&state);
    assert!(summary.servers.is_empty());
    // One that has just begun says so twice.
    hear(&mut state, &says("s2", &[], &[]));
    let summary = state.adopting.as_ref().unwrap().summary(&state);
    assert_eq!(summary.servers, [id("s2")]);
}

#[test]
fn a_holder_that_lives_is_taken_when_all_have_come_whom_it_waits_for_and_none_has_heard_of_another_holder()
 {
    let spec = copied("w");
    let w = (incarnation(1, 1), &spec);
    let mut state = empty();
    // The follower has more, which may never be acknowledged.
    let follower = following(says("s2", &[w], &[(w.0, 0, 4, 4, 6)]), 4);
    assert!(hear(&mut state, &follower).adopted.is_empty());
    let holder = holding(says("s1", &[w], &[(w.0, 0, 4, 4, 5)]), &["s2"]);
    assert_eq!(hear(&mut state, &holder).adopted, ["w"]);
    let model = &state.models["w"];
    assert_eq!(*model.holder(0), id("s1"));
    let other = model.index_of(&id("s2")).unwrap();
    assert_eq!(model.role(0, other), Some(CopyRole::Learner));

    for (with, epoch) in [(&["s2", "s3"][..], 4), (&["s2"], 5)] {
        let mut state = empty();
        hear(&mut state, &following(follower.clone(), epoch));
        let holder = holding(says("s1", &[w], &[(w.0, 0, 4, 4, 5)]), with);
        assert!(
            hear(&mut state, &holder).adopted.is_empty(),
            "{with:?} {epoch}"
        );
        assert_eq!(end(&mut state).unwrap_err().code, ErrorCode::BadRequest);
    }
}

#[test]
fn where_no_holder_lives_an_admin_says_whether_the_latest_copy_has_everything() {
    let spec = copied("w");
    let w = (incarnation(1, 1), &spec);
    let (first, second) = (
        started(says("s1", &[w], &[(w.0, 0, 4, 4, 5)])),
        started(says("s2", &[w], &[(w.0, 0, 4, 4, 6)])),
    );
    let both = || {
        let mut state = empty();
        hear(&mut state, &first);
        assert!(hear(&mut state, &second).adopted.is_empty());
        state
    };
    let mut state = both();
    let error = end(&mut state).unwrap_err();
    assert!(error.message.contains("--take-uncertain"), "{error}");
    assert!(state.adopting.is_some(), "nothing is decided");
    finish(&mut state, Uncertain::Take).unwrap();
    assert_eq!(*state.models["w"].holder(0), id("s2"));
    assert!(state.models["w"].lost.is_empty());
    let mut state = both();
    finish(&mut state, Uncertain::Lose).unwrap();
    assert_eq!(state.models["w"].lost.len(), 1);
}

#[test]
fn of_one_copy_that_follows_another_nothing_is_taken_before_the_other_has_come() {
    let w = (incarnation(1, 1), &spec("w", 1));
    let mut state = empty();
    let former = following(says("s1", &[w], &[(w.0, 0, 4, 4, 5)]), 5);
    assert!(hear(&mut state, &former).adopted.is_empty());
    let holder = holding(says("s2", &[w], &[(w.0, 0, 5, 4, 5)]), &[]);
    assert_eq!(hear(&mut state, &holder).adopted, ["w"]);
    assert_eq!(*state.models["w"].holder(0), id("s2"));
}

#[test]
fn what_was_found_on_a_disk_waits_for_the_end_since_it_may_be_of_a_model_that_was_deleted() {
    let (old, new) = (
        (incarnation(1, 1), &spec("w", 1)),
        (incarnation(2, 1), &spec("w", 1)),
    );
    let mut state = empty();
    let first = started(says("s1", &[old], &[(old.0, 0, 4, 4, 5)]));
    assert!(hear(&mut state, &first).adopted.is_empty());
    let second = started(says("s2", &[new], &[(new.0, 0, 8, 8, 1)]));
    assert!(hear(&mut state, &second).adopted.is_empty());
    end(&mut state).unwrap();
    assert_eq!(state.models["w"].incarnation, new.0);
}

#[test]
fn a_model_of_which_only_its_loss_is_known_is_lost_and_not_gone() {
    let mut state = empty();
    let (key, w) = (incarnation(1, 1), spec("w", 2));
    let other = (incarnation(2, 1), &spec("v", 1));
    let bare = lost(says("s1", &[(key, &w)], &[]), &[(key, 0), (key, 1)]);
    hear(&mut state, &bare);
    hear(&mut state, &says("s2", &[other], &[(other.0, 0, 5, 5, 3)]));
    assert!(state.model(key.model).is_none());
    let summary = end(&mut state).unwrap();
    let of_w = summary.models.iter().find(|m| m.name == "w").unwrap();
    assert_eq!((of_w.found, of_w.live), (0, true));
    let model = state.model(key.model).unwrap();
    assert_eq!(model.lost.len(), 2);
    assert_eq!(model.holder(0), &id("s1"));
}

#[test]
fn what_another_server_has_is_taken_whoever_has_lost_it() {
    let mut state = empty();
    let (key, w) = (incarnation(1, 1), spec("w", 1));
    hear(
        &mut state,
        &lost(says("s1", &[(key, &w)], &[]), &[(key, 0)]),
    );
    hear(&mut state, &says("s2", &[(key, &w)], &[(key, 0, 5, 5, 3)]));
    let model = state.model(key.model).unwrap();
    assert_eq!((model.lost.len(), model.holder(0)), (0, &id("s2")));
}
