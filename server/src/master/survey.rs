//! What [`super::placement`] is asked: servers and partitions as the state has them, moves under way taken for done. So a plan
//! goes on where it was, whatever has happened since.

use std::collections::BTreeMap;

use glint_protocol::{ServerId, copies::CopyRole};

use super::{
    placement::{Partition, Server, Standing},
    plan::Fleet,
    state::{Model, Phase, State},
};

/// Servers and partitions by number, and what the numbers stand for.
pub(super) struct Survey<'a> {
    /// Per number, the server.
    pub(super) ids: Vec<&'a ServerId>,
    pub(super) servers: Vec<Server>,
    /// Per number, a partition of a live model: its name, the model, and which of its partitions.
    pub(super) named: Vec<(&'a str, &'a Model, u32)>,
    pub(super) partitions: Vec<Partition>,
}

impl<'a> Survey<'a> {
    /// Partitions that are lost, wait for a holder, or are being made, are not planned with: they only take room.
    pub(super) fn of(state: &'a State, fleet: &Fleet) -> Self {
        let ids: Vec<&ServerId> = state.servers.keys().collect();
        let numbers: BTreeMap<&ServerId, u32> = ids.iter().copied().zip(0..).collect();
        let mut survey = Self {
            servers: Vec::with_capacity(ids.len()),
            ids,
            named: Vec::new(),
            partitions: Vec::new(),
        };
        // Bytes of what is planned with, and of what is still being made.
        let mut planned = vec![0_u64; survey.ids.len()];
        let mut making = vec![0_u64; survey.ids.len()];
        for ((name, model), tag) in state.models.iter().zip(0..) {
            let numbers = model.servers.iter().map(|id| numbers.get(id).copied());
            let numbers: Vec<Option<u32>> = numbers.collect();
            if model.phase != Phase::Live {
                for (&bytes, number) in model.bytes.iter().zip(&numbers) {
                    if let &Some(server) = number {
                        add(&mut making, server, bytes);
                    }
                }
                continue;
            }
            for partition in 0..model.spec.partition_count {
                let Some(seen) = see(model, tag, partition, &numbers) else {
                    continue;
                };
                for &server in seen.members.iter().chain(&seen.learners) {
                    add(&mut planned, server, seen.bytes);
                }
                survey.named.push((name, model, partition));
                survey.partitions.push(seen);
            }
        }
        for (at, id) in survey.ids.iter().enumerate() {
            let server = seen_server(state, fleet, id, planned[at], making[at]);
            survey.servers.push(server);
        }
        survey
    }
}

fn add(sums: &mut [u64], server: u32, bytes: u64) {
    let sum = &mut sums[server as usize];
    *sum = sum.saturating_add(bytes);
}

fn see(model: &Model, tag: u32, partition: u32, numbers: &[Option<u32>]) -> Option<Partition> {
    if model.lost.contains_key(&partition) || model.is_vacant(partition) {
        return None;
    }
    let number = |server: u32| numbers[server as usize];
    let holder = model.holders[partition as usize];
    let copies = model.copies_of(partition);
    let goes = copies.and_then(|c| c.moving).map(|m| m.from);
    let of = |role: CopyRole| {
        let servers = copies.into_iter().flat_map(move |c| c.of(role));
        servers.filter(|&s| Some(s) != goes).filter_map(number)
    };
    let holds = Some(holder).filter(|&h| Some(h) != goes);
    Some(Partition {
        model: tag,
        bytes: model.sizes[partition as usize],
        copies: u32::from(model.spec.copies()),
        durable: model.spec.durability().is_logged(),
        holder: Some(number(holder)?),
        members: holds
            .and_then(number)
            .into_iter()
            .chain(of(CopyRole::InSync))
            .collect(),
        learners: of(CopyRole::Learner).collect(),
    })
}

fn seen_server(state: &State, fleet: &Fleet, id: &ServerId, planned: u64, making: u64) -> Server {
    let Some(known) = state.servers.get(id) else {
        return Server {
            zone: None,
            node: None,
            capacity: Some(0),
            other_bytes: 0,
            durable: false,
            standing: Standing::Silent,
        };
    };
    let standing = if fleet.gone.contains(id) {
        Standing::Silent
    } else if known.draining {
        Standing::Draining
    } else {
        Standing::Live
    };
    let counted = planned.saturating_add(making);
    // What is on its way out takes room until it has gone, and is no load.
    let leaving = state.placed_bytes(id).saturating_sub(counted);
    let capacity = if fleet.alive.contains(id) {
        known.capacity_bytes.saturating_sub(leaving)
    } else {
        // Not heard of for a moment: what it has counts, and nothing comes to it.
        counted
    };
    Server {
        zone: known.place().zone.clone(),
        node: known.place().node.clone(),
        capacity: Some(capacity),
        other_bytes: making,
        durable: known.volume.is_some(),
        standing,
    }
}
