use glint_protocol::{
    Boot, Durability, Partitions, RequestId, VolumeId,
    control::{Heartbeat, Volume},
    copies::CopyRole,
};

use super::*;
use crate::master::{
    registration::register,
    testing::{draft, id, make, registration, state_with_servers},
    transition::make_live,
};

fn request(id: u64) -> ResetModel {
    ResetModel {
        id: RequestId(id),
        model: None,
    }
}

fn all(state: &State) -> BTreeSet<ServerId> {
    state.servers.keys().cloned().collect()
}

/// A live model with a partition on each of so many servers.
fn spread(servers: usize) -> State {
    let mut state = state_with_servers(servers);
    let mut draft = draft("w", 10);
    draft.partitions = Partitions::Exactly(servers as u32);
    make(&mut state, draft, 1);
    state
}

fn confirm(state: &mut State) -> bool {
    let incarnation = state.models["w"].incarnation;
    let boots = state.servers.iter().map(|(id, s)| (id.clone(), s.boot));
    let boots = boots.collect();
    make_live(state, incarnation, &boots)
}

/// Has `s1` come back without its values.
fn lose_first(state: &mut State) {
    let mut request = registration(state, "s1", 2);
    request.copies.clear();
    register(state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(state.models["w"].lost.len(), 1);
}

fn dead(name: &str) -> ForgetServer {
    ForgetServer {
        server: id(name),
        dead: true,
    }
}

#[test]
fn a_reset_is_the_next_generation_in_place_with_nothing_lost() {
    let mut state = spread(2);
    lose_first(&mut state);
    let before = state.models["w"].clone();
    let alive = all(&state);
    let next = reset(&mut state, "w", &request(5), &alive).unwrap();
    assert_eq!(next.generation, 2);
    let model = state.models["w"].clone();
    assert_eq!(model.phase, Phase::Resetting);
    assert_eq!(
        (&model.servers, &model.holders),
        (&before.servers, &before.holders)
    );
    assert!(model.lost.is_empty());
    assert!(model.epochs[0] > before.epochs[0] && model.epochs[1] > before.epochs[1]);
    assert!(
        model.hold(&id("s1"), &state).unwrap().creating,
        "initial values are made"
    );
    let tombstone = &state.tombstones[0];
    assert_eq!(tombstone.reason, GoneReason::Reset);
    assert_eq!(tombstone.awaited, alive);
    assert!(tombstone.covers(before.incarnation) && !tombstone.covers(next));
    assert!(confirm(&mut state));
    assert_eq!(state.models["w"].phase, Phase::Live);
}

#[test]
fn a_repeated_request_does_not_reset_again_and_another_one_does() {
    let mut state = spread(1);
    let alive = all(&state);
    let first = reset(&mut state, "w", &request(5), &alive).unwrap();
    let before = state.clone();
    assert_eq!(reset(&mut state, "w", &request(5), &alive), Ok(first));
    assert_eq!(state, before);
    confirm(&mut state);
    assert_eq!(reset(&mut state, "w", &request(5), &alive), Ok(first));
    for other in 6..30 {
        let next = reset(&mut state, "w", &request(other), &alive).unwrap();
        assert_eq!(u64::from(next.generation), other - 3);
    }
    assert_eq!(state.models["w"].resets.len(), MAX_RESETS);
}

#[test]
fn a_silent_holder_of_values_refuses_the_reset_and_is_named() {
    let mut state = spread(2);
    let alive = [id("s1")].into();
    let before = state.clone();
    let error = reset(&mut state, "w", &request(5), &alive).unwrap_err();
    assert_eq!(error.code, ErrorCode::ServerSilent);
    assert!(
        error.message.contains("glint server forget s2 --dead"),
        "{error}"
    );
    assert_eq!(state, before);
}

#[test]
fn what_is_lost_on_a_silent_server_goes_to_one_that_lives() {
    let mut state = spread(2);
    lose_first(&mut state);
    let alive = [id("s2")].into();
    reset(&mut state, "w", &request(5), &alive).unwrap();
    let model = &state.models["w"];
    assert_eq!(model.servers, [id("s2")]);
    assert_eq!(model.holders, [0, 0]);
    assert_eq!(
        state.tombstones[0].awaited,
        all(&state),
        "both let go of the old values"
    );
}

#[test]
fn a_logged_model_leaves_a_server_that_came_back_without_a_data_directory() {
    let mut state = state_with_servers(2);
    for server in state.servers.values_mut() {
        server.volume = Some(Volume {
            id: VolumeId(1),
            start: 1,
            clean: true,
        });
    }
    let mut draft = draft("w", 10);
    draft.durability = Some(Durability::Sync);
    draft.partitions = Partitions::Exactly(2);
    make(&mut state, draft, 1);
    let mut emptied = registration(&state, "s1", 2);
    emptied.copies.clear();
    emptied.volume = Some(Volume {
        id: VolumeId(2),
        start: 1,
        clean: true,
    });
    register(&mut state, &emptied, &BTreeSet::new()).unwrap();
    let mut without = registration(&state, "s1", 3);
    without.copies.clear();
    without.volume = None;
    register(&mut state, &without, &BTreeSet::new()).unwrap();
    let alive = all(&state);
    reset(&mut state, "w", &request(5), &alive).unwrap();
    assert_eq!(state.models["w"].servers, [id("s2")]);
}

#[test]
fn a_model_of_another_id_or_none_is_not_reset() {
    let mut state = spread(1);
    let alive = all(&state);
    let other = ResetModel {
        model: Some(glint_protocol::ModelId(99)),
        ..request(5)
    };
    for (name, request) in [("w", other), ("v", request(5))] {
        let error = reset(&mut state, name, &request, &alive).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownModel);
    }
}

#[test]
fn a_dead_server_is_removed_its_values_are_lost_and_its_start_never_speaks_again() {
    let mut state = spread(2);
    let late = registration(&state, "s1", 1);
    let careful = ForgetServer {
        dead: false,
        ..dead("s1")
    };
    let error = forget(&mut state, &careful, false, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::ServerSilent);
    assert!(error.message.contains("--dead"), "{error}");
    let error = forget(&mut state, &dead("s1"), true, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::ServerAlive);
    assert_eq!(
        forget(&mut state, &dead("s1"), false, &BTreeSet::new()),
        Ok(Forgotten {
            promoted: 0,
            lost: 1
        })
    );
    assert!(!state.servers.contains_key(&id("s1")));
    let model = state.models["w"].clone();
    assert_eq!(model.lost, [(0, LossReason::ServerDead)].into());
    let map = state.map(&model, 1);
    assert_eq!(
        map.servers[0].url, "http://s1:1",
        "clients can still read the map"
    );
    assert_eq!(
        forget(&mut state, &dead("s1"), false, &BTreeSet::new()),
        Ok(Forgotten {
            promoted: 0,
            lost: 0
        })
    );
    let error = forget(&mut state, &dead("s9"), false, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownServer);
    let error = register(&mut state, &late, &BTreeSet::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::IdentityInUse);
    // Another start of it is welcome, and finds its values lost.
    let anew = registration(&state, "s1", 2);
    register(&mut state, &anew, &BTreeSet::new()).unwrap();
    assert!(state.dead.is_empty());
    assert_eq!(state.models["w"].lost.len(), 1);
}

#[test]
fn after_a_server_is_given_up_a_reset_places_its_partitions_elsewhere() {
    let mut state = spread(2);
    forget(&mut state, &dead("s1"), false, &BTreeSet::new()).unwrap();
    let alive = all(&state);
    reset(&mut state, "w", &request(5), &alive).unwrap();
    assert_eq!(state.models["w"].servers, [id("s2")]);
    assert!(state.dead.is_empty(), "no model names it any more");
    assert!(confirm(&mut state));
    assert!(state.models["w"].lost.is_empty());
}

#[test]
fn a_server_that_dies_during_a_reset_leaves_a_model_that_can_be_reset_again() {
    let mut state = spread(2);
    let alive = all(&state);
    reset(&mut state, "w", &request(5), &alive).unwrap();
    forget(&mut state, &dead("s1"), false, &BTreeSet::new()).unwrap();
    assert!(confirm(&mut state), "the dead one is not waited for");
    assert_eq!(state.models["w"].lost, [(0, LossReason::ServerDead)].into());
    let alive = all(&state);
    let next = reset(&mut state, "w", &request(6), &alive).unwrap();
    assert_eq!(next.generation, 3);
    assert!(state.models["w"].lost.is_empty());
}

#[test]
fn a_model_that_is_reset_is_never_placed_anew() {
    let mut state = spread(2);
    let alive = all(&state);
    let next = reset(&mut state, "w", &request(5), &alive).unwrap();
    let before = state.clone();
    crate::master::transition::place_anew(&mut state, next, &[id("s1")].into()).unwrap();
    let failure = ErrorBody::new(ErrorCode::DoesNotFit, "no");
    crate::master::transition::roll_back(&mut state, next, failure);
    assert_eq!(state, before);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_answered_when_all_servers_have_obeyed_and_says_who_has_not() {
    use crate::master::{lock, testing::Scene};
    use std::time::Duration;

    let scene = Scene::with_servers(&["s1", "s2"]).await;
    let mut model = draft("w", 10);
    model.partitions = Partitions::Exactly(2);
    let asked = crate::master::testing::request(1, model);
    let old = scene.master.create(asked).await.unwrap();
    let refusal = ErrorBody::new(ErrorCode::DoesNotFit, "9 GiB are not there");
    *lock(&scene.network.server("s2").refusal) = Some(refusal);
    let beating = scene.pass(Duration::from_secs(31), &["s1", "s2"]);
    let (answer, ()) = tokio::join!(scene.master.reset("w", request(5)), beating);
    let error = answer.unwrap_err();
    assert_eq!(error.code, ErrorCode::Retry);
    assert!(error.message.contains("server s2 says: 9 GiB"), "{error}");
    *lock(&scene.network.server("s2").refusal) = None;
    let beating = scene.pass(Duration::from_secs(5), &["s1", "s2"]);
    let (answer, ()) = tokio::join!(scene.master.reset("w", request(5)), beating);
    let map = answer.unwrap();
    assert_eq!(map.incarnation.generation, 2);
    assert_eq!(map.holders, old.holders);
    for server in ["s1", "s2"] {
        let told = scene.network.server(server).told();
        let dropped = told.iter().position(|o| {
            o.drop
                .iter()
                .any(|d| d.incarnation == old.incarnation && d.reason == GoneReason::Reset)
        });
        let made = told.iter().position(|o| {
            o.hold
                .iter()
                .any(|h| h.creating && h.incarnation == map.incarnation)
        });
        assert!(
            dropped.unwrap() < made.unwrap(),
            "{server}: the old goes before the new comes"
        );
    }
    let beat = scene.master.heartbeat(&Heartbeat {
        server: id("s1"),
        boot: Boot(1),
        term: scene.state().term,
        busiest: Vec::new(),
        load: glint_protocol::control::ServerLoad::default(),
    });
    assert_eq!(beat, Ok(()));
}

#[test]
fn a_reset_by_a_master_that_was_set_back_begins_above_every_generation_that_servers_have() {
    let mut state = spread(1);
    let older = state.clone();
    let alive = all(&state);
    reset(&mut state, "w", &request(5), &alive).unwrap();
    assert!(confirm(&mut state));
    let later = registration(&state, "s1", 1);
    assert_eq!(later.copies[0].incarnation.generation, 2);

    let mut state = older;
    let findings = register(&mut state, &later, &BTreeSet::new()).unwrap();
    assert_eq!(findings.outdated, ["w".to_owned()].into());
    let next = reset(&mut state, "w", &request(6), &alive).unwrap();
    assert_eq!(next.generation, 3);
    let dropped = &state.tombstones[0].incarnation;
    assert_eq!(dropped.generation, 2, "also what it did not know");
}

#[test]
fn of_a_dead_server_others_in_sync_take_what_it_held_and_only_the_rest_is_lost() {
    use crate::master::testing::{copied, ids, model, who};
    for (living, expected, lost) in [
        (ids(["s2", "s3"]), "s2", false),
        // It is in sync and silent: it may come back.
        (ids(["s3"]), "s1, s2 in sync", false),
    ] {
        let mut state = copied(3, 3, 2, Durability::Memory);
        let forgotten = forget(&mut state, &dead("s1"), false, &living).unwrap();
        assert_eq!(forgotten.lost, 0);
        assert_eq!(who(&state, 0), expected);
        assert_eq!(who(&state, 2), "s3", "nobody waits for its copy");
        assert_eq!(state.models["w"].is_vacant(0), forgotten.promoted == 0);
        assert_eq!(state.models["w"].lost.contains_key(&0), lost);
    }
    let mut state = copied(2, 1, 2, Durability::Memory);
    model(&mut state).set_role(0, 1, Some(CopyRole::Learner));
    let forgotten = forget(&mut state, &dead("s1"), false, &ids(["s2"])).unwrap();
    assert_eq!(
        forgotten,
        Forgotten {
            promoted: 0,
            lost: 1
        }
    );
    assert_eq!(state.models["w"].lost, [(0, LossReason::ServerDead)].into());
    assert_eq!(who(&state, 0), "s2", "who lives says that it is lost");
    let mut state = copied(3, 1, 2, Durability::Memory);
    model(&mut state).set_role(0, 1, Some(CopyRole::Learner));
    model(&mut state).set_role(0, 2, Some(CopyRole::Learner));
    forget(&mut state, &dead("s1"), false, &ids(["s3"])).unwrap();
    // The holder has it let go of what it got.
    assert_eq!(who(&state, 0), "s3, s2 former");
}

#[test]
fn a_server_is_forgotten_without_being_dead_if_others_that_live_have_all_that_it_has() {
    use crate::master::testing::{copied, ids, model, who};
    let gone = |name: &str| ForgetServer {
        server: id(name),
        dead: false,
    };
    let refused = |state: &State, name: &str, living: &BTreeSet<ServerId>| {
        let mut changed = state.clone();
        let refused = forget(&mut changed, &gone(name), false, living).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ServerSilent);
        assert!(refused.message.contains("--dead"), "{}", refused.message);
        assert_eq!(changed, *state);
    };
    // It holds, and another is in sync.
    let mut state = copied(2, 1, 2, Durability::Memory);
    refused(&state, "s1", &ids([]));
    let forgotten = forget(&mut state, &gone("s1"), false, &ids(["s2"])).unwrap();
    assert_eq!((forgotten.promoted, forgotten.lost), (1, 0));
    assert_eq!(who(&state, 0), "s2");
    // It follows: the holder must live, or it would have the last copy.
    let mut state = copied(2, 1, 2, Durability::Memory);
    refused(&state, "s2", &ids([]));
    forget(&mut state, &gone("s2"), false, &ids(["s1"])).unwrap();
    assert_eq!(who(&state, 0), "s1");
    // The holder came back with nothing, and waits for what it follows with.
    let mut state = copied(2, 1, 2, Durability::Memory);
    model(&mut state).copies.get_mut(&0).unwrap().vacant = true;
    refused(&state, "s2", &ids(["s1"]));
    forget(&mut state, &gone("s1"), false, &ids(["s2"])).unwrap();
    assert_eq!(who(&state, 0), "s2");
    // A learner has nothing that anybody waits for.
    let mut state = copied(2, 1, 2, Durability::Memory);
    model(&mut state).set_role(0, 1, Some(CopyRole::Learner));
    refused(&state, "s1", &ids(["s2"]));
    forget(&mut state, &gone("s2"), false, &ids([])).unwrap();
    assert_eq!(who(&state, 0), "s1");
}

#[test]
fn when_the_last_that_was_waited_for_is_dead_too_all_is_lost() {
    use crate::master::testing::copied;
    let mut state = copied(3, 1, 2, Durability::Memory);
    let nobody = BTreeSet::new();
    forget(&mut state, &dead("s1"), false, &nobody).unwrap();
    assert!(state.models["w"].is_vacant(0) && state.models["w"].lost.is_empty());
    let forgotten = forget(&mut state, &dead("s2"), false, &nobody).unwrap();
    assert_eq!(forgotten.lost, 1);
    assert!(!state.models["w"].is_vacant(0));
}
