//! Upkeep: lanes that were idle for ten times the longest deadline leave the ledgers.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use glint_world::Shutdown;
use tokio::time::Instant;

use super::{slot::Slot, state::ServerState};
use crate::partition::Record;

/// Evicts idle lanes until `shutdown`.
pub(super) async fn run(state: ServerState, shutdown: Shutdown) {
    let idle = state.config().max_deadline.saturating_mul(10);
    let every = (idle / 20).max(Duration::from_millis(10));
    let work = async {
        loop {
            tokio::time::sleep(every).await;
            sweep(&state, idle).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn sweep(state: &ServerState, idle: Duration) {
    let slots: Vec<_> = {
        let models = state.models();
        models
            .held
            .values()
            .flat_map(|model| model.slots.values().map(Arc::clone))
            .collect()
    };
    for slot in slots {
        evict(&slot, idle);
        // One partition at a time, so that a sweep over many never stops requests.
        tokio::task::yield_now().await;
    }
}

/// Evicts the lanes that have been at the same number for `idle`. What "idle" is, is decided here, once; the partition
/// sees only the outcome, as a record.
fn evict(slot: &Slot, idle: Duration) {
    let now = Instant::now();
    let mut seen = slot.idle.lock().unwrap_or_else(PoisonError::into_inner);
    let mut partition = slot.lock();
    seen.retain(|&lane, _| partition.ledger().entry(lane).is_some());
    let mut lanes = Vec::new();
    for (lane, entry) in partition.ledger().iter() {
        let (number, since) = seen.entry(lane).or_insert((entry.number, now));
        if *number != entry.number {
            (*number, *since) = (entry.number, now);
        } else if now.duration_since(*since) >= idle {
            lanes.push(lane);
        }
    }
    if !lanes.is_empty() {
        partition.apply(
            slot.description.rule,
            slot.description.cols,
            Record::Evict { lanes: &lanes },
        );
        slot.safe().raise(partition.position());
    }
}
