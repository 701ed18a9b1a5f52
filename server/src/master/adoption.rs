//! Adoption: a master that has lost its state rebuilds catalogue and map from what servers report (`glint master --adopt`).
//! Pure functions on [`State`].
//!
//! The first server with partitions says which cluster this is. Of each partition the copy with the highest (epoch of its
//! last record, position) is taken. A model serves as soon as all its partitions are found. Whether another server will
//! come with more, only an admin knows: until they say so (`glint adopt --finish`), nothing is made, and what is missing is
//! waited for; from then on it is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Incarnation, LossReason, ModelSpec, Position, ServerId,
    admin::{AdoptedModel, Adoption},
    control::Register,
};

use super::{
    state::{Assignment, Model, Phase, State},
    transition::MAX_MODELS,
};

/// Orphans that are named; of more only the number would help, and the servers' logs have them all.
const MAX_ORPHANS: usize = 1024;

/// What has been reported so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adopting {
    /// Whether the cluster's id is that of the servers, not a new one.
    pub(crate) cluster_known: bool,
    /// Models of which partitions are missing, or that another of their name stands before.
    pub(crate) models: BTreeMap<Incarnation, Found>,
    /// Models that serve already.
    pub(crate) live: BTreeSet<Incarnation>,
    /// What is not taken, and why.
    pub(crate) orphans: BTreeSet<String>,
}

/// What has been reported of one model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) spec: ModelSpec,
    pub(crate) copies: BTreeMap<u32, FoundCopy>,
}

/// The best copy of a partition so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundCopy {
    pub(crate) server: ServerId,
    pub(crate) epoch: Epoch,
    /// Its last record.
    pub(crate) last: (Epoch, Position),
}

impl Found {
    fn is_complete(&self) -> bool {
        self.copies.len() == self.spec.partition_count as usize
    }

    /// Which of two models of one name is the later one: epochs are given out once, so the higher was made after.
    fn rank(&self) -> (Epoch, usize) {
        let epoch = self.copies.values().map(|c| c.epoch).max();
        (epoch.unwrap_or_default(), self.copies.len())
    }
}

/// Whether the first registrations may be taken.
///
/// # Errors
/// `retry` for a server that cannot say which cluster this is.
pub(crate) fn check_first(request: &Register) -> Result<(), ErrorBody> {
    if request.cluster.is_some() && !request.copies.is_empty() {
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
            "{} of its {} partitions have been reported",
            found.copies.len(),
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

/// Takes what a server reports; the names of the models that serve from now on. The server is registered already.
pub(crate) fn take(state: &mut State, request: &Register) -> Vec<String> {
    let Some(mut adopting) = state.adopting.take() else {
        return Vec::new();
    };
    let now = Arc::make_mut(&mut adopting);
    if let (false, Some(cluster)) = (now.cluster_known, request.cluster) {
        now.cluster_known = true;
        state.cluster = cluster;
    }
    // Whatever it said before, this is what it has.
    for found in now.models.values_mut() {
        found.copies.retain(|_, copy| copy.server != request.server);
    }
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
        };
        now.enter(request, incarnation, copy.partition, found);
    }
    now.models.retain(|_, found| !found.copies.is_empty());
    let mut live = Vec::new();
    while let Some((incarnation, found)) = now.next_complete(state) {
        match make(state, incarnation, &found) {
            Ok(()) => {
                now.live.insert(incarnation);
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

    fn enter(
        &mut self,
        request: &Register,
        incarnation: Incarnation,
        partition: u32,
        copy: FoundCopy,
    ) {
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
            return;
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
                return;
            };
            if self.models.len() + self.live.len() >= MAX_MODELS {
                self.orphan(incarnation, &request.server, "there are too many models");
                return;
            }
            let found = Found {
                spec: held.spec.clone(),
                copies: BTreeMap::new(),
            };
            self.models.insert(incarnation, found);
        }
        let Some(found) = self.models.get_mut(&incarnation) else {
            return;
        };
        if partition >= found.spec.partition_count {
            let why = format!("partition {partition} is not one of '{}'", found.spec.name);
            self.orphan(incarnation, &request.server, &why);
            return;
        }
        let loser = match found.copies.get_mut(&partition) {
            Some(best) if best.last >= copy.last => Some(copy.server),
            Some(best) => Some(std::mem::replace(best, copy).server),
            None => {
                found.copies.insert(partition, copy);
                None
            }
        };
        if let Some(server) = loser {
            let why = format!("another server has a later copy of partition {partition}");
            self.orphan(incarnation, &server, &why);
        }
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
                found: found.copies.len() as u32,
                live: false,
            });
        let live = self.live.iter().filter_map(|i| {
            let model = state.model(i.model)?;
            Some(AdoptedModel {
                name: model.spec.name.clone(),
                incarnation: model.incarnation,
                partitions: model.spec.partition_count,
                found: model.spec.partition_count - model.lost.len() as u32,
                live: true,
            })
        });
        let mut models: Vec<AdoptedModel> = waiting.chain(live).collect();
        models.sort_by(|a, b| (&a.name, a.incarnation).cmp(&(&b.name, b.incarnation)));
        Adoption {
            cluster_known: self.cluster_known,
            servers: state.servers.keys().cloned().collect(),
            models,
            orphans: self.orphans.iter().cloned().collect(),
        }
    }
}

/// Enters a model as live, at a fresh epoch; what was not found of it is lost.
fn make(state: &mut State, incarnation: Incarnation, found: &Found) -> Result<(), String> {
    let spec = found.spec.clone();
    let servers: BTreeSet<ServerId> = found.copies.values().map(|c| c.server.clone()).collect();
    let servers: Vec<ServerId> = servers.into_iter().collect();
    let count = spec.partition_count;
    let holder = |p: u32| {
        let copy = found.copies.get(&p);
        // What nobody has is looked for at the first: it answers `lost`.
        copy.and_then(|c| servers.binary_search(&c.server).ok())
            .unwrap_or(0) as u32
    };
    let epoch = state.fresh_epoch();
    let assignment = Assignment {
        holders: (0..count).map(holder).collect(),
        epochs: vec![epoch; count as usize],
        lost: (0..count)
            .filter(|p| !found.copies.contains_key(p))
            .map(|p| (p, LossReason::NotFound))
            .collect(),
        copies: BTreeMap::new(),
        servers,
    };
    let (name, revision) = (spec.name.clone(), state.fresh_revision());
    let model = Model::new(spec, incarnation, Phase::Live, revision, assignment)
        .ok_or("what was reported of it contradicts itself")?;
    state.models.insert(name, Arc::new(model));
    Ok(())
}

/// Ends the adoption: of each model that is not whole, what was not found is lost. The summary of all.
///
/// # Errors
/// `bad_request` when there is none to end.
pub(crate) fn finish(state: &mut State) -> Result<Adoption, ErrorBody> {
    let Some(mut adopting) = state.adopting.take() else {
        return Err(ErrorBody::new(
            ErrorCode::BadRequest,
            "this master adopts nothing: only one that was started with an empty data directory and --adopt does",
        ));
    };
    let end = Arc::make_mut(&mut adopting);
    let mut waiting: Vec<(Incarnation, Found)> =
        std::mem::take(&mut end.models).into_iter().collect();
    waiting.sort_by_key(|(incarnation, found)| std::cmp::Reverse((found.rank(), *incarnation)));
    for (incarnation, found) in waiting {
        let name = found.spec.name.clone();
        let server = found.copies.values().next().map(|c| c.server.clone());
        let made = if state.models.contains_key(&name) {
            Err(format!("a later model has the name '{name}'"))
        } else {
            make(state, incarnation, &found)
        };
        match (made, server) {
            (Ok(()), _) => {
                end.live.insert(incarnation);
            }
            (Err(why), Some(server)) => end.orphan(incarnation, &server, &why),
            (Err(_), None) => {}
        }
    }
    end.cluster_known = true;
    Ok(end.summary(state))
}

#[cfg(test)]
#[path = "adoption/tests.rs"]
mod tests;
