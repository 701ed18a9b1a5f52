//! What a server is told of a model: the partitions that it holds with their other copies, and those that it follows.

use std::collections::BTreeMap;

use glint_protocol::{
    ServerId,
    control::{HeldPartition, Hold},
    copies::{CopyPlace, FollowedPartition, Peer},
    ids::Revision,
};

use super::state::{Model, Phase, State};

/// The servers that one order names.
struct Peers<'a> {
    state: &'a State,
    model: &'a Model,
    places: BTreeMap<u32, Option<u32>>,
    named: Vec<Peer>,
}

impl Peers<'_> {
    /// The place of a server in the order; none for one that is not registered.
    fn place(&mut self, server: u32) -> Option<u32> {
        if let Some(&place) = self.places.get(&server) {
            return place;
        }
        let id = &self.model.servers[server as usize];
        let place = self.state.servers.get(id).map(|known| {
            self.named.push(Peer {
                id: id.clone(),
                url: known.url.clone(),
                boot: known.boot,
            });
            self.named.len() as u32 - 1
        });
        self.places.insert(server, place);
        place
    }
}

impl Model {
    /// What a server is to hold and to follow of it; none when it has nothing of it.
    pub(crate) fn hold(&self, server: &ServerId, state: &State) -> Option<Hold> {
        self.hold_since(server, None, state)
    }

    /// The same as far as it has changed since a revision.
    pub(crate) fn hold_since(
        &self,
        server: &ServerId,
        since: Option<Revision>,
        state: &State,
    ) -> Option<Hold> {
        let index = self.index_of(server)?;
        let since = since.filter(|&since| self.base <= since);
        let Some(since) = since else {
            let all = 0..self.spec.partition_count;
            return Some(self.hold_of(index, all, state));
        };
        let changed = self.copies.iter().filter(|(_, c)| c.revision > since);
        Some(self.hold_of(index, changed.map(|(&p, _)| p), state))
    }

    /// What the server with this place in `servers` is to hold and to follow of these partitions.
    pub(crate) fn hold_of(
        &self,
        index: u32,
        partitions: impl Iterator<Item = u32>,
        state: &State,
    ) -> Hold {
        let mut peers = Peers {
            state,
            model: self,
            places: BTreeMap::new(),
            named: Vec::new(),
        };
        let mut hold = Hold {
            spec: self.spec.clone(),
            incarnation: self.incarnation,
            creating: self.phase != Phase::Live,
            partitions: Vec::new(),
            followed: Vec::new(),
            peers: Vec::new(),
        };
        for partition in partitions {
            let holder = self.holders[partition as usize];
            if holder == index {
                // Who came back without what it had holds nothing, until it is known who does.
                if !self.is_vacant(partition) {
                    let held = self.held(partition, &mut peers);
                    hold.partitions.push(held);
                }
            } else if self.role(partition, index).is_some()
                && let Some(holder) = peers.place(holder)
            {
                hold.followed.push(FollowedPartition {
                    partition,
                    epoch: self.epochs[partition as usize],
                    holder,
                });
            }
        }
        hold.peers = peers.named;
        hold
    }

    fn held(&self, partition: u32, peers: &mut Peers<'_>) -> HeldPartition {
        let copies = self.copies_of(partition).into_iter();
        HeldPartition {
            partition,
            epoch: self.epochs[partition as usize],
            revision: self.revision_of(partition),
            copies: copies
                .flat_map(|c| &c.places)
                .filter_map(|place| {
                    Some(CopyPlace {
                        peer: peers.place(place.server)?,
                        role: place.role,
                    })
                })
                .collect(),
            lost: self.lost.contains_key(&partition),
            reason: self.lost.get(&partition).copied(),
        }
    }
}

#[cfg(test)]
#[path = "hold/tests.rs"]
mod tests;
