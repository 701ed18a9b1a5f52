//! Draining: an admin, or the operator, asks for a server to be emptied. Pure functions on [`State`]; [`super::plan`] does it.

use glint_protocol::{
    ErrorBody, ErrorCode, ServerId,
    admin::{DrainState, Draining},
};

use super::{
    placement::{self, Standing},
    plan::Fleet,
    state::{KnownServer, Model, State},
    survey::Survey,
};

/// Begins to drain a server; draining it again is fine. One that asks for it itself, to end, `returns`: what comes of it when it
/// starts again is as if it had never been drained, unless an admin has asked for it too.
///
/// # Errors
/// `unknown_server`; `cannot_drain` when it is the last that lives, or the rest cannot hold what it has; when it is being
/// drained already, only when it is not empty and nobody is left who could take anything.
pub(crate) fn begin(
    state: &mut State,
    server: &ServerId,
    fleet: &Fleet,
    returns: bool,
) -> Result<Draining, ErrorBody> {
    let was = known(state, server)?.clone();
    if !was.draining {
        check(state, server, fleet)?;
    } else if state.is_needed(server) && rest(&Survey::of(state, fleet), server, fleet) == 0 {
        return Err(refused(server, &placement::CannotDrain::LastServer));
    }
    let now = known(state, server)?;
    now.draining = true;
    now.returns = returns && (!was.draining || was.returns);
    Ok(progress(state, server))
}

/// Begins to drain several servers, or none: the caller throws the state away when this fails.
///
/// # Errors
/// Those of [`begin`].
pub(crate) fn begin_all(
    state: &mut State,
    servers: &[ServerId],
    fleet: &Fleet,
) -> Result<Vec<Draining>, ErrorBody> {
    for server in servers {
        let now = known(state, server)?;
        now.draining = true;
        // It is an admin who asks.
        now.returns = false;
    }
    for server in servers {
        check(state, server, fleet)?;
    }
    Ok(servers.iter().map(|id| progress(state, id)).collect())
}

/// Ends the draining of a server, whatever is left on it; moves off it are called off.
///
/// # Errors
/// `unknown_server`.
pub(crate) fn cancel(state: &mut State, server: &ServerId) -> Result<Draining, ErrorBody> {
    known(state, server)?.returns = false;
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

/// A server that the master knows.
///
/// # Errors
/// `unknown_server`.
pub(crate) fn known<'a>(
    state: &'a mut State,
    server: &ServerId,
) -> Result<&'a mut KnownServer, ErrorBody> {
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

/// How many servers live and stay when one goes.
fn rest(survey: &Survey<'_>, server: &ServerId, fleet: &Fleet) -> usize {
    let stays = |id: &ServerId, at: usize| {
        let lives = survey.servers[at].standing == Standing::Live;
        id != server && lives && fleet.alive.contains(id)
    };
    let all = survey.ids.iter().enumerate();
    all.filter(|&(at, id)| stays(id, at)).count()
}

fn refused(server: &ServerId, why: &placement::CannotDrain) -> ErrorBody {
    let text = format!("server {server} cannot be drained: {why}");
    ErrorBody::new(ErrorCode::CannotDrain, text)
}

/// Whether the rest can hold what is on a server, and on those that are drained already.
fn check(state: &State, server: &ServerId, fleet: &Fleet) -> Result<(), ErrorBody> {
    let survey = Survey::of(state, fleet);
    let Some(number) = survey.ids.iter().position(|id| *id == server) else {
        return Ok(());
    };
    if rest(&survey, server, fleet) == 0 {
        return Err(refused(server, &placement::CannotDrain::LastServer));
    }
    match placement::drain(&survey.servers, &survey.partitions, number as u32) {
        Ok(_) => Ok(()),
        Err(why) => Err(refused(server, &why)),
    }
}

#[cfg(test)]
#[path = "drain/tests.rs"]
mod tests;
