//! Which servers have copies of which partition: what one map says, and how two become one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{Epoch, ModelMap, frame::ReadMode, ids::Revision};

use crate::{
    Result,
    transport::{Server, Transport},
};

/// Which server holds which partition. A new one replaces it when something has changed.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    revision: Revision,
    servers: Vec<Arc<Server>>,
    holders: Vec<u32>,
    epochs: Vec<Epoch>,
    /// Per partition its other copies; empty when no partition has any.
    followers: Vec<Vec<u32>>,
    /// Partitions whose values are lost: for good, within one generation.
    pub(super) lost: BTreeSet<u32>,
}

/// Gathers the servers that routes name.
#[derive(Default)]
struct Places {
    servers: Vec<Arc<Server>>,
    places: BTreeMap<usize, u32>,
}

impl Places {
    fn of(&mut self, server: &Arc<Server>) -> u32 {
        *self.places.entry(server.id).or_insert_with(|| {
            self.servers.push(Arc::clone(server));
            self.servers.len() as u32 - 1
        })
    }
}

impl Routes {
    pub(super) fn new(map: &ModelMap, transport: &Transport) -> Result<Self> {
        let mut servers = Vec::with_capacity(map.servers.len());
        for server in &map.servers {
            servers.push(transport.server(&server.url)?);
        }
        Ok(Self {
            revision: map.revision,
            servers,
            holders: map.holders.clone(),
            epochs: map.epochs.clone(),
            followers: map.followers.clone(),
            lost: map.lost.iter().copied().collect(),
        })
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Holder and epoch of a partition of the model.
    pub(crate) fn holder(&self, partition: u32) -> (&Arc<Server>, Epoch) {
        let at = partition as usize;
        (&self.servers[self.holders[at] as usize], self.epochs[at])
    }

    /// Whether a partition is held by this server at this epoch.
    pub(crate) fn is_held(&self, partition: u32, server: usize, epoch: Epoch) -> bool {
        let (holder, at) = self.holder(partition);
        holder.id == server && at == epoch
    }

    /// Whether a server that was asked for a partition at an epoch is still one to wait for. For reads at any copy, whoever has
    /// one is.
    pub(crate) fn may_answer(
        &self,
        partition: u32,
        server: usize,
        epoch: Epoch,
        read: ReadMode,
    ) -> bool {
        if read.is_latest() {
            return self.is_held(partition, server, epoch);
        }
        self.holder(partition).0.id == server || self.followers(partition).any(|s| s.id == server)
    }

    /// The other copies of a partition.
    pub(crate) fn followers(&self, partition: u32) -> impl ExactSizeIterator<Item = &Arc<Server>> {
        let followers = self.followers.get(partition as usize);
        let followers = followers.map_or(&[][..], Vec::as_slice);
        followers
            .iter()
            .map(|&server| &self.servers[server as usize])
    }

    pub(crate) fn server_count(&self) -> usize {
        self.servers.len().max(1)
    }

    /// The same, but that a server holds a partition at an epoch; none when that is no news.
    pub(super) fn corrected(
        &self,
        partition: u32,
        holder: &Arc<Server>,
        epoch: Epoch,
    ) -> Option<Self> {
        let at = partition as usize;
        if epoch <= *self.epochs.get(at)? {
            return None;
        }
        let mut next = self.clone();
        let known = next.servers.iter().position(|s| s.id == holder.id);
        let place = known.unwrap_or_else(|| {
            next.servers.push(Arc::clone(holder));
            next.servers.len() - 1
        });
        next.holders[at] = place as u32;
        next.epochs[at] = epoch;
        if let Some(followers) = next.followers.get_mut(at) {
            // Who follows the new holder is not said.
            followers.clear();
        }
        Some(next)
    }

    /// Whether two say the same of a partition.
    fn agrees(&self, other: &Self, partition: u32) -> bool {
        let ((ours, our_epoch), (theirs, their_epoch)) =
            (self.holder(partition), other.holder(partition));
        let (our_followers, their_followers) =
            (self.followers(partition), other.followers(partition));
        our_epoch == their_epoch
            && ours.id == theirs.id
            && our_followers
                .map(|s| s.id)
                .eq(their_followers.map(|s| s.id))
    }

    /// Takes what is newer in `other`: per partition the higher epoch, then the higher revision. None when that is nothing.
    pub(super) fn merge(&self, other: &Self) -> Option<Self> {
        let newer = |partition: u32| {
            let at = partition as usize;
            other.epochs[at] > self.epochs[at]
                || (other.epochs[at] == self.epochs[at] && other.revision > self.revision)
        };
        let partitions = 0..self.holders.len() as u32;
        let changed = partitions
            .clone()
            .any(|partition| newer(partition) && !self.agrees(other, partition));
        if !changed && other.revision <= self.revision && other.lost.is_subset(&self.lost) {
            return None;
        }
        let mut places = Places::default();
        let mut next = Self {
            revision: self.revision.max(other.revision),
            servers: Vec::new(),
            holders: Vec::with_capacity(self.holders.len()),
            epochs: Vec::with_capacity(self.epochs.len()),
            followers: Vec::new(),
            lost: self.lost.union(&other.lost).copied().collect(),
        };
        let copies = !self.followers.is_empty() || !other.followers.is_empty();
        for partition in partitions {
            let from = if newer(partition) { other } else { self };
            let (holder, epoch) = from.holder(partition);
            next.holders.push(places.of(holder));
            next.epochs.push(epoch);
            if copies {
                let followers = from.followers(partition);
                next.followers
                    .push(followers.map(|server| places.of(server)).collect());
            }
        }
        next.servers = places.servers;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use glint_world::World;

    use super::*;

    fn transport() -> Transport {
        Transport::new(World::real(), 1, Duration::from_secs(1), Arc::default())
    }

    fn routes(transport: &Transport, revision: u64, held: &[(&str, u64)]) -> Routes {
        let mut servers: Vec<Arc<Server>> = Vec::new();
        let mut holders = Vec::new();
        for (url, _) in held {
            let server = transport.server(url).unwrap();
            let place = servers.iter().position(|s| s.id == server.id);
            holders.push(place.unwrap_or(servers.len()) as u32);
            if place.is_none() {
                servers.push(server);
            }
        }
        let epochs = held.iter().map(|(_, epoch)| Epoch(*epoch)).collect();
        Routes {
            revision: Revision(revision),
            servers,
            holders,
            epochs,
            followers: Vec::new(),
            lost: BTreeSet::new(),
        }
    }

    fn shown(routes: &Routes) -> Vec<(String, u64)> {
        (0..routes.holders.len() as u32)
            .map(|p| {
                let (server, epoch) = routes.holder(p);
                (server.connections.url().to_string(), epoch.0)
            })
            .collect()
    }

    #[test]
    fn maps_are_merged_by_epoch_per_partition_and_then_by_revision() {
        let transport = transport();
        let old = routes(
            &transport,
            5,
            &[("http://a:1", 3), ("http://a:1", 9), ("http://b:1", 4)],
        );
        let new = routes(
            &transport,
            6,
            &[("http://c:1", 7), ("http://b:1", 8), ("http://c:1", 4)],
        );
        let merged = old.merge(&new).unwrap();
        assert_eq!(
            shown(&merged),
            [
                ("http://c:1".to_owned(), 7),
                ("http://a:1".to_owned(), 9),
                ("http://c:1".to_owned(), 4)
            ]
        );
        assert!(merged.merge(&old).is_none(), "an older map changes nothing");
    }

    #[test]
    fn one_url_is_one_server_as_long_as_it_is_used() {
        let transport = transport();
        let first = transport.server("http://a:1").unwrap();
        assert_eq!(transport.server("http://a:1/").unwrap().id, first.id);
        let id = first.id;
        drop(first);
        assert_ne!(transport.server("http://a:1").unwrap().id, id);
    }
}
