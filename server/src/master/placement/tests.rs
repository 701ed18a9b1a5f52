//! Promises of placement, for any servers and partitions.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn server(capacity: Option<u64>) -> Server {
    Server {
        zone: None,
        node: None,
        capacity,
        other_bytes: 0,
        durable: true,
        standing: Standing::Live,
    }
}

fn partition(model: u32, bytes: u64, copies: u32, members: &[u32]) -> Partition {
    Partition {
        model,
        bytes,
        copies,
        durable: false,
        holder: members.first().copied(),
        members: members.to_vec(),
        learners: Vec::new(),
    }
}

/// What there is when a plan has been carried out.
fn after(partitions: &[Partition], plan: &Plan) -> Vec<Partition> {
    let mut partitions = partitions.to_vec();
    for change in &plan.changes {
        let partition = &mut partitions[change.partition as usize];
        partition.members.clone_from(&change.servers);
        partition.learners.clear();
        partition.holder = Some(change.holder);
    }
    partitions
}

fn loads(servers: &[Server], partitions: &[Partition]) -> Vec<u64> {
    let mut loads: Vec<u64> = servers.iter().map(|s| s.other_bytes).collect();
    for partition in partitions {
        for &server in partition.members.iter().chain(&partition.learners) {
            loads[server as usize] += partition.bytes;
        }
    }
    loads
}

fn served(servers: &[Server], partitions: &[Partition]) -> Vec<u64> {
    let mut served = vec![0; servers.len()];
    for partition in partitions {
        if let Some(holder) = partition.holder {
            served[holder as usize] += partition.bytes;
        }
    }
    served
}

fn is_live(servers: &[Server], server: u32) -> bool {
    servers[server as usize].standing == Standing::Live
}

/// No live server has more than the least loaded and one partition of its own.
fn assert_even(servers: &[Server], partitions: &[Partition]) {
    let loads = loads(servers, partitions);
    let live = || (0..servers.len() as u32).filter(|&s| is_live(servers, s));
    let least = live().map(|s| loads[s as usize]).min().unwrap_or(0);
    for server in live() {
        let here = partitions.iter().filter(|p| p.is_on(server));
        let largest = here.map(|p| p.bytes).max().unwrap_or(0);
        assert!(
            loads[server as usize] <= least + largest || largest == 0,
            "{server}: {loads:?}"
        );
    }
}

fn label(prefix: &'static str) -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.7, (0..3u32).prop_map(move |n| format!("{prefix}{n}")))
}

fn any_server() -> impl Strategy<Value = Server> {
    let standing = prop_oneof![6 => Just(Standing::Live), 1 => Just(Standing::Draining), 1 => Just(Standing::Silent)];
    let capacity = prop::option::weighted(0.4, 0u64..3000);
    (
        label("zone"),
        label("node"),
        capacity,
        any::<bool>(),
        standing,
    )
        .prop_map(|(zone, node, capacity, durable, standing)| Server {
            zone,
            node,
            capacity,
            other_bytes: 0,
            durable,
            standing,
        })
}

/// Partitions that already are somewhere, or, where `made` says so, nowhere.
fn any_partitions(servers: usize) -> impl Strategy<Value = Vec<Partition>> {
    let one = (
        0u32..4,
        0u64..200,
        1u32..=3,
        any::<bool>(),
        0usize..=3,
        prop::collection::vec(0..servers as u32, 3),
        0usize..=1,
    );
    prop::collection::vec(one, 0..40).prop_map(|drawn| {
        let mut partitions: Vec<Partition> = drawn
            .into_iter()
            .map(|(model, bytes, copies, durable, has, on, learners)| {
                let mut on: Vec<u32> = on[..has].to_vec();
                on.sort_unstable();
                on.dedup();
                let learners = if on.len() > 1 {
                    on.split_off(on.len() - learners)
                } else {
                    Vec::new()
                };
                Partition {
                    durable,
                    learners,
                    ..partition(model, bytes, copies, &on)
                }
            })
            .collect();
        partitions.sort_by_key(|p| p.model);
        partitions
    })
}

fn anything() -> impl Strategy<Value = (Vec<Server>, Vec<Partition>)> {
    let drawn = prop::collection::vec(any_server(), 1..9).prop_flat_map(|servers| {
        let partitions = any_partitions(servers.len());
        (Just(servers), partitions)
    });
    drawn.prop_map(|(servers, mut partitions)| {
        for partition in &mut partitions {
            let mut on = partition.members.iter().chain(&partition.learners);
            let durable = on.all(|&s| servers[s as usize].durable);
            partition.durable &= durable;
        }
        (servers, partitions)
    })
}

/// Live servers of any size without labels, and partitions spread over them by a plan.
fn settled() -> impl Strategy<Value = (Vec<Server>, Vec<Partition>)> {
    (
        1usize..9,
        prop::collection::vec((0u32..3, 1u64..100, 1u32..=3), 0..60),
    )
        .prop_map(|(count, drawn)| {
            let servers = vec![server(None); count];
            let mut partitions: Vec<Partition> = drawn
                .into_iter()
                .map(|(model, bytes, copies)| partition(model, bytes, copies, &[]))
                .collect();
            partitions.sort_by_key(|p| p.model);
            let plan = plan(&servers, &partitions, Effort::Balance);
            let partitions = after(&partitions, &plan);
            (servers, partitions)
        })
}

proptest! {
    #[test]
    fn the_same_question_has_the_same_answer((servers, partitions) in anything()) {
        let first = plan(&servers, &partitions, Effort::Balance);
        prop_assert_eq!(first, plan(&servers, &partitions, Effort::Balance));
    }

    #[test]
    fn copies_come_only_to_live_servers_that_may_have_them_and_have_room((servers, partitions) in anything()) {
        for effort in [Effort::Mend, Effort::Balance] {
            let plan = plan(&servers, &partitions, effort);
            let mut loads = loads(&servers, &partitions);
            for change in &plan.changes {
                let partition = &partitions[change.partition as usize];
                let mut copied = 0;
                for &to in change.servers.iter().filter(|&&s| !partition.is_on(s)) {
                    let server = &servers[to as usize];
                    prop_assert_eq!(server.standing, Standing::Live);
                    prop_assert!(server.durable || !partition.durable);
                    loads[to as usize] += partition.bytes;
                    copied += partition.bytes;
                    let fits = server.capacity.is_none_or(|c| loads[to as usize] <= c);
                    prop_assert!(fits || partition.bytes == 0, "{change:?}");
                }
                prop_assert_eq!(copied, change.bytes);
                let different: BTreeSet<u32> = change.servers.iter().copied().collect();
                prop_assert_eq!(different.len(), change.servers.len());
            }
        }
    }

    #[test]
    fn every_partition_has_its_copies_or_is_named((servers, partitions) in anything()) {
        let plan = plan(&servers, &partitions, Effort::Mend);
        let unplaced: BTreeSet<u32> = plan.unplaced.iter().map(|u| u.partition).collect();
        for (index, partition) in after(&partitions, &plan).iter().enumerate() {
            let before = &partitions[index];
            let may = |s: &u32| is_live(&servers, *s) && (servers[*s as usize].durable || !partition.durable);
            let able = (0..servers.len() as u32).filter(may).count();
            let alive = partition.members.iter().chain(&partition.learners).filter(|s| is_live(&servers, **s)).count();
            let source = before.members.iter().any(|&s| servers[s as usize].standing != Standing::Silent);
            let can = source || before.holder.is_none();
            if can && !unplaced.contains(&(index as u32)) {
                prop_assert!(alive >= able.min(partition.copies as usize), "{index} {before:?} {partition:?}");
            }
            // Nobody is left without any copy that had one.
            prop_assert!(!partition.members.is_empty() || before.members.is_empty());
            prop_assert!(partition.holder.is_none_or(|h| partition.is_on(h)));
        }
    }

    #[test]
    fn a_plan_that_was_carried_out_moves_nothing_more((servers, partitions) in anything()) {
        let mut servers = servers;
        for server in &mut servers {
            server.capacity = None;
        }
        let done = after(&partitions, &plan(&servers, &partitions, Effort::Balance));
        let again = plan(&servers, &done, Effort::Balance);
        prop_assert!(again.changes.iter().all(|c| c.reason == Reason::Holder), "{again:?}");
    }

    #[test]
    fn where_room_is_short_repeated_plans_come_to_an_end((servers, partitions) in anything()) {
        let mut partitions = partitions;
        for _ in 0..20 {
            let plan = plan(&servers, &partitions, Effort::Balance);
            if plan.changes.is_empty() {
                return Ok(());
            }
            partitions = after(&partitions, &plan);
        }
        prop_assert!(false, "still changing after 20 rounds");
    }

    #[test]
    fn no_server_has_more_than_the_least_loaded_and_one_partition((servers, partitions) in settled()) {
        assert_even(&servers, &partitions);
    }

    #[test]
    fn any_arrangement_of_live_servers_is_evened_out(
        count in 1usize..8, drawn in prop::collection::vec((0u64..100, 1u32..=3, 0u32..8), 0..60),
    ) {
        let servers = vec![server(None); count];
        let wrapped = |first: u32, copies: u32| -> Vec<u32> {
            (0..copies.min(count as u32)).map(|n| (first + n) % count as u32).collect()
        };
        let partitions: Vec<Partition> =
            drawn.iter().map(|&(bytes, copies, first)| partition(0, bytes, copies, &wrapped(first, copies))).collect();
        let plan = plan(&servers, &partitions, Effort::Balance);
        let done = after(&partitions, &plan);
        assert_even(&servers, &done);
        // Least movement: what is above the mean, and one partition for each server.
        let before = loads(&servers, &partitions);
        let mean = before.iter().sum::<u64>() / count as u64;
        let above: u64 = before.iter().map(|l| l.saturating_sub(mean)).sum();
        let largest = partitions.iter().map(|p| p.bytes).max().unwrap_or(0);
        prop_assert!(plan.bytes() <= above + largest * count as u64, "{} {above} {largest}", plan.bytes());
        let total: u64 = loads(&servers, &done).iter().sum();
        prop_assert_eq!(total, before.iter().sum::<u64>());
    }

    #[test]
    fn a_server_that_joins_gets_its_share_and_nothing_else_moves(
        (servers, partitions) in settled(), size in 1u64..50,
    ) {
        let mut servers = servers;
        let mut partitions = partitions;
        for partition in &mut partitions {
            partition.bytes = size;
        }
        partitions = after(&partitions, &plan(&servers, &partitions, Effort::Balance));
        servers.push(server(None));
        let new = servers.len() as u32 - 1;
        let plan = plan(&servers, &partitions, Effort::Balance);
        let total: u64 = loads(&servers, &partitions).iter().sum();
        let mut wanted = 0;
        for change in plan.changes.iter().filter(|c| c.bytes > 0) {
            let before = &partitions[change.partition as usize];
            let came: Vec<u32> = change.servers.iter().copied().filter(|&s| !before.is_on(s)).collect();
            prop_assert_eq!(came, vec![new]);
            wanted += u64::from(before.members.len() < before.copies as usize);
        }
        assert_even(&servers, &after(&partitions, &plan));
        let share = total / servers.len() as u64;
        prop_assert!(plan.bytes() <= share + size + wanted * size);
    }

    #[test]
    fn draining_moves_what_is_there_and_only_that((servers, partitions) in settled()) {
        prop_assume!(servers.len() > 1);
        let here: u64 = loads(&servers, &partitions)[0];
        let plan = drain(&servers, &partitions, 0).unwrap();
        prop_assert!(plan.bytes() <= here);
        let done = after(&partitions, &plan);
        prop_assert!(done.iter().all(|p| !p.is_on(0) && p.holder.is_some_and(|h| h != 0)));
        for change in &plan.changes {
            prop_assert!(partitions[change.partition as usize].is_on(0));
            prop_assert_eq!(change.reason, Reason::Draining);
        }
    }

    #[test]
    fn copies_are_in_as_many_zones_as_there_are(
        zones in prop::collection::vec(0u32..3, 1..9), drawn in prop::collection::vec((1u64..100, 1u32..=3, 0u32..8), 0..40),
    ) {
        let servers: Vec<Server> =
            zones.iter().map(|z| Server { zone: Some(z.to_string()), ..server(None) }).collect();
        let count = servers.len() as u32;
        let partitions: Vec<Partition> = drawn
            .iter()
            .map(|&(bytes, copies, first)| {
                let members: Vec<u32> = (0..copies.min(count)).map(|n| (first + n) % count).collect();
                partition(0, bytes, copies, &members)
            })
            .collect();
        let there_are = zones.iter().collect::<BTreeSet<_>>().len();
        for partition in after(&partitions, &plan(&servers, &partitions, Effort::Balance)) {
            let own: BTreeSet<u32> = partition.members.iter().map(|&s| zones[s as usize]).collect();
            prop_assert_eq!(own.len(), there_are.min(partition.copies as usize).min(count as usize));
        }
    }

    #[test]
    fn nobody_serves_much_where_a_member_that_serves_little_could((servers, partitions) in settled()) {
        let served = served(&servers, &partitions);
        let mean = served.iter().sum::<u64>() / servers.len() as u64;
        for partition in &partitions {
            let holder = served[partition.holder.unwrap() as usize];
            for &member in &partition.members {
                let member = served[member as usize];
                prop_assert!(holder <= member + partition.bytes || holder <= mean || member >= mean);
            }
        }
    }

    #[test]
    fn step_by_step_nothing_is_ever_short_and_a_new_plan_goes_on_with_what_was_begun(
        (servers, partitions) in anything(), arrivals in prop::collection::vec(0usize..1000, 400),
    ) {
        let mut servers = servers;
        for server in &mut servers {
            server.capacity = None;
        }
        let mut partitions: Vec<Partition> = partitions.into_iter().filter(|p| !p.members.is_empty()).collect();
        let first = plan(&servers, &partitions, Effort::Balance);
        let largest = partitions.iter().map(|p| p.bytes).max().unwrap_or(0);
        let most = first.bytes() + largest * servers.len() as u64;
        let mut copied = 0;
        for arrival in arrivals {
            let plan = plan(&servers, &partitions, Effort::Balance);
            if plan.changes.is_empty() && partitions.iter().all(|p| p.learners.is_empty()) {
                return Ok(());
            }
            for change in plan.changes.iter().take(3) {
                let partition = &mut partitions[change.partition as usize];
                let in_sync = |p: &Partition| p.members.iter().filter(|s| is_live(&servers, **s)).count();
                let enough = in_sync(partition).min(partition.copies as usize);
                for step in change.next(partition) {
                    match step {
                        Step::Place { server } => {
                            prop_assert!(!partition.is_on(server));
                            copied += partition.bytes;
                            prop_assert!(copied <= most, "{copied} bytes copied, where {} sufficed", first.bytes());
                            partition.learners.push(server);
                        }
                        Step::Promote { to } => {
                            prop_assert!(partition.members.contains(&to));
                            partition.holder = Some(to);
                        }
                        Step::Remove { server } => {
                            prop_assert_ne!(partition.holder, Some(server));
                            partition.members.retain(|&s| s != server);
                            partition.learners.retain(|&s| s != server);
                        }
                    }
                }
                let drains = partition.members.len() < partition.copies as usize;
                prop_assert!(in_sync(partition) >= enough || drains, "{partition:?} {change:?} {servers:?}");
                prop_assert!(!partition.members.is_empty());
            }
            let learning: Vec<usize> =
                (0..partitions.len()).filter(|&p| !partitions[p].learners.is_empty()).collect();
            if !learning.is_empty() {
                let partition = &mut partitions[learning[arrival % learning.len()]];
                let learner = partition.learners.remove(0);
                let source = |m: &u32| servers[*m as usize].standing != Standing::Silent;
                if partition.members.iter().any(source) {
                    partition.members.push(learner);
                }
            }
        }
        prop_assert!(false, "not done after 400 rounds: {:?} {partitions:?} {servers:?}", plan(&servers, &partitions, Effort::Balance));
    }
}

#[test]
fn what_is_most_urgent_comes_first() {
    let servers = vec![
        server(None),
        server(None),
        Server {
            standing: Standing::Silent,
            ..server(None)
        },
        Server {
            standing: Standing::Draining,
            ..server(None)
        },
    ];
    let partitions = [
        partition(0, 10, 1, &[3]),
        partition(0, 10, 2, &[0, 2]),
        partition(0, 10, 1, &[0]),
        partition(0, 10, 1, &[0]),
        partition(0, 10, 1, &[0]),
        partition(0, 10, 1, &[0]),
        partition(0, 10, 1, &[0]),
    ];
    let plan = plan(&servers, &partitions, Effort::Balance);
    let reasons: Vec<Reason> = plan.changes.iter().map(|c| c.reason).collect();
    assert_eq!(
        reasons[..3],
        [
            Reason::Missing { alive: 1 },
            Reason::Draining,
            Reason::Balance
        ]
    );
}

#[test]
fn what_only_a_silent_server_has_waits_for_it() {
    let servers = [
        server(None),
        Server {
            standing: Standing::Silent,
            ..server(None)
        },
    ];
    let partitions = [partition(0, 10, 1, &[1]), partition(0, 10, 2, &[1])];
    assert_eq!(
        plan(&servers, &partitions, Effort::Balance),
        Plan::default()
    );
}

#[test]
fn a_silent_copy_stays_until_others_have_taken_its_place() {
    let silent = Server {
        standing: Standing::Silent,
        ..server(None)
    };
    let two = [server(None), silent.clone()];
    let partitions = [partition(0, 10, 2, &[0, 1])];
    assert_eq!(plan(&two, &partitions, Effort::Balance), Plan::default());
    let three = [server(None), silent, server(None)];
    let plan = plan(&three, &partitions, Effort::Balance);
    assert_eq!(plan.changes[0].servers, [0, 2]);
    assert_eq!(
        plan.changes[0].next(&partitions[0]),
        [Step::Place { server: 2 }]
    );
}

#[test]
fn a_server_whose_copies_find_no_room_is_not_drained_and_the_numbers_are_told() {
    let servers = [server(Some(100)), server(Some(35)), server(Some(20))];
    let partitions = [
        partition(0, 30, 1, &[0]),
        partition(0, 30, 1, &[0]),
        partition(0, 10, 1, &[0]),
    ];
    let refused = drain(&servers, &partitions, 0).unwrap_err();
    assert_eq!(
        refused,
        CannotDrain::NoRoom {
            copies: 1,
            needed: 30,
            largest: 30,
            free: 55
        }
    );
    assert!(drain(&servers, &partitions[1..], 0).is_ok());
    assert_eq!(
        drain(&servers[..1], &partitions, 0),
        Err(CannotDrain::LastServer)
    );
    let bare = Server {
        durable: false,
        ..server(None)
    };
    let logged = [Partition {
        durable: true,
        ..partition(0, 10, 1, &[0])
    }];
    assert_eq!(
        drain(&[server(None), bare], &logged, 0),
        Err(CannotDrain::NoDirectory { copies: 1 })
    );
}

#[test]
fn draining_one_of_two_leaves_one_copy_of_each() {
    let servers = [server(None), server(None)];
    let partitions = [partition(0, 10, 2, &[0, 1])];
    let plan = drain(&servers, &partitions, 0).unwrap();
    assert_eq!(plan.changes[0].servers, [1]);
    assert_eq!(
        plan.changes[0].next(&partitions[0]),
        [Step::Promote { to: 1 }]
    );
}

#[test]
fn a_server_that_joins_gets_some_of_each_model() {
    let servers = vec![server(None); 3];
    let partitions: Vec<Partition> = (0..90)
        .map(|p| partition(p / 30, 10, 1, &[p % 2]))
        .collect();
    let plan = plan(&servers, &partitions, Effort::Balance);
    let mut of_model = [0; 3];
    for change in &plan.changes {
        of_model[partitions[change.partition as usize].model as usize] += 1;
    }
    assert_eq!(of_model, [10, 10, 10]);
}

#[test]
fn a_new_model_is_spread_where_loads_are_equal() {
    let servers = vec![server(None); 4];
    let partitions: Vec<Partition> = (0..8).map(|_| partition(0, 10, 2, &[])).collect();
    let done = after(&partitions, &plan(&servers, &partitions, Effort::Mend));
    assert_eq!(loads(&servers, &done), [40; 4]);
    assert_eq!(served(&servers, &done), [20; 4]);
}
