//! What a registration changes: which partitions a server still has, which are lost and why, and what it has that nobody
//! knows.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{
    Boot, Epoch, ErrorBody, ErrorCode, Incarnation, LossReason, ServerId,
    control::{CopyReport, LostCopy, Orders, Register},
    copies::CopyRole,
};
use glint_world::http::Url;

use super::{
    adoption,
    failover::Heirs,
    place,
    state::{KnownServer, Model, Phase, State},
};
use judge::{Judge, Judged, Told, Verdict};

/// Servers that a master knows at most.
pub(crate) const MAX_SERVERS: usize = 4096;
/// The longest name of a server, in bytes.
const MAX_ID_BYTES: usize = 256;

/// What came of a registration, to be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Models with how many of their partitions are lost from now on, and why.
    pub(crate) lost: Vec<(String, LossReason, usize)>,
    /// Models of durability `async` whose server's machine has stopped without warning: what was acknowledged in its last
    /// moments may be missing.
    pub(crate) shortened: Vec<String>,
    /// Partitions that other copies hold from now on, since the server came back.
    pub(crate) promoted: usize,
    /// Partitions that nobody serves until another copy of them is back.
    pub(crate) vacated: usize,
    /// Copies that no model of this master explains: kept by the server, and named in the log.
    pub(crate) orphans: BTreeSet<Incarnation>,
    /// Models of which the server has a later generation than this master knows: its state is an older copy.
    pub(crate) outdated: BTreeSet<String>,
    /// Models that were adopted and serve from now on.
    pub(crate) adopted: Vec<String>,
}

impl Findings {
    /// Tells of it in the log.
    pub(crate) fn tell(&self, server: &ServerId) {
        for (model, reason, partitions) in &self.lost {
            tracing::error!(
                %server, model, partitions, %reason,
                "a server came back without values that it held: they are lost; see glint model show {model}"
            );
        }
        for model in &self.shortened {
            tracing::warn!(
                %server, model,
                "a server's machine stopped without warning: pushes of its last moments may be missing, and clients that \
                 remember them are told"
            );
        }
        if self.promoted > 0 {
            tracing::warn!(%server, partitions = self.promoted, "a server has started again; other copies hold its partitions now");
        }
        if self.vacated > 0 {
            tracing::error!(
                %server, partitions = self.vacated,
                "a server came back without what it held, and no other copy that is in sync lives: these partitions wait for one"
            );
        }
        for model in &self.outdated {
            tracing::error!(
                %server, model,
                "a server has a later generation of a model than this master: the master's data directory is an older copy of what \
                 it was. What it knows is out of date; put the latest back, or take over what servers hold: glint master --adopt"
            );
        }
        for model in &self.adopted {
            tracing::info!(%server, model, "adopted: all partitions are found");
        }
        for orphan in &self.orphans {
            tracing::warn!(
                %server, model = %orphan,
                "orphan: a server has partitions that this master does not place on it; it keeps them unserved"
            );
        }
    }
}

/// Whether a text can name a server.
///
/// # Errors
/// `bad_request`, saying what can.
pub(crate) fn check_name(server: &ServerId) -> Result<(), ErrorBody> {
    let id = &server.0;
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!(
                "'{}' cannot name a server: use 1 to {MAX_ID_BYTES} ASCII characters without spaces",
                id.chars().take(80).collect::<String>()
            ),
        ));
    }
    Ok(())
}

/// Whether a start of a server may speak for it.
///
/// # Errors
/// `identity_in_use` when a later one has, or an admin has given it up.
pub(crate) fn check_start(state: &State, id: &ServerId, boot: Boot) -> Result<(), ErrorBody> {
    if state.is_superseded(id, boot) {
        return Err(ErrorBody::new(
            ErrorCode::IdentityInUse,
            format!(
                "this start of server {id} was given up: a later one has registered, or an admin has said that it is dead; \
                 start it anew, with a name that no other server has (--id)"
            ),
        ));
    }
    Ok(())
}

/// Whether a registration is one at all, and one for this master.
///
/// # Errors
/// `bad_request` for a name or URL that cannot be one and for a server that left its data directory behind, `identity_in_use` for a start that a later one has superseded,
/// `wrong_cluster` for a server that holds copies of another cluster.
pub(crate) fn check(state: &State, request: &Register) -> Result<(), ErrorBody> {
    let id = &request.server;
    check_name(id)?;
    if let Err(error) = request.url.parse::<Url>() {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!("server {id} cannot be reached: {error}"),
        ));
    }
    check_start(state, id, request.boot)?;
    check_volume(state, request)?;
    if let Some(adopting) = &state.adopting
        && !adopting.cluster_known
    {
        return adoption::check_first(request);
    }
    if let Some(cluster) = request.cluster
        && cluster != state.cluster
        && !request.copies.is_empty()
    {
        return Err(ErrorBody::new(
            ErrorCode::WrongCluster,
            format!(
                "server {id} holds {} partitions of cluster {cluster}, this master is of cluster {}; give the master its \
                 former data directory again, have an empty one take over what its servers hold (glint master --adopt), \
                 or start the server with an empty data directory (--data-dir)",
                request.copies.len(),
                state.cluster
            ),
        ));
    }
    Ok(())
}

/// A server that has a data directory and comes without one was started wrongly: what it holds is still there.
fn check_volume(state: &State, request: &Register) -> Result<(), ErrorBody> {
    let had = state.servers.get(&request.server);
    if request.volume.is_some() || had.is_none_or(|s| s.volume.is_none()) {
        return Ok(());
    }
    let kept = state
        .models
        .values()
        .find(|model| model.spec.durability().is_logged() && model.has_values_on(&request.server));
    let Some(model) = kept else {
        return Ok(());
    };
    Err(ErrorBody::new(
        ErrorCode::BadRequest,
        format!(
            "server {id} holds partitions of '{}' in its data directory, and was started without one; start it with --data-dir and \
             the directory that it had. If that is gone for good: glint server forget {id} --dead",
            model.spec.name,
            id = request.server
        ),
    ))
}

/// Enters a server as registered.
///
/// Each copy that it has, or had, is judged by its identity: see [`judge`]. Epochs rise where a holder restarted, or
/// reports one above the map's. Who is promoted in its place is one of `living`.
///
/// # Errors
/// Those of [`check`], and `busy` when there are too many servers.
pub(crate) fn register(
    state: &mut State,
    request: &Register,
    living: &BTreeSet<ServerId>,
) -> Result<Findings, ErrorBody> {
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
    // Who follows refuses lower ones than its holder's, also when that one has forgotten it.
    let heard = request.copies.iter().map(|c| c.epoch.max(c.follows));
    if let Some(highest) = heard.max() {
        state.epoch = state.epoch.max(highest);
    }
    let restarted = before.as_ref().is_none_or(|s| s.boot != request.boot);
    let moved = before.as_ref().is_some_and(|s| s.url != request.url);
    let returned = restarted && before.as_ref().is_some_and(|s| s.returns);
    if let Some(before) = &before
        && restarted
    {
        state.supersede(&request.server, before.boot);
    }
    state.dead.remove(&request.server);
    state.servers.insert(
        request.server.clone(),
        KnownServer {
            url: request.url.clone(),
            boot: request.boot,
            capacity_bytes: request.capacity_bytes,
            volume: request.volume,
            os_boot: request.os_boot,
            labels: request.labels.clone(),
            told: before
                .as_ref()
                .and_then(|s| place::still_told(s, &request.labels)),
            // A server that is to go is, whichever start of it; one that only wanted to end is back.
            draining: before.as_ref().is_some_and(|s| s.draining) && !returned,
            returns: before.as_ref().is_some_and(|s| s.returns) && !returned,
        },
    );

    let mut findings = Findings::default();
    let came = Arrival {
        before: before.as_ref(),
        request,
        restarted,
        moved,
        reported: &reported,
    };
    judge_all(state, &came, living, &mut findings);
    if state.adopting.is_some() {
        findings.adopted = adoption::take(state, request);
    }
    if request.cluster == Some(state.cluster) && request.term > state.term {
        // Only a master that was set back hears of a term above its own: its orders would be refused as those of an
        // earlier start.
        state.term = request.term.next();
    } else {
        let_go(state, request, &reported);
    }
    explain_the_rest(state, request, &reported, restarted, &mut findings);
    Ok(findings)
}

type Reported = BTreeMap<Incarnation, BTreeMap<u32, CopyReport>>;

/// A registration, and what is new of its server.
struct Arrival<'a> {
    before: Option<&'a KnownServer>,
    request: &'a Register,
    restarted: bool,
    moved: bool,
    reported: &'a Reported,
}

/// Judges the copies of all models that are, or were, on a registering server.
fn judge_all(
    state: &mut State,
    came: &Arrival<'_>,
    living: &BTreeSet<ServerId>,
    findings: &mut Findings,
) {
    let request = came.request;
    let mut heirs = Heirs::among(living);
    // One for all that this registration changes: it names this event.
    let mut epoch: Option<Epoch> = None;
    for name in state.models.keys().cloned().collect::<Vec<_>>() {
        let Some(model) = state.models.get(&name).cloned() else {
            continue;
        };
        let Some(index) = model.index_of(&request.server) else {
            continue;
        };
        let of_model = |lost: &&LostCopy| lost.incarnation == model.incarnation;
        let lost = request.lost.iter().filter(of_model);
        // Given out only if something changes.
        let revision = state.revision.next();
        let mut judged = Judged {
            judge: Judge {
                durability: model.spec.durability(),
                before: came.before,
                request,
                restarted: came.restarted,
            },
            model: Model::clone(&model),
            index,
            told: Told {
                copies: came.reported.get(&model.incarnation),
                lost: lost.map(|lost| lost.partition).collect(),
            },
            heirs: &mut heirs,
            fresh: &mut || *epoch.get_or_insert_with(|| state.fresh_epoch()),
            revision,
            verdict: Verdict::default(),
        };
        if model.phase == Phase::Live {
            judged.run();
        }
        let Judged {
            judge,
            model: mut changed,
            verdict,
            ..
        } = judged;
        if !verdict.changed && !came.moved {
            continue;
        }
        changed.renewed(state.fresh_revision());
        if judge.is_shortened() && changed.has_values_on(&request.server) {
            findings.shortened.push(name.clone());
        }
        let lost = verdict.lost.into_iter();
        findings
            .lost
            .extend(lost.map(|(why, n)| (name.clone(), why, n)));
        findings.promoted += verdict.promoted;
        findings.vacated += verdict.vacated;
        state.models.insert(name, Arc::new(changed));
    }
}

fn by_incarnation(request: &Register) -> Reported {
    let mut reported = Reported::new();
    for copy in &request.copies {
        reported
            .entry(copy.incarnation)
            .or_default()
            .insert(copy.partition, *copy);
    }
    reported
}

/// Copies that nobody counts on any more, of values that another server holds: let go of as this one died, or struck while it was
/// not heard. The holder has them dropped, as any that go. What the master may not know better is kept: a copy of an epoch that it has
/// never heard of, and one of values that are lost.
fn let_go(state: &mut State, request: &Register, reported: &Reported) {
    if state.adopting.is_some() {
        return;
    }
    for (&incarnation, copies) in reported {
        let Some(model) = state.model(incarnation.model).cloned() else {
            continue;
        };
        if model.incarnation != incarnation || model.phase != Phase::Live {
            continue;
        }
        let index = model.index_of(&request.server);
        let is_left = |copy: &&CopyReport| {
            let partition = copy.partition as usize;
            let placed = index.is_some_and(|index| {
                model.holders.get(partition) == Some(&index)
                    || model.role(copy.partition, index).is_some()
            });
            let is_lost = model.lost.contains_key(&copy.partition);
            let epoch = model.epochs.get(partition);
            !placed && !is_lost && epoch.is_some_and(|epoch| copy.epoch <= *epoch)
        };
        let left: Vec<u32> = copies
            .values()
            .filter(is_left)
            .map(|c| c.partition)
            .collect();
        if left.is_empty() {
            continue;
        }
        let mut changed = Model::clone(&model);
        let index = changed.intern(&request.server);
        for &partition in &left {
            changed.set_role(partition, index, Some(CopyRole::Former));
        }
        changed.renewed(state.fresh_revision());
        for partition in left {
            changed.revised(partition, state.revision);
        }
        state
            .models
            .insert(model.spec.name.clone(), Arc::new(changed));
    }
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
        let known = state.model(incarnation.model);
        let name =
            known.filter(|m| m.incarnation.generation.max(m.reported) < incarnation.generation);
        if let Some(name) = name.map(|m| m.spec.name.clone())
            && let Some(model) = state.models.get_mut(&name)
        {
            Arc::make_mut(model).reported = incarnation.generation;
            findings.outdated.insert(name);
        }
        let placed_here = state.model(incarnation.model).is_some_and(|model| {
            model.incarnation == incarnation
                && model.index_of(&request.server).is_some_and(|index| {
                    partitions.keys().all(|&p| {
                        model.holders.get(p as usize) == Some(&index)
                            || model.role(p, index).is_some()
                    })
                })
        });
        // What is being adopted has a list of orphans of its own.
        let adopting = state.adopting.as_ref();
        let placed_here =
            placed_here || adopting.is_some_and(|a| a.models.contains_key(&incarnation));
        if !placed_here && !state.tombstones.iter().any(|t| t.covers(incarnation)) {
            findings.orphans.insert(incarnation);
        }
    }
}

/// Everything that a server is to hold and to drop, for the answer to its registration. Models that are being made are
/// left out: each is ordered by itself, so that a refusal names it.
pub(crate) fn orders(state: &State, server: &ServerId, boot: Boot) -> Orders {
    Orders {
        cluster: state.cluster,
        term: state.term,
        boot,
        hold: state
            .models
            .values()
            .filter(|m| m.phase == Phase::Live)
            .filter_map(|m| m.hold(server, state))
            .collect(),
        drop: super::orders::drops(state, server),
    }
}

#[cfg(test)]
#[path = "registration/tests.rs"]
mod tests;
