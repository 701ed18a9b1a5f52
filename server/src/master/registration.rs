//! What a registration changes: which partitions a server still has, which are lost, and what it has that nobody knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Incarnation,
    control::{Orders, Register},
};
use glint_world::http::Url;

use super::state::{KnownServer, Model, Phase, State};

/// Servers that a master knows at most.
pub(crate) const MAX_SERVERS: usize = 4096;
/// The longest name of a server, in bytes.
const MAX_ID_BYTES: usize = 256;

/// What came of a registration, to be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Models with how many of their partitions are lost from now on.
    pub(crate) lost: Vec<(String, usize)>,
    /// Copies that no model of this master explains: kept by the server, and named in the log.
    pub(crate) orphans: BTreeSet<Incarnation>,
}

/// Whether a registration is one at all.
///
/// # Errors
/// `bad_request` for a name or URL that cannot be one, `wrong_cluster` for a server that holds copies of another cluster.
pub(crate) fn check(state: &State, request: &Register) -> Result<(), ErrorBody> {
    let id = &request.server.0;
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!(
                "'{}' cannot name a server: use 1 to {MAX_ID_BYTES} ASCII characters without spaces",
                id.chars().take(80).collect::<String>()
            ),
        ));
    }
    if let Err(error) = request.url.parse::<Url>() {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!("server {id} cannot be reached: {error}"),
        ));
    }
    if let Some(cluster) = request.cluster
        && cluster != state.cluster
        && !request.copies.is_empty()
    {
        return Err(ErrorBody::new(
            ErrorCode::WrongCluster,
            format!(
                "server {id} holds {} partitions of cluster {cluster}, this master is of cluster {}; \
                 give the master its former data directory again, or start the server empty",
                request.copies.len(),
                state.cluster
            ),
        ));
    }
    Ok(())
}

/// Enters a server as registered.
///
/// A partition that the map says it holds and that it does not report is lost (unless its model is still being made).
/// Epochs rise where the server restarted, or reports one above the map's.
///
/// # Errors
/// Those of [`check`], and `busy` when there are too many servers.
pub(crate) fn register(state: &mut State, request: &Register) -> Result<Findings, ErrorBody> {
    check(state, request)?;
    let before = state.servers.get(&request.server).cloned();
    if before.is_none() && state.servers.len() >= MAX_SERVERS {
        return Err(ErrorBody::new(
            ErrorCode::Busy,
            format!(
                "the master knows {MAX_SERVERS} servers, the most that it can; those that hold nothing are forgotten after a while"
            ),
        ));
    }
    let reported = by_incarnation(request);
    if let Some(highest) = request.copies.iter().map(|c| c.epoch).max() {
        state.epoch = state.epoch.max(highest);
    }
    let restarted = before.as_ref().is_none_or(|s| s.boot != request.boot);
    let moved = before.as_ref().is_some_and(|s| s.url != request.url);
    state.servers.insert(
        request.server.clone(),
        KnownServer {
            url: request.url.clone(),
            boot: request.boot,
            capacity_bytes: request.capacity_bytes,
        },
    );

    let mut findings = Findings::default();
    // One for all that this registration changes: it names this event.
    let mut fresh: Option<Epoch> = None;
    for name in state.models.keys().cloned().collect::<Vec<_>>() {
        let Some(model) = state.models.get(&name).cloned() else {
            continue;
        };
        let Some(index) = model.index_of(&request.server) else {
            continue;
        };
        let copies = reported.get(&model.incarnation);
        let changes = match model.phase {
            Phase::Creating => Vec::new(),
            Phase::Live => judge(&model, index, copies, restarted),
        };
        if changes.is_empty() && !moved {
            continue;
        }
        let mut changed = Model::clone(&model);
        let mut lost = 0;
        for (partition, is_lost) in changes {
            let epoch = *fresh.get_or_insert_with(|| state.fresh_epoch());
            changed.epochs[partition as usize] = epoch;
            if is_lost && changed.lost.insert(partition) {
                lost += 1;
            }
        }
        changed.revision = state.fresh_revision();
        if lost > 0 {
            findings.lost.push((name.clone(), lost));
        }
        state.models.insert(name, Arc::new(changed));
    }
    explain_the_rest(state, request, &reported, restarted, &mut findings);
    Ok(findings)
}

type Reported = BTreeMap<Incarnation, BTreeMap<u32, Epoch>>;

fn by_incarnation(request: &Register) -> Reported {
    let mut reported = Reported::new();
    for copy in &request.copies {
        reported
            .entry(copy.incarnation)
            .or_default()
            .insert(copy.partition, copy.epoch);
    }
    reported
}

/// The partitions of a live model on a server whose epoch must rise, and whether their values are lost.
fn judge(
    model: &Model,
    index: u32,
    copies: Option<&BTreeMap<u32, Epoch>>,
    restarted: bool,
) -> Vec<(u32, bool)> {
    model
        .held_by(index)
        .filter_map(|partition| {
            let copy = copies.and_then(|c| c.get(&partition));
            let known_lost = model.lost.contains(&partition);
            let lost = copy.is_none() && !known_lost;
            let above = copy.is_some_and(|&epoch| epoch > model.epochs[partition as usize]);
            // What is lost already stays so, at the epoch at which it was found to be.
            (lost || above || (restarted && !known_lost)).then_some((partition, lost))
        })
        .collect()
}

/// Copies that the catalogue does not place on this server: to be dropped if there is a tombstone, else orphans.
fn explain_the_rest(
    state: &mut State,
    request: &Register,
    reported: &Reported,
    restarted: bool,
    findings: &mut Findings,
) {
    for tombstone in &mut state.tombstones {
        let has = reported.keys().any(|&i| tombstone.covers(i));
        if has {
            tombstone.awaited.insert(request.server.clone());
        } else if restarted {
            tombstone.awaited.remove(&request.server);
        }
    }
    for (&incarnation, partitions) in reported {
        let placed_here = state.model(incarnation.model).is_some_and(|model| {
            model.incarnation == incarnation
                && model.index_of(&request.server).is_some_and(|index| {
                    partitions
                        .keys()
                        .all(|&p| model.holders.get(p as usize) == Some(&index))
                })
        });
        if !placed_here && !state.tombstones.iter().any(|t| t.covers(incarnation)) {
            findings.orphans.insert(incarnation);
        }
    }
}

/// Everything that a server is to hold and to drop, for the answer to its registration. Models that are being made are
/// left out: each is ordered by itself, so that a refusal names it.
pub(crate) fn orders(state: &State, request: &Register) -> Orders {
    Orders {
        cluster: state.cluster,
        term: state.term,
        boot: request.boot,
        hold: state
            .models
            .values()
            .filter(|m| m.phase == Phase::Live)
            .filter_map(|m| m.hold(&request.server))
            .collect(),
        drop: super::orders::drops(state, &request.server),
    }
}

#[cfg(test)]
#[path = "registration/tests.rs"]
mod tests;
