//! The safe position of a partition: the lowest that every copy which must have it has.

use std::sync::atomic::{AtomicU64, Ordering};

use glint_protocol::Position;
use tokio::sync::Notify;

/// How far a partition's log is safe. What is applied to a `memory` model is safe at once, so
/// whoever applies raises it; of the others the log does, once the system or the disk has the record.
#[derive(Debug, Default)]
pub struct SafePosition {
    position: AtomicU64,
    risen: Notify,
}

impl SafePosition {
    /// Everything up to `position` is safe now.
    pub fn raise(&self, position: Position) {
        if self.position.fetch_max(position.0, Ordering::Release) < position.0 {
            self.risen.notify_waiters();
        }
    }

    fn has(&self, position: Position) -> bool {
        self.position.load(Ordering::Acquire) >= position.0
    }

    /// Waits until everything up to `position` is safe.
    pub async fn reached(&self, position: Position) {
        while !self.has(position) {
            let risen = self.risen.notified();
            let mut risen = std::pin::pin!(risen);
            // From here on a rise is not missed; it may have come just before.
            risen.as_mut().enable();
            if self.has(position) {
                return;
            }
            risen.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_verdict_waits_until_its_position_is_safe() {
        let safe = SafePosition::default();
        safe.raise(Position(3));
        safe.reached(Position(3)).await;
        let mut waiting = Box::pin(safe.reached(Position(5)));
        assert!(waiting.as_mut().now_or_never().is_none());
        safe.raise(Position(4));
        assert!(waiting.as_mut().now_or_never().is_none());
        safe.raise(Position(6));
        waiting.await;
        safe.raise(Position(1));
        safe.reached(Position(6)).await;
    }
}
