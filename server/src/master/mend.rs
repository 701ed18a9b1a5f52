//! Keeps the copies of all partitions as their models want them: looks whenever something has changed, and from time to
//! time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use glint_protocol::ServerId;
use tokio::time::Instant;

use super::{
    Shared, failover,
    plan::{self, Fleet},
    state::State,
    step::{self, Act, Step},
};

/// How often it looks although nothing that it knows of has changed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// How long it waits after a look: what changes meanwhile is looked at together, since a look is at all partitions.
const GATHER: Duration = Duration::from_millis(3);

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    steps: Vec<Step>,
    /// Servers that were to be made level are.
    is_level: bool,
}

impl Wanted {
    /// Nobody is made a holder whose heartbeat is late: if it has ended, its copy has too, and until the one before is in sync again
    /// there may be no other.
    fn of(state: &State, fleet: &Fleet, running: &BTreeSet<ServerId>) -> Self {
        let mut steps = plan::plan(state, fleet, state.levelling);
        steps.retain(|step| match &step.act {
            Act::Promote { to, .. } => running.contains(to),
            _ => true,
        });
        let is_level = state.levelling && steps.is_empty() && plan::is_level(state, fleet);
        Self { steps, is_level }
    }

    fn is_anything(&self) -> bool {
        *self != Self::default()
    }

    /// Does it, in the very state that it was found for.
    fn take(&self, state: &mut State) {
        step::take(state, &self.steps);
        state.levelling &= !self.is_level;
    }
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
        let running = shared.running();
        let wanted = Wanted::of(&state, &seen, &running);
        if wanted.is_anything() {
            let fleet = seen.clone();
            let mended = shared
                .journal
                .change(move |now| {
                    // Another change may have been faster.
                    let wanted = if *now == *state {
                        wanted
                    } else {
                        Wanted::of(now, &fleet, &running)
                    };
                    wanted.take(now);
                    Ok(wanted.steps)
                })
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
        tokio::time::sleep(GATHER).await;
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{Durability, Epoch, copies::CopyRole};

    use super::*;
    use crate::master::testing::{copied, ids, model};

    #[test]
    fn nobody_is_made_a_holder_whose_heartbeat_is_late() {
        let mut state = copied(2, 4, 2, Durability::Memory);
        for partition in [1, 3] {
            model(&mut state).promote(partition, 0, Epoch(9), CopyRole::InSync);
        }
        state.levelling = true;
        let fleet = Fleet {
            alive: ids(["s1", "s2"]),
            gone: BTreeSet::new(),
        };
        let promoted = |running| {
            let wanted = Wanted::of(&state, &fleet, &running);
            let mut steps = wanted.steps.into_iter();
            steps.any(|step| matches!(step.act, Act::Promote { .. }))
        };
        assert!(promoted(ids(["s1", "s2"])));
        assert!(!promoted(ids(["s1"])));
    }
}
