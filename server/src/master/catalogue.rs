//! What clients and admins ask of the catalogue: create, open, list, delete, status.
//!
//! A model is made in three durable steps: it is entered as `creating`, its servers are ordered to make its partitions and
//! confirm, it becomes `live`. Who asked waits; the steps go on without them.

use std::{collections::BTreeSet, time::Duration};

use glint_protocol::{
    ErrorBody, ErrorCode, Incarnation, ModelId, ModelMap, ServerId,
    admin::{PlannedMove, ResetModel},
    control::{
        ClusterStatus, CreateModel, Labels, ModelSummary, ServerLoad, ServerState, ServerSummary,
        Transfers,
    },
    copies::CopyRole,
    ids::Revision,
};
use tokio::time::Instant;

use super::{
    Master, adoption, drain, reset,
    state::{Model, Phase, State},
    transition,
};

/// The longest that an answer is held back; a caller that wants to wait longer asks again.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Moves that the status names.
const MOVES_SHOWN: usize = 64;
/// How long a delete waits for the servers that live to let go of the values.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// What became of a model that was to be made.
enum Made {
    Live(Box<ModelMap>),
    /// Its making failed.
    Failed(ErrorBody),
    /// It was deleted before it was live.
    Deleted,
}

impl Master {
    /// Makes a model, or finds the one that the request asks for, and waits until it is live.
    ///
    /// # Errors
    /// `invalid_spec`, `already_exists`, `spec_mismatch`, `does_not_fit`, `no_servers`; `gone` when the model that this
    /// request made was deleted; `retry` when it is still being made after 30 s.
    pub async fn create(&self, request: CreateModel) -> Result<ModelMap, ErrorBody> {
        let until = Instant::now() + LONGEST_WAIT;
        loop {
            let asked = request.clone();
            let alive = self.shared.alive();
            let config = &self.shared.config;
            let defaults = (config.durability, config.copies);
            let incarnation = self
                .shared
                .journal
                .change(move |state| transition::create(state, &asked, &alive, defaults))
                .await?;
            match self.made(incarnation, until).await? {
                Made::Live(map) => return Ok(*map),
                Made::Failed(error) if incarnation.model == request.id => return Err(error),
                // It was another's. The name is free now: make it, or learn who was faster.
                Made::Failed(_) | Made::Deleted => {}
            }
        }
    }

    /// Sets a model back to its initial values and waits until all of it serves again.
    ///
    /// # Errors
    /// `unknown_model`, `server_silent`, `does_not_fit`, `no_servers`; `retry` when servers have not obeyed after 30 s;
    /// `gone` when it was deleted meanwhile.
    pub async fn reset(&self, name: &str, request: ResetModel) -> Result<ModelMap, ErrorBody> {
        let until = Instant::now() + LONGEST_WAIT;
        let owned = name.to_owned();
        let alive = self.shared.alive();
        let incarnation = self
            .shared
            .journal
            .change(move |state| reset::reset(state, &owned, &request, &alive))
            .await?;
        match self.made(incarnation, until).await? {
            Made::Live(map) => Ok(*map),
            Made::Failed(error) => Err(error),
            Made::Deleted => Err(unknown(name)),
        }
    }

    /// Waits until a model is live, or is no more.
    async fn made(&self, incarnation: Incarnation, until: Instant) -> Result<Made, ErrorBody> {
        let id = incarnation.model;
        self.when(until, |state| match state.model(id) {
            Some(model) if model.phase == Phase::Live => {
                Ok(Made::Live(Box::new(self.map(state, model))))
            }
            Some(model) => Err(self.still_making(model)),
            None => Ok(match state.tombstone(id).and_then(|t| t.failure.clone()) {
                Some(failure) => Made::Failed(failure),
                None => Made::Deleted,
            }),
        })
        .await
    }

    /// The map of a model, waiting while it is made. With a revision, waits up to `wait` while that is the current one.
    ///
    /// # Errors
    /// `unknown_model`; `retry` when it is still being made after 30 s.
    pub async fn open(
        &self,
        name: &str,
        revision: Option<Revision>,
        wait: Duration,
    ) -> Result<ModelMap, ErrorBody> {
        let began = Instant::now();
        let live = self
            .when(began + LONGEST_WAIT, |state| match state.models.get(name) {
                None => Ok(Err(absent(state, name))),
                Some(model) if model.phase == Phase::Live => Ok(Ok(self.map(state, model))),
                Some(model) => Err(self.still_making(model)),
            })
            .await?;
        let map = live?;
        if revision != Some(map.revision) {
            return Ok(map);
        }
        let until = began + wait.min(LONGEST_WAIT);
        let changed = self
            .when(until, |state| match state.models.get(name) {
                None => Ok(Err(absent(state, name))),
                Some(model) if model.phase == Phase::Live && model.revision != map.revision => {
                    Ok(Ok(self.map(state, model)))
                }
                Some(_) => Err(ErrorBody::new(ErrorCode::Retry, "unchanged")),
            })
            .await;
        match changed {
            Ok(answer) => answer,
            // The wait is over: the map is what it was.
            Err(_) => Ok(map),
        }
    }

    /// Waits until so many servers are registered and live.
    pub async fn has_servers(&self, count: usize) {
        loop {
            let mut arrival = std::pin::pin!(self.shared.arrivals.notified());
            // From here on an arrival is not missed.
            arrival.as_mut().enable();
            if self.shared.alive().len() >= count {
                return;
            }
            arrival.await;
        }
    }

    /// Asks `look` now and after each change until it answers; its last error when `until` comes first.
    async fn when<T>(
        &self,
        until: Instant,
        mut look: impl FnMut(&State) -> Result<T, ErrorBody>,
    ) -> Result<T, ErrorBody> {
        let mut states = self.shared.journal.watch();
        loop {
            let state = states.see();
            let waiting = match look(&state) {
                Ok(answer) => return Ok(answer),
                Err(waiting) => waiting,
            };
            tokio::select! {
                biased;
                changed = states.changed() => if !changed { return Err(waiting) },
                () = self.shared.shutdown.cancelled() => return Err(waiting),
                () = tokio::time::sleep_until(until) => return Err(waiting),
            }
        }
    }

    fn map(&self, state: &State, model: &Model) -> ModelMap {
        state.map(model, self.shared.config.max_deadline_ms)
    }

    fn still_making(&self, model: &Model) -> ErrorBody {
        let now = Instant::now();
        let membership = self.shared.membership();
        let silent: Vec<&str> = model
            .servers
            .iter()
            .filter(|id| !membership.is_present(id, now))
            .map(|id| id.0.as_str())
            .collect();
        let mut why = if silent.is_empty() {
            String::new()
        } else {
            format!(" (silent servers: {})", silent.join(", "))
        };
        if let Some((server, error)) = self.shared.hindered(model.incarnation) {
            why = format!(" (server {server} says: {})", error.message);
        }
        let what = if model.phase == Phase::Resetting {
            "reset"
        } else {
            "made"
        };
        ErrorBody::new(
            ErrorCode::Retry,
            format!(
                "model '{}' is still being {what}: not all of its servers have confirmed{why}",
                model.spec.name
            ),
        )
    }

    /// Every model, by name.
    pub fn models(&self) -> Vec<ModelSummary> {
        let state = self.shared.journal.state();
        state.models.values().map(|m| m.summary()).collect()
    }

    /// Deletes a model; with an id only if it is that one. Returns once the deletion is durable and, if they answer
    /// within a moment, the servers that live have let go of it.
    ///
    /// # Errors
    /// `unknown_model`; deleting again what this id named is fine.
    pub async fn delete(&self, name: &str, id: Option<ModelId>) -> Result<(), ErrorBody> {
        let owned = name.to_owned();
        let deleted = self
            .shared
            .journal
            .change(move |state| transition::delete(state, &owned, id))
            .await?;
        let until = Instant::now() + DROP_WAIT;
        let waiting = ErrorBody::new(ErrorCode::Retry, "servers have not dropped it yet");
        let dropped = self
            .when(until, |state| {
                let alive = self.shared.alive();
                let waits = state
                    .tombstones
                    .iter()
                    .filter(|t| t.incarnation == deleted)
                    .any(|t| t.awaited.iter().any(|id| alive.contains(id)));
                if waits { Err(waiting.clone()) } else { Ok(()) }
            })
            .await;
        if dropped.is_err() {
            tracing::debug!(model = name, "deleted; servers are still being told");
        }
        Ok(())
    }

    /// The whole cluster at a glance.
    pub fn status(&self) -> ClusterStatus {
        let state = self.shared.journal.state();
        let now = Instant::now();
        let membership = self.shared.membership();
        let mut servers: Vec<ServerSummary> = state
            .servers
            .iter()
            .map(|(id, server)| {
                let (presence, silence, load) = membership.view(id, now).unwrap_or((
                    ServerState::Silent,
                    Duration::ZERO,
                    ServerLoad::default(),
                ));
                ServerSummary {
                    id: id.clone(),
                    url: server.url.clone(),
                    state: presence,
                    silent_ms: silence.as_millis() as u64,
                    capacity_bytes: server.capacity_bytes,
                    placed_bytes: state.placed_bytes(id),
                    load,
                    durable: server.volume.is_some(),
                    copies: state.copies_on(id),
                    holds: state.served_by(id),
                    drain: drain::drain_state(&state, id),
                    labels: server.place().clone(),
                    // What was asked of one that is gone is asked of others now.
                    busiest: if presence == ServerState::Alive {
                        membership.busiest(id)
                    } else {
                        Vec::new()
                    },
                    recovery: (presence == ServerState::Recovering)
                        .then(|| membership.recovery(id, now))
                        .flatten(),
                }
            })
            .collect();
        for (id, progress) in membership.all_recovering(now) {
            // One that has never registered with this master: nothing else is known of it.
            if !state.servers.contains_key(&id) {
                servers.push(ServerSummary {
                    id,
                    url: String::new(),
                    state: ServerState::Recovering,
                    silent_ms: 0,
                    capacity_bytes: 0,
                    placed_bytes: 0,
                    load: ServerLoad::default(),
                    durable: true,
                    copies: 0,
                    holds: 0,
                    drain: None,
                    labels: Labels::default(),
                    busiest: Vec::new(),
                    recovery: Some(progress),
                });
            }
        }
        servers.sort_by(|a, b| a.id.cmp(&b.id));
        let refused = membership.refused(now);
        let alive: BTreeSet<ServerId> = membership.alive().cloned().collect();
        ClusterStatus {
            cluster: state.known_cluster(),
            term: state.term,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            servers,
            models: state.models.values().map(|m| m.summary()).collect(),
            transfers: transfers(&state, &alive),
            refused,
            adoption: state.adopting.as_ref().map(|a| a.summary(&state)),
        }
    }
}

/// What is on its way.
fn transfers(state: &State, alive: &BTreeSet<ServerId>) -> Transfers {
    let mut all = Transfers {
        levelling: state.levelling,
        ..Transfers::default()
    };
    for (name, model) in &state.models {
        for (&partition, copies) in &model.copies {
            let bytes = model.sizes[partition as usize];
            for to in copies.of(CopyRole::Learner) {
                if let Some(moving) = copies.moving.filter(|m| m.to == to) {
                    all.moving += 1;
                    all.moving_bytes = all.moving_bytes.saturating_add(bytes);
                    if all.moves.len() < MOVES_SHOWN {
                        all.moves.push(PlannedMove {
                            model: name.clone(),
                            partition,
                            from: model.servers[moving.from as usize].clone(),
                            to: model.servers[to as usize].clone(),
                            bytes,
                        });
                    }
                } else if alive.contains(&model.servers[to as usize]) {
                    all.learning += 1;
                    all.learning_bytes = all.learning_bytes.saturating_add(bytes);
                } else {
                    all.stalled += 1;
                }
            }
        }
    }
    all
}

/// What to say of a model that is not in the catalogue.
pub(crate) fn absent(state: &State, name: &str) -> ErrorBody {
    match &state.adopting {
        Some(adopting) => adoption::not_yet(adopting, name),
        None => unknown(name),
    }
}

fn unknown(name: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::UnknownModel, transition::no_model(name))
}
