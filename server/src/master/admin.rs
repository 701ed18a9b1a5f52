//! What servers say of themselves beside registering, and what admins ask: words that are heard, servers that are forgotten,
//! adoptions that end.

use std::sync::Arc;

use glint_protocol::{
    ErrorBody, ErrorCode, ServerId,
    admin::{Adoption, Draining, ForgetServer, MoveCopy, PlannedMove, RebalancePlan, Uncertain},
    control::{Heartbeat, Labels, Leave, Left, Recovering},
    copies::{ChangeCopies, CopiesChanged, Suspect},
};
use tokio::time::Instant;

use super::{
    HEARTBEATS_MISSED, Master, Shared, adoption, by_hand, change, drain,
    failover::{may_suspect, promote_others},
    lock, place,
    plan::{self, Levelling},
    registration, reset,
    state::State,
    watch::tell,
};

/// Promotes others for a server that ends: one whose heartbeat is late, as on a busy machine, where no other can.
fn take_over(state: &mut State, server: &ServerId, shared: &Shared) -> usize {
    promote_others(state, server, &shared.running())
        + promote_others(state, server, &shared.alive())
}

impl Master {
    /// Notes that a server lives.
    ///
    /// # Errors
    /// `not_registered`.
    pub fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ErrorBody> {
        let event = self
            .shared
            .membership()
            .heartbeat(heartbeat, Instant::now())?;
        event.iter().for_each(tell);
        Ok(())
    }

    /// Notes that a server ends in order. What others have copies of that are in sync, they hold from now on; the rest waits
    /// for it. The answer says what it follows now, so that it can let the others begin.
    ///
    /// # Errors
    /// `storage_failed`.
    pub async fn leave(&self, leave: &Leave) -> Result<Left, ErrorBody> {
        let shared = &self.shared;
        let left = shared
            .membership()
            .leave(&leave.server, leave.boot, Instant::now());
        let mut answer = Left::default();
        if left {
            let (inside, server) = (Arc::clone(shared), leave.server.clone());
            let promoted = shared
                .journal
                .change(move |state| Ok(take_over(state, &server, &inside)))
                .await?;
            let state = shared.journal.state();
            let waiting = state.partitions_of(&leave.server);
            tracing::info!(server = %leave.server, promoted, waiting, "server left");
            if promoted > 0 {
                answer.orders = Some(registration::orders(&state, &leave.server, leave.boot));
            }
        }
        Ok(answer)
    }

    /// Takes other in-sync sets of partitions from their holder, and says how each stands now.
    ///
    /// # Errors
    /// `not_registered`, `bad_request`, `storage_failed`.
    pub async fn change(&self, request: ChangeCopies) -> Result<CopiesChanged, ErrorBody> {
        let shared = &self.shared;
        shared
            .membership()
            .speaks(&request.server, request.boot, Instant::now())?;
        let asked = Arc::new(request);
        let inside = Arc::clone(&asked);
        let taken = shared
            .journal
            .change(move |state| change::change(state, &inside))
            .await?;
        tracing::debug!(server = %asked.server, asked = ?asked.changes, taken, "copies changed");
        let orders = change::orders(&shared.journal.state(), &asked);
        Ok(CopiesChanged { orders })
    }

    /// Promotes others for servers that a follower in sync does not hear any more, unless the master hears them.
    ///
    /// # Errors
    /// `not_registered`, `storage_failed`.
    pub async fn suspect(&self, word: &Suspect) -> Result<(), ErrorBody> {
        let shared = &self.shared;
        shared
            .membership()
            .speaks(&word.server, word.boot, Instant::now())?;
        for silence in &word.silent {
            let (inside, suspected) = (Arc::clone(shared), silence.clone());
            let limit = shared.config.heartbeat * HEARTBEATS_MISSED;
            let is_gone = move |shared: &Shared| {
                let (server, boot) = (&suspected.server, suspected.boot);
                let now = Instant::now();
                shared.membership().is_silent(server, boot, limit, now)
            };
            if !may_suspect(&shared.journal.state(), &word.server, &silence.server) {
                tracing::debug!(server = %silence.server, by = %word.server, "suspected by a server that is not in sync with it");
                continue;
            }
            if !is_gone(shared) {
                tracing::info!(server = %silence.server, by = %word.server, "suspected, but heard by the master: nothing changes");
                continue;
            }
            let (by, server) = (word.server.clone(), silence.server.clone());
            let promoted = shared
                .journal
                .change(move |state| {
                    if is_gone(&inside) && may_suspect(state, &by, &server) {
                        Ok(promote_others(state, &server, &inside.running()))
                    } else {
                        Ok(0)
                    }
                })
                .await?;
            if promoted > 0 {
                tracing::warn!(
                    server = %silence.server, by = %word.server, silent_ms = silence.silent_ms, partitions = promoted,
                    "server {} is gone; other copies hold its partitions now", silence.server
                );
            }
        }
        Ok(())
    }

    /// Notes that a server reads its data directory.
    ///
    /// # Errors
    /// `bad_request` for what cannot name a server, `identity_in_use` for a superseded start, `busy`.
    pub fn recovering(&self, word: &Recovering) -> Result<(), ErrorBody> {
        registration::check_name(&word.server)?;
        let state = self.shared.journal.state();
        registration::check_start(&state, &word.server, word.boot)?;
        self.shared.membership().recovering(word, Instant::now())
    }

    /// Gives a server up, by an admin's word.
    ///
    /// # Errors
    /// `unknown_server`, `server_alive`; `server_silent` when it holds values and is not said to be dead.
    pub async fn forget(&self, request: ForgetServer) -> Result<(), ErrorBody> {
        let shared = &self.shared;
        let server = request.server.clone();
        let inside = Arc::clone(shared);
        let forgotten = shared
            .journal
            .change(move |state| {
                let present = inside
                    .membership()
                    .is_present(&request.server, Instant::now());
                reset::forget(state, &request, present, &inside.running())
            })
            .await?;
        tracing::warn!(%server, promoted = forgotten.promoted, lost = forgotten.lost, "server forgotten: an admin has given it up");
        shared.membership().forget(&server);
        if let Some(courier) = lock(&shared.couriers).remove(&server) {
            courier.end.cancel();
        }
        Ok(())
    }

    /// Has everything moved off a server; doing so again is fine. One that asks for it itself, to end, gets its share again when
    /// it `returns`.
    ///
    /// # Errors
    /// `unknown_server`; `cannot_drain` with the numbers, when the others cannot hold what it has.
    pub async fn drain(&self, server: ServerId, returns: bool) -> Result<Draining, ErrorBody> {
        let (fleet, id) = (self.shared.fleet(), server.clone());
        let begun = move |state: &mut State| drain::begin(state, &id, &fleet, returns);
        let left = self.shared.journal.change(begun).await?;
        tracing::info!(%server, copies = left.copies, bytes = left.bytes, lost = left.lost, "server is to be drained");
        Ok(left)
    }

    /// Has several servers emptied, or none.
    ///
    /// # Errors
    /// Those of [`Self::drain`], and `bad_request` for more than 10 000.
    pub async fn drain_all(&self, servers: Vec<ServerId>) -> Result<Vec<Draining>, ErrorBody> {
        const MOST: usize = 10_000;
        if servers.len() > MOST {
            let why = format!("{} servers at once; name at most {MOST}", servers.len());
            return Err(ErrorBody::new(ErrorCode::BadRequest, why));
        }
        let fleet = self.shared.fleet();
        let begun = move |state: &mut State| drain::begin_all(state, &servers, &fleet);
        let left = self.shared.journal.change(begun).await?;
        for Draining { server, copies, .. } in &left {
            tracing::info!(%server, copies, "server is to be drained");
        }
        Ok(left)
    }

    /// Ends the draining of a server; what is on it stays.
    ///
    /// # Errors
    /// `unknown_server`.
    pub async fn cancel_drain(&self, server: ServerId) -> Result<Draining, ErrorBody> {
        let (id, levels) = (server.clone(), self.shared.config.rebalance);
        let cancelled = move |state: &mut State| {
            let was = drain::drain_state(state, &id).is_some();
            let left = drain::cancel(state, &id)?;
            // What has left it may come back, as to one that joins.
            state.levelling |= was && levels;
            Ok(left)
        };
        let left = self.shared.journal.change(cancelled).await?;
        tracing::info!(%server, copies = left.copies, "server is not drained any more");
        Ok(left)
    }

    /// Takes where a server runs, in place of what it says itself; empty to have its own word count again. Where it runs now.
    ///
    /// # Errors
    /// `unknown_server`, `bad_request`, `storage_failed`.
    pub async fn place_server(
        &self,
        server: ServerId,
        labels: Labels,
    ) -> Result<Labels, ErrorBody> {
        let levels = self.shared.config.rebalance;
        let id = server.clone();
        let told = move |state: &mut State| {
            let is_new = place::tell(state, &id, &labels, levels)?;
            Ok((is_new, drain::known(state, &id)?.place().clone()))
        };
        let (is_new, now) = self.shared.journal.change(told).await?;
        if is_new {
            tracing::info!(%server, node = now.node, zone = now.zone, "where a server runs was told");
        }
        Ok(now)
    }

    /// Moves one copy of a partition to a server; asking for the same move again is fine.
    ///
    /// # Errors
    /// `unknown_model`, `unknown_server`, `bad` for a partition that there is none of, `cannot_move`.
    pub async fn move_copy(
        &self,
        model: String,
        partition: u32,
        request: MoveCopy,
    ) -> Result<PlannedMove, ErrorBody> {
        let fleet = self.shared.fleet();
        let begun =
            move |state: &mut State| by_hand::begin(state, &model, partition, &request, &fleet);
        let planned = self.shared.journal.change(begun).await?;
        tracing::info!(
            model = planned.model, partition, from = %planned.from, to = %planned.to, bytes = planned.bytes,
            "a copy is to go to another server"
        );
        Ok(planned)
    }

    /// Moves copies until all servers have about as much; with `dry_run` only says which.
    ///
    /// # Errors
    /// `storage_failed`.
    pub async fn rebalance(&self, dry_run: bool) -> Result<RebalancePlan, ErrorBody> {
        const SHOWN: usize = 10_000;
        let shared = &self.shared;
        let Levelling {
            mut moves,
            promotions,
        } = plan::levelling(&shared.journal.state(), &shared.fleet());
        let plan = RebalancePlan {
            dry_run,
            promotions,
            count: moves.len() as u64,
            bytes: moves.iter().fold(0, |sum, m| sum.saturating_add(m.bytes)),
            moves: {
                moves.truncate(SHOWN);
                moves
            },
        };
        if !dry_run && plan.count + promotions > 0 {
            let begun = |state: &mut State| {
                state.levelling = true;
                Ok(())
            };
            shared.journal.change(begun).await?;
            tracing::info!(
                moves = plan.count,
                promotions,
                bytes = plan.bytes,
                "servers are made level"
            );
        }
        Ok(plan)
    }

    /// Ends an adoption: what no server has reported is lost.
    ///
    /// # Errors
    /// `bad_request` when there is none, or copies were found that may lack something and `uncertain` does not say what is to
    /// become of them.
    pub async fn finish_adoption(&self, uncertain: Uncertain) -> Result<Adoption, ErrorBody> {
        let finish = move |state: &mut State| adoption::finish(state, uncertain);
        let summary = self.shared.journal.change(finish).await?;
        for model in &summary.models {
            let missing = model.partitions - model.found;
            if missing > 0 {
                tracing::error!(
                    model = model.name,
                    found = model.found,
                    lost = missing,
                    "adopted in part: what no server has reported is lost"
                );
            } else {
                tracing::info!(model = model.name, partitions = model.found, "adopted");
            }
        }
        for orphan in &summary.orphans {
            tracing::warn!(orphan, "not adopted; the server keeps it unserved");
        }
        tracing::info!(
            models = summary.models.len(),
            servers = summary.servers.len(),
            "the adoption has ended"
        );
        Ok(summary)
    }
}
