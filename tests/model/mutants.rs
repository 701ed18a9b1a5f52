//! For each rule a scenario in which its absence is seen.

use crate::{
    mutant::Mutant,
    property::Property,
    scenario::{Asked, Durability::Memory, ONE, Scenario, scenario},
    scenarios::{FIRST, LOSS_IS_NOTICED, THREE},
    set::Set,
};

const LOSS: Asked = Asked::Only(&[Property::Kept, Property::Once]);

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = acknowledging();
    all.extend(changing_the_set());
    all.extend(leases());
    all.extend(yields());
    all.extend(following());
    all.extend(resets_and_checkpoints());
    all.extend(giving_up());
    all.extend(noticing_loss());
    all.extend(across_partitions());
    all.extend(enough_copies());
    for mutant in &mut all {
        // A rule that keeps things going is missed where they stop; the others before.
        mutant.settles = mutant.asked == Asked::Only(&[]);
        mutant.quick = true;
    }
    all
}

fn acknowledging() -> Vec<Scenario> {
    vec![
        scenario! { "R1 acknowledged before the followers have it", mutants: &[Mutant::AcknowledgedEarly], durability: Memory;
        crashes: 1, promotions: 2 },
        scenario! { "R2 a repeat answered before the followers have it", mutants: &[Mutant::RepeatAnsweredEarly], durability: Memory;
        crashes: 1, promotions: 2 },
        scenario! { "R3 records of an earlier epoch taken", durability: Memory, clients: 2, requests: ONE, asked: LOSS,
        mutants: &[Mutant::OldEpochTaken, Mutant::VerdictWithoutLease, Mutant::PullWithoutLease, Mutant::ServesAtOnce];
        crashes: 1, promotions: 2 },
        scenario! { "R17 a follower reports before its disk has it", mutants: &[Mutant::ReportsBeforeDisk];
        crashes: 2, promotions: 2 },
        scenario! { "R18 the holder's own disk not awaited", mutants: &[Mutant::OwnDiskNotAwaited]; crashes: 1, promotions: 2 },
        scenario! { "R23 expiry told before it is replicated", mutants: &[Mutant::ExpiredEarly], durability: Memory;
        evictions: 1, crashes: 1, promotions: 2 },
        scenario! { "R24 a promoted copy does not wait for the others",
        mutants: &[Mutant::PromotedAlone], servers: 3, in_sync: THREE, durability: Memory, requests: ONE;
        attachments: 1, crashes: 1, promotions: 2 },
    ]
}

fn changing_the_set() -> Vec<Scenario> {
    vec![
        scenario! { "R4 a copy out of sync is promoted", mutants: &[Mutant::AnyCopyPromoted], durability: Memory;
        removals: 1, crashes: 1, promotions: 2 },
        scenario! { "R5 the holder drops a member alone", mutants: &[Mutant::RemovedAlone], durability: Memory;
        removals: 1, crashes: 1, promotions: 2 },
        scenario! { "R6 added at the master first", mutants: &[Mutant::AddedAtMasterFirst], durability: Memory, in_sync: FIRST;
        attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "R7 added while behind", mutants: &[Mutant::AddedBehind], in_sync: FIRST;
        attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "R7b added without what was inherited", mutants: &[Mutant::InheritedForgotten, Mutant::SilenceIsReport], requests: ONE;
        disks_lost: 1, attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "R7c added without a report",
        mutants: &[Mutant::SilenceIsReport], in_sync: FIRST, requests: ONE, asked: Asked::Only(&[]);
        attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "R8 no compare-and-swap", mutants: &[Mutant::NoCompareAndSwap], durability: Memory;
        removals: 2, attachments: 1, additions: 1, crashes: 1, promotions: 2 },
        scenario! { "R9 a restarted holder goes on", mutants: &[Mutant::GoesOnAfterRestart]; crashes: 1, promotions: 2 },
        scenario! { "R9b a restarted holder goes on: loss or doubling",
        mutants: &[Mutant::GoesOnAfterRestart], clients: 2, requests: ONE, asked: LOSS;
        crashes: 1, promotions: 2 },
        scenario! { "R10 members known by name", mutants: &[Mutant::KnownByName], durability: Memory; crashes: 1, promotions: 2 },
        scenario! { "R11 reports of an earlier session count",
        mutants: &[Mutant::AnySessionCounts], in_sync: FIRST, requests: ONE;
        attachments: 2, additions: 1, drops: 1, crashes: 1 },
        scenario! { "R11b reports of an earlier epoch count",
        mutants: &[Mutant::AnyEpochCounts], servers: 3, in_sync: THREE, durability: Memory, requests: ONE;
        attachments: 1, crashes: 1, promotions: 2 },
        scenario! { "R16 the master tells before its disk has it", mutants: &[Mutant::ToldBeforeDurable], durability: Memory;
        master_crashes: 1, crashes: 1, promotions: 2 },
        scenario! { "R25 a follower that was asked for is forgotten",
        mutants: &[Mutant::JoiningForgotten], durability: Memory, in_sync: FIRST;
        attachments: 1, additions: 1, crashes: 1, promotions: 1 },
    ]
}

fn leases() -> Vec<Scenario> {
    vec![
        scenario! { "R12 pulls without a lease", mutants: &[Mutant::PullWithoutLease], durability: Memory; promotions: 2 },
        scenario! { "R12b verdicts without a lease", mutants: &[Mutant::VerdictWithoutLease], durability: Memory; promotions: 2 },
        scenario! { "R13 serves before its leases have ended", mutants: &[Mutant::ServesAtOnce], durability: Memory; promotions: 2 },
        scenario! { "R14 a restart forgets the leases given", mutants: &[Mutant::ForgetsPromises]; crashes: 1, promotions: 2 },
        scenario! { "R14b a new attachment forgets the leases given",
        mutants: &[Mutant::PromiseOfAttachment], servers: 3, in_sync: THREE, durability: Memory, requests: ONE;
        attachments: 1, promotions: 2 },
        scenario! { "R15 no lease of a follower being added",
        mutants: &[Mutant::JoiningWithoutLease], durability: Memory, in_sync: FIRST;
        attachments: 1, additions: 1, promotions: 1 },
        scenario! { "R15c a holder that waits for a lease adds followers",
        mutants: &[Mutant::AddsBeforeServing], servers: 3, durability: Memory, requests: ONE;
        attachments: 1, additions: 1, promotions: 2 },
        scenario! { "R15d a lease of an earlier attachment counts",
        mutants: &[Mutant::LeaseOfAnySession], durability: Memory, in_sync: FIRST, requests: ONE, snapshots_travel: true;
        drops: 1, attachments: 2, additions: 1, promotions: 1 },
        scenario! { "R15b a copy of a higher epoch gives leases",
        mutants: &[Mutant::LeaseFromHigherEpoch], durability: Memory; promotions: 2 },
    ]
}

fn yields() -> Vec<Scenario> {
    vec![
        scenario! { "Y1 a holder that waits for a lease yields",
        mutants: &[Mutant::YieldsBeforeServing], servers: 3, in_sync: THREE, durability: Memory, requests: ONE, yields: true;
        promotions: 2 },
        scenario! { "Y2 yields before it ceases to serve",
        mutants: &[Mutant::YieldsAndGoesOn], durability: Memory, requests: ONE, yields: true;
        promotions: 1 },
        scenario! { "Y3 a yield of any epoch ends the wait",
        mutants: &[Mutant::AnyYieldCounts], durability: Memory, requests: ONE, keeps_old_holder: true, yields: true;
        attachments: 2, additions: 1, promotions: 3 },
    ]
}

fn following() -> Vec<Scenario> {
    vec![
        scenario! { "R19 the ledger is not in the snapshot",
        mutants: &[Mutant::SnapshotWithoutLedger], durability: Memory, in_sync: FIRST;
        attachments: 1, additions: 1, promotions: 1 },
        scenario! { "R20 thrown away before the new one is complete",
        mutants: &[Mutant::DiscardedFirst], servers: 3, in_sync: THREE, durability: Memory, requests: ONE;
        attachments: 1, crashes: 1, promotions: 2 },
        scenario! { "R21 a dropped copy leaves no floor", mutants: &[Mutant::NoFloor], servers: 3, durability: Memory, requests: ONE,
        asked: Asked::Only(&[Property::Kept, Property::Once, Property::PullSees]);
        attachments: 2, additions: 1, drops: 1, promotions: 2 },
        scenario! { "R22 a late drop deletes a newer copy", mutants: &[Mutant::DropsNewer], durability: Memory;
        attachments: 2, additions: 1, drops: 1, crashes: 1, promotions: 2 },
        scenario! { "R22b a late detach deletes a newer copy",
        mutants: &[Mutant::DetachesAnySession], durability: Memory, in_sync: FIRST;
        attachments: 2, additions: 1, drops: 1, crashes: 1 },
        scenario! { "R27 the predecessor's epoch ignored", mutants: &[Mutant::PredecessorIgnored], durability: Memory;
        attachments: 1, additions: 1, crashes: 1, promotions: 2 },
        scenario! { "R31 a late snapshot over a newer copy",
        mutants: &[Mutant::LateSnapshotTaken], durability: Memory, in_sync: FIRST, snapshots_travel: true;
        attachments: 2, additions: 1, crashes: 1, promotions: 1 },
    ]
}

fn resets_and_checkpoints() -> Vec<Scenario> {
    vec![
        scenario! { "R28 a checkpoint by a copy at any position", mutants: &[Mutant::CheckpointAnywhere], durability: Memory;
        checkpoints: 1, crashes: 1, promotions: 2 },
        scenario! { "R28b a checkpoint by a copy of any epoch", mutants: &[Mutant::CheckpointOfAnyEpoch], durability: Memory, clients: 2, requests: ONE;
        checkpoints: 1, crashes: 1, promotions: 2 },
        scenario! { "R28c a checkpoint's position without a lease", mutants: &[Mutant::CheckpointWithoutLease], durability: Memory;
        checkpoints: 1, crashes: 1, promotions: 2 },
        scenario! { "R29 a reset while a sole holder may live",
        mutants: &[Mutant::ResetWhileAlive], durability: Memory, in_sync: FIRST; resets: 1 },
        scenario! { "R30 no incarnation on pushes", mutants: &[Mutant::NoIncarnation], durability: Memory; resets: 1 },
        scenario! { "R32 orders to an earlier boot obeyed", mutants: &[Mutant::OldOrderObeyed], requests: ONE;
        resets: 1, crashes: 1, promotions: 1 },
        scenario! { "R32b orders to an earlier boot obeyed: acknowledgements",
        mutants: &[Mutant::OldOrderObeyed], requests: ONE,
        asked: Asked::Only(&[Property::Kept, Property::Once, Property::PullSees, Property::DeadIncarnation]);
        resets: 1, crashes: 1, promotions: 1 },
    ]
}

fn giving_up() -> Vec<Scenario> {
    vec![
        scenario! { "S1 given up without a record", mutants: &[Mutant::SkipWithoutRecord], durability: Memory, requests: ONE;
        abandons: 1, promotions: 1 },
        scenario! { "S2 skipped answered before the followers have it",
        mutants: &[Mutant::SkipAnsweredEarly], durability: Memory, requests: ONE;
        abandons: 1, promotions: 1 },
        scenario! { "S3 skipped told of what was applied", mutants: &[Mutant::SkipOverApplied], durability: Memory, requests: ONE;
        abandons: 1, promotions: 1 },
        scenario! { "S4 a skip is not in the followers' ledger", mutants: &[Mutant::SkipNotInLedger], durability: Memory,
        requests: ONE, asked: Asked::Not(&[Property::OnePast]);
        abandons: 1, promotions: 1 },
    ]
}

fn noticing_loss() -> Vec<Scenario> {
    vec![
        scenario! { "V1 prev is not compared", mutants: &[Mutant::PrevIgnored], servers: 1, in_sync: FIRST, asked: LOSS_IS_NOTICED;
        disks_set_back: 1, crashes: 1 },
        scenario! { "V2 prev compared before the horizon", mutants: &[Mutant::PrevBeforeHorizon], durability: Memory;
        evictions: 1, crashes: 1, promotions: 1 },
        scenario! { "V3 prev of any partition", mutants: &[Mutant::PrevOfAnyPartition],
        holders: &[0, 1], requests: &[&[0], &[1]], in_sync: Set::NONE, durability: Memory; },
        scenario! { "V4 prev of an earlier incarnation", mutants: &[Mutant::PrevOfAnyIncarnation], durability: Memory; resets: 1 },
        scenario! { "V5 no epoch on pushes, clocks wrong: a false accusation", durability: Memory,
        mutants: &[Mutant::NoEpochOnPush, Mutant::VerdictWithoutLease, Mutant::PullWithoutLease, Mutant::ServesAtOnce],
        asked: Asked::Only(&[Property::NobodyAccused]);
        promotions: 1 },
    ]
}

fn across_partitions() -> Vec<Scenario> {
    vec![
        scenario! { "T1 one verdict for a request", mutants: &[Mutant::OneVerdictPerRequest],
        holders: &[0, 1], requests: &[&[0, 1]], in_sync: Set::NONE, durability: Memory; },
        scenario! { "T2 one ledger for a server", mutants: &[Mutant::LedgerPerServer],
        holders: &[0, 0], requests: &[&[0, 1]], in_sync: Set::NONE, durability: Memory; },
        scenario! { "T3 the next number before the last has settled", mutants: &[Mutant::NextBeforeSettled],
        holders: &[0, 1], requests: &[&[0, 1], &[0]], in_sync: Set::NONE, durability: Memory,
        asked: Asked::Only(&[]); },
        scenario! { "T4 all groups go to the new lane", mutants: &[Mutant::AllGroupsToNewLane],
        holders: &[0, 1], requests: &[&[0], &[0, 1]], in_sync: Set::NONE, durability: Memory;
        evictions: 1 },
    ]
}

fn enough_copies() -> Vec<Scenario> {
    vec![
        scenario! { "C1 minInSync asked only when a push is appended",
        mutants: &[Mutant::CopiesCountedAtAppendOnly], min_in_sync: 2, durability: Memory, requests: ONE;
        removals: 1, attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "C2 followers being added count for minInSync",
        mutants: &[Mutant::JoiningCounted], min_in_sync: 2, durability: Memory, requests: ONE;
        removals: 1, attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "C3 members being removed count for minInSync",
        mutants: &[Mutant::LeavingCounted], min_in_sync: 2, durability: Memory, requests: ONE;
        removals: 1, attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "C4 a member that came back as another copy counts",
        mutants: &[Mutant::OtherIdentityCounted], min_in_sync: 2, durability: Memory, requests: ONE;
        removals: 1, attachments: 1, additions: 1, crashes: 1, promotions: 1 },
        scenario! { "C5 not_enough_copies settles the number",
        mutants: &[Mutant::RefusalSettles], min_in_sync: 2, durability: Memory, requests: ONE;
        removals: 1, attachments: 1, additions: 1, crashes: 1, promotions: 1 },
    ]
}
