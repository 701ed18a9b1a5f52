use glint_protocol::{
    Durability, LossReason,
    admin::DrainState,
    control::ModelState,
    copies::{ChangeCopies, CopyChange},
};
use proptest::prelude::*;

use super::*;
use crate::master::{
    change, drain, repair,
    testing::{copied, id, ids, model, who},
};

fn all(state: &State) -> Fleet {
    Fleet {
        alive: state.servers.keys().cloned().collect(),
        gone: BTreeSet::new(),
    }
}

/// One more server, like the first.
fn joins(state: &mut State, name: &str) {
    if !state.servers.contains_key(&id(name)) {
        let mut like = state.servers[&id("s1")].clone();
        like.draining = false;
        state.servers.insert(id(name), like);
    }
}

/// What the master does, and then what holders ask for when all learners have everything and all former copies are gone.
fn turn(state: &mut State, levels: bool) -> usize {
    let fleet = all(state);
    let repairs = repair::plan(state, &fleet);
    repair::take(state, &repairs);
    let steps = plan(state, &fleet, levels);
    take(state, &steps);
    for server in state.servers.keys().cloned().collect::<Vec<_>>() {
        let now = &state.models["w"];
        let name = |s: u32| now.servers[s as usize].clone();
        let held = now
            .copies
            .iter()
            .filter(|(p, _)| *now.holder(**p) == server);
        let changes = held
            .filter(|(_, copies)| !copies.places.is_empty())
            .map(|(&partition, copies)| CopyChange {
                incarnation: now.incarnation,
                partition,
                epoch: now.epochs[partition as usize],
                revision: copies.revision,
                in_sync: copies
                    .of(CopyRole::InSync)
                    .chain(copies.of(CopyRole::Learner))
                    .map(name)
                    .collect(),
                detached: copies.of(CopyRole::Former).map(name).collect(),
            })
            .collect();
        let boot = state.servers[&server].boot;
        let request = ChangeCopies {
            server,
            boot,
            changes,
        };
        change::change(state, &request).unwrap();
    }
    repairs.len() + steps.len()
}

fn settle(state: &mut State, levels: bool) {
    for _ in 0..1000 {
        if turn(state, levels) == 0 {
            return;
        }
    }
    panic!("it never ends");
}

fn drain(state: &mut State, name: &str) {
    let alive = all(state).alive;
    drain::begin(state, &id(name), &alive).unwrap();
}

fn had(state: &State, partition: u32) -> usize {
    let copies = state.models["w"].copies_of(partition).cloned();
    repair::in_sync(&copies.unwrap_or_default())
}

#[test]
fn a_server_that_joins_gets_its_share_by_as_few_moves_as_that_takes() {
    let mut state = copied(2, 12, 1, Durability::Memory);
    joins(&mut state, "s3");
    let planned = levelling(&state, &all(&state));
    assert_eq!(planned.len(), 4);
    assert!(planned.iter().all(|m| m.to == id("s3")), "{planned:?}");
    assert_eq!(plan(&state, &all(&state), false), [], "if it is asked for");
    settle(&mut state, true);
    for name in ["s1", "s2", "s3"] {
        assert_eq!(state.models["w"].bytes_on(&id(name)), 4 * 64, "{name}");
    }
    assert!(levelling(&state, &all(&state)).is_empty() && !is_moving(&state));
}

#[test]
fn copies_of_one_partition_stay_apart_while_servers_are_levelled() {
    let mut state = copied(3, 12, 2, Durability::Memory);
    joins(&mut state, "s4");
    joins(&mut state, "s5");
    settle(&mut state, true);
    let loads = state.servers.keys().map(|s| state.placed_bytes(s));
    let loads: Vec<u64> = loads.collect();
    let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
    assert!(most - least <= 64, "{loads:?}");
    for partition in 0..12 {
        assert_eq!(had(&state, partition), 2, "{}", who(&state, partition));
    }
}

#[test]
fn so_many_moves_begin_at_once_as_one_server_may_send() {
    let mut state = copied(1, 40, 1, Durability::Memory);
    model(&mut state).sizes = vec![64 << 20; 40].into();
    joins(&mut state, "s2");
    let first = plan(&state, &all(&state), true);
    assert_eq!(first.len(), 4);
    take(&mut state, &first);
    assert_eq!(plan(&state, &all(&state), true), [], "the rest comes later");
    assert!(is_moving(&state));
}

#[test]
fn a_drained_server_becomes_empty_and_nothing_comes_to_it() {
    for copies in [1, 2] {
        let mut state = copied(3, 9, copies, Durability::Sync);
        let before = state.models["w"].epochs.clone();
        drain(&mut state, "s1");
        let is = |state: &State| drain::drain_state(state, &id("s1"));
        assert_eq!(is(&state), Some(DrainState::Draining));
        settle(&mut state, true);
        assert_eq!(is(&state), Some(DrainState::Drained));
        assert_eq!(state.copies_on(&id("s1")), 0);
        for partition in 0..9 {
            assert_eq!(had(&state, partition), usize::from(copies));
            let at = partition as usize;
            let rose = state.models["w"].epochs[at] > before[at];
            assert!(rose || partition % 3 != 0, "it held that");
        }
    }
}

#[test]
fn where_there_are_too_few_servers_for_all_copies_a_drain_leaves_one_less() {
    let mut state = copied(2, 4, 2, Durability::Memory);
    drain(&mut state, "s1");
    settle(&mut state, false);
    assert_eq!(state.copies_on(&id("s1")), 0);
    for partition in 0..4 {
        assert_eq!(who(&state, partition), "s2");
    }
    let fares = |state: &State| state.models["w"].summary().state;
    assert_eq!(fares(&state), ModelState::Degraded);
    joins(&mut state, "s3");
    settle(&mut state, false);
    assert_eq!(fares(&state), ModelState::Live);
}

#[test]
fn a_lost_partition_is_not_moved_and_another_server_says_that_it_is_lost() {
    let mut state = copied(2, 2, 2, Durability::Memory);
    let epoch = state.models["w"].epochs[0];
    model(&mut state).lost.insert(0, LossReason::Restarted);
    model(&mut state).abandon(0);
    let alive = all(&state).alive;
    let left = drain::begin(&mut state, &id("s1"), &alive).unwrap();
    assert_eq!(left.lost, 1);
    settle(&mut state, false);
    assert_eq!(who(&state, 0), "s2");
    assert!(state.models["w"].lost.contains_key(&0));
    assert!(state.models["w"].epochs[0] > epoch);
    assert_eq!(state.copies_on(&id("s1")), 0);
    let told = state.models["w"].hold(&id("s2"), &state).unwrap();
    let mut held = told.partitions.iter();
    assert!(held.any(|held| held.partition == 0 && held.lost));
}

#[test]
fn a_move_to_a_server_that_is_gone_is_called_off_and_made_to_another() {
    let mut state = copied(2, 1, 1, Durability::Memory);
    joins(&mut state, "s3");
    drain(&mut state, "s1");
    let steps = plan(&state, &all(&state), false);
    take(&mut state, &steps);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    let fleet = Fleet {
        alive: ids(["s1", "s3"]),
        gone: ids(["s2"]),
    };
    let steps = repair::plan(&state, &fleet);
    repair::take(&mut state, &steps);
    let steps = plan(&state, &fleet, false);
    take(&mut state, &steps);
    assert_eq!(who(&state, 0), "s1, s2 former, s3 learner");
    settle(&mut state, false);
    assert_eq!(who(&state, 0), "s3");
}

#[test]
fn what_only_a_silent_server_has_waits_for_it() {
    let mut state = copied(2, 2, 1, Durability::Memory);
    drain(&mut state, "s1");
    let fleet = Fleet {
        alive: ids(["s2"]),
        gone: ids(["s1"]),
    };
    assert_eq!(plan(&state, &fleet, true), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn however_servers_come_and_go_every_partition_keeps_its_copies_on_different_servers(
        servers in 2usize..5, partitions in 1u32..20, copies in 1u8..3,
        acts in prop::collection::vec((0u8..3, 1usize..8), 0..12),
    ) {
        let mut state = copied(servers, partitions, copies, Durability::Memory);
        for (act, number) in acts {
            let name = format!("s{number}");
            let alive = all(&state).alive;
            match act {
                0 => joins(&mut state, &name),
                1 => { let _ = drain::begin(&mut state, &id(&name), &alive); }
                _ => { let _ = drain::cancel(&mut state, &id(&name)); }
            }
            turn(&mut state, true);
            let now = &state.models["w"];
            for (partition, others) in &now.copies {
                let holder = now.holders[*partition as usize];
                prop_assert!(others.is_consistent(holder, now.servers.len()));
            }
        }
        settle(&mut state, true);
        let staying = state.servers.iter().filter(|(_, s)| !s.draining);
        let staying: Vec<&ServerId> = staying.map(|(id, _)| id).collect();
        for partition in 0..partitions {
            let wanted = usize::from(copies).min(staying.len());
            prop_assert_eq!(had(&state, partition), wanted, "{}", who(&state, partition));
        }
        let loads: Vec<u64> = staying.iter().map(|id| state.placed_bytes(id)).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 64, "{loads:?}");
        for (id, server) in &state.servers {
            prop_assert!(!server.draining || state.copies_on(id) == 0, "{id}");
        }
    }
}
