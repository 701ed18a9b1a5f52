use glint_protocol::{
    Durability, Epoch, LossReason,
    admin::DrainState,
    control::ModelState,
    copies::{ChangeCopies, CopyChange},
};
use proptest::prelude::*;

use super::*;
use crate::master::{
    change, drain,
    flows::{FLOWS, SMALL_FLOWS},
    step::take,
    testing::{CAPACITY, copied, id, ids, model, who},
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
    steps.len()
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
    let fleet = all(state);
    drain::begin(state, &id(name), &fleet, false).unwrap();
}

fn had(state: &State, partition: u32) -> usize {
    let copies = state.models["w"].copies_of(partition).cloned();
    in_sync(&copies.unwrap_or_default())
}

#[test]
fn a_server_that_joins_gets_its_share_by_as_few_moves_as_that_takes() {
    let mut state = copied(2, 12, 1, Durability::Memory);
    joins(&mut state, "s3");
    let planned = levelling(&state, &all(&state)).moves;
    assert_eq!(planned.len(), 4);
    assert!(planned.iter().all(|m| m.to == id("s3")), "{planned:?}");
    assert_eq!(plan(&state, &all(&state), false), [], "if it is asked for");
    settle(&mut state, true);
    for name in ["s1", "s2", "s3"] {
        assert_eq!(state.models["w"].bytes_on(&id(name)), 4 * 64, "{name}");
    }
    assert!(is_level(&state, &all(&state)));
}

#[test]
fn servers_are_not_level_as_long_as_one_that_is_to_get_a_share_has_not_been_heard() {
    let mut state = copied(1, 12, 1, Durability::Memory);
    joins(&mut state, "s2");
    // It has registered, and no heartbeat of it has come yet; or it is silent for a moment.
    let mut fleet = all(&state);
    fleet.alive.remove(&id("s2"));
    assert_eq!(levelling(&state, &fleet), Levelling::default());
    assert!(!is_level(&state, &fleet));
    let mut gone = fleet.clone();
    gone.gone.insert(id("s2"));
    assert!(is_level(&state, &gone), "nobody waits for what is gone");
    state.servers.get_mut(&id("s2")).unwrap().draining = true;
    assert!(is_level(&state, &fleet), "it gets none");
    state.servers.get_mut(&id("s2")).unwrap().draining = false;
    settle(&mut state, true);
    assert_eq!(state.models["w"].bytes_on(&id("s2")), 6 * 64);
    assert!(is_level(&state, &all(&state)));
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
    assert!(!is_level(&state, &all(&state)));
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
    let fleet = all(&state);
    let left = drain::begin(&mut state, &id("s1"), &fleet, false).unwrap();
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
fn who_held_what_is_lost_and_lives_drops_what_it_has_and_who_does_not_is_not_waited_for() {
    for (lives, told) in [(true, vec![id("s1")]), (false, vec![])] {
        let mut state = copied(2, 1, 1, Durability::Async);
        model(&mut state).lost.insert(0, LossReason::Restarted);
        drain(&mut state, "s1");
        let mut fleet = all(&state);
        if !lives {
            fleet.alive.remove(&id("s1"));
        }
        let steps = plan(&state, &fleet, false);
        take(&mut state, &steps);
        let now = &state.models["w"];
        assert_eq!(now.holder(0), &id("s2"));
        let former = now.copies_of(0).unwrap().of(CopyRole::Former);
        let former: Vec<ServerId> = former.map(|s| now.servers[s as usize].clone()).collect();
        assert_eq!(former, told);
    }
}

#[test]
fn no_copy_in_sync_is_missing_while_holders_are_levelled() {
    let mut state = copied(2, 4, 2, Durability::Memory);
    for partition in [1, 3] {
        model(&mut state).promote(partition, 0, Epoch(9), CopyRole::InSync);
    }
    let steps = plan(&state, &all(&state), true);
    assert!(!steps.is_empty());
    take(&mut state, &steps);
    let now = &state.models["w"];
    let held = |server| now.holders.iter().filter(|h| **h == server).count();
    assert_eq!((held(0), held(1)), (2, 2));
    let has_both = |p: u32| in_sync(now.copies_of(p).unwrap()) == 2;
    assert!((0..4).all(has_both));
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
    for _ in 0..2 {
        let steps = plan(&state, &fleet, false);
        take(&mut state, &steps);
    }
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
            let fleet = all(&state);
            match act {
                0 => joins(&mut state, &name),
                1 => { let _ = drain::begin(&mut state, &id(&name), &fleet, false); }
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

/// A model that wants so many copies and has one of each partition.
fn bare(servers: usize, partitions: u32, copies: u8) -> State {
    let mut state = copied(servers, partitions, copies, Durability::Memory);
    let model = model(&mut state);
    for partition in 0..partitions {
        for server in 0..servers as u32 {
            model.strike(partition, server);
        }
    }
    model.tidy();
    state
}

fn mend(state: &mut State, fleet: &Fleet) -> Vec<Step> {
    let steps = plan(state, fleet, false);
    take(state, &steps);
    steps
}

/// Has all learners become in sync, as their holders would ask.
fn attach(state: &mut State) {
    let model = model(state);
    for partition in 0..model.spec.partition_count {
        let learners: Vec<u32> = model.copies[&partition].of(CopyRole::Learner).collect();
        for server in learners {
            model.set_role(partition, server, Some(CopyRole::InSync));
        }
    }
}

#[test]
fn missing_copies_are_placed_evenly_on_other_servers_until_all_are_there() {
    let mut state = bare(4, 16, 3);
    let fleet = all(&state);
    for _ in 0..8 {
        mend(&mut state, &fleet);
        attach(&mut state);
    }
    let model = &state.models["w"];
    for partition in 0..16 {
        assert_eq!(
            in_sync(&model.copies[&partition]),
            3,
            "{}",
            who(&state, partition)
        );
    }
    let loads = |state: &State| {
        let loads = ["s1", "s2", "s3", "s4"].map(|name| state.placed_bytes(&id(name)));
        loads.iter().max().unwrap() - loads.iter().min().unwrap()
    };
    assert!(loads(&state) <= 2 * 64, "as even as one by one comes to");
    assert_eq!(mend(&mut state, &fleet), []);
    settle(&mut state, true);
    assert!(loads(&state) <= 64, "and level, when that is asked for");
}

#[test]
fn more_copies_than_servers_are_had_as_far_as_they_go_and_completed_by_who_joins() {
    let mut state = bare(2, 1, 3);
    let fleet = all(&state);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    attach(&mut state);
    assert_eq!(mend(&mut state, &fleet), []);
    let joins = state.servers[&id("s1")].clone();
    state.servers.insert(id("s3"), joins);
    let fleet = all(&state);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 in sync, s3 learner");
}

#[test]
fn copies_are_kept_in_different_zones_then_on_different_machines() {
    let mut state = bare(4, 1, 2);
    for (name, zone, node) in [
        ("s1", "a", "m1"),
        ("s2", "a", "m1"),
        ("s3", "a", "m2"),
        ("s4", "b", "m3"),
    ] {
        let labels = &mut state.servers.get_mut(&id(name)).unwrap().labels;
        (labels.zone, labels.node) = (Some(zone.into()), Some(node.into()));
    }
    for (living, expected) in [
        (ids(["s1", "s2", "s3", "s4"]), Some("s4")),
        (ids(["s1", "s2", "s3"]), Some("s3")),
        (ids(["s1", "s2"]), Some("s2")),
        (ids(["s1"]), None),
        (ids(["s2", "s3"]), None),
    ] {
        let fleet = Fleet {
            alive: living,
            gone: BTreeSet::new(),
        };
        let steps = plan(&state, &fleet, false);
        let acts = steps.first().map(|s| s.act.clone());
        assert_eq!(acts, expected.map(|name| Act::Place(id(name))));
    }
}

#[test]
fn so_many_are_attached_at_once_as_one_server_may_send_or_receive() {
    let mut state = bare(2, 8, 2);
    let fleet = all(&state);
    let large = SMALL_FLOWS.1;
    model(&mut state).sizes = vec![large; 8].into();
    let steps = mend(&mut state, &fleet);
    assert_eq!(steps.len(), 2 * FLOWS, "four each way");
    let mut state = bare(2, 8, 2);
    model(&mut state).sizes = vec![large; 8].into();
    let third = state.servers[&id("s1")].clone();
    state.servers.insert(id("s3"), third);
    let model = model(&mut state);
    model.holders = vec![0; 8];
    let fleet = all(&state);
    assert_eq!(
        mend(&mut state, &fleet).len(),
        FLOWS,
        "one sends all of them"
    );
    assert_eq!(
        mend(&mut state, &fleet),
        [],
        "and goes on when they are there"
    );
}

#[test]
fn where_a_copy_is_being_let_go_of_none_comes_before_it_is_gone() {
    let mut state = bare(2, 1, 2);
    let fleet = all(&state);
    let server = model(&mut state).intern(&id("s2"));
    model(&mut state).set_role(0, server, Some(CopyRole::Former));
    assert_eq!(mend(&mut state, &fleet), []);
    model(&mut state).strike(0, server);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 learner");
}

#[test]
fn a_learner_on_a_server_that_is_gone_makes_room_for_one_that_lives() {
    let mut state = bare(3, 1, 2);
    let only_two = Fleet {
        alive: ids(["s1", "s2"]),
        gone: BTreeSet::new(),
    };
    mend(&mut state, &only_two);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    let gone = Fleet {
        alive: ids(["s1"]),
        gone: ids(["s2", "s3"]),
    };
    assert_eq!(
        mend(&mut state, &gone),
        [],
        "it may come back, and nobody else is there"
    );
    let gone = Fleet {
        alive: ids(["s1", "s3"]),
        gone: ids(["s2"]),
    };
    mend(&mut state, &gone);
    assert_eq!(who(&state, 0), "s1, s2 former, s3 learner");
}

#[test]
fn what_is_too_many_goes_and_never_one_that_is_needed() {
    use CopyRole::{InSync, Learner};
    for (second, third, expected) in [
        (InSync, Learner, "s1, s2 in sync, s3 former"),
        (Learner, InSync, "s1, s2 former, s3 in sync"),
        (InSync, InSync, "s1, s2 in sync, s3 former"),
        (Learner, Learner, "s1, s2 learner, s3 learner"),
    ] {
        let mut state = bare(3, 1, 2);
        let model = model(&mut state);
        for (name, role) in [("s2", second), ("s3", third)] {
            let server = model.intern(&id(name));
            model.set_role(0, server, Some(role));
        }
        let fleet = all(&state);
        mend(&mut state, &fleet);
        assert_eq!(who(&state, 0), expected);
    }
}

#[test]
fn nothing_comes_to_a_server_that_is_drained_or_full() {
    let mut state = bare(3, 1, 2);
    let fleet = all(&state);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 learner");
    state.servers.get_mut(&id("s2")).unwrap().draining = true;
    mend(&mut state, &fleet);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s2 former, s3 learner");
    let mut state = bare(3, 1, 2);
    state.servers.get_mut(&id("s2")).unwrap().capacity_bytes = 63;
    assert_eq!(state.servers[&id("s3")].capacity_bytes, CAPACITY);
    mend(&mut state, &fleet);
    assert_eq!(who(&state, 0), "s1, s3 learner");
}

#[test]
fn a_model_of_one_copy_and_a_lost_partition_are_left_alone() {
    let mut state = copied(3, 3, 1, Durability::Memory);
    let fleet = all(&state);
    assert_eq!(mend(&mut state, &fleet), []);
    let mut state = bare(3, 1, 2);
    model(&mut state).lost.insert(0, LossReason::Restarted);
    assert_eq!(mend(&mut state, &fleet), []);
}

#[test]
fn no_copy_comes_to_a_holder_that_is_to_move_elsewhere() {
    let mut state = copied(3, 1, 3, Durability::Memory);
    let asked = model(&mut state);
    asked.set_role(0, 2, Some(CopyRole::Learner));
    // What moves off it was begun when another held it; nobody else is there for the third copy.
    let copies = asked.copies.get_mut(&0).unwrap();
    copies.moving = Some(crate::master::copies::Move { from: 0, to: 2 });
    assert_eq!(who(&state, 0), "s1, s2 in sync, s3 learner");
    let fleet = all(&state);
    assert_eq!(plan(&state, &fleet, false), []);
    // Once the other has everything it takes over, and there is room for the third copy again.
    turn(&mut state, false);
    assert_eq!(who(&state, 0), "s3, s2 in sync");
}
