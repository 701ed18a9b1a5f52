//! What servers say of themselves beside registering, and what admins ask: words that are heard, servers that are forgotten,
//! adoptions that end.

use glint_protocol::{
    ErrorBody,
    admin::{Adoption, ForgetServer},
    control::{Heartbeat, Leave, Recovering},
};
use tokio::time::Instant;

use super::{Master, adoption, lock, registration, reset, watch::tell};

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

    /// Notes that a server ends in order. It keeps its partitions: they wait for it.
    pub fn leave(&self, leave: &Leave) {
        let left = self
            .shared
            .membership()
            .leave(&leave.server, leave.boot, Instant::now());
        if left {
            let state = self.shared.journal.state();
            let partitions = state.partitions_of(&leave.server);
            tracing::info!(server = %leave.server, partitions, "server left");
        }
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
        let inside = std::sync::Arc::clone(shared);
        let forgotten = shared
            .journal
            .change(move |state| {
                let present = inside
                    .membership()
                    .is_present(&request.server, Instant::now());
                reset::forget(state, &request, present)
            })
            .await?;
        tracing::warn!(%server, lost = forgotten.lost, "server forgotten: an admin has given it up");
        shared.membership().forget(&server);
        if let Some(courier) = lock(&shared.couriers).remove(&server) {
            courier.end.cancel();
        }
        Ok(())
    }

    /// Ends an adoption: what no server has reported is lost.
    ///
    /// # Errors
    /// `bad_request` when there is none.
    pub async fn finish_adoption(&self) -> Result<Adoption, ErrorBody> {
        let summary = self.shared.journal.change(adoption::finish).await?;
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
