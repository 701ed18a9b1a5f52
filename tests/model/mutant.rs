//! The rules of the protocol, each as what happens without it. A model in which a rule can be left out and nothing breaks
//! proves nothing about that rule.

/// One rule, left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// R1: the holder acknowledges before its followers have the record.
    AcknowledgedEarly,
    /// R2: a repeated number is answered before the followers have its record.
    RepeatAnsweredEarly,
    /// R3: followers take records of an earlier epoch.
    OldEpochTaken,
    /// R4: the master promotes a copy that is not in sync.
    AnyCopyPromoted,
    /// R5: the holder stops waiting for a member before the master has removed it.
    RemovedAlone,
    /// R6: the holder asks for a follower to be added without waiting for it.
    AddedAtMasterFirst,
    /// R7: a follower is added that has not reported all that may have been acknowledged.
    AddedBehind,
    /// R7b: only what became safe in this epoch is asked of it, not what the holder inherited.
    InheritedForgotten,
    /// R7c: a follower that has reported nothing counts as having nothing, which is all of an empty log.
    SilenceIsReport,
    /// R8: the master does not compare epoch and revision.
    NoCompareAndSwap,
    /// R9: a restarted holder goes on under its epoch.
    GoesOnAfterRestart,
    /// R10: members are known by name, not by identity.
    KnownByName,
    /// R11: reports of an earlier session count.
    AnySessionCounts,
    /// R11b: reports of an earlier epoch count.
    AnyEpochCounts,
    /// R12: pulls without a lease.
    PullWithoutLease,
    /// R12b: verdicts without a lease.
    VerdictWithoutLease,
    /// R13: a promoted copy serves before the leases that it gave have ended.
    ServesAtOnce,
    /// R14: a restarted copy forgets the leases that it gave.
    ForgetsPromises,
    /// R14b: a server forgets the leases that it gave when it is attached anew.
    PromiseOfAttachment,
    /// R15: no lease is asked of a follower that is being added.
    JoiningWithoutLease,
    /// R15b: a copy of a higher epoch still gives leases.
    LeaseFromHigherEpoch,
    /// R15c: a holder that waits for the end of a lease adds followers, which do not wait for it.
    AddsBeforeServing,
    /// R15d: a lease that was given by an earlier attachment counts for the present one.
    LeaseOfAnySession,
    /// R16: the master tells before its disk has it.
    ToldBeforeDurable,
    /// R17: a follower reports before its disk has it (`sync`).
    ReportsBeforeDisk,
    /// R18: the holder does not wait for its own disk (`sync`).
    OwnDiskNotAwaited,
    /// R19: the ledger is not in the snapshot.
    SnapshotWithoutLedger,
    /// R20: an in-sync copy is thrown away before the new one is complete.
    DiscardedFirst,
    /// R21: a dropped copy leaves no floor.
    NoFloor,
    /// R22: the master's `Drop` deletes copies of any epoch.
    DropsNewer,
    /// R22b: `Detach` deletes copies of any session.
    DetachesAnySession,
    /// R23: a lane is told that it expired before the eviction is replicated.
    ExpiredEarly,
    /// R24: a promoted copy does not wait for the other members.
    PromotedAlone,
    /// R25: the holder forgets a follower that it has asked to add.
    JoiningForgotten,
    /// R27: a record is taken without comparing its predecessor's epoch, and a follower catches up by its tail's length.
    PredecessorIgnored,
    /// R28: a checkpoint is written by a copy at any position.
    CheckpointAnywhere,
    /// R28b: a checkpoint's position without its epoch.
    CheckpointOfAnyEpoch,
    /// R28c: a holder without a lease names a checkpoint's position.
    CheckpointWithoutLease,
    /// R29: a reset elsewhere while a sole holder may live.
    ResetWhileAlive,
    /// R30: pushes carry no incarnation.
    NoIncarnation,
    /// R31: a late snapshot replaces a newer copy of its epoch.
    LateSnapshotTaken,
    /// R32: a restarted server obeys what was ordered of its earlier boot.
    OldOrderObeyed,
    /// S1: a number that was given up is told `skipped` without a record of it.
    SkipWithoutRecord,
    /// S2: `skipped` is answered before the followers have the record.
    SkipAnsweredEarly,
    /// S3: a `skip` that finds its number applied is told `skipped`.
    SkipOverApplied,
    /// S4: followers apply a `skip` without entering it in their ledger.
    SkipNotInLedger,
    /// V1: `prev` is not compared.
    PrevIgnored,
    /// V2: `prev` is compared before the horizon: who was forgotten by agreement looks like a loss.
    PrevBeforeHorizon,
    /// V3: a client sends as `prev` what its lane was acknowledged for at any partition.
    PrevOfAnyPartition,
    /// V4: a client keeps `prev` when the model was reset.
    PrevOfAnyIncarnation,
    /// V5: a push carries no epoch: a holder of an earlier one than that of the lane's last acknowledgement judges it.
    NoEpochOnPush,
    /// T1: a request has one verdict: its first group's.
    OneVerdictPerRequest,
    /// T2: the ledger is one per server, not one per partition.
    LedgerPerServer,
    /// T3: a lane goes on at a partition where its last number has not settled.
    NextBeforeSettled,
    /// T4: when one group's lane has expired, all groups that are open go to the new lane.
    AllGroupsToNewLane,
    /// Y1: a holder that waits itself for the end of a lease yields.
    YieldsBeforeServing,
    /// Y2: a holder yields before it ceases to serve.
    YieldsAndGoesOn,
    /// Y3: a yield of any epoch ends the wait for a lease.
    AnyYieldCounts,
    /// C1: `minInSync` is asked when a push is appended, and not again when it is acknowledged.
    CopiesCountedAtAppendOnly,
    /// C2: followers that the holder has asked to add count for `minInSync`.
    JoiningCounted,
    /// C3: members that the holder has asked to remove count for `minInSync`.
    LeavingCounted,
    /// C4: a member counts for `minInSync` though it came back as another copy than the master has confirmed.
    OtherIdentityCounted,
    /// C5: `not_enough_copies` settles the number: the client goes on with the next.
    RefusalSettles,
}
