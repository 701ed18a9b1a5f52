//! What each partition is asked for, and which are asked most: for the master's status, and for who measures.
//!
//! Counting costs a request two additions under the lock that it holds anyway.

use std::{
    cmp::Reverse,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glint_protocol::{
    control::{MAX_BUSIEST, PartitionLoad},
    frame::{GroupHeader, ResultHeader},
};
use tokio::time::Instant;

use super::state::State;

/// Over how long a rate is taken, at least.
const OVER: Duration = Duration::from_secs(1);

/// Groups of pulls and pushes of one partition since it is here, and their bytes.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Both as they were when rates were taken last; only who takes rates looks at these.
    seen_requests: AtomicU64,
    seen_bytes: AtomicU64,
}

impl Traffic {
    /// Counts a group whose sections take so many bytes, and the values that it is answered with; under the partition's
    /// lock, so that nobody else writes meanwhile.
    pub(super) fn note(&self, sections: usize, values: u64) {
        let frame = (GroupHeader::SIZE + ResultHeader::SIZE + sections) as u64;
        add(&self.requests, 1);
        add(&self.bytes, frame.saturating_add(values));
    }

    /// Groups, and their bytes.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// How many groups, and bytes of them, have come since this was asked last.
    fn since_then(&self) -> (u64, u64) {
        let (requests, bytes) = self.read();
        (
            requests.wrapping_sub(self.seen_requests.swap(requests, Relaxed)),
            bytes.wrapping_sub(self.seen_bytes.swap(bytes, Relaxed)),
        )
    }
}

/// For one writer at a time: no more than an addition in memory.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// The partitions that were asked for most when that was looked at last.
#[derive(Debug, Default)]
pub(super) struct Busiest {
    last: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    found: Vec<PartitionLoad>,
}

impl State {
    /// The partitions that are asked for most, the busiest first, at most [`MAX_BUSIEST`]; those that are not asked for at
    /// all are not among them. Rates are those of the last second, or of the time since this was asked before.
    pub(super) fn busiest(&self) -> Vec<PartitionLoad> {
        let now = Instant::now();
        let last = self.busiest.last.lock();
        let mut last = last.unwrap_or_else(PoisonError::into_inner);
        // Before the first look there is no rate.
        let passed = last
            .as_ref()
            .map(|look| now.saturating_duration_since(look.at));
        if let Some(look) = last.as_ref()
            && passed < Some(OVER)
        {
            return look.found.clone();
        }
        let found = self.look(passed);
        *last = Some(Look {
            at: now,
            found: found.clone(),
        });
        found
    }

    fn look(&self, passed: Option<Duration>) -> Vec<PartitionLoad> {
        let models = self.models.load();
        let mut found = Vec::new();
        for slot in models.slots() {
            let (requests, bytes) = slot.traffic.since_then();
            let Some(passed) = passed.filter(|_| requests > 0) else {
                continue;
            };
            let rate = |count: u64| (count as f64 / passed.as_secs_f64()).round() as u64;
            let (all_requests, all_bytes) = slot.traffic.read();
            found.push((
                slot,
                PartitionLoad {
                    model: String::new(),
                    partition: slot.description.partition,
                    requests: all_requests,
                    bytes: all_bytes,
                    requests_per_second: rate(requests),
                    bytes_per_second: rate(bytes),
                },
            ));
            // Never many more than are wanted.
            if found.len() >= 4 * MAX_BUSIEST {
                keep_busiest(&mut found);
            }
        }
        keep_busiest(&mut found);
        let named = found.into_iter().map(|(slot, load)| PartitionLoad {
            model: slot.description.model.to_string(),
            ..load
        });
        named.collect()
    }
}

fn keep_busiest<T>(found: &mut Vec<(T, PartitionLoad)>) {
    found.sort_by_key(|(_, load)| (Reverse(load.weight()), load.partition));
    found.truncate(MAX_BUSIEST);
}
