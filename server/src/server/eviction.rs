//! Forgetting lanes that have been idle for long, so that ledgers stay small. Each eviction is a record of the partition's
//! log; the time is measured here, beside the ledger, and starts anew whenever this process does.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use glint_protocol::{LaneId, Number, Position};
use glint_world::Shutdown;
use tokio::time::Instant;

use super::state::{Slot, State};
use crate::{
    log::record::{Kind, encode_lanes},
    partition::Record,
};

/// Since when the lanes of a partition are idle: which number was seen as the last of each, and when first. Pushes are
/// not slowed down by it, and a lane counts as idle a little later than it is, never earlier.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    position: Option<Position>,
    seen: BTreeMap<LaneId, (Number, Instant)>,
}

/// How many times ledgers are looked at while a lane becomes idle.
const LOOKS: u32 = 20;
/// The longest and the shortest time between two looks.
const PERIOD: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(10));

/// Evicts lanes that are idle for `idle`, until `shutdown`.
pub(super) async fn run(state: Arc<State>, idle: Duration, shutdown: Shutdown) {
    let period = (idle / LOOKS).clamp(PERIOD.1, PERIOD.0);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        let slots: Vec<_> = state.models.load().slots().cloned().collect();
        for slot in slots {
            let evicted = sweep(&slot, Instant::now(), idle);
            if evicted > 0 {
                if let Some(log) = state.log.get() {
                    log.wake();
                }
                tracing::info!(
                    model = %slot.description.model, partition = slot.description.partition, lanes = evicted,
                    "idle lanes forgotten"
                );
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Looks at one ledger, evicts what is idle, and says how many lanes that were.
pub(super) fn sweep(slot: &Slot, now: Instant, idle: Duration) -> usize {
    let mut idleness = slot.idleness.lock().unwrap_or_else(PoisonError::into_inner);
    let mut partition = slot.lock();
    // Only a holder decides; its followers are told.
    if partition.loss().is_some() || !partition.is_holder() {
        return 0;
    }
    if idleness.position != Some(partition.position()) {
        let before = std::mem::take(&mut idleness.seen);
        let since = |lane, number| match before.get(&lane) {
            Some(&(seen, since)) if seen == number => since,
            _ => now,
        };
        idleness.seen = partition
            .ledger()
            .iter()
            .map(|(lane, entry)| (lane, (entry.number, since(lane, entry.number))))
            .collect();
        idleness.position = Some(partition.position());
    }
    let gone: Vec<LaneId> = idleness
        .seen
        .iter()
        .filter(|(_, (_, since))| now.duration_since(*since) >= idle)
        .map(|(&lane, _)| lane)
        .collect();
    if gone.is_empty() {
        return 0;
    }
    let (description, before) = (&slot.description, partition.last_epoch());
    let position = partition.apply(
        description.rule,
        description.cols,
        Record::Evict { lanes: &gone },
    );
    let payload = Bytes::from(encode_lanes(&gone));
    let record = slot.record(Kind::Evict, &partition, before, &payload);
    slot.note(&mut partition, record, &payload);
    for lane in &gone {
        idleness.seen.remove(lane);
    }
    idleness.position = Some(position);
    gone.len()
}
