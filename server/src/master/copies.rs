//! The configuration of a partition: who holds it, who else has a copy and what that is, who shall have it instead. Plain
//! data, and the single steps in which it changes. What is decided by them: [`super::change`], [`super::failover`],
//! [`super::registration`].
//!
//! Of partitions that were never more than one copy nothing is kept here: their configuration is holder and epoch.

use glint_protocol::{Epoch, LossReason, Position, ServerId, copies::CopyRole, ids::Revision};

use super::state::Model;

/// The other copies of one partition. Servers are indices into the model's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    /// Rises with every change of the partition's configuration, its epoch and holder included.
    pub(crate) revision: Revision,
    /// Who has another copy, shall have one, or may still have one, in the order of servers. Never the holder.
    pub(crate) places: Vec<Place>,
    /// The copy that is to go, and the one that comes instead.
    pub(crate) moving: Option<Move>,
    /// The holder came back without what it had, while others are in sync: nobody serves until one of them is promoted.
    pub(crate) vacant: bool,
    /// Copies that were in sync when their machine stopped without warning: they may miss the last moments. One of them is
    /// promoted when no other copy is left.
    pub(crate) claims: Vec<Claim>,
}

/// One other copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: u32,
    pub(crate) role: CopyRole,
}

/// A copy that is on its way from one server to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// The last record of a copy that may miss some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) server: u32,
    pub(crate) last: (Epoch, Position),
}

impl Copies {
    /// What a server's copy is, if it has one.
    pub(crate) fn role(&self, server: u32) -> Option<CopyRole> {
        let at = self.places.binary_search_by_key(&server, |p| p.server).ok();
        at.map(|at| self.places[at].role)
    }

    /// The servers of one role.
    pub(crate) fn of(&self, role: CopyRole) -> impl Iterator<Item = u32> + '_ {
        let places = self.places.iter().filter(move |p| p.role == role);
        places.map(|p| p.server)
    }

    fn set(&mut self, server: u32, role: Option<CopyRole>) {
        match (
            self.places.binary_search_by_key(&server, |p| p.server),
            role,
        ) {
            (Ok(at), Some(role)) => self.places[at].role = role,
            (Ok(at), None) => {
                self.places.remove(at);
            }
            (Err(at), Some(role)) => self.places.insert(at, Place { server, role }),
            (Err(_), None) => {}
        }
    }

    fn renumber(&mut self, new: impl Fn(u32) -> u32) {
        for place in &mut self.places {
            place.server = new(place.server);
        }
        if let Some(moving) = &mut self.moving {
            (moving.from, moving.to) = (new(moving.from), new(moving.to));
        }
        for claim in &mut self.claims {
            claim.server = new(claim.server);
        }
    }

    /// Whether all that it names are servers of a list of this length, once each, and not the holder.
    pub(crate) fn is_consistent(&self, holder: u32, servers: usize) -> bool {
        let known = |server: u32| (server as usize) < servers;
        let moving = self.moving.iter().flat_map(|m| [m.from, m.to]);
        let claims = self.claims.iter().map(|c| c.server);
        self.places.windows(2).all(|w| w[0].server < w[1].server)
            && self
                .places
                .iter()
                .all(|p| p.server != holder && known(p.server))
            && moving.chain(claims).all(known)
    }
}

impl Model {
    /// The configuration of a partition beside holder and epoch, if it has, or ever had, other copies.
    pub(crate) fn copies_of(&self, partition: u32) -> Option<&Copies> {
        self.copies.get(&partition)
    }

    /// The revision of a partition's configuration.
    pub(crate) fn revision_of(&self, partition: u32) -> Revision {
        self.copies
            .get(&partition)
            .map_or(self.base, |c| c.revision)
    }

    /// What a server's copy of a partition is beside the holder's, if it has one.
    pub(crate) fn role(&self, partition: u32, server: u32) -> Option<CopyRole> {
        self.copies.get(&partition)?.role(server)
    }

    /// The others in sync with a partition's holder.
    pub(crate) fn in_sync(&self, partition: u32) -> impl Iterator<Item = u32> + '_ {
        let copies = self.copies.get(&partition).into_iter();
        copies.flat_map(|c| c.of(CopyRole::InSync))
    }

    /// Whether a partition waits for one of its copies to be promoted.
    pub(crate) fn is_vacant(&self, partition: u32) -> bool {
        self.copies.get(&partition).is_some_and(|c| c.vacant)
    }

    /// A server's place in the list, which it gets if it has none.
    pub(crate) fn intern(&mut self, server: &ServerId) -> u32 {
        match self.servers.binary_search(server) {
            Ok(at) => at as u32,
            Err(at) => {
                let at = at as u32;
                self.renumber(|index| index + u32::from(index >= at));
                self.servers.insert(at as usize, server.clone());
                self.bytes.insert(at as usize, 0);
                at
            }
        }
    }

    /// Lets go of servers that nothing names any more.
    pub(crate) fn tidy(&mut self) {
        let mut named = vec![false; self.servers.len()];
        let mut name = |server: u32| named[server as usize] = true;
        self.holders.iter().for_each(|&h| name(h));
        for copies in self.copies.values() {
            copies.places.iter().for_each(|p| name(p.server));
            copies.claims.iter().for_each(|c| name(c.server));
            copies.moving.iter().for_each(|m| {
                name(m.from);
                name(m.to);
            });
        }
        if named.iter().all(|&named| named) {
            return;
        }
        let mut next = 0;
        let new: Vec<u32> = named
            .iter()
            .map(|&named| {
                let new = next;
                next += u32::from(named);
                new
            })
            .collect();
        let mut keep = named.iter();
        self.servers.retain(|_| keep.next() == Some(&true));
        let mut keep = named.iter();
        self.bytes.retain(|_| keep.next() == Some(&true));
        self.renumber(|index| new[index as usize]);
    }

    fn renumber(&mut self, new: impl Fn(u32) -> u32) {
        for holder in &mut self.holders {
            *holder = new(*holder);
        }
        for copies in self.copies.values_mut() {
            copies.renumber(&new);
        }
    }

    /// Changes what a server's copy of a partition is; it is not the holder.
    pub(crate) fn set_role(&mut self, partition: u32, server: u32, role: Option<CopyRole>) {
        let size = self.sizes[partition as usize];
        let copies = self.copies.entry(partition).or_default();
        let sum = &mut self.bytes[server as usize];
        match (copies.role(server).is_some(), role.is_some()) {
            (false, true) => *sum = sum.saturating_add(size),
            (true, false) => *sum = sum.saturating_sub(size),
            _ => {}
        }
        copies.set(server, role);
    }

    /// Notes that a partition's configuration is another one from now on.
    pub(crate) fn revised(&mut self, partition: u32, revision: Revision) {
        self.copies.entry(partition).or_default().revision = revision;
        self.configured = self.configured.max(revision);
    }

    /// Notes that what clients see has changed, of whichever partitions.
    pub(crate) fn republished(&mut self, revision: Revision) {
        self.revision = revision;
        self.configured = self.configured.max(revision);
    }

    /// Notes that everything is to be said again to everyone.
    pub(crate) fn renewed(&mut self, revision: Revision) {
        self.base = revision;
        self.republished(revision);
    }

    /// Raises the epoch of a partition, whose holder stays.
    pub(crate) fn raise(&mut self, partition: u32, epoch: Epoch) {
        self.epochs[partition as usize] = epoch;
        self.is_held(partition);
    }

    /// Notes that a partition's holder lives and has what it had.
    pub(crate) fn is_held(&mut self, partition: u32) {
        if let Some(copies) = self.copies.get_mut(&partition) {
            copies.vacant = false;
            copies.claims.clear();
        }
    }

    /// Makes another copy the holder, at a fresh epoch; the holder until now becomes what is said.
    pub(crate) fn promote(&mut self, partition: u32, to: u32, epoch: Epoch, former: CopyRole) {
        let from = std::mem::replace(&mut self.holders[partition as usize], to);
        let copies = self.copies.entry(partition).or_default();
        // Both have a copy before and after: their bytes stay.
        copies.set(to, None);
        copies.set(from, Some(former));
        self.raise(partition, epoch);
    }

    /// Goes on with a move, as far as it can; whether its holder changed, which takes a fresh epoch.
    ///
    /// The copy that is to go, goes once the one that comes is in sync; if that is no copy any more, it is called off.
    pub(crate) fn advance(&mut self, partition: u32, fresh: impl FnOnce() -> Epoch) -> bool {
        let holder = self.holders[partition as usize];
        let Some(copies) = self.copies.get_mut(&partition) else {
            return false;
        };
        let Some(Move { from, to }) = copies.moving else {
            return false;
        };
        let role = |server| {
            if server == holder {
                return Some(CopyRole::InSync);
            }
            copies.role(server).filter(|r| *r != CopyRole::Former)
        };
        match (role(from), role(to)) {
            (Some(_), Some(CopyRole::InSync)) => {
                copies.moving = None;
                if from == holder {
                    self.promote(partition, to, fresh(), CopyRole::Former);
                    return true;
                }
                copies.set(from, Some(CopyRole::Former));
            }
            (Some(_), Some(_)) => {}
            // One of them is no copy any more.
            _ => copies.moving = None,
        }
        false
    }

    /// Gives up waiting for the copies of a partition that were in sync, none of which is left: of those that may miss the
    /// last moments the one with the latest record holds it from now on; without any its values are lost, which is said.
    pub(crate) fn give_up(&mut self, partition: u32, epoch: Epoch, reason: LossReason) -> bool {
        let copies = self.copies.get(&partition);
        let claims = copies.into_iter().flat_map(|c| &c.claims).copied();
        let best = claims.max_by_key(|c| c.last);
        match best {
            Some(best) if best.server != self.holders[partition as usize] => {
                self.promote(partition, best.server, epoch, CopyRole::Learner);
            }
            Some(_) => self.raise(partition, epoch),
            None => {
                self.raise(partition, epoch);
                self.lost.insert(partition, reason);
                self.abandon(partition);
            }
        }
        best.is_none()
    }

    /// Lets go of all other copies of a partition, as far as that can be said: its values are lost.
    pub(crate) fn abandon(&mut self, partition: u32) {
        if let Some(copies) = self.copies.get_mut(&partition) {
            for place in &mut copies.places {
                place.role = CopyRole::Former;
            }
            copies.moving = None;
            copies.vacant = false;
            copies.claims.clear();
        }
    }

    /// Removes a server from the copies of a partition that another holds.
    pub(crate) fn strike(&mut self, partition: u32, server: u32) {
        self.set_role(partition, server, None);
        if let Some(copies) = self.copies.get_mut(&partition) {
            copies.claims.retain(|c| c.server != server);
            if copies
                .moving
                .is_some_and(|m| m.from == server || m.to == server)
            {
                copies.moving = None;
            }
        }
    }
}

#[cfg(test)]
#[path = "copies/tests.rs"]
mod tests;
