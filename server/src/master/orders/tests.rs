use std::collections::BTreeSet;

use glint_protocol::{Durability, Partitions};

use super::*;
use crate::master::testing::{draft, id, make, request, state_with_servers};

fn settle(told: &mut Told, errand: &Errand) {
    told.extend(errand.told.iter().copied());
}

#[test]
fn a_server_is_told_everything_once_and_then_nothing() {
    let mut state = state_with_servers(1);
    make(&mut state, draft("a", 10), 1);
    make(&mut state, draft("b", 10), 2);
    let mut told = Told::new();
    let errand = next_errand(&state, &id("s1"), Boot(1), &told).unwrap();
    assert_eq!(errand.orders.len(), 1);
    let names: Vec<_> = errand.orders[0]
        .hold
        .iter()
        .map(|h| h.spec.name.clone())
        .collect();
    assert_eq!(names, ["a", "b"]);
    settle(&mut told, &errand);
    assert_eq!(next_errand(&state, &id("s1"), Boot(1), &told), None);
    assert_eq!(
        next_errand(&state, &id("s2"), Boot(1), &Told::new()),
        None,
        "it holds nothing"
    );
}

#[test]
fn a_model_that_changed_is_told_again() {
    let mut state = state_with_servers(1);
    make(&mut state, draft("a", 10), 1);
    let mut told = Told::new();
    let first = next_errand(&state, &id("s1"), Boot(1), &told).unwrap();
    settle(&mut told, &first);
    let mut lost = crate::master::testing::registration(&state, "s1", 2);
    lost.copies.clear();
    super::super::registration::register(&mut state, &lost, &BTreeSet::new()).unwrap();
    let errand = next_errand(&state, &id("s1"), Boot(2), &told).unwrap();
    assert!(errand.orders[0].hold[0].partitions[0].lost);
    assert_eq!(errand.orders[0].boot, Boot(2));
}

#[test]
fn models_that_are_being_made_are_ordered_one_by_one_after_all_else() {
    let mut state = state_with_servers(1);
    let alive: BTreeSet<_> = state.servers.keys().cloned().collect();
    make(&mut state, draft("live", 10), 1);
    make(&mut state, draft("gone", 10), 2);
    transition::delete(&mut state, "gone", None).unwrap();
    for (name, number) in [("new1", 3), ("new2", 4)] {
        transition::create(
            &mut state,
            &request(number, draft(name, 10)),
            &alive,
            (Durability::Memory, 1),
        )
        .unwrap();
    }
    let mut told = Told::new();
    let first = next_errand(&state, &id("s1"), Boot(1), &told).unwrap();
    assert_eq!(first.making, None);
    assert_eq!(
        first.dropped.len(),
        1,
        "what is dropped makes room for what comes"
    );
    settle(&mut told, &first);
    transition::dropped(&mut state, &id("s1"), &first.dropped);
    for name in ["new1", "new2"] {
        let errand = next_errand(&state, &id("s1"), Boot(1), &told).unwrap();
        let [orders] = &errand.orders[..] else {
            panic!("{errand:?}")
        };
        assert_eq!(orders.hold[0].spec.name, name);
        assert!(orders.hold[0].creating);
        assert_eq!(errand.making, Some(orders.hold[0].incarnation));
        settle(&mut told, &errand);
    }
    assert_eq!(next_errand(&state, &id("s1"), Boot(1), &told), None);
}

#[test]
fn many_partitions_come_in_several_orders_of_bounded_size() {
    let mut state = state_with_servers(1);
    let mut large = draft("large", 1 << 20);
    large.partitions = Partitions::Exactly(65_536);
    make(&mut state, large, 1);
    make(&mut state, draft("small", 1), 2);
    let errand = next_errand(&state, &id("s1"), Boot(1), &Told::new()).unwrap();
    let counts: Vec<usize> = errand
        .orders
        .iter()
        .map(|o| o.hold.iter().map(|h| h.partitions.len()).sum())
        .collect();
    assert_eq!(counts, [16_384, 16_384, 16_384, 16_384, 1]);
    let json = serde_json::to_vec(&errand.orders[0]).unwrap();
    assert!(json.len() < 2 << 20, "{} bytes", json.len());
}
