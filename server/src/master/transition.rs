//! Every way in which the catalogue changes, as pure functions on [`State`]: the same state and arguments give the same
//! result. An error leaves the state as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{
    Boot, Durability, ErrorBody, ErrorCode, Incarnation, ModelId, ModelSpec, ServerId,
    control::CreateModel, error::GoneReason,
};

use super::{
    adoption,
    placement::{Room, place},
    size::Size,
    state::{Assignment, Model, Phase, State, Tombstone, partition_bytes},
};

/// Tombstones that are kept: enough for every repeated request and every server that is told late.
pub(crate) const MAX_TOMBSTONES: usize = 1024;
/// Models that a cluster may have.
pub(crate) const MAX_MODELS: usize = 4096;

/// Finds or begins the model that a request asks for, on the servers that live: the incarnation to wait for. A draft that
/// says nothing of durability and copies gets those of the cluster.
pub(crate) fn create(
    state: &mut State,
    request: &CreateModel,
    alive: &BTreeSet<ServerId>,
    (durability, copies): (Durability, u8),
) -> Result<Incarnation, ErrorBody> {
    let draft = &request.model;
    draft.validate()?;
    let name = &draft.name;
    if let Some(own) = state.model(request.id) {
        let differences = draft.differences(&own.spec);
        if own.spec.name != *name || !differences.is_empty() {
            return Err(ErrorBody::new(
                ErrorCode::BadRequest,
                format!(
                    "id {} is that of model '{}', which was made by another request; choose a random id for each",
                    request.id, own.spec.name
                ),
            ));
        }
        return Ok(own.incarnation);
    }
    if let Some(tombstone) = state.tombstone(request.id) {
        return Err(tombstone.failure.clone().unwrap_or_else(|| {
            ErrorBody::new(
                ErrorCode::Gone,
                format!("model '{name}' was made by this request and has been deleted since; send a new request with another id"),
            )
            .with(|detail| detail.reason = Some(tombstone.reason))
        }));
    }
    if let Some(present) = state.models.get(name) {
        let differences = draft.differences(&present.spec);
        if !differences.is_empty() && request.or_open {
            let list: Vec<String> = differences.iter().map(ToString::to_string).collect();
            return Err(ErrorBody::new(
                ErrorCode::SpecMismatch,
                format!(
                    "model '{name}' exists and is another one ({}); open it as it is, choose another name, or delete it first",
                    list.join("; ")
                ),
            )
            .with(|detail| detail.differences = differences));
        }
        if !request.or_open {
            return Err(ErrorBody::new(
                ErrorCode::AlreadyExists,
                format!("model '{name}' exists; open it, choose another name, or delete it first"),
            ));
        }
        return Ok(present.incarnation);
    }
    if state.adopting.is_some() {
        return Err(adoption::refuse_creation(name));
    }
    if state.models.len() >= MAX_MODELS {
        return Err(ErrorBody::new(
            ErrorCode::Busy,
            format!("the cluster has {MAX_MODELS} models, the most that it can; delete some first"),
        ));
    }
    let mut draft = draft.clone();
    let durability = *draft.durability.get_or_insert(durability);
    draft.copies.get_or_insert(copies);
    let candidates = suitable(state, alive, durability).len();
    let spec = draft.resolve(candidates as u32)?;
    let incarnation = Incarnation {
        model: request.id,
        generation: 1,
    };
    begin(state, spec, incarnation, alive)?;
    Ok(incarnation)
}

/// Places a model and enters it as `creating`.
fn begin(
    state: &mut State,
    spec: ModelSpec,
    incarnation: Incarnation,
    alive: &BTreeSet<ServerId>,
) -> Result<(), ErrorBody> {
    let candidates = suitable(state, alive, spec.durability());
    if candidates.is_empty() {
        return Err(nobody(&spec, state, alive));
    }
    let rooms: Vec<Room> = candidates.iter().map(|id| room(state, id)).collect();
    let sizes = partition_bytes(&spec);
    let Some(places) = place(&sizes, &rooms) else {
        return Err(does_not_fit(&spec, &sizes, &candidates, &rooms));
    };
    let holders: Vec<ServerId> = places
        .iter()
        .map(|&place| candidates[place as usize].clone())
        .collect();
    let assignment = Assignment::of(&holders, state.fresh_epoch());
    let (name, revision) = (spec.name.clone(), state.fresh_revision());
    let model =
        Model::new(spec, incarnation, Phase::Creating, revision, assignment).ok_or_else(|| {
            ErrorBody::new(ErrorCode::Internal, "a placement that contradicts itself")
        })?;
    state.models.insert(name, Arc::new(model));
    Ok(())
}

/// The servers that live and may hold a model of this durability: a logged one needs a data directory.
pub(super) fn suitable(
    state: &State,
    alive: &BTreeSet<ServerId>,
    durability: Durability,
) -> Vec<ServerId> {
    let may_hold = |id: &&ServerId| {
        let server = state.servers.get(*id);
        server.is_some_and(|s| !s.draining && (!durability.is_logged() || s.volume.is_some()))
    };
    alive.iter().filter(may_hold).cloned().collect()
}

/// What to say when no server may hold a model.
pub(super) fn nobody(spec: &ModelSpec, state: &State, alive: &BTreeSet<ServerId>) -> ErrorBody {
    if !alive.iter().any(|id| state.servers.contains_key(id)) {
        return ErrorBody::new(
            ErrorCode::NoServers,
            "no server is registered with this master; start one with: glint server --master URL",
        );
    }
    let stays = |id: &ServerId| state.servers.get(id).is_some_and(|s| !s.draining);
    if !alive.iter().any(stays) {
        return ErrorBody::new(
            ErrorCode::NoServers,
            "every server that lives is being drained, and takes nothing; start others, or have one back with: glint drain SERVER \
             --cancel",
        );
    }
    ErrorBody::new(
        ErrorCode::DoesNotFit,
        format!(
            "model '{}' has durability {}, and no live server has a data directory to keep it in; start servers with one \
             (glint server --data-dir DIR), or make the model with --durability memory",
            spec.name,
            spec.durability()
        ),
    )
}

pub(super) fn room(state: &State, server: &ServerId) -> Room {
    let placed = state.placed_bytes(server);
    let capacity = state.servers.get(server).map_or(0, |s| s.capacity_bytes);
    Room {
        placed,
        free: capacity.saturating_sub(placed),
    }
}

pub(super) fn does_not_fit(
    spec: &ModelSpec,
    sizes: &[u64],
    candidates: &[ServerId],
    rooms: &[Room],
) -> ErrorBody {
    const SHOWN: usize = 8;
    let sum: u64 = sizes.iter().fold(0, |sum, &s| sum.saturating_add(s));
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let free: u64 = rooms.iter().fold(0, |sum, r| sum.saturating_add(r.free));
    let mut each: Vec<String> = candidates
        .iter()
        .zip(rooms)
        .take(SHOWN)
        .map(|(id, room)| format!("{id}: {}", Size(room.free)))
        .collect();
    if candidates.len() > SHOWN {
        each.push("…".into());
    }
    let advice = if sum <= free {
        "use more partitions, so that each is smaller, or give the servers more memory (--memory)"
    } else {
        "add servers, give them more memory (--memory), or delete models"
    };
    let which = if spec.durability().is_logged() {
        "the live servers with a data directory"
    } else {
        "the live servers"
    };
    ErrorBody::new(
        ErrorCode::DoesNotFit,
        format!(
            "model '{}' needs {} ({sum} bytes) in partitions of up to {}, and {which} have {} free ({}); {advice}",
            spec.name,
            Size(sum),
            Size(largest),
            Size(free),
            each.join(", "),
        ),
    )
}

/// Makes a model live if every holder has confirmed under the boot that is registered now; whether it did. Holders that
/// are dead are not waited for: what they were to hold is lost.
pub(crate) fn make_live(
    state: &mut State,
    incarnation: Incarnation,
    confirmed: &BTreeMap<ServerId, Boot>,
) -> bool {
    let unfinished = state
        .model(incarnation.model)
        .filter(|m| m.incarnation == incarnation && m.phase != Phase::Live)
        .cloned();
    let Some(model) = unfinished else {
        return false;
    };
    let all = model.servers.iter().all(|id| {
        if !model.has_values_on(id) {
            return true;
        }
        let registered = state.servers.get(id).map(|s| s.boot);
        registered.is_some() && confirmed.get(id).copied() == registered
    });
    if all {
        let mut live = Model::clone(&model);
        live.phase = Phase::Live;
        live.renewed(state.fresh_revision());
        state.models.insert(live.spec.name.clone(), Arc::new(live));
    }
    all
}

fn creating(state: &State, incarnation: Incarnation) -> Option<Arc<Model>> {
    state
        .model(incarnation.model)
        .filter(|m| m.incarnation == incarnation && m.phase == Phase::Creating)
        .cloned()
}

/// Ends the making of a model that a server refused; whoever asked for it finds `failure`.
pub(crate) fn roll_back(state: &mut State, incarnation: Incarnation, failure: ErrorBody) {
    if let Some(model) = creating(state, incarnation) {
        state.models.remove(&model.spec.name);
        bury(state, &model, GoneReason::Deleted, Some(failure));
    }
}

/// Places a model that is being made anew, on servers that live: nobody knows it yet and it has no values, so nothing can
/// be lost. What the first choice of servers was told is undone by the generation.
pub(crate) fn place_anew(
    state: &mut State,
    incarnation: Incarnation,
    alive: &BTreeSet<ServerId>,
) -> Result<(), ErrorBody> {
    let Some(model) = creating(state, incarnation) else {
        return Ok(());
    };
    state.models.remove(&model.spec.name);
    let next = Incarnation {
        generation: model.next_generation(),
        ..incarnation
    };
    begin(state, model.spec.clone(), next, alive)?;
    bury(state, &model, GoneReason::Deleted, None);
    Ok(())
}

/// Deletes the model of this name, if an id is given only that one. Deleting what that id has named before is fine.
/// Returns what is no more.
pub(crate) fn delete(
    state: &mut State,
    name: &str,
    id: Option<ModelId>,
) -> Result<Incarnation, ErrorBody> {
    let unknown = |message: String| ErrorBody::new(ErrorCode::UnknownModel, message);
    match (state.models.get(name).cloned(), id) {
        (Some(model), id) if id.is_none_or(|id| id == model.incarnation.model) => {
            state.models.remove(name);
            bury(state, &model, GoneReason::Deleted, None);
            Ok(model.incarnation)
        }
        (_, Some(id)) => match state.tombstone(id) {
            Some(tombstone) => Ok(tombstone.incarnation),
            None => Err(unknown(format!(
                "there is no model '{name}' with id {id}; see what there is with: glint models"
            ))),
        },
        (_, None) => Err(unknown(no_model(name))),
    }
}

/// What to say of a name that no model has.
pub(crate) fn no_model(name: &str) -> String {
    format!("there is no model '{name}'; see what there is with: glint models")
}

/// Leaves a tombstone of a model that is out of the catalogue.
pub(super) fn bury(
    state: &mut State,
    model: &Model,
    reason: GoneReason,
    failure: Option<ErrorBody>,
) {
    let known = |id: &&ServerId| state.servers.contains_key(*id);
    state.tombstones.push_back(Tombstone {
        incarnation: model.incarnation,
        reason,
        awaited: model.servers.iter().filter(known).cloned().collect(),
        failure,
    });
    if state.tombstones.len() > MAX_TOMBSTONES {
        // The oldest that nobody waits for; if there is none, the oldest: who still holds it will report an orphan.
        let oldest = state
            .tombstones
            .iter()
            .position(|t| t.awaited.is_empty())
            .unwrap_or(0);
        state.tombstones.remove(oldest);
    }
    state.bury_the_dead();
}

/// Notes that a server has obeyed the orders to drop these.
pub(crate) fn dropped(state: &mut State, server: &ServerId, incarnations: &[Incarnation]) {
    for tombstone in &mut state.tombstones {
        if incarnations.contains(&tombstone.incarnation) {
            tombstone.awaited.remove(server);
        }
    }
}

/// Forgets a server that holds nothing.
pub(crate) fn forget(state: &mut State, server: &ServerId) {
    if !state.is_needed(server) {
        state.servers.remove(server);
        for tombstone in &mut state.tombstones {
            tombstone.awaited.remove(server);
        }
    }
}

#[cfg(test)]
#[path = "transition/tests.rs"]
mod tests;
