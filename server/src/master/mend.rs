//! Keeps the copies of all partitions as their models want them: looks whenever something has changed, and from time to
//! time.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Shared, failover,
    plan::{self, Fleet},
    state::State,
    step::{self, Step},
};

/// How often it looks although nothing that it knows of has changed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Whether anything is to be done.
fn is_wanting(state: &State, fleet: &Fleet) -> bool {
    !plan::plan(state, fleet, state.levelling).is_empty()
        || state.levelling && plan::is_level(state, fleet)
}

/// Does what is to be done.
fn look(state: &mut State, fleet: &Fleet) -> Vec<Step> {
    let steps = plan::plan(state, fleet, state.levelling);
    step::take(state, &steps);
    if state.levelling && plan::is_level(state, fleet) {
        state.levelling = false;
    }
    steps
}

/// Looks after the copies until the master ends.
pub(super) async fn mend(shared: Arc<Shared>) {
    let mut states = shared.journal.watch();
    let mut tick = tokio::time::interval(shared.config.heartbeat);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Fleet::default();
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            _ = tick.tick() => {}
            changed = states.changed() => if !changed { return },
        }
        let fleet = shared.fleet();
        let is_due = looked.elapsed() >= AT_LEAST_EVERY || states.is_behind();
        if fleet == seen && !is_due {
            continue;
        }
        looked = Instant::now();
        let state = states.see();
        seen = fleet;
        let running = shared.running();
        if failover::has_vacant(&state, &running) {
            let filled = shared
                .journal
                .change(move |state| Ok(failover::fill_vacant(state, &running)))
                .await;
            match filled {
                Ok(partitions) => {
                    tracing::info!(
                        partitions,
                        "partitions that waited for a copy have a holder again"
                    );
                }
                Err(error) => tracing::debug!(%error, "partitions wait for a holder"),
            }
        }
        if is_wanting(&state, &seen) {
            let fleet = seen.clone();
            let mended = shared
                .journal
                .change(move |state| Ok(look(state, &fleet)))
                .await;
            match mended {
                Ok(steps) => {
                    for step in &steps {
                        tracing::debug!(?step, "copies change");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "copies are not placed");
                    tokio::time::sleep(shared.config.heartbeat).await;
                }
            }
        }
    }
}
