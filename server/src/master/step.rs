//! What becomes of copies, one step at a time, and how a step changes the state.

use std::{collections::BTreeMap, sync::Arc};

use glint_protocol::{ServerId, copies::CopyRole, ids::Revision};

use super::{
    copies::Move,
    state::{Model, State},
};

/// A step about one partition of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) model: String,
    pub(crate) partition: u32,
    pub(crate) act: Act,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A copy comes to a server: a learner, which the holder attaches.
    Place(ServerId),
    /// A copy comes to a server, and then goes from another.
    Move { from: ServerId, to: ServerId },
    /// A copy goes, which the holder detaches.
    Release(ServerId),
    /// Another copy that is in sync is the holder from now on; the holder's goes, or is one that is in sync.
    Promote { to: ServerId, goes: bool },
    /// Its values are lost: another server holds that there are none, and has that one's holder, where it lives, drop what it has.
    Reassign { to: ServerId, lives: bool },
    /// A copy belongs to nothing: its partition's values are lost.
    Strike(ServerId),
}

/// Takes steps that were decided on from this very state.
pub(crate) fn take(state: &mut State, steps: &[Step]) {
    let mut by_model: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in steps {
        by_model.entry(&step.model).or_default().push(step);
    }
    for (name, steps) in by_model {
        let Some(model) = state.models.get(name).cloned() else {
            continue;
        };
        let mut changed = Model::clone(&model);
        let revision = state.fresh_revision();
        let mut holders = false;
        for step in steps {
            holders |= take_one(state, &mut changed, step, revision);
        }
        if holders {
            changed.republished(revision);
        }
        changed.tidy();
        state.models.insert(name.to_owned(), Arc::new(changed));
    }
}

/// Takes one step; whether the partition has another holder now.
fn take_one(state: &mut State, model: &mut Model, step: &Step, revision: Revision) -> bool {
    let partition = step.partition;
    let promoted = match &step.act {
        Act::Place(server) => {
            let server = model.intern(server);
            model.set_role(partition, server, Some(CopyRole::Learner));
            false
        }
        Act::Move { from, to } => {
            let to = model.intern(to);
            let Some(from) = model.index_of(from) else {
                return false;
            };
            model.set_role(partition, to, Some(CopyRole::Learner));
            if let Some(copies) = model.copies.get_mut(&partition) {
                copies.moving = Some(Move { from, to });
            }
            false
        }
        Act::Release(server) => {
            let Some(server) = model.index_of(server) else {
                return false;
            };
            model.set_role(partition, server, Some(CopyRole::Former));
            model.advance(partition, || state.fresh_epoch())
        }
        Act::Promote { to, goes } => {
            let Some(to) = model.index_of(to) else {
                return false;
            };
            // One that stays is waited for until it has everything of the new holder: it is asked for by the
            // master's own will, and no copy that is in sync may be missing for that, however shortly.
            let former = if *goes {
                CopyRole::Former
            } else {
                CopyRole::InSync
            };
            model.promote(partition, to, state.fresh_epoch(), former);
            true
        }
        Act::Reassign { to, lives } => {
            let to = model.intern(to);
            let from = model.holders[partition as usize];
            model.set_role(partition, to, Some(CopyRole::Learner));
            model.promote(partition, to, state.fresh_epoch(), CopyRole::Former);
            if !lives {
                model.strike(partition, from);
            }
            true
        }
        Act::Strike(server) => {
            if let Some(server) = model.index_of(server) {
                model.strike(partition, server);
            }
            false
        }
    };
    model.revised(partition, revision);
    promoted
}
