//! Promotion: another copy that is in sync takes the place of a holder that is gone. Pure functions on [`State`].
//!
//! A copy is promoted at an epoch that was never used, and takes its rivals' right to acknowledge with it: so it costs
//! time if the holder was not gone at all, and never a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{Epoch, ServerId, copies::CopyRole};

use super::state::{Model, Phase, State};

/// Who takes over, partition by partition: of several the one that has got the fewest so far, so that what one server held
/// is spread over those that follow it.
pub(super) struct Heirs<'a> {
    living: &'a BTreeSet<ServerId>,
    got: BTreeMap<ServerId, u32>,
}

impl<'a> Heirs<'a> {
    /// From among these servers.
    pub(super) fn among(living: &'a BTreeSet<ServerId>) -> Self {
        Self {
            living,
            got: BTreeMap::new(),
        }
    }

    /// The copy in sync that is to hold a partition, beside that of one server; none if none lives.
    pub(super) fn next(&mut self, model: &Model, partition: u32, but: &ServerId) -> Option<u32> {
        let fit = model.in_sync(partition).filter(|&s| {
            let id = &model.servers[s as usize];
            id != but && self.living.contains(id)
        });
        let got = |s: u32| self.got.get(&model.servers[s as usize]).copied();
        let heir = fit.min_by_key(|&s| (got(s).unwrap_or(0), s))?;
        *self
            .got
            .entry(model.servers[heir as usize].clone())
            .or_default() += 1;
        Some(heir)
    }
}

/// Promotes other copies of all that a server holds, where one that is in sync lives; it becomes a learner. How many
/// partitions have another holder from now on.
pub(crate) fn promote_others(
    state: &mut State,
    server: &ServerId,
    living: &BTreeSet<ServerId>,
) -> usize {
    let holds = |model: &Model, partition: u32| model.holder(partition) == server;
    promote_where(state, server, living, holds)
}

/// Whether a server is in sync with anything that another holds: its word counts when it does not hear that one any more. A
/// copy that is on its way, or that was taken out of the in-sync set, may not be spoken to at all.
pub(crate) fn may_suspect(state: &State, server: &ServerId, holder: &ServerId) -> bool {
    let mut models = state.models.values();
    models.any(|model| {
        let (Some(follower), Some(index)) = (model.index_of(server), model.index_of(holder)) else {
            return false;
        };
        let mut copies = model.copies.iter();
        copies.any(|(&partition, copies)| {
            model.holders[partition as usize] == index
                && copies.role(follower) == Some(CopyRole::InSync)
        })
    })
}

/// Promotes copies of partitions whose holder came back without what it had, as soon as one that is in sync lives.
pub(crate) fn fill_vacant(state: &mut State, living: &BTreeSet<ServerId>) -> usize {
    promote_where(state, &ServerId(String::new()), living, Model::is_vacant)
}

/// Whether [`fill_vacant`] would do anything.
pub(crate) fn has_vacant(state: &State, living: &BTreeSet<ServerId>) -> bool {
    let mut models = state.models.values();
    models.any(|model| {
        let mut vacant = model.copies.iter().filter(|(_, c)| c.vacant);
        vacant.any(|(_, c)| {
            let mut others = c.of(CopyRole::InSync);
            others.any(|s| living.contains(&model.servers[s as usize]))
        })
    })
}

fn promote_where(
    state: &mut State,
    but: &ServerId,
    living: &BTreeSet<ServerId>,
    gone: impl Fn(&Model, u32) -> bool,
) -> usize {
    let mut heirs = Heirs::among(living);
    // One for all: it names this event.
    let mut fresh: Option<Epoch> = None;
    let mut promoted = 0;
    for name in state.models.keys().cloned().collect::<Vec<_>>() {
        let Some(model) = state.models.get(&name).cloned() else {
            continue;
        };
        if model.phase != Phase::Live {
            continue;
        }
        let heirs: Vec<(u32, u32)> = model
            .copies
            .keys()
            .filter(|&&p| !model.lost.contains_key(&p) && gone(&model, p))
            .filter_map(|&p| Some((p, heirs.next(&model, p, but)?)))
            .collect();
        if heirs.is_empty() {
            continue;
        }
        promoted += heirs.len();
        let mut changed = Model::clone(&model);
        let revision = state.fresh_revision();
        for (partition, heir) in heirs {
            let epoch = *fresh.get_or_insert_with(|| state.fresh_epoch());
            changed.promote(partition, heir, epoch, CopyRole::Learner);
            changed.advance(partition, || state.fresh_epoch());
            changed.revised(partition, revision);
        }
        changed.republished(revision);
        state.models.insert(name, Arc::new(changed));
    }
    promoted
}

#[cfg(test)]
#[path = "failover/tests.rs"]
mod tests;
