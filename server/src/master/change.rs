//! Other in-sync sets, asked for by holders: each a compare-and-swap on the configuration of one partition.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{
    ErrorBody, ErrorCode, Incarnation, ServerId,
    control::Orders,
    copies::{ChangeCopies, CopyChange, CopyRole},
};

use super::state::{Model, Phase, State};

/// Changes that one request may ask for: of more than this the answer would be larger than an order.
const MAX_CHANGES: usize = 16_384;

/// Takes what a holder asks for, where the configuration still is the one that it knows. How many were taken.
///
/// Only who is in sync or a learner now can be in sync then. Who drops out becomes a learner, so that it is attached anew.
///
/// # Errors
/// `bad_request` for too many at once, `not_registered` when this start of the server is not the one that is registered.
pub(crate) fn change(state: &mut State, request: &ChangeCopies) -> Result<usize, ErrorBody> {
    check(state, request)?;
    let mut by_model: BTreeMap<Incarnation, Vec<&CopyChange>> = BTreeMap::new();
    for change in &request.changes {
        by_model.entry(change.incarnation).or_default().push(change);
    }
    let mut taken = 0;
    for (incarnation, changes) in by_model {
        let Some(model) = live(state, incarnation) else {
            continue;
        };
        let mut changed = Model::clone(&model);
        let (mut some, mut promoted) = (false, false);
        for change in changes {
            if is_current(&changed, &request.server, change) {
                promoted |= take(state, &mut changed, change);
                some = true;
                taken += 1;
            }
        }
        // Clients need to know who holds; and who follows once that is settled, since many changes come one after another.
        if promoted || some && is_settled(&changed) {
            changed.republished(state.fresh_revision());
        }
        if some {
            changed.tidy();
            let name = changed.spec.name.clone();
            state.models.insert(name, Arc::new(changed));
        }
    }
    Ok(taken)
}

fn check(state: &State, request: &ChangeCopies) -> Result<(), ErrorBody> {
    let id = &request.server;
    if request.changes.len() > MAX_CHANGES {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!(
                "at most {MAX_CHANGES} changes are taken at once; send the rest in another request"
            ),
        ));
    }
    if state.servers.get(id).is_none_or(|s| s.boot != request.boot) {
        return Err(ErrorBody::new(
            ErrorCode::NotRegistered,
            format!("this start of server {id} is not the one that is registered; register first"),
        ));
    }
    Ok(())
}

fn live(state: &State, incarnation: Incarnation) -> Option<Arc<Model>> {
    let model = state.model(incarnation.model)?;
    let is_it = model.incarnation == incarnation && model.phase == Phase::Live;
    is_it.then(|| Arc::clone(model))
}

/// Whether no copies of a model are on their way.
fn is_settled(model: &Model) -> bool {
    let mut copies = model.copies.values();
    copies.all(|c| c.of(CopyRole::Learner).next().is_none())
}

/// Whether a partition's configuration still is what the holder knows.
fn is_current(model: &Model, server: &ServerId, change: &CopyChange) -> bool {
    let partition = change.partition;
    partition < model.spec.partition_count
        && model.holder(partition) == server
        && model.epochs[partition as usize] == change.epoch
        && model.revision_of(partition) == change.revision
        && !model.is_vacant(partition)
}

/// Takes one change; whether the partition has another holder now.
fn take(state: &mut State, model: &mut Model, change: &CopyChange) -> bool {
    let partition = change.partition;
    let asked: BTreeSet<u32> = change
        .in_sync
        .iter()
        .filter_map(|id| model.index_of(id))
        .collect();
    let places = model.copies_of(partition).map(|c| c.places.clone());
    for place in places.unwrap_or_default() {
        let role = match (place.role, asked.contains(&place.server)) {
            (CopyRole::InSync | CopyRole::Learner, true) => CopyRole::InSync,
            (CopyRole::InSync, false) => CopyRole::Learner,
            (role, _) => role,
        };
        model.set_role(partition, place.server, Some(role));
    }
    let detached = change.detached.iter();
    let detached: Vec<u32> = detached.filter_map(|id| model.index_of(id)).collect();
    for server in detached {
        if model.role(partition, server) == Some(CopyRole::Former) {
            model.strike(partition, server);
        }
    }
    model.is_held(partition);
    let promoted = model.advance(partition, || state.fresh_epoch());
    model.revised(partition, state.fresh_revision());
    promoted
}

/// The present configuration of all partitions that a request names and that its server holds or follows.
pub(crate) fn orders(state: &State, request: &ChangeCopies) -> Orders {
    let mut named: BTreeMap<Incarnation, BTreeSet<u32>> = BTreeMap::new();
    for change in &request.changes {
        let partitions = named.entry(change.incarnation).or_default();
        partitions.insert(change.partition);
    }
    let hold = named.into_iter().filter_map(|(incarnation, partitions)| {
        let model = live(state, incarnation)?;
        let index = model.index_of(&request.server)?;
        let count = model.spec.partition_count;
        let there = partitions.into_iter().filter(|&p| p < count);
        let hold = model.hold_of(index, there, state);
        (!hold.partitions.is_empty() || !hold.followed.is_empty()).then_some(hold)
    });
    Orders {
        cluster: state.cluster,
        term: state.term,
        boot: request.boot,
        hold: hold.collect(),
        drop: Vec::new(),
    }
}

#[cfg(test)]
#[path = "change/tests.rs"]
mod tests;
