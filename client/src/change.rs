//! The news that a map has changed, for whatever waits for a server that may no longer be the one to wait for.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts the changes of a client's maps. Who waits looks at its own partitions when the count has risen: changes are rare, and
/// waiting for one costs no memory.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    waiting: Notify,
}

impl Changes {
    /// How many there have been: to be read before the maps that are then relied on.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Tells everyone who waits, in the order in which they began to.
    pub(crate) fn announce(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// Waits until there have been others than `seen`, which is brought up to date.
    pub(crate) async fn since(&self, seen: &mut u64) {
        loop {
            // From here on none is missed.
            let next = self.waiting.notified();
            let count = self.count();
            if count != *seen {
                *seen = count;
                return;
            }
            next.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_once_also_when_it_came_before_the_wait() {
        let changes = Changes::default();
        let mut seen = changes.count();
        changes.announce();
        changes.announce();
        changes.since(&mut seen).await;
        let mut nothing = std::pin::pin!(changes.since(&mut seen));
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, &mut nothing).await.is_err());
        changes.announce();
        nothing.await;
    }
}
