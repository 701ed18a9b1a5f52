//! A scenario: where it begins, and how often each thing may happen. Between those bounds everything does happen, in every order.

use crate::{mutant::Mutant, property::Property, set::Set};

/// What "has" means for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// In the memory of a process; a restart makes another copy of it.
    Memory,
    /// On the disk.
    Sync,
}

/// How often something happened, or may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counts {
    /// Processes that end.
    pub(crate) crashes: u8,
    /// Processes that end for good with their disks.
    pub(crate) disks_lost: u8,
    /// Disks that are set back to an earlier state, unnoticed by any number.
    pub(crate) disks_set_back: u8,
    /// Promotions that nothing asks for; beyond them the master promotes only where the holder cannot serve.
    pub(crate) promotions: u8,
    /// Followers attached.
    pub(crate) attachments: u8,
    /// Times that a holder asks for a follower to be added.
    pub(crate) additions: u8,
    /// Times that a holder asks for a healthy member to be removed; a dead one it may always.
    pub(crate) removals: u8,
    /// Copies detached or dropped.
    pub(crate) drops: u8,
    /// Lanes evicted.
    pub(crate) evictions: u8,
    /// Requests that a client gives up.
    pub(crate) abandons: u8,
    /// Checkpoints begun.
    pub(crate) checkpoints: u8,
    /// Crashes of the master between deciding and its disk.
    pub(crate) master_crashes: u8,
    /// Resets of the model elsewhere.
    pub(crate) resets: u8,
}

/// One configuration of the model.
#[expect(clippy::struct_excessive_bools, reason = "independent choices")]
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) servers: u8,
    /// The first holder of each partition, so also how many partitions there are.
    pub(crate) holders: &'static [u8],
    /// The first in-sync set of every partition.
    pub(crate) in_sync: Set,
    pub(crate) clients: u8,
    /// What each client pushes: per request, the partitions that it touches.
    pub(crate) requests: &'static [&'static [u8]],
    pub(crate) durability: Durability,
    /// How many confirmed copies an acknowledgement needs.
    pub(crate) min_in_sync: u8,
    pub(crate) limits: Counts,
    /// A promotion may leave the old holder in the set.
    pub(crate) keeps_old_holder: bool,
    /// A holder that hears of a later one tells it that it need not wait for the end of leases.
    pub(crate) yields: bool,
    /// Snapshots travel, and may come late; else a follower has one at once.
    pub(crate) snapshots_travel: bool,
    /// Rules that are left out.
    pub(crate) mutants: &'static [Mutant],
    /// The properties that are asked of it.
    pub(crate) asked: Asked,
    /// Whether all must be able to settle from every state.
    pub(crate) settles: bool,
    /// Whether it is explored in `make test` too.
    pub(crate) quick: bool,
}

/// Which properties are asked of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All.
    All,
    /// Only these.
    Only(&'static [Property]),
    /// All but these, because what happens is outside of what they promise.
    Not(&'static [Property]),
}

pub(crate) const ONE: &[&[u8]] = &[&[0]];
const TWO: &[&[u8]] = &[&[0], &[0]];

impl Scenario {
    /// Two copies of one partition on two servers, `sync`, one client that pushes twice; nothing happens.
    pub(crate) const fn named(name: &'static str) -> Self {
        Self {
            name,
            servers: 2,
            holders: &[0],
            in_sync: Set::of(&[0, 1]),
            clients: 1,
            requests: TWO,
            durability: Durability::Sync,
            min_in_sync: 1,
            limits: NOTHING,
            keeps_old_holder: false,
            yields: false,
            snapshots_travel: false,
            mutants: &[],
            asked: Asked::All,
            settles: true,
            quick: true,
        }
    }

    pub(crate) fn lacks(&self, rule: Mutant) -> bool {
        self.mutants.contains(&rule)
    }

    pub(crate) fn asks(&self, property: Property) -> bool {
        match self.asked {
            Asked::All => true,
            Asked::Only(these) => these.contains(&property),
            Asked::Not(these) => !these.contains(&property),
        }
    }

    pub(crate) fn in_memory(&self) -> bool {
        self.durability == Durability::Memory
    }

    /// Of a push, whoever sends it: its number among all.
    pub(crate) fn push_id(&self, client: u8, request: u8) -> u8 {
        client * self.requests.len() as u8 + request
    }

    pub(crate) fn pushes(&self) -> u8 {
        self.clients * self.requests.len() as u8
    }
}

/// A scenario: its name, what differs from [`Scenario::named`], and behind the semicolon how often what may happen.
macro_rules! scenario {
    ($name:literal $(, $field:ident: $value:expr)* ; $($limit:ident: $times:expr),* $(,)?) => {
        crate::scenario::Scenario {
            $($field: $value,)*
            limits: crate::scenario::Counts { $($limit: $times,)* ..crate::scenario::NOTHING },
            ..crate::scenario::Scenario::named($name)
        }
    };
}
pub(crate) use scenario;

/// Nothing happens but messages.
pub(crate) const NOTHING: Counts = Counts {
    crashes: 0,
    disks_lost: 0,
    disks_set_back: 0,
    promotions: 0,
    attachments: 0,
    additions: 0,
    removals: 0,
    drops: 0,
    evictions: 0,
    abandons: 0,
    checkpoints: 0,
    master_crashes: 0,
    resets: 0,
};
