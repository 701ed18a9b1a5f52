//! One partition of this server: its lock, what never changes of it, and the position up to which what it holds is safe.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use glint_protocol::{LaneId, Number, Position};
use tokio::{sync::Notify, time::Instant};

use crate::partition::{Description, Loss, Partition};

/// One partition of this server.
#[derive(Debug)]
pub(super) struct Slot {
    /// What never changes of it.
    pub(super) description: Description,
    /// Since when each lane has been seen at the same number: for eviction only, never part of the partition's state.
    pub(super) idle: Mutex<BTreeMap<LaneId, (Number, Instant)>>,
    partition: Mutex<Partition>,
    safe: SafePosition,
}

impl Slot {
    pub(super) fn new(description: Description, partition: Partition) -> Self {
        let safe = SafePosition::new(partition.position());
        Self {
            description,
            idle: Mutex::default(),
            partition: Mutex::new(partition),
            safe,
        }
    }

    /// Locks the partition, shortly: never across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, Partition> {
        match self.partition.lock() {
            Ok(partition) => partition,
            Err(poisoned) => {
                // A defect struck in the midst of an update, and nobody knows how much of it is in.
                let mut partition: MutexGuard<'_, Partition> = PoisonError::into_inner(poisoned);
                partition.lose(Loss::Interrupted);
                partition
            }
        }
    }

    /// The position up to which every copy that must have the partition's records has them.
    pub(super) fn safe(&self) -> &SafePosition {
        &self.safe
    }
}

/// The position up to which a partition's records will survive what its model is promised to survive. With one copy in
/// memory, that is what is applied, and it is raised under the partition's lock; a log or a follower raises it later.
#[derive(Debug)]
pub(super) struct SafePosition {
    position: AtomicU64,
    raised: Notify,
}

impl SafePosition {
    fn new(position: Position) -> Self {
        Self {
            position: AtomicU64::new(position.0),
            raised: Notify::new(),
        }
    }

    /// Everything up to `position` is safe.
    pub(super) fn raise(&self, position: Position) {
        if self.position.fetch_max(position.0, Ordering::AcqRel) < position.0 {
            self.raised.notify_waiters();
        }
    }

    /// Waits until everything up to `position` is safe. A verdict that rests on a position is given after this only.
    pub(super) async fn reach(&self, position: Position) {
        while self.position.load(Ordering::Acquire) < position.0 {
            let raised = self.raised.notified();
            if self.position.load(Ordering::Acquire) < position.0 {
                raised.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_verdict_waits_until_its_position_is_safe() {
        let safe = Arc::new(SafePosition::new(Position(3)));
        safe.reach(Position(3)).await;
        let waiting = tokio::spawn({
            let safe = Arc::clone(&safe);
            async move { safe.reach(Position(5)).await }
        });
        safe.raise(Position(4));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        safe.raise(Position(6));
        safe.raise(Position(2));
        waiting.await.unwrap();
        safe.reach(Position(6)).await;
    }
}
