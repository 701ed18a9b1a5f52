//! What an admin does about lost values, as pure functions on [`State`]: setting a model back to its initial values, and
//! giving up a server that will not come back.

use std::{collections::BTreeSet, sync::Arc};

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Incarnation, LossReason, ServerId,
    admin::{ForgetServer, ResetModel},
    copies::CopyRole,
    error::GoneReason,
};

use super::{
    copies::Copies,
    failover::promote_others,
    placement::{Room, place},
    state::{Assignment, Model, Phase, State, partition_bytes},
    transition::{bury, does_not_fit, no_model, nobody, room, suitable},
};

/// Requests that a model remembers having been reset by.
const MAX_RESETS: usize = 8;

/// Sets a model back: its next generation, with all values initial, empty ledgers and nothing lost. The incarnation to
/// wait for; a repeated request finds the one that it made.
///
/// A partition stays where it is. The holder of one that has values must live, so that it lets go of them before anyone
/// meets the new ones: a silent one may still serve, and acknowledge what nobody would find again. What is lost is served
/// by nobody, and goes to another server where its own cannot take it.
///
/// # Errors
/// `unknown_model`, `retry` while it is being made, `server_silent` naming who is waited for, `does_not_fit`, `no_servers`.
pub(crate) fn reset(
    state: &mut State,
    name: &str,
    request: &ResetModel,
    alive: &BTreeSet<ServerId>,
) -> Result<Incarnation, ErrorBody> {
    let unknown = || ErrorBody::new(ErrorCode::UnknownModel, no_model(name));
    let model = state.models.get(name).cloned().ok_or_else(unknown)?;
    if request
        .model
        .is_some_and(|id| id != model.incarnation.model)
    {
        return Err(ErrorBody::new(
            ErrorCode::UnknownModel,
            format!(
                "model '{name}' is {} now, another one than was meant; look at it with: glint model show {name}",
                model.incarnation
            ),
        ));
    }
    if model.resets.contains(&request.id) {
        return Ok(model.incarnation);
    }
    if model.phase == Phase::Creating {
        return Err(ErrorBody::new(
            ErrorCode::Retry,
            format!("model '{name}' is still being made: its values are initial anyway"),
        ));
    }
    let targets = suitable(state, alive, model.spec.durability());
    let stays = |p: u32| targets.binary_search(model.holder(p)).is_ok();
    let count = model.spec.partition_count;
    let homeless: Vec<u32> = (0..count).filter(|&p| !stays(p)).collect();
    let silent: BTreeSet<&ServerId> = homeless
        .iter()
        .filter(|p| !model.lost.contains_key(p))
        .map(|&p| model.holder(p))
        .collect();
    if !silent.is_empty() {
        return Err(is_silent(name, &silent));
    }
    if !homeless.is_empty() && targets.is_empty() {
        return Err(nobody(&model.spec, state, alive));
    }
    let rooms: Vec<Room> = targets.iter().map(|id| room(state, id)).collect();
    let all_sizes = partition_bytes(&model.spec);
    let sizes: Vec<u64> = homeless.iter().map(|&p| all_sizes[p as usize]).collect();
    let Some(places) = place(&sizes, &rooms) else {
        return Err(does_not_fit(&model.spec, &sizes, &targets, &rooms));
    };
    let mut holders: Vec<ServerId> = (0..count).map(|p| model.holder(p).clone()).collect();
    for (&partition, &target) in homeless.iter().zip(&places) {
        holders[partition as usize] = targets[target as usize].clone();
    }
    let incarnation = Incarnation {
        generation: model.next_generation(),
        ..model.incarnation
    };
    let assignment = Assignment::of(&holders, state.fresh_epoch());
    let revision = state.fresh_revision();
    let spec = model.spec.clone();
    let next = Model::new(spec, incarnation, Phase::Resetting, revision, assignment);
    let mut next = next.ok_or_else(|| {
        ErrorBody::new(ErrorCode::Internal, "a placement that contradicts itself")
    })?;
    let kept = model.resets.len().saturating_sub(MAX_RESETS - 1);
    next.resets = model.resets[kept..].to_vec();
    next.resets.push(request.id);
    state.models.insert(name.to_owned(), Arc::new(next));
    // Everything below it: of generations that this master does not know servers may have partitions too, and of those that it
    // knows servers that it has struck.
    let mut former = Model::clone(&model);
    former.incarnation.generation = incarnation.generation - 1;
    bury(state, &former, GoneReason::Reset, None);
    let all: BTreeSet<ServerId> = state.servers.keys().cloned().collect();
    if let Some(tombstone) = state.tombstones.back_mut() {
        tombstone.awaited.extend(all);
    }
    Ok(incarnation)
}

fn is_silent(name: &str, silent: &BTreeSet<&ServerId>) -> ErrorBody {
    let names: Vec<&str> = silent.iter().take(8).map(|id| id.0.as_str()).collect();
    let more = if silent.len() > names.len() {
        ", …"
    } else {
        ""
    };
    let which = names.join(", ");
    ErrorBody::new(
        ErrorCode::ServerSilent,
        format!(
            "model '{name}' is not reset: {which}{more} does not answer, holds partitions of it, and might still serve them; \
             start it again, or, if it is gone for good: glint server forget {} --dead",
            names.first().copied().unwrap_or_default()
        ),
    )
}

/// What became of a server that was to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Partitions that other copies hold from now on.
    pub(crate) promoted: usize,
    /// Partitions that are lost with it.
    pub(crate) lost: usize,
}

/// Forgets a server by an admin's word. One that has the last copy of anything, as far as the `living` have none, is forgotten
/// only when it is said to be dead: what has no other copy that is in sync is lost from now on, and this start of it never
/// speaks again. Forgetting twice is fine.
///
/// # Errors
/// `unknown_server`; `server_alive` when it is `present`; `server_silent` when what it has nobody else has, and it is not said
/// to be dead.
pub(crate) fn forget(
    state: &mut State,
    request: &ForgetServer,
    present: bool,
    living: &BTreeSet<ServerId>,
) -> Result<Forgotten, ErrorBody> {
    let id = &request.server;
    let Some(server) = state.servers.get(id).cloned() else {
        let was_here = state.superseded.iter().any(|(old, _)| old == id);
        return if was_here || state.dead.contains_key(id) {
            Ok(Forgotten {
                promoted: 0,
                lost: 0,
            })
        } else {
            Err(ErrorBody::new(
                ErrorCode::UnknownServer,
                format!("there is no server {id}; see what there is with: glint status"),
            ))
        };
    };
    if present {
        return Err(ErrorBody::new(
            ErrorCode::ServerAlive,
            format!("server {id} lives and is not forgotten; stop it first"),
        ));
    }
    let holding: Vec<String> = state
        .models
        .values()
        .filter(|m| m.phase != Phase::Creating && has_the_last(m, id, living))
        .map(|m| m.spec.name.clone())
        .collect();
    if !holding.is_empty() && !request.dead {
        return Err(ErrorBody::new(
            ErrorCode::ServerSilent,
            format!(
                "server {id} has values of {} models ({}…) of which no server that lives has a copy that is in sync, and waits to be \
                 started again; if it is gone for good, and they with it: glint server forget {id} --dead",
                holding.len(),
                holding[0]
            ),
        ));
    }
    let promoted = promote_others(state, id, living);
    let lost = strike(state, id, living);
    state.servers.remove(id);
    for tombstone in &mut state.tombstones {
        tombstone.awaited.remove(id);
    }
    if request.dead {
        state.supersede(id, server.boot);
    }
    state.dead.insert(id.clone(), server.url);
    state.bury_the_dead();
    Ok(Forgotten { promoted, lost })
}

/// Whether a server has a copy that counts of a partition of which nobody that lives has one.
fn has_the_last(model: &Model, id: &ServerId, living: &BTreeSet<ServerId>) -> bool {
    let Some(index) = model.index_of(id) else {
        return false;
    };
    let counts = |partition: u32, server: u32| {
        let holds = model.holders[partition as usize] == server && !model.is_vacant(partition);
        let copies = model.copies_of(partition);
        let claims = |c: &Copies| c.claims.iter().any(|c| c.server == server);
        holds
            || model.role(partition, server) == Some(CopyRole::InSync)
            || model.is_vacant(partition) && copies.is_some_and(claims)
    };
    let lives = |server: u32| server != index && living.contains(&model.servers[server as usize]);
    let others: Vec<u32> = (0..model.servers.len() as u32)
        .filter(|&s| lives(s))
        .collect();
    (0..model.spec.partition_count)
        .filter(|p| !model.lost.contains_key(p) && counts(*p, index))
        .any(|p| !others.iter().any(|&s| counts(p, s)))
}

/// What is lost with its holder, another server that has, or had, a copy of it is to hold from now on: it says that the values
/// are lost, and has the others let go of what they still have.
fn reassign_lost(
    model: &mut Model,
    partition: u32,
    living: &BTreeSet<ServerId>,
    epoch: impl FnOnce() -> Epoch,
) {
    let holder = model.holders[partition as usize];
    let others = model
        .copies_of(partition)
        .into_iter()
        .flat_map(|c| &c.places);
    let mut others = others.map(|place| place.server);
    let heir = others.find(|&s| living.contains(&model.servers[s as usize]));
    if let Some(heir) = heir {
        model.promote(partition, heir, epoch(), CopyRole::Former);
        model.strike(partition, holder);
    }
}

/// Takes a server that is dead out of the copies of all models; how many partitions are lost with it. Those of which
/// others are in sync wait for one of them.
fn strike(state: &mut State, id: &ServerId, living: &BTreeSet<ServerId>) -> usize {
    let mut lost = 0;
    let mut fresh: Option<Epoch> = None;
    for name in state.models.keys().cloned().collect::<Vec<_>>() {
        let Some(model) = state.models.get(&name).cloned() else {
            continue;
        };
        let Some(index) = model
            .index_of(id)
            .filter(|_| model.phase != Phase::Creating)
        else {
            continue;
        };
        let mut changed = Model::clone(&model);
        let revision = state.fresh_revision();
        for partition in model.held_by(index).filter(|p| !model.lost.contains_key(p)) {
            if model.in_sync(partition).next().is_some() {
                let copies = changed.copies.entry(partition).or_default();
                copies.vacant = true;
                copies.claims.retain(|c| c.server != index);
                changed.revised(partition, revision);
            } else {
                let epoch = *fresh.get_or_insert_with(|| state.fresh_epoch());
                lost += usize::from(changed.give_up(partition, epoch, LossReason::ServerDead));
                if changed.copies_of(partition).is_some() {
                    changed.revised(partition, revision);
                }
            }
        }
        let others = model.copies.iter();
        let others = others
            .filter(|(_, c)| c.role(index).is_some() || c.claims.iter().any(|c| c.server == index));
        for (&partition, _) in others {
            changed.strike(partition, index);
            if changed.is_vacant(partition) && changed.in_sync(partition).next().is_none() {
                let epoch = *fresh.get_or_insert_with(|| state.fresh_epoch());
                lost += usize::from(changed.give_up(partition, epoch, LossReason::ServerDead));
            }
            changed.revised(partition, revision);
        }
        let held: Vec<u32> = changed.held_by(index).collect();
        for partition in held {
            if changed.lost.contains_key(&partition) {
                reassign_lost(&mut changed, partition, living, || {
                    *fresh.get_or_insert_with(|| state.fresh_epoch())
                });
            }
        }
        changed.renewed(revision);
        changed.tidy();
        state.models.insert(name, Arc::new(changed));
    }
    lost
}

#[cfg(test)]
#[path = "reset/tests.rs"]
mod tests;
