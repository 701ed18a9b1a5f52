use std::{collections::BTreeSet, sync::Arc};

use glint_protocol::Durability;
use glint_world::MemoryStorage;

use super::*;
use crate::master::{
    plan::{Fleet, plan},
    registration::register,
    step::Act,
    testing::{
        FakeNetwork, FaultyStorage, Scene, copied, draft, id, ids, make, registration,
        state_with_servers, who,
    },
};

fn at(node: &str, zone: &str) -> Labels {
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Labels {
        node: named(node),
        zone: named(zone),
    }
}

/// Registers a start of `s1` that says this of itself.
fn starts(state: &mut State, boot: u64, says: Labels) {
    let mut request = registration(state, "s1", boot);
    request.labels = says;
    register(state, &request, &BTreeSet::new()).unwrap();
}

#[test]
fn what_was_told_counts_and_not_what_a_server_says_until_nothing_is_told_any_more() {
    let mut state = state_with_servers(1);
    starts(&mut state, 2, at("m1", "east"));
    assert_eq!(*state.servers[&id("s1")].place(), at("m1", "east"));
    assert_eq!(
        tell(&mut state, &id("s1"), &at("m1", "west"), true),
        Ok(true)
    );
    assert_eq!(*state.servers[&id("s1")].place(), at("m1", "west"));
    assert_eq!(
        tell(&mut state, &id("s1"), &at("m1", "west"), true),
        Ok(false)
    );
    assert_eq!(
        tell(&mut state, &id("s1"), &Labels::default(), true),
        Ok(true)
    );
    assert_eq!(*state.servers[&id("s1")].place(), at("m1", "east"));
}

#[test]
fn what_was_told_outlives_a_restart_of_the_server_where_it_is() {
    let mut state = state_with_servers(1);
    starts(&mut state, 2, at("m1", ""));
    tell(&mut state, &id("s1"), &at("m1", "west"), true).unwrap();
    starts(&mut state, 2, at("m1", ""));
    starts(&mut state, 3, at("m1", ""));
    assert_eq!(*state.servers[&id("s1")].place(), at("m1", "west"));
}

#[test]
fn what_was_told_of_a_machine_that_the_server_has_left_counts_no_more() {
    let mut state = state_with_servers(1);
    starts(&mut state, 2, at("m1", ""));
    tell(&mut state, &id("s1"), &at("m1", "west"), true).unwrap();
    starts(&mut state, 3, at("m2", ""));
    assert_eq!(*state.servers[&id("s1")].place(), at("m2", ""));
    // Told before the start on that machine was heard of: it is not forgotten for it.
    tell(&mut state, &id("s1"), &at("m3", "east"), true).unwrap();
    starts(&mut state, 4, at("m3", ""));
    assert_eq!(*state.servers[&id("s1")].place(), at("m3", "east"));
}

#[test]
fn names_that_are_none_and_servers_that_are_not_there_are_refused_and_nothing_changes() {
    let mut state = state_with_servers(1);
    let before = state.clone();
    let long = "x".repeat(257);
    for (labels, word) in [
        (
            Labels {
                node: Some(String::new()),
                zone: None,
            },
            "node",
        ),
        (at("m1", "a b"), "zone"),
        (at("m1", &long), "zone"),
        (at("m\u{fc}", ""), "node"),
    ] {
        let error = tell(&mut state, &id("s1"), &labels, true).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains(word), "{error}");
    }
    let error = tell(&mut state, &id("s9"), &at("m1", "a"), true).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownServer);
    assert_eq!(state, before);
}

#[test]
fn a_missing_copy_goes_to_the_zone_that_was_told() {
    let mut state = state_with_servers(3);
    let mut model = draft("w", 1);
    model.copies = Some(2);
    make(&mut state, model, 1);
    assert_eq!(who(&state, 0), "s1");
    // By what they say themselves, s2 would be apart, and s3 not.
    for (name, says) in [("s1", "a"), ("s2", "b"), ("s3", "a")] {
        state.servers.get_mut(&id(name)).unwrap().labels = at(name, says);
    }
    for (name, told) in [("s1", "x"), ("s2", "x"), ("s3", "y")] {
        tell(&mut state, &id(name), &at(name, told), true).unwrap();
    }
    let fleet = Fleet {
        alive: ids(["s1", "s2", "s3"]),
        ..Fleet::default()
    };
    let steps = plan(&state, &fleet, false);
    assert_eq!(
        steps.first().map(|s| s.act.clone()),
        Some(Act::Place(id("s3")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_master_that_restarts_knows_what_it_was_told() {
    let storage = MemoryStorage::default();
    let network = Arc::<FakeNetwork>::default();
    let first = Scene::start(Arc::new(storage.clone()), network.clone()).await;
    first.register("s1", 1).await.unwrap();
    let told = first.master.place_server(id("s1"), at("m1", "west")).await;
    assert_eq!(told, Ok(at("m1", "west")));
    first.shutdown.cancel();
    first.master.stop().await;

    let second = Scene::start(Arc::new(storage), network).await;
    assert_eq!(second.master.status().servers[0].labels, at("m1", "west"));
    second.register("s1", 1).await.unwrap();
    assert_eq!(second.master.status().servers[0].labels, at("m1", "west"));
}

#[tokio::test(start_paused = true)]
async fn telling_the_same_again_writes_nothing() {
    let storage = Arc::new(FaultyStorage::default());
    let scene = Scene::start(storage.clone(), Arc::default()).await;
    scene.register("s1", 1).await.unwrap();
    scene
        .master
        .place_server(id("s1"), at("m1", "west"))
        .await
        .unwrap();
    let writes = storage.writes();
    let again = scene.master.place_server(id("s1"), at("m1", "west")).await;
    assert_eq!(again, Ok(at("m1", "west")));
    assert_eq!(storage.writes(), writes);
}

#[test]
fn a_copy_that_turns_out_to_share_a_zone_goes_to_another_one() {
    let mut state = copied(3, 1, 2, Durability::Memory);
    assert_eq!(who(&state, 0), "s1, s2 in sync");
    for (name, zone) in [("s1", "west"), ("s2", "west"), ("s3", "east")] {
        tell(&mut state, &id(name), &at(name, zone), true).unwrap();
    }
    let fleet = Fleet {
        alive: ids(["s1", "s2", "s3"]),
        ..Fleet::default()
    };
    let steps = plan(&state, &fleet, state.levelling);
    let acts: Vec<_> = steps.iter().map(|step| step.act.clone()).collect();
    let (from, to) = (id("s2"), id("s3"));
    assert_eq!(acts, [Act::Move { from, to }]);
}

#[test]
fn nothing_moves_where_that_is_switched_off_and_where_nothing_new_was_told() {
    let mut state = copied(2, 1, 2, Durability::Memory);
    tell(&mut state, &id("s1"), &at("m1", "west"), false).unwrap();
    assert!(!state.levelling);
    tell(&mut state, &id("s1"), &at("m1", "west"), true).unwrap();
    assert!(!state.levelling);
}
