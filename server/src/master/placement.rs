//! Placement: which servers have the copies of each partition, and which of them is the holder.
//!
//! Pure arithmetic on what the master knows: the same input gives the same plan, nothing is read, nothing is done. The plan
//! says how it should be ([`Change`]), most urgent first; the master takes as many changes at once as it likes, does their
//! next steps ([`Change::next`]), and asks again when something has happened. A plan that was carried out moves nothing
//! more, and one that is half carried out is continued.
//!
//! - **Copies apart**: on different servers always; in different zones, then on different nodes, as far as there are any.
//! - **Balanced**: no server has more than the least loaded one and one partition of its own, where labels and room allow it.
//!   Bytes of all copies count; then holders, who do the work, are chosen so that their bytes are even too.
//! - **Least movement**: only what must move moves, from the most loaded to the least, never a copy that stands well.
//! - **Never** onto a server that drains or is silent, never beyond a server's room.
//!
//! - `mending`: copies that are missing or must leave
//! - `balance`: from full servers to empty ones
//! - `holders`: who serves
//! - `change`: the plan's result
//! - `ground`: servers by zone, node and load, and the least loaded of them that fits
//! - `creation`: a new model
//! - `drain`: whether a server can be emptied

mod balance;
mod change;
mod creation;
mod drain;
mod ground;
mod holders;
mod mending;
#[cfg(test)]
mod tests;

pub use change::{Change, Plan, Reason, Step, Unplaced};
pub(crate) use creation::{Room, place};
pub use drain::{CannotDrain, drain};

use ground::Ground;

/// Whether a server takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may have copies.
    Live,
    /// Its copies serve, and shall all leave.
    Draining,
    /// Nothing is heard of it: its copies do not count, and stay where they are the only ones.
    Silent,
}

/// A server; named by its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The zone it is in. Servers without one are thought to be apart from all others.
    pub zone: Option<String>,
    /// The machine it is on; the same.
    pub node: Option<String>,
    /// Bytes of partitions that it may hold; no limit if none.
    pub capacity: Option<u64>,
    /// Bytes that it holds of partitions that are not in the list.
    pub other_bytes: u64,
    /// Whether it can hold partitions that outlive a process: it has a data directory.
    pub durable: bool,
    /// Whether it takes part.
    pub standing: Standing,
}

/// A partition; named by its place in the list. Partitions of a model stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The model it belongs to: any number that is its own.
    pub model: u32,
    /// Its size: what each copy takes.
    pub bytes: u64,
    /// Copies that it should have, at least 1.
    pub copies: u32,
    /// Whether only servers with a data directory may have it.
    pub durable: bool,
    /// The server that serves it; none while it is being made.
    pub holder: Option<u32>,
    /// Servers whose copies are in sync, the holder among them.
    pub members: Vec<u32>,
    /// Servers whose copies are not in sync yet.
    pub learners: Vec<u32>,
}

impl Partition {
    /// Whether a server has a copy, in sync or not.
    pub fn is_on(&self, server: u32) -> bool {
        self.members.contains(&server) || self.learners.contains(&server)
    }
}

/// What is asked of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Copies that are missing, and servers that drain.
    Mend,
    /// Also even loads.
    Balance,
}

/// How it should be, and what has to change for that.
///
/// # Panics
/// Where a partition names a server that is not in the list.
pub fn plan(servers: &[Server], partitions: &[Partition], effort: Effort) -> Plan {
    let first = attempt(servers, partitions, effort, mending::Order::AsGiven);
    if first.unplaced.iter().all(|u| u.fits_nowhere) {
        return first;
    }
    // Where room is short, the large ones first leave the gaps that the small ones fill.
    let second = attempt(servers, partitions, effort, mending::Order::LargestFirst);
    if second.unplaced.len() < first.unplaced.len() {
        second
    } else {
        first
    }
}

fn attempt(
    servers: &[Server],
    partitions: &[Partition],
    effort: Effort,
    order: mending::Order,
) -> Plan {
    let mut ground = Ground::new(servers, partitions);
    let mut targets: Vec<Target> = partitions.iter().map(Target::of).collect();
    let unplaced = mending::mend(&mut ground, partitions, &mut targets, order);
    if effort == Effort::Balance {
        balance::balance(&mut ground, partitions, &mut targets);
    }
    holders::choose(&ground, partitions, &mut targets, effort);
    change::differences(servers, partitions, targets, unplaced)
}

/// Where a partition's copies should be: on which live servers.
#[derive(Clone, Debug)]
struct Target {
    servers: Vec<u32>,
    holder: Option<u32>,
    reason: Reason,
    /// Among changes of one reason, its turn: each is an improvement after those before it.
    turn: u32,
    /// Nobody who has its values speaks: nothing about it changes.
    waits: bool,
    /// Copies on silent servers stay: there are fewer others than there should be.
    keeps_silent: bool,
    /// Copies on draining servers stay: there is no room for them elsewhere.
    keeps_draining: bool,
}

impl Target {
    fn of(partition: &Partition) -> Self {
        Self {
            servers: Vec::new(),
            holder: partition.holder,
            reason: Reason::Holder,
            turn: 0,
            waits: false,
            keeps_silent: false,
            keeps_draining: false,
        }
    }
}
