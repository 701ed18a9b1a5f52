//! Adoption: a master that has lost its state rebuilds catalogue and map from what servers report (`glint master --adopt`).
//! Pure functions on [`State`].
//!
//! The first server with partitions says which cluster this is. A server's word counts once it has heard this master's term,
//! which is far above that of the master before: from then on no late order of that one changes what it has. Of each partition
//! the copy is taken that has everything for certain: see [`found`]. A model serves as soon as there is one of each of its
//! partitions whose holder lives. Whether another server will come with more, only an admin knows: until they say so (`glint adopt --finish`),
//! nothing is made, and what is missing is waited for; from then on it is lost.

mod found;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Incarnation, LossReason, ModelSpec, ServerId, Term,
    admin::{AdoptedModel, Adoption, Uncertain},
    control::Register,
    copies::CopyRole,
};

use super::{
    copies::{Copies, Place},
    state::{Assignment, Model, Phase, State},
    transition::MAX_MODELS,
};
pub(crate) use found::{Found, FoundCopy};

/// Orphans that are named; of more only the number would help, and the servers' logs have them all.
const MAX_ORPHANS: usize = 1024;
/// How far above what servers report terms and epochs begin: the master that is gone may have given out a few that nobody
/// who has come has heard of.
const AHEAD: u64 = 1 << 20;

/// What has been reported so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adopting {
    /// Whether the cluster's id is that of the servers, not a new one.
    pub(crate) cluster_known: bool,
    /// Servers whose word counts.
    pub(crate) servers: BTreeSet<ServerId>,
    /// Models of which partitions are missing, or that another of their name stands before.
    pub(crate) models: BTreeMap<Incarnation, Found>,
    /// Models that serve already.
    pub(crate) live: BTreeSet<Incarnation>,
    /// What is not taken, and why.
    pub(crate) orphans: BTreeSet<String>,
}

/// Whether the first registrations may be taken.
///
/// # Errors
/// `retry` for a server that cannot say which cluster this is.
pub(crate) fn check_first(request: &Register) -> Result<(), ErrorBody> {
    if request.cluster.is_some() && has_anything(request) {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::Retry,
        format!(
            "the master adopts what servers hold, and waits for the first that holds anything; server {} holds nothing: it \
             is taken after that, or once the adoption is ended with: glint adopt --finish",
            request.server
        ),
    ))
}

/// Why nothing can be made now.
pub(crate) fn refuse_creation(name: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Retry,
        format!(
            "model '{name}' is not made while the master adopts what servers hold: one of them may have a model of that name; \
             when all servers have come, end it with: glint adopt --finish"
        ),
    )
}

/// What to say of a model that is not there, or not whole, yet.
pub(crate) fn not_yet(adopting: &Adopting, name: &str) -> ErrorBody {
    let found = adopting
        .models
        .values()
        .filter(|f| f.spec.name == name)
        .max_by_key(|f| f.rank());
    let what = match found {
        Some(found) => format!(
            "{} of its {} partitions have been found",
            found.certain_count(),
            found.spec.partition_count
        ),
        None => "no server has reported it so far".to_owned(),
    };
    ErrorBody::new(
        ErrorCode::Retry,
        format!(
            "the master adopts what servers hold, and of model '{name}' {what}; start the servers that hold the rest, or give \
             it up with: glint adopt --finish"
        ),
    )
}

/// Whether a server has heard that this is its master: what it reported before may be changed by a late order of the one before,
/// and may itself come late. That holds of one that reports nothing, too: it may have been given everything since.
pub(crate) fn knows(state: &State, request: &Register) -> bool {
    request.term == state.term
}

/// Whether a server has partitions, though their values be lost.
fn has_anything(request: &Register) -> bool {
    !(request.copies.is_empty() && request.lost.is_empty())
}

/// Takes what a server reports; the names of the models that serve from now on. The server is registered already.
pub(crate) fn take(state: &mut State, request: &Register) -> Vec<String> {
    let Some(mut adopting) = state.adopting.take() else {
        return Vec::new();
    };
    let now = Arc::make_mut(&mut adopting);
    if let (false, Some(cluster)) = (now.cluster_known, request.cluster) {
        now.cluster_known = true;
        state.cluster = cluster;
        state.term = Term(state.term.max(request.term).0.saturating_add(AHEAD));
        state.epoch = Epoch(state.epoch.0.saturating_add(AHEAD));
    }
    // Whatever it said before, this is what it has.
    for found in now.models.values_mut() {
        found.forget(&request.server);
    }
    now.models.retain(|_, found| !found.is_empty());
    if !knows(state, request) {
        now.servers.remove(&request.server);
        state.adopting = Some(adopting);
        return Vec::new();
    }
    now.servers.insert(request.server.clone());
    for copy in &request.copies {
        let incarnation = copy.incarnation;
        if state.tombstones.iter().any(|t| t.covers(incarnation)) {
            continue;
        }
        if let Some(live) = state.model(incarnation.model) {
            let is_holder = live.incarnation == incarnation
                && live
                    .holders
                    .get(copy.partition as usize)
                    .is_some_and(|&h| live.servers[h as usize] == request.server);
            if !is_holder {
                let why = format!(
                    "another copy, or a later generation, of '{}' serves",
                    live.spec.name
                );
                now.orphan(incarnation, &request.server, &why);
            }
            continue;
        }
        let found = FoundCopy {
            server: request.server.clone(),
            epoch: copy.epoch,
            last: (copy.last_epoch, copy.position),
            follows: copy.follows,
            with: request
                .holds
                .iter()
                .find(|held| (held.incarnation, held.partition) == (incarnation, copy.partition))
                .map(|held| held.with.clone()),
        };
        if let Some(model) = now.partition_of(request, incarnation, copy.partition) {
            model.enter(copy.partition, found);
        }
    }
    // Of a model of which only that is known, it is known still.
    for lost in &request.lost {
        let is_known = state.model(lost.incarnation.model).is_some();
        let deleted = state.tombstones.iter().any(|t| t.covers(lost.incarnation));
        if !is_known
            && !deleted
            && let Some(model) = now.partition_of(request, lost.incarnation, lost.partition)
        {
            model.lost.insert(lost.partition, request.server.clone());
        }
    }
    now.models.retain(|_, found| !found.is_empty());
    let mut live = Vec::new();
    while let Some((incarnation, found)) = now.next_complete(state) {
        match make(state, incarnation, &found, Uncertain::Refuse) {
            Ok(rest) => {
                now.live.insert(incarnation);
                now.not_taken(incarnation, rest);
                live.push(found.spec.name.clone());
            }
            Err(why) => now.orphan(incarnation, &request.server, &why),
        }
    }
    state.adopting = Some(adopting);
    live
}

impl Adopting {
    fn orphan(&mut self, incarnation: Incarnation, server: &ServerId, why: &str) {
        if self.orphans.len() < MAX_ORPHANS {
            self.orphans
                .insert(format!("{incarnation} on {server}: {why}"));
        }
    }

    fn not_taken(&mut self, incarnation: Incarnation, rest: Vec<(u32, ServerId)>) {
        for (partition, server) in rest {
            let why = format!("another copy of partition {partition} is taken");
            self.orphan(incarnation, &server, &why);
        }
    }

    /// The model of a partition that a server reports; none if the report does not count.
    fn partition_of(
        &mut self,
        request: &Register,
        incarnation: Incarnation,
        partition: u32,
    ) -> Option<&mut Found> {
        let generations = Incarnation {
            generation: 0,
            ..incarnation
        }..=Incarnation {
            generation: u32::MAX,
            ..incarnation
        };
        let newest = self.models.range(generations.clone()).next_back();
        if newest.is_some_and(|(i, _)| i.generation > incarnation.generation) {
            let why = "a later generation of the model was reported";
            self.orphan(incarnation, &request.server, why);
            return None;
        }
        let older: Vec<Incarnation> = self
            .models
            .range(generations)
            .map(|(i, _)| *i)
            .filter(|i| i.generation < incarnation.generation)
            .collect();
        for older in older {
            self.models.remove(&older);
            let why = "a later generation of the model was reported";
            self.orphan(older, &request.server, why);
        }
        if !self.models.contains_key(&incarnation) {
            let spec = request.models.iter().find(|m| m.incarnation == incarnation);
            let Some(held) = spec.filter(|m| m.spec.validate().is_ok()) else {
                let why = "the server does not say what the model is";
                self.orphan(incarnation, &request.server, why);
                return None;
            };
            if self.models.len() + self.live.len() >= MAX_MODELS {
                self.orphan(incarnation, &request.server, "there are too many models");
                return None;
            }
            self.models
                .insert(incarnation, Found::of(held.spec.clone()));
        }
        let spec = &self.models.get(&incarnation)?.spec;
        if partition >= spec.partition_count {
            let why = format!("partition {partition} is not one of '{}'", spec.name);
            self.orphan(incarnation, &request.server, &why);
            return None;
        }
        self.models.get_mut(&incarnation)
    }

    /// Takes out a model that may serve: it is whole, and no later one of its name has been reported.
    fn next_complete(&mut self, state: &State) -> Option<(Incarnation, Found)> {
        let incarnation = self.models.iter().find_map(|(&incarnation, found)| {
            let first = found.is_complete()
                && !state.models.contains_key(&found.spec.name)
                && self.leads(incarnation, found);
            first.then_some(incarnation)
        })?;
        Some((incarnation, self.models.remove(&incarnation)?))
    }

    fn leads(&self, incarnation: Incarnation, found: &Found) -> bool {
        let rivals = self
            .models
            .iter()
            .filter(|(i, other)| **i != incarnation && other.spec.name == found.spec.name);
        rivals
            .map(|(i, other)| (other.rank(), *i))
            .all(|rival| rival < (found.rank(), incarnation))
    }

    /// How far it is, for people and programs.
    pub(crate) fn summary(&self, state: &State) -> Adoption {
        let waiting = self
            .models
            .iter()
            .map(|(&incarnation, found)| AdoptedModel {
                name: found.spec.name.clone(),
                incarnation,
                partitions: found.spec.partition_count,
                found: found.certain_count(),
                uncertain: found.uncertain().len() as u32,
                live: false,
            });
        let live = self.live.iter().filter_map(|i| {
            let model = state.model(i.model)?;
            Some(AdoptedModel {
                name: model.spec.name.clone(),
                incarnation: model.incarnation,
                partitions: model.spec.partition_count,
                found: model.spec.partition_count - model.lost.len() as u32,
                uncertain: 0,
                live: true,
            })
        });
        let mut models: Vec<AdoptedModel> = waiting.chain(live).collect();
        models.sort_by(|a, b| (&a.name, a.incarnation).cmp(&(&b.name, b.incarnation)));
        Adoption {
            cluster_known: self.cluster_known,
            servers: self.servers.iter().cloned().collect(),
            models,
            orphans: self.orphans.iter().cloned().collect(),
        }
    }
}

/// Enters a model as live, at a fresh epoch; what was not found of it is lost. What is not taken of it.
fn make(
    state: &mut State,
    incarnation: Incarnation,
    found: &Found,
    uncertain: Uncertain,
) -> Result<Vec<(u32, ServerId)>, String> {
    let spec = found.spec.clone();
    let count = spec.partition_count;
    let chosen: Vec<Option<&FoundCopy>> = (0..count)
        .map(|p| {
            let certain = found.certain_in_the_end(p);
            certain.or_else(|| found.latest(p).filter(|_| uncertain == Uncertain::Take))
        })
        .collect();
    let all = found.copies.values().flatten();
    let all = all.map(|copy| &copy.server).chain(found.lost.values());
    let servers: BTreeSet<ServerId> = all.cloned().collect();
    let servers: Vec<ServerId> = servers.into_iter().collect();
    let place = |id: &ServerId| servers.binary_search(id).unwrap_or(0) as u32;
    // What nobody has is looked for where it is known to be lost, or at the first: it answers `lost`.
    let holders: Vec<u32> = (0..count)
        .zip(&chosen)
        .map(|(partition, copy)| {
            let server = copy.map(|copy| &copy.server);
            server.or(found.lost.get(&partition)).map_or(0, place)
        })
        .collect();
    let (epoch, revision) = (state.fresh_epoch(), state.fresh_revision());
    let (mut copies, mut rest) = (BTreeMap::new(), Vec::new());
    for (partition, copy) in (0..count).zip(&chosen) {
        let others = found.of_partition(partition).iter();
        let mut others: Vec<&ServerId> = others.map(|c| &c.server).collect();
        if let Some(copy) = copy {
            others.retain(|id| **id != copy.server);
            let again = again(&spec, &mut others, place);
            if !again.is_empty() {
                let configured = Copies {
                    revision,
                    places: again,
                    ..Copies::default()
                };
                copies.insert(partition, configured);
            }
        }
        rest.extend(others.into_iter().map(|id| (partition, id.clone())));
    }
    let assignment = Assignment {
        holders,
        epochs: vec![epoch; count as usize],
        lost: (0..count)
            .zip(&chosen)
            .filter(|(_, copy)| copy.is_none())
            .map(|(p, _)| (p, LossReason::NotFound))
            .collect(),
        copies,
        servers,
    };
    let name = spec.name.clone();
    let mut model = Model::new(spec, incarnation, Phase::Live, revision, assignment)
        .ok_or("what was reported of it contradicts itself")?;
    model.tidy();
    state.models.insert(name, Arc::new(model));
    Ok(rest)
}

/// Takes as many of the other copies of a partition as it is to have: they are attached again, and get what they lack.
fn again(
    spec: &ModelSpec,
    others: &mut Vec<&ServerId>,
    place: impl Fn(&ServerId) -> u32,
) -> Vec<Place> {
    let wanted = usize::from(spec.copies()).saturating_sub(1);
    let taken = others.drain(..others.len().min(wanted));
    let mut places: Vec<Place> = taken
        .map(|id| Place {
            server: place(id),
            role: CopyRole::Learner,
        })
        .collect();
    places.sort_by_key(|place| place.server);
    places
}

/// Ends the adoption: of each model that is not whole, what was not found is lost. The summary of all.
///
/// # Errors
/// `bad_request` when there is none to end, and when there are copies that may lack something, unless it is said what is to
/// become of them.
pub(crate) fn finish(state: &mut State, uncertain: Uncertain) -> Result<Adoption, ErrorBody> {
    let Some(mut adopting) = state.adopting.clone() else {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            "this master adopts nothing: only one that was started with an empty data directory and --adopt does",
        ));
    };
    if uncertain == Uncertain::Refuse {
        check_certain(&adopting)?;
    }
    state.adopting = None;
    let end = Arc::make_mut(&mut adopting);
    let mut waiting: Vec<(Incarnation, Found)> =
        std::mem::take(&mut end.models).into_iter().collect();
    waiting.sort_by_key(|(incarnation, found)| std::cmp::Reverse((found.rank(), *incarnation)));
    for (incarnation, found) in waiting {
        let name = found.spec.name.clone();
        // What a `memory` model's holder took with it, no other copy is known to have.
        let logged = found.spec.durability().is_logged();
        let uncertain = if logged { uncertain } else { Uncertain::Lose };
        let made = if state.models.contains_key(&name) {
            Err(format!("a later model has the name '{name}'"))
        } else {
            make(state, incarnation, &found, uncertain)
        };
        match made {
            Ok(rest) => {
                end.live.insert(incarnation);
                end.not_taken(incarnation, rest);
            }
            Err(why) => {
                let copies = found.copies.values().flatten();
                let mut servers = copies.map(|copy| &copy.server).chain(found.lost.values());
                if let Some(server) = servers.next() {
                    end.orphan(incarnation, server, &why);
                }
            }
        }
    }
    end.cluster_known = true;
    Ok(end.summary(state))
}

/// Whether every copy that was found is known to have everything, or its values are gone for certain: those of a `memory` model
/// whose holder has ended.
fn check_certain(adopting: &Adopting) -> Result<(), ErrorBody> {
    let models = adopting.models.values();
    let mut logged = models.filter(|found| found.spec.durability().is_logged());
    let doubtful = logged.find_map(|found| Some((found, *found.uncertain().first()?)));
    let Some((found, partition)) = doubtful else {
        return Ok(());
    };
    let servers: Vec<&str> = found
        .of_partition(partition)
        .iter()
        .map(|copy| copy.server.0.as_str())
        .collect();
    Err(ErrorBody::new(
        ErrorCode::BadRequest,
        format!(
            "partition {partition} of model '{}' was found on {}, and no holder of it lives that knows who else had everything that \
             was acknowledged. If all servers have come that had a copy of it, take the latest: glint adopt --finish \
             --take-uncertain. If not, start them; or give such partitions up: glint adopt --finish --lose-uncertain",
            found.spec.name,
            servers.join(", ")
        ),
    ))
}

#[cfg(test)]
#[path = "adoption/tests.rs"]
mod tests;
