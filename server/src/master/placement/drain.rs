//! Whether a server can be emptied: everything it has must find room elsewhere before anything moves.

use super::super::size::Size;
use super::{Effort, Partition, Plan, Server, Standing, plan};

/// Why a server cannot be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotDrain {
    /// It is the only one.
    #[error(
        "it is the last one that lives and is not being drained: nobody else could hold anything; start another server first"
    )]
    LastServer,
    /// The others lack room.
    #[error(
        "{copies} of its copies, {} ({needed} bytes) together, the largest {}, find no room: the other servers have {} ({free} bytes) \
         free; add servers, give them more memory (--memory), or delete models",
        Size(*needed), Size(*largest), Size(*free)
    )]
    NoRoom {
        /// Partitions that would have fewer copies than they should.
        copies: u64,
        /// Bytes of them.
        needed: u64,
        /// The largest of them.
        largest: u64,
        /// Bytes that are free on the other live servers.
        free: u64,
    },
    /// It has partitions that outlive a process, and none of the others has a data directory.
    #[error(
        "{copies} of its partitions need a server with a data directory, and no other live server has one; \
         start one with: glint server --data-dir DIR"
    )]
    NoDirectory {
        /// How many.
        copies: u64,
    },
}

/// How to empty a server.
///
/// # Errors
/// [`CannotDrain`], with the numbers.
pub fn drain(
    servers: &[Server],
    partitions: &[Partition],
    server: u32,
) -> Result<Plan, CannotDrain> {
    let mut servers = servers.to_vec();
    servers[server as usize].standing = Standing::Draining;
    let live = || {
        servers
            .iter()
            .enumerate()
            .filter(|(_, s)| s.standing == Standing::Live)
    };
    let here = |index: u32| partitions[index as usize].is_on(server);
    if live().next().is_none() && partitions.iter().any(|p| p.is_on(server)) {
        return Err(CannotDrain::LastServer);
    }
    let plan = plan(&servers, partitions, Effort::Mend);
    let stays: Vec<_> = plan.unplaced.iter().filter(|u| here(u.partition)).collect();
    if stays.is_empty() {
        return Ok(plan);
    }
    let copies = stays.len() as u64;
    if stays.iter().all(|u| u.fits_nowhere) {
        return Err(CannotDrain::NoDirectory { copies });
    }
    let mut used = vec![0u64; servers.len()];
    for partition in partitions {
        for &on in partition.members.iter().chain(&partition.learners) {
            used[on as usize] = used[on as usize].saturating_add(partition.bytes);
        }
    }
    let free = live().map(|(index, s)| {
        let used = used[index].saturating_add(s.other_bytes);
        s.capacity.unwrap_or(u64::MAX).saturating_sub(used)
    });
    Err(CannotDrain::NoRoom {
        copies,
        needed: stays.iter().fold(0, |sum, u| sum.saturating_add(u.bytes)),
        largest: stays.iter().map(|u| u.bytes).max().unwrap_or(0),
        free: free.fold(0, u64::saturating_add),
    })
}
