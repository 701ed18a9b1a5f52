//! What a plan says: per partition that changes, how it should be, and which steps lead there from how it is.

use super::{Partition, Server, Standing, Target};

/// Why a partition changes; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It has fewer copies on live servers than it should have: so many.
    Missing {
        /// Copies on live servers.
        alive: u32,
    },
    /// A server that has a copy drains.
    Draining,
    /// It has more copies than it should have.
    Surplus,
    /// Copies share a zone or a node, and need not.
    Apart,
    /// A server has more than others.
    Balance,
    /// Only the holder changes: another has less to serve.
    Holder,
}

/// How a partition should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which partition of the list.
    pub partition: u32,
    /// Why.
    pub reason: Reason,
    /// Where its copies should be.
    pub servers: Vec<u32>,
    /// Who should serve it.
    pub holder: u32,
    /// Bytes that have to be copied for that.
    pub bytes: u64,
}

/// Something that the master can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A learner is attached there.
    Place {
        /// The server.
        server: u32,
    },
    /// This member becomes the holder.
    Promote {
        /// The server.
        to: u32,
    },
    /// This copy goes.
    Remove {
        /// The server.
        server: u32,
    },
}

impl Change {
    /// What can be done now, given how the partition is: learners are placed at once; a promotion waits until who is
    /// promoted is in sync; a member goes when every copy that shall stay is in sync, and is not the holder.
    pub fn next(&self, partition: &Partition) -> Vec<Step> {
        let mut steps = Vec::new();
        for &server in self.servers.iter().filter(|&&s| !partition.is_on(s)) {
            steps.push(Step::Place { server });
        }
        let promoted = partition.members.contains(&self.holder);
        if partition.holder != Some(self.holder) && promoted {
            steps.push(Step::Promote { to: self.holder });
        }
        let complete = self.servers.iter().all(|s| partition.members.contains(s));
        let leaves =
            |server: &&u32| !self.servers.contains(server) && partition.holder != Some(**server);
        for &server in partition.learners.iter().filter(leaves) {
            steps.push(Step::Remove { server });
        }
        for &server in partition.members.iter().filter(leaves).filter(|_| complete) {
            steps.push(Step::Remove { server });
        }
        steps
    }
}

/// A partition for which no server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Which partition of the list.
    pub partition: u32,
    /// What one copy takes.
    pub bytes: u64,
    /// Copies that found no place.
    pub copies: u32,
    /// No live server may have it, whatever its room.
    pub fits_nowhere: bool,
}

/// How it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Partitions that change, the most urgent first.
    pub changes: Vec<Change>,
    /// What found no place.
    pub unplaced: Vec<Unplaced>,
}

impl Plan {
    /// Bytes that have to be copied for all of it.
    pub fn bytes(&self) -> u64 {
        self.changes
            .iter()
            .fold(0, |sum, c| sum.saturating_add(c.bytes))
    }
}

pub(super) fn differences(
    servers: &[Server],
    partitions: &[Partition],
    targets: Vec<Target>,
    unplaced: Vec<Unplaced>,
) -> Plan {
    let mut changes = Vec::new();
    for (index, (partition, mut target)) in partitions.iter().zip(targets).enumerate() {
        let Some(holder) = target.holder.filter(|_| !target.waits) else {
            continue;
        };
        let stays = |server: &u32| match servers[*server as usize].standing {
            Standing::Live => false,
            Standing::Silent => target.keeps_silent,
            Standing::Draining => target.keeps_draining,
        };
        let all = partition.members.iter().chain(&partition.learners);
        target.servers.extend(all.copied().filter(stays));
        let new = target
            .servers
            .iter()
            .filter(|&&s| !partition.is_on(s))
            .count();
        let all = partition.members.iter().chain(&partition.learners);
        let gone = all.filter(|s| !target.servers.contains(s));
        let drains = |server: &u32| servers[*server as usize].standing == Standing::Draining;
        let (leaving, draining) = gone.fold((0, false), |(n, d), s| (n + 1, d || drains(s)));
        if new == 0 && leaving == 0 && partition.holder == Some(holder) {
            continue;
        }
        let reason = match (new, leaving) {
            (0, 0) => Reason::Holder,
            (0, _) if draining => Reason::Draining,
            (0, _) => Reason::Surplus,
            _ => target.reason,
        };
        let change = Change {
            partition: index as u32,
            reason,
            servers: target.servers,
            holder,
            bytes: partition.bytes.saturating_mul(new as u64),
        };
        changes.push((target.turn, change));
    }
    changes.sort_by_key(|(turn, change): &(u32, Change)| (change.reason, *turn, change.partition));
    Plan {
        changes: changes.into_iter().map(|(_, change)| change).collect(),
        unplaced,
    }
}
