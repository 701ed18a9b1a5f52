//! How many copies are on their way at once: each server sends and receives a few, so that each soon is where it belongs, and
//! requests have room beside them.

use std::collections::{BTreeMap, BTreeSet};

use glint_protocol::{ServerId, copies::CopyRole};

use super::state::State;

/// Copies that one server may be sending, or receiving, at once.
pub(super) const FLOWS: usize = 4;
/// Small ones may be more at once, up to so many and so many bytes together.
pub(super) const SMALL_FLOWS: (usize, u64) = (64, 128 << 20);

/// Copies on their way from, or to, one server.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
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

    /// Takes one more, if both servers have room for it; whether it did.
    pub(super) fn admit(&mut self, from: &ServerId, to: &ServerId, size: u64) -> bool {
        let flow = |flows: &BTreeMap<ServerId, Flow>, id| flows.get(id).copied();
        let admits = flow(&self.from, from).unwrap_or_default().admits(size)
            && flow(&self.to, to).unwrap_or_default().admits(size);
        if admits {
            self.add(from, to, size);
        }
        admits
    }

    fn add(&mut self, from: &ServerId, to: &ServerId, size: u64) {
        self.from.entry(from.clone()).or_default().add(size);
        self.to.entry(to.clone()).or_default().add(size);
    }
}
