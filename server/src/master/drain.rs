//! Draining: an admin, or the operator, asks for a server to be emptied. Pure functions on [`State`]; [`super::moves`] does it.

use std::collections::BTreeSet;

use glint_protocol::{
    ErrorBody, ErrorCode, ServerId,
    admin::{DrainState, Draining},
    copies::CopyRole,
};

use super::{
    size::Size,
    state::{KnownServer, Model, Phase, State},
    transition::room,
};

/// Begins to drain a server; draining it again is fine.
///
/// # Errors
/// `unknown_server`; `cannot_drain` when it is the last that lives, or the rest cannot hold what it has.
pub(crate) fn begin(
    state: &mut State,
    server: &ServerId,
    alive: &BTreeSet<ServerId>,
) -> Result<Draining, ErrorBody> {
    if !known(state, server)?.draining {
        check(state, server, alive)?;
        known(state, server)?.draining = true;
    }
    Ok(progress(state, server))
}

/// Ends the draining of a server, whatever is left on it; moves off it are called off.
///
/// # Errors
/// `unknown_server`.
pub(crate) fn cancel(state: &mut State, server: &ServerId) -> Result<Draining, ErrorBody> {
    if std::mem::take(&mut known(state, server)?.draining) {
        for name in state.models.keys().cloned().collect::<Vec<_>>() {
            let Some(model) = state.models.get(&name).cloned() else {
                continue;
            };
            let Some(index) = model.index_of(server) else {
                continue;
            };
            let leaves = |p: &u32| {
                let copies = model.copies_of(*p);
                copies.is_some_and(|c| c.moving.is_some_and(|m| m.from == index))
            };
            let moving: Vec<u32> = model.copies.keys().copied().filter(leaves).collect();
            if moving.is_empty() {
                continue;
            }
            let mut changed = Model::clone(&model);
            let revision = state.fresh_revision();
            for partition in moving {
                if let Some(copies) = changed.copies.get_mut(&partition) {
                    copies.moving = None;
                }
                changed.revised(partition, revision);
            }
            state.models.insert(name, changed.into());
        }
    }
    Ok(progress(state, server))
}

fn known<'a>(state: &'a mut State, server: &ServerId) -> Result<&'a mut KnownServer, ErrorBody> {
    state.servers.get_mut(server).ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::UnknownServer,
            format!("there is no server {server}; see what there is with: glint status"),
        )
    })
}

/// What is left on a server.
pub(crate) fn progress(state: &State, server: &ServerId) -> Draining {
    let mut lost = 0;
    for model in state.models.values() {
        if let Some(index) = model.index_of(server) {
            let mut held = model.lost.keys().map(|&p| model.holders[p as usize]);
            lost += held.by_ref().filter(|&h| h == index).count() as u64;
        }
    }
    Draining {
        server: server.clone(),
        state: drain_state(state, server),
        copies: state.copies_on(server),
        bytes: state.placed_bytes(server),
        lost,
    }
}

/// Whether a server is being drained, and whether it is done.
pub(crate) fn drain_state(state: &State, server: &ServerId) -> Option<DrainState> {
    let draining = state.servers.get(server).is_some_and(|s| s.draining);
    draining.then(|| {
        if state.is_needed(server) {
            DrainState::Draining
        } else {
            DrainState::Drained
        }
    })
}

/// A copy that has to go somewhere.
struct Homeless<'a> {
    model: &'a Model,
    partition: u32,
    size: u64,
    /// Whether the partition can do without it, if there are not enough servers.
    spare: bool,
}

/// Whether the rest can hold what is on a server, and on those that are drained already.
fn check(state: &State, server: &ServerId, alive: &BTreeSet<ServerId>) -> Result<(), ErrorBody> {
    let leaves = |id: &ServerId| id == server || state.servers.get(id).is_some_and(|s| s.draining);
    let rest: Vec<&ServerId> = alive
        .iter()
        .filter(|id| state.servers.contains_key(*id) && !leaves(id))
        .collect();
    if rest.is_empty() {
        return Err(ErrorBody::new(
            ErrorCode::CannotDrain,
            format!(
                "server {server} is the last one that lives and is not being drained: nobody else could hold anything; start \
                 another server first"
            ),
        ));
    }
    let mut homeless = Vec::new();
    for model in state.models.values().filter(|m| m.phase == Phase::Live) {
        for (index, id) in (0..).zip(&model.servers) {
            if leaves(id) {
                collect(model, index, &leaves, &mut homeless);
            }
        }
    }
    homeless.sort_by_key(|h| std::cmp::Reverse(h.size));
    let mut free: Vec<u64> = rest.iter().map(|id| room(state, id).free).collect();
    let before: u64 = free.iter().fold(0, |sum, &f| sum.saturating_add(f));
    let needed: u64 = homeless.iter().fold(0, |sum, h| sum.saturating_add(h.size));
    let (mut unplaced, mut diskless) = (0, false);
    for copy in &homeless {
        let may = |id: &ServerId| may_take(state, copy, id);
        let eligible = (0..rest.len()).filter(|&at| may(rest[at]));
        let Some(roomiest) = eligible.max_by_key(|&at| free[at]) else {
            if !copy.spare {
                unplaced += 1;
                diskless |= copy.model.spec.durability().is_logged();
            }
            continue;
        };
        if free[roomiest] >= copy.size {
            free[roomiest] -= copy.size;
        } else {
            unplaced += 1;
        }
    }
    if unplaced == 0 {
        return Ok(());
    }
    let advice = if diskless {
        "start servers with a data directory (--data-dir)"
    } else {
        "add servers, give them more memory (--memory), or delete models"
    };
    Err(ErrorBody::new(
        ErrorCode::CannotDrain,
        format!(
            "server {server} cannot be drained: its {} copies have {} ({needed} bytes), the {} other servers have {} ({before} bytes) \
             free, and {unplaced} of the copies find no place there; {advice}",
            homeless.len(),
            Size(needed),
            rest.len(),
            Size(before),
        ),
    ))
}

fn collect<'a>(
    model: &'a Model,
    index: u32,
    leaves: &impl Fn(&ServerId) -> bool,
    homeless: &mut Vec<Homeless<'a>>,
) {
    let stays = |s: u32| !leaves(&model.servers[s as usize]);
    let others = model.copies.iter();
    let others = others.filter(|(_, c)| c.role(index) == Some(CopyRole::InSync));
    let others = others.map(|(&p, _)| (p, true));
    let held = model.held_by(index).map(|p| {
        let followed = model.in_sync(p).any(stays);
        (p, followed)
    });
    for (partition, spare) in held.chain(others) {
        if !model.lost.contains_key(&partition) {
            homeless.push(Homeless {
                model,
                partition,
                size: model.sizes[partition as usize],
                spare,
            });
        }
    }
}

fn may_take(state: &State, copy: &Homeless<'_>, id: &ServerId) -> bool {
    let logged = copy.model.spec.durability().is_logged();
    let has_disk = state.servers.get(id).is_some_and(|s| s.volume.is_some());
    let index = copy.model.index_of(id);
    (!logged || has_disk)
        && index.is_none_or(|index| {
            let role = copy.model.role(copy.partition, index);
            copy.model.holders[copy.partition as usize] != index
                && role.is_none_or(|role| role == CopyRole::Former)
        })
}

#[cfg(test)]
#[path = "drain/tests.rs"]
mod tests;
