use glint_protocol::{Epoch, Partitions, Rule, ids::Revision};

use super::*;
use crate::master::testing::{CAPACITY, draft, id, make, request, state_with_servers};

fn all(state: &State) -> BTreeSet<ServerId> {
    state.servers.keys().cloned().collect()
}

fn refused(state: &mut State, request: &CreateModel) -> ErrorBody {
    let (before, alive) = (state.clone(), all(state));
    let error = create(state, request, &alive, (Durability::Memory, 1)).unwrap_err();
    assert_eq!(*state, before, "a refusal changes nothing");
    error
}

#[test]
fn a_new_model_is_creating_at_a_fresh_epoch_and_revision() {
    let mut state = state_with_servers(2);
    let mut asked = draft("w", 10);
    asked.partitions = Partitions::PerServer(2);
    let alive = all(&state);
    let incarnation = create(
        &mut state,
        &request(7, asked),
        &alive,
        (Durability::Memory, 1),
    )
    .unwrap();
    let model = &state.models["w"];
    assert_eq!(
        incarnation,
        Incarnation {
            model: ModelId(7),
            generation: 1
        }
    );
    assert_eq!(model.phase, Phase::Creating);
    assert_eq!(model.holders, [0, 1, 0, 1]);
    assert_eq!(model.epochs, [Epoch(1); 4]);
    assert_eq!(model.revision, Revision(1));
    assert_eq!(state.placed_bytes(&id("s1")), 5 * 8);
}

#[test]
fn a_repeated_request_finds_its_own_model_and_another_is_told() {
    let mut state = state_with_servers(1);
    let incarnation = make(&mut state, draft("w", 10), 7);
    let alive = all(&state);
    let again = create(
        &mut state,
        &request(7, draft("w", 10)),
        &alive,
        (Durability::Memory, 1),
    );
    assert_eq!(again, Ok(incarnation));
    let error = refused(&mut state, &request(8, draft("w", 10)));
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    let error = refused(&mut state, &request(7, draft("other", 10)));
    assert_eq!(error.code, ErrorCode::BadRequest);
}

#[test]
fn open_or_create_takes_the_same_spec_and_shows_where_another_differs() {
    let mut state = state_with_servers(1);
    let incarnation = make(&mut state, draft("w", 10), 7);
    let or_open = |model| CreateModel {
        or_open: true,
        ..request(8, model)
    };
    let alive = all(&state);
    let opened = create(
        &mut state,
        &or_open(draft("w", 10)),
        &alive,
        (Durability::Memory, 1),
    );
    assert_eq!(opened, Ok(incarnation));
    let mut other = draft("w", 11);
    other.rule = Rule::Max;
    let error = refused(&mut state, &or_open(other));
    assert_eq!(error.code, ErrorCode::SpecMismatch);
    assert!(
        error.message.contains("asked for vector of 11"),
        "{}",
        error.message
    );
    let fields: Vec<_> = error
        .detail
        .unwrap()
        .differences
        .into_iter()
        .map(|d| d.field)
        .collect();
    assert_eq!(fields, ["shape", "rule"]);
}

#[test]
fn what_does_not_fit_is_refused_with_the_sum_and_what_is_free() {
    let mut state = state_with_servers(2);
    let keys = 3 * CAPACITY / 8;
    let error = refused(&mut state, &request(1, draft("w", keys)));
    assert_eq!(error.code, ErrorCode::DoesNotFit);
    for part in ["needs 3.0 TiB", "2.0 TiB free", "s1: 1.0 TiB", "--memory"] {
        assert!(error.message.contains(part), "{part}: {}", error.message);
    }
    let mut whole = draft("w", CAPACITY / 8 + 1);
    whole.partitions = Partitions::Exactly(1);
    let error = refused(&mut state, &request(1, whole));
    assert!(
        error.message.contains("use more partitions"),
        "{}",
        error.message
    );
    let error = refused(&mut state, &request(1, draft("w", u64::MAX)));
    assert_eq!(error.code, ErrorCode::InvalidSpec);
}

#[test]
fn without_a_server_that_lives_there_is_no_model() {
    let mut state = state_with_servers(2);
    let error = create(
        &mut state,
        &request(1, draft("w", 1)),
        &BTreeSet::new(),
        (Durability::Memory, 1),
    )
    .unwrap_err();
    assert_eq!(error.code, ErrorCode::NoServers);
    assert!(
        error.message.contains("glint server --master"),
        "{}",
        error.message
    );
}

#[test]
fn a_model_is_live_only_when_every_holder_has_confirmed_under_its_present_boot() {
    let mut state = state_with_servers(2);
    let mut asked = draft("w", 10);
    asked.partitions = Partitions::Exactly(2);
    let alive = all(&state);
    let incarnation = create(
        &mut state,
        &request(1, asked),
        &alive,
        (Durability::Memory, 1),
    )
    .unwrap();
    let mut confirmed = BTreeMap::from([(id("s1"), Boot(1))]);
    assert!(!make_live(&mut state, incarnation, &confirmed));
    confirmed.insert(id("s2"), Boot(9));
    assert!(!make_live(&mut state, incarnation, &confirmed));
    assert_eq!(state.models["w"].phase, Phase::Creating);
    confirmed.insert(id("s2"), Boot(1));
    assert!(make_live(&mut state, incarnation, &confirmed));
    assert_eq!(state.models["w"].phase, Phase::Live);
    assert!(!make_live(&mut state, incarnation, &confirmed), "only once");
}

#[test]
fn a_making_that_failed_leaves_its_reason_for_the_request_and_frees_the_name() {
    let mut state = state_with_servers(1);
    let alive = all(&state);
    let incarnation = create(
        &mut state,
        &request(1, draft("w", 10)),
        &alive,
        (Durability::Memory, 1),
    )
    .unwrap();
    let failure = ErrorBody::new(ErrorCode::DoesNotFit, "no memory");
    roll_back(&mut state, incarnation, failure.clone());
    assert!(state.models.is_empty());
    assert_eq!(refused(&mut state, &request(1, draft("w", 10))), failure);
    assert!(
        create(
            &mut state,
            &request(2, draft("w", 10)),
            &alive,
            (Durability::Memory, 1)
        )
        .is_ok()
    );
    let live = make(&mut state_with_servers(1), draft("w", 10), 1);
    let mut state = state_with_servers(1);
    make(&mut state, draft("w", 10), 1);
    roll_back(&mut state, live, failure);
    assert_eq!(state.models.len(), 1, "a live model is never rolled back");
}

#[test]
fn a_deleted_model_leaves_a_tombstone_that_its_servers_are_awaited_at() {
    let mut state = state_with_servers(2);
    let mut asked = draft("w", 10);
    asked.partitions = Partitions::Exactly(2);
    let first = make(&mut state, asked.clone(), 1);
    let wrong = delete(&mut state, "w", Some(ModelId(99))).unwrap_err();
    assert_eq!(wrong.code, ErrorCode::UnknownModel);
    assert_eq!(delete(&mut state, "w", Some(ModelId(1))), Ok(first));
    assert_eq!(
        delete(&mut state, "w", Some(ModelId(1))),
        Ok(first),
        "again is fine"
    );
    assert_eq!(
        delete(&mut state, "w", None).unwrap_err().code,
        ErrorCode::UnknownModel
    );
    assert_eq!(state.tombstones.len(), 1);
    assert_eq!(state.tombstones[0].awaited, all(&state));
    let gone = refused(&mut state, &request(1, asked.clone()));
    assert_eq!(gone.code, ErrorCode::Gone);

    let second = make(&mut state, asked, 2);
    assert_eq!(
        delete(&mut state, "w", Some(ModelId(1))),
        Ok(first),
        "the new one stays"
    );
    assert_eq!(state.models["w"].incarnation, second);
    assert!(state.models["w"].revision > Revision(2));
    dropped(&mut state, &id("s1"), &[first]);
    assert_eq!(state.tombstones[0].awaited, [id("s2")].into());
}

#[test]
fn tombstones_are_bounded_and_those_that_are_waited_for_stay_longest() {
    let mut state = state_with_servers(1);
    let awaited = make(&mut state, draft("first", 1), 1);
    delete(&mut state, "first", None).unwrap();
    for number in 2..=MAX_TOMBSTONES as u64 + 10 {
        let incarnation = make(&mut state, draft("w", 1), number);
        delete(&mut state, "w", None).unwrap();
        dropped(&mut state, &id("s1"), &[incarnation]);
    }
    assert_eq!(state.tombstones.len(), MAX_TOMBSTONES);
    assert_eq!(state.tombstones[0].incarnation, awaited);
}

#[test]
fn a_model_that_waits_for_a_silent_server_is_placed_anew_as_another_generation() {
    let mut state = state_with_servers(2);
    let alive = all(&state);
    let first = create(
        &mut state,
        &request(1, draft("w", 10)),
        &alive,
        (Durability::Memory, 1),
    )
    .unwrap();
    let holder = state.models["w"].servers[0].clone();
    let others: BTreeSet<_> = alive.into_iter().filter(|id| *id != holder).collect();
    place_anew(&mut state, first, &others).unwrap();
    let model = &state.models["w"];
    assert_eq!(model.incarnation.model, first.model);
    assert_eq!(model.incarnation.generation, 2);
    assert!(!model.servers.contains(&holder));
    assert!(state.tombstones[0].covers(first) && !state.tombstones[0].covers(model.incarnation));
    let before = state.clone();
    place_anew(&mut state, first, &others).unwrap();
    assert_eq!(state, before, "the first generation is no more");
}

#[test]
fn only_a_server_that_holds_nothing_is_forgotten() {
    let mut state = state_with_servers(2);
    make(&mut state, draft("w", 1), 1);
    let holder = state.models["w"].servers[0].clone();
    forget(&mut state, &holder);
    assert_eq!(state.servers.len(), 2);
    delete(&mut state, "w", None).unwrap();
    forget(&mut state, &holder);
    assert!(!state.servers.contains_key(&holder));
    assert!(state.tombstones[0].awaited.is_empty());
}
