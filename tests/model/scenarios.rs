//! The scenarios in which everything must hold. Each names what differs from [`Scenario::named`]; behind the semicolon, how
//! often what may happen.

use crate::{
    mutant::Mutant,
    property::Property,
    scenario::{Asked, Durability::Memory, ONE, Scenario, scenario},
    set::Set,
};

pub(crate) const FIRST: Set = Set::of(&[0]);
pub(crate) const THREE: Set = Set::of(&[0, 1, 2]);
/// One request to both partitions, and one to the first.
const ACROSS: &[&[u8]] = &[&[0, 1], &[0]];

/// What a disk that was set back breaks is noticed, not prevented.
pub(crate) const LOSS_IS_NOTICED: Asked = Asked::Not(&[
    Property::Kept,
    Property::Once,
    Property::PullSees,
    Property::SkippedStaysOut,
    Property::OnePast,
]);

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = fail_over();
    all.extend(moves());
    all.extend(yields());
    all.extend(three_servers());
    all.extend(resets());
    all.extend(given_up());
    all.extend(set_back());
    all.extend(two_partitions());
    all.extend(enough_copies());
    all.extend(expected_to_hold());
    all
}

fn fail_over() -> Vec<Scenario> {
    vec![
        scenario! { "fail-over, sync, crash"; crashes: 1, promotions: 1 },
        scenario! { "fail-over, memory, crash", durability: Memory; crashes: 1, promotions: 2 },
        scenario! { "memory: two crashes in sequence, re-replicated between", durability: Memory;
        crashes: 2, promotions: 1, attachments: 1, additions: 1 },
        scenario! { "sync: disk lost, re-replicated, crash", requests: ONE, quick: false;
        disks_lost: 1, crashes: 1, promotions: 1, attachments: 1, additions: 1 },
        scenario! { "removal races promotion, added again, crash, memory", durability: Memory;
        removals: 1, crashes: 1, promotions: 1, attachments: 1, additions: 1 },
        scenario! { "old holder stays in the set, memory, crash", durability: Memory, requests: ONE, keeps_old_holder: true;
        attachments: 1, promotions: 2, crashes: 1 },
        scenario! { "two clients, memory, crash", durability: Memory, clients: 2, requests: ONE; crashes: 1, promotions: 2 },
        scenario! { "two clients, memory, two crashes, re-replicated",
        durability: Memory, clients: 2, requests: ONE, settles: false, quick: false;
        crashes: 2, promotions: 1, attachments: 1, additions: 1 },
        scenario! { "memory, one failure: nothing lost", durability: Memory; crashes: 1 },
        scenario! { "sync, one disk gone: nothing lost"; disks_lost: 1 },
        scenario! { "eviction, memory, crash", durability: Memory; evictions: 1, crashes: 1, promotions: 1 },
        scenario! { "eviction, sync, crash", quick: false; evictions: 1, crashes: 1, promotions: 1 },
        scenario! { "checkpoint by any copy, memory, crash", durability: Memory; checkpoints: 1, crashes: 1, promotions: 1 },
    ]
}

fn moves() -> Vec<Scenario> {
    vec![
        scenario! { "move (attach, add, promote, drop), sync, crash", in_sync: FIRST, quick: false;
        crashes: 1, drops: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "move, memory, crash", durability: Memory, in_sync: FIRST;
        crashes: 1, drops: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "there and back, memory", durability: Memory, in_sync: FIRST, requests: ONE;
        attachments: 2, additions: 2, promotions: 2, drops: 1 },
        scenario! { "snapshots travel, memory, move, crash",
        durability: Memory, in_sync: FIRST, snapshots_travel: true, quick: false;
        crashes: 1, drops: 1, attachments: 2, additions: 1, promotions: 1 },
        scenario! { "snapshots travel, sync, move, crash",
        in_sync: FIRST, requests: ONE, snapshots_travel: true, quick: false;
        crashes: 1, attachments: 2, additions: 1, promotions: 1 },
        scenario! { "snapshots travel, sync, disk lost, crash",
        requests: ONE, snapshots_travel: true, settles: false, quick: false;
        disks_lost: 1, crashes: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "move, sync, two crashes, drop", in_sync: FIRST, requests: ONE, settles: false, quick: false;
        crashes: 2, drops: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "detached and attached again, move, crash, memory",
        durability: Memory, in_sync: FIRST, requests: ONE, settles: false, quick: false;
        crashes: 1, attachments: 2, additions: 2, removals: 1, drops: 2, promotions: 1 },
        scenario! { "eviction, move, crash, checkpoint, memory",
        durability: Memory, in_sync: FIRST, settles: false, quick: false;
        crashes: 1, evictions: 1, checkpoints: 1, drops: 1, attachments: 1, additions: 1, promotions: 1 },
    ]
}

/// `Yield`: who ceases to serve says so, and nobody waits for the end of its lease.
fn yields() -> Vec<Scenario> {
    vec![
        scenario! { "yields, memory, crash", durability: Memory, requests: ONE, yields: true;
        crashes: 1, attachments: 1, promotions: 2 },
        scenario! { "yields, move, memory, crash", durability: Memory, in_sync: FIRST, requests: ONE, yields: true;
        crashes: 1, drops: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "yields, sync, crash", requests: ONE, yields: true; crashes: 1, promotions: 2 },
        scenario! { "yields, three copies, memory", servers: 3, in_sync: THREE, durability: Memory, requests: ONE, yields: true;
        promotions: 2 },
        scenario! { "yields, there and back, memory",
        durability: Memory, requests: ONE, keeps_old_holder: true, yields: true, settles: false, quick: false;
        attachments: 1, promotions: 2 },
    ]
}

fn three_servers() -> Vec<Scenario> {
    vec![
        scenario! { "three copies, memory, crash", servers: 3, in_sync: THREE, durability: Memory, requests: ONE;
        attachments: 1, crashes: 1, promotions: 1 },
        scenario! { "two copies and a spare server, memory, crash", servers: 3, durability: Memory, requests: ONE;
        crashes: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "three copies, sync, crash", servers: 3, in_sync: THREE, requests: ONE, settles: false, quick: false;
        crashes: 1, promotions: 1 },
        scenario! { "three copies, memory, two crashes",
        servers: 3, in_sync: THREE, durability: Memory, settles: false, quick: false;
        crashes: 2, attachments: 1, promotions: 1 },
        scenario! { "a spare server, memory, two promotions, drop",
        servers: 3, durability: Memory, requests: ONE, settles: false, quick: false;
        promotions: 2, drops: 1, attachments: 1, additions: 1 },
    ]
}

fn resets() -> Vec<Scenario> {
    vec![
        scenario! { "reset, sync, crash", requests: ONE; resets: 1, crashes: 1, promotions: 1 },
        scenario! { "reset, memory, crash", durability: Memory, requests: ONE, quick: false; resets: 1, crashes: 1, promotions: 1 },
        scenario! { "reset, sync, move, crash", in_sync: FIRST, requests: ONE, quick: false;
        resets: 1, crashes: 1, attachments: 1, additions: 1, promotions: 1 },
    ]
}

/// `skip`: a number that was given up settles by a record.
fn given_up() -> Vec<Scenario> {
    vec![
        scenario! { "given up, memory, crash", durability: Memory; abandons: 1, crashes: 1, promotions: 1 },
        scenario! { "given up, sync, crash", quick: false; abandons: 1, crashes: 1, promotions: 1 },
        scenario! { "given up, memory, move, crash", durability: Memory, in_sync: FIRST;
        abandons: 1, crashes: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "given up, eviction, memory, crash", durability: Memory;
        abandons: 1, evictions: 1, crashes: 1, promotions: 1 },
    ]
}

/// `prev`: a server that has lost something is found by it.
fn set_back() -> Vec<Scenario> {
    let three: &[&[u8]] = &[&[0], &[0], &[0]];
    vec![
        scenario! { "sync, one copy, its disk set back",
        servers: 1, in_sync: FIRST, requests: three, asked: LOSS_IS_NOTICED;
        disks_set_back: 1, crashes: 1 },
        scenario! { "sync, two copies, a disk set back", asked: LOSS_IS_NOTICED, quick: false;
        disks_set_back: 1, crashes: 1, promotions: 1 },
    ]
}

/// One number of a lane covers groups to two partitions.
fn two_partitions() -> Vec<Scenario> {
    vec![
        scenario! { "two holders, one copy each, two requests, memory, move",
        holders: &[0, 1], requests: ACROSS, durability: Memory, in_sync: Set::NONE;
        attachments: 1, additions: 1, promotions: 1 },
        scenario! { "two holders, two copies each, memory, crash",
        holders: &[0, 1], requests: &[&[0, 1]], durability: Memory; crashes: 1, promotions: 1 },
        scenario! { "two holders, two copies each, two requests, memory, crash",
        holders: &[0, 1], requests: ACROSS, durability: Memory, quick: false; crashes: 1, promotions: 1 },
        scenario! { "two holders, one group given up, one moved, memory",
        holders: &[0, 1], requests: &[&[0, 1]], durability: Memory, in_sync: Set::NONE;
        abandons: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "two holders, a lane evicted at one, memory, move",
        holders: &[0, 1], requests: &[&[0], &[0, 1]], durability: Memory, in_sync: Set::NONE, quick: false;
        evictions: 1, attachments: 1, additions: 1, promotions: 1 },
    ]
}

/// `minInSync`.
fn enough_copies() -> Vec<Scenario> {
    vec![
        scenario! { "minInSync 2, memory, crash, re-replicated", min_in_sync: 2, durability: Memory;
        crashes: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "minInSync 2, memory, removal, added again", min_in_sync: 2, durability: Memory;
        removals: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "minInSync 2, memory, a spare server, crash",
        min_in_sync: 2, servers: 3, durability: Memory, requests: ONE, quick: false;
        crashes: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "minInSync 2, sync, disk lost, re-replicated", min_in_sync: 2, requests: ONE, quick: false;
        disks_lost: 1, attachments: 1, additions: 1, promotions: 1 },
        scenario! { "minInSync 2, memory, removal, crash, given up",
        min_in_sync: 2, durability: Memory, requests: ONE, quick: false;
        crashes: 1, removals: 1, abandons: 1, attachments: 1, additions: 1, promotions: 1 },
    ]
}

/// Rules that guard something else: clocks only freshness, so that without any lease nothing is lost, doubled or accused; the
/// epoch on a push only against accusations while clocks are wrong.
fn expected_to_hold() -> Vec<Scenario> {
    const BARE: &[Mutant] = &[
        Mutant::VerdictWithoutLease,
        Mutant::PullWithoutLease,
        Mutant::ServesAtOnce,
        Mutant::JoiningWithoutLease,
        Mutant::LeaseFromHigherEpoch,
    ];
    let nothing_lost = Asked::Only(&[
        Property::Kept,
        Property::Once,
        Property::OnePast,
        Property::SkippedStaysOut,
        Property::NobodyAccused,
    ]);
    vec![
        scenario! { "no epoch on pushes, memory, crash", mutants: &[Mutant::NoEpochOnPush], durability: Memory;
        crashes: 1, promotions: 2 },
        scenario! { "no leases, memory, crash, given up",
        mutants: BARE, asked: nothing_lost, durability: Memory, settles: false;
        crashes: 1, abandons: 1, promotions: 2 },
        scenario! { "no leases, memory, crash, removal, re-replicated",
        mutants: BARE, asked: nothing_lost, durability: Memory, settles: false, quick: false;
        crashes: 1, removals: 1, attachments: 1, additions: 1, promotions: 2 },
        scenario! { "no leases, sync, crash", mutants: BARE, asked: nothing_lost, settles: false, quick: false;
        crashes: 1, promotions: 2 },
        scenario! { "no leases, three copies, memory, crash",
        mutants: BARE, asked: nothing_lost, servers: 3, in_sync: THREE, durability: Memory, requests: ONE,
        settles: false, quick: false;
        crashes: 1, attachments: 1, promotions: 2 },
    ]
}
