use glint_protocol::{
    Boot, ClusterId, Durability, ModelId, OsBoot, Partitions, VolumeId,
    control::{CopyReport, HeldModel, Volume},
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

/// A server's word: (model, partition, epoch, (epoch of the last record, position)).
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
                },
            )
            .collect(),
        lost: Vec::new(),
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

fn hear(state: &mut State, request: &Register) -> Findings {
    register(state, request, &BTreeSet::new()).unwrap()
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
    assert_eq!(state.epoch, Epoch(40));
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
    let summary = finish(&mut state).unwrap();
    assert!(
        summary
            .models
            .iter()
            .all(|m| m.live && m.found == m.partitions)
    );
    assert_eq!(finish(&mut state).unwrap_err().code, ErrorCode::BadRequest);
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
            &says("s1", &[w], &[(w.0, 0, 9, first.0, first.1)]),
        );
        hear(
            &mut state,
            &says("s2", &[w], &[(w.0, 0, 9, second.0, second.1)]),
        );
        let summary = finish(&mut state).unwrap();
        assert_eq!(*state.models["w"].holder(0), id(winner));
        assert_eq!(summary.orphans.len(), 1, "{:?}", summary.orphans);
    }
}

#[test]
fn what_was_not_found_is_lost_once_an_admin_ends_the_adoption() {
    let mut state = empty();
    let w = (incarnation(1, 1), &spec("w", 3));
    hear(&mut state, &says("s1", &[w], &[(w.0, 1, 4, 4, 5)]));
    let summary = finish(&mut state).unwrap();
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
    let summary = finish(&mut state).unwrap();
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
        assert_eq!(finish(&mut state).unwrap().orphans.len(), 1);
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
    finish(&mut state).unwrap();
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
    finish(&mut state).unwrap();
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
    assert_eq!(finish(&mut state).unwrap().orphans.len(), 2);
}
