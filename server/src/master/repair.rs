//! Repair: as many copies of every partition as its model asks for, as far as there are servers for them. Pure functions on
//! [`State`].
//!
//! What is missing is placed as a learner, which the holder attaches; what is too many becomes former, which the holder
//! detaches. Nothing here takes a copy away that is needed: one that is in sync goes only when enough others are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{ServerId, copies::CopyRole};

use super::{
    copies::Copies,
    state::{Model, Phase, State},
    transition::suitable,
};

/// Copies that one server may be sending, or receiving, at once.
const FLOWS: usize = 4;
/// Small ones may be more at once, up to so many and so many bytes together.
const SMALL_FLOWS: (usize, u64) = (64, 16 << 20);

/// Who lives, as far as it matters for copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fleet {
    /// Servers that live.
    pub(crate) alive: BTreeSet<ServerId>,
    /// Servers that have been gone for so long that others take their places.
    pub(crate) gone: BTreeSet<ServerId>,
}

/// What one copy of a partition becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) model: String,
    pub(crate) partition: u32,
    pub(crate) server: ServerId,
    pub(crate) role: CopyRole,
}

/// Copies on their way from and to one server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    count: usize,
    bytes: u64,
}

impl Flow {
    fn admits(self, size: u64) -> bool {
        let (most, bytes) = SMALL_FLOWS;
        self.count < FLOWS || self.count < most && self.bytes.saturating_add(size) <= bytes
    }

    fn add(&mut self, size: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(size);
    }
}

/// The copies that are being sent, by server.
#[derive(Debug, Default)]
pub(super) struct Flows {
    from: BTreeMap<ServerId, Flow>,
    to: BTreeMap<ServerId, Flow>,
}

impl Flows {
    /// Those that are under way between servers that live.
    pub(super) fn under_way(state: &State, alive: &BTreeSet<ServerId>) -> Self {
        let mut flows = Self::default();
        for model in state.models.values() {
            for (&partition, copies) in &model.copies {
                let holder = model.holder(partition);
                for server in copies.of(CopyRole::Learner) {
                    let to = &model.servers[server as usize];
                    if alive.contains(holder) && alive.contains(to) {
                        flows.add(holder, to, model.sizes[partition as usize]);
                    }
                }
            }
        }
        flows
    }

    pub(super) fn admit(&self, from: &ServerId, to: &ServerId, size: u64) -> bool {
        let flow = |flows: &BTreeMap<ServerId, Flow>, id| flows.get(id).copied();
        flow(&self.from, from).unwrap_or_default().admits(size)
            && flow(&self.to, to).unwrap_or_default().admits(size)
    }

    pub(super) fn add(&mut self, from: &ServerId, to: &ServerId, size: u64) {
        self.from.entry(from.clone()).or_default().add(size);
        self.to.entry(to.clone()).or_default().add(size);
    }
}

/// What is to be done about the copies of all models, as far as it may begin now.
pub(crate) fn plan(state: &State, fleet: &Fleet) -> Vec<Step> {
    let mut flows = Flows::under_way(state, &fleet.alive);
    let placed = Placed::default();
    let mut steps = Vec::new();
    for (name, model) in &state.models {
        if model.phase != Phase::Live || model.copies.is_empty() && model.spec.copies() == 1 {
            continue;
        }
        let targets = targets(state, fleet, model);
        let nobody = Copies::default();
        for partition in 0..model.spec.partition_count {
            if model.lost.contains_key(&partition) || model.is_vacant(partition) {
                continue;
            }
            let copies = model.copies_of(partition).unwrap_or(&nobody);
            let step = |server: &ServerId, role| Step {
                model: name.clone(),
                partition,
                server: server.clone(),
                role,
            };
            if let Some(server) = excess(state, model, copies) {
                let server = &model.servers[server as usize];
                steps.push(step(server, CopyRole::Former));
                continue;
            }
            if let Some(moving) = copies.moving
                && fleet.gone.contains(&model.servers[moving.to as usize])
            {
                let to = &model.servers[moving.to as usize];
                steps.push(step(to, CopyRole::Former));
                continue;
            }
            let stuck = stuck(model, copies, fleet);
            if had(copies) >= usize::from(model.spec.copies()) && stuck.is_none() {
                continue;
            }
            let holder = model.holder(partition);
            if !fleet.alive.contains(holder) {
                continue;
            }
            let size = model.sizes[partition as usize];
            let free = |id: &&ServerId| {
                let index = model.index_of(id);
                id != &holder
                    && index.is_none_or(|index| copies.role(index).is_none())
                    && flows.admit(holder, id, size)
                    && placed.free(state, id) >= size
            };
            let near = |id: &ServerId| nearness(state, model, copies, holder, id, None);
            let chosen = targets
                .iter()
                .filter(free)
                .min_by_key(|id| (near(id), placed.bytes(state, id), (*id).clone()));
            let Some(chosen) = chosen.cloned() else {
                continue;
            };
            if let Some(stuck) = stuck {
                steps.push(step(&model.servers[stuck as usize], CopyRole::Former));
            }
            flows.add(holder, &chosen, size);
            placed.add(&chosen, size);
            steps.push(step(&chosen, CopyRole::Learner));
        }
    }
    steps
}

/// Servers that may get another copy of a model.
fn targets(state: &State, fleet: &Fleet, model: &Model) -> Vec<ServerId> {
    let mut targets = suitable(state, &fleet.alive, model.spec.durability());
    targets.retain(|id| state.servers.get(id).is_some_and(|s| !s.draining));
    targets
}

/// How many copies a partition has, or will have, those aside that are on their way out.
fn had(copies: &Copies) -> usize {
    let staying = copies.places.iter().filter(|p| p.role != CopyRole::Former);
    1 + staying.count() - usize::from(copies.moving.is_some())
}

/// How many copies of a partition are in sync.
pub(crate) fn in_sync(copies: &Copies) -> usize {
    1 + copies.of(CopyRole::InSync).count()
}

/// A copy that is too many, if there is one.
fn excess(state: &State, model: &Model, copies: &Copies) -> Option<u32> {
    let is_draining = |server: u32| {
        let known = state.servers.get(&model.servers[server as usize]);
        known.is_some_and(|s| s.draining)
    };
    // Nothing new comes to a server that is being drained.
    let unwanted = copies.of(CopyRole::Learner).find(|&s| is_draining(s));
    if unwanted.is_some() {
        return unwanted;
    }
    let wanted = usize::from(model.spec.copies());
    if had(copies) <= wanted || in_sync(copies) < wanted {
        return None;
    }
    let moves = |server: u32| {
        copies
            .moving
            .is_some_and(|m| m.to == server || m.from == server)
    };
    let learner = copies.of(CopyRole::Learner).find(|&s| !moves(s));
    let in_sync = || {
        let spare = copies.of(CopyRole::InSync).filter(|&s| !moves(s));
        spare.max_by_key(|&s| {
            let id = &model.servers[s as usize];
            (is_draining(s), state.placed_bytes(id))
        })
    };
    learner.or_else(in_sync)
}

/// A learner that will not be attached soon: its server is gone.
fn stuck(model: &Model, copies: &Copies, fleet: &Fleet) -> Option<u32> {
    let mut learners = copies.of(CopyRole::Learner);
    learners.find(|&s| fleet.gone.contains(&model.servers[s as usize]))
}

/// How many other copies, but for one, are in the same zone as a server, and on the same machine.
pub(super) fn nearness(
    state: &State,
    model: &Model,
    copies: &Copies,
    holder: &ServerId,
    id: &ServerId,
    but: Option<&ServerId>,
) -> (usize, usize) {
    let Some(own) = state.servers.get(id).map(|s| &s.labels) else {
        return (0, 0);
    };
    let staying = copies.places.iter().filter(|p| p.role != CopyRole::Former);
    let others = staying.map(|p| &model.servers[p.server as usize]);
    let others = others.chain([holder]).filter(|id| Some(*id) != but);
    let others = others.filter_map(|id| state.servers.get(id));
    others.fold((0, 0), |(zone, node), other| {
        let same = |a: &Option<String>, b: &Option<String>| usize::from(a.is_some() && a == b);
        (
            zone + same(&own.zone, &other.labels.zone),
            node + same(&own.node, &other.labels.node),
        )
    })
}

/// Bytes on servers, with what has been placed meanwhile.
#[derive(Default)]
struct Placed {
    bytes: std::cell::RefCell<BTreeMap<ServerId, u64>>,
}

impl Placed {
    fn bytes(&self, state: &State, id: &ServerId) -> u64 {
        let mut bytes = self.bytes.borrow_mut();
        if let Some(&bytes) = bytes.get(id) {
            return bytes;
        }
        let placed = state.placed_bytes(id);
        bytes.insert(id.clone(), placed);
        placed
    }

    fn free(&self, state: &State, id: &ServerId) -> u64 {
        let capacity = state.servers.get(id).map_or(0, |s| s.capacity_bytes);
        capacity.saturating_sub(self.bytes(state, id))
    }

    fn add(&self, id: &ServerId, size: u64) {
        if let Some(bytes) = self.bytes.borrow_mut().get_mut(id) {
            *bytes = bytes.saturating_add(size);
        }
    }
}

/// Takes the steps of a plan that was made from this very state.
pub(crate) fn take(state: &mut State, steps: &[Step]) {
    let mut steps = steps.iter().peekable();
    while let Some(name) = steps.peek().map(|step| step.model.clone()) {
        let Some(model) = state.models.get(&name).cloned() else {
            steps.next();
            continue;
        };
        let mut changed = Model::clone(&model);
        let revision = state.fresh_revision();
        while let Some(step) = steps.next_if(|step| step.model == name) {
            let server = changed.intern(&step.server);
            changed.set_role(step.partition, server, Some(step.role));
            changed.advance(step.partition, || state.fresh_epoch());
            changed.revised(step.partition, revision);
        }
        changed.tidy();
        state.models.insert(name, Arc::new(changed));
    }
}

#[cfg(test)]
#[path = "repair/tests.rs"]
mod tests;
