//! A move that an admin asks for: one copy of one partition goes to a server of their choice. Pure, on [`State`].

use glint_protocol::{
    ErrorBody, ErrorCode,
    admin::{MoveCopy, PlannedMove},
    copies::CopyRole,
};

use super::{
    plan::Fleet,
    size::Size,
    state::{Model, Phase, State},
    step::{self, Act, Step},
    transition::{no_model, room},
};

fn refused(why: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::CannotMove, why)
}

/// Begins to move a copy of a partition: the holder's, where none is named. Asking for the same move again is fine.
///
/// # Errors
/// `unknown_model`, `unknown_server`; `bad` for a partition that there is none of; `cannot_move` when nothing of it can go
/// there, which says why.
pub(crate) fn begin(
    state: &mut State,
    model: &str,
    partition: u32,
    request: &MoveCopy,
    fleet: &Fleet,
) -> Result<PlannedMove, ErrorBody> {
    let found = state.models.get(model);
    let found = found.ok_or_else(|| ErrorBody::new(ErrorCode::UnknownModel, no_model(model)))?;
    let count = found.spec.partition_count;
    if partition >= count {
        return Err(ErrorBody::new(
            ErrorCode::Bad,
            format!(
                "model '{model}' has partitions 0 to {}, and no {partition}",
                count - 1
            ),
        ));
    }
    let from = request.from.as_ref();
    let from = from.unwrap_or_else(|| found.holder(partition)).clone();
    let planned = PlannedMove {
        model: model.to_owned(),
        partition,
        from: from.clone(),
        to: request.to.clone(),
        bytes: found.sizes[partition as usize],
    };
    for server in [&from, &request.to] {
        if !state.servers.contains_key(server) {
            return Err(ErrorBody::new(
                ErrorCode::UnknownServer,
                format!("there is no server {server}; see what there is with: glint status"),
            ));
        }
    }
    let under_way = found.copies_of(partition).and_then(|c| c.moving);
    if let Some(moving) = under_way {
        let id = |server: u32| &found.servers[server as usize];
        if (id(moving.from), id(moving.to)) == (&from, &request.to) {
            return Ok(planned);
        }
        return Err(refused(format!(
            "a copy of partition {partition} of model '{model}' is on its way from {} to {} already; wait until it is there",
            id(moving.from),
            id(moving.to)
        )));
    }
    check(state, found, &planned, fleet)?;
    let step = Step {
        model: model.to_owned(),
        partition,
        act: Act::Move {
            from,
            to: request.to.clone(),
        },
    };
    step::take(state, &[step]);
    Ok(planned)
}

/// Whether the copy is there and can go there now.
fn check(
    state: &State,
    model: &Model,
    planned: &PlannedMove,
    fleet: &Fleet,
) -> Result<(), ErrorBody> {
    let PlannedMove {
        partition,
        from,
        to,
        bytes,
        ..
    } = planned;
    let what = format!("partition {partition} of model '{}'", model.spec.name);
    if from == to {
        return Err(refused(format!(
            "the copy of {what} is on server {to} already; name another server"
        )));
    }
    if model.phase != Phase::Live {
        return Err(refused(format!(
            "{what} is still being made; try again when it serves"
        )));
    }
    if model.lost.contains_key(partition) {
        return Err(refused(format!(
            "the values of {what} are lost, and there is nothing to move; bring the model back with: glint model reset {}",
            model.spec.name
        )));
    }
    let role = |server| {
        let index = model.index_of(server)?;
        if model.holders[*partition as usize] == index {
            return Some(CopyRole::InSync);
        }
        model.role(*partition, index)
    };
    if role(from) != Some(CopyRole::InSync) {
        return Err(refused(format!(
            "server {from} has no copy of {what} that is in sync; its holder is {}",
            model.holder(*partition)
        )));
    }
    if let Some(role) = role(to) {
        let has = match role {
            CopyRole::Former => "is still letting go of a copy of it; try again in a moment",
            _ => "has a copy of it already, and copies are on different servers",
        };
        return Err(refused(format!("server {to} cannot take {what}: it {has}")));
    }
    let target = &state.servers[to];
    let cannot = if target.draining {
        "it is being drained; end that with: glint drain --cancel".to_owned()
    } else if !fleet.alive.contains(to) {
        "it does not answer".to_owned()
    } else if model.spec.durability().is_logged() && target.volume.is_none() {
        "it has no data directory (--data-dir) to keep it in".to_owned()
    } else if room(state, to).free < *bytes {
        let free = room(state, to).free;
        format!(
            "it has {} free, and the partition {}",
            Size(free),
            Size(*bytes)
        )
    } else if !is_held(model, *partition, fleet) {
        format!(
            "there is nobody to send it: its holder {} does not answer",
            model.holder(*partition)
        )
    } else {
        return Ok(());
    };
    Err(refused(format!("server {to} cannot take {what}: {cannot}")))
}

fn is_held(model: &Model, partition: u32, fleet: &Fleet) -> bool {
    !model.is_vacant(partition) && fleet.alive.contains(model.holder(partition))
}

#[cfg(test)]
#[path = "by_hand/tests.rs"]
mod tests;
