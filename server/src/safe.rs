//! The safe position of a partition: the lowest that every copy which must have it has.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use glint_protocol::Position;
use tokio::sync::Notify;

/// How far a partition's log is safe.
///
/// What this copy has is raised by whoever applies (`memory`), or by the log, once the system or the disk has the record. A
/// holder with followers also waits for the word of those that it [requires](Self::require).
#[derive(Debug, Default)]
pub struct SafePosition {
    /// What this copy has.
    own: AtomicU64,
    /// What all copies that must have it have.
    position: AtomicU64,
    /// Whether any other copy is required.
    shared: AtomicBool,
    required: Mutex<Vec<Required>>,
    /// Rises whenever verdicts that wait must be given up.
    era: AtomicU64,
    risen: Notify,
}

/// Another copy whose word is needed.
#[derive(Clone, Copy, Debug)]
struct Required {
    /// Its attachment.
    session: u64,
    has: u64,
}

/// This server has ceased to be the holder while a verdict waited: nothing is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposed;

impl SafePosition {
    /// This copy has everything up to `position` now. To be called under the lock of the partition, as [`Self::require`] is:
    /// what is safe by this alone is told before another copy is required.
    pub fn raise(&self, position: Position) {
        if self.own.fetch_max(position.0, Ordering::Release) >= position.0 {
            return;
        }
        if self.shared.load(Ordering::Acquire) {
            self.settle(&self.required());
        } else {
            self.position.fetch_max(position.0, Ordering::Release);
        }
        self.risen.notify_waiters();
    }

    /// The same, from beside the lock of the partition.
    pub fn raise_beside(&self, position: Position) {
        let required = self.required();
        if self.own.fetch_max(position.0, Ordering::Release) < position.0 {
            self.settle(&required);
            self.risen.notify_waiters();
        }
    }

    fn required(&self) -> MutexGuard<'_, Vec<Required>> {
        // What it guards is changed in single steps.
        self.required.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the safe position to what all have.
    fn settle(&self, required: &[Required]) {
        let own = self.own.load(Ordering::Acquire);
        let all = required.iter().map(|r| r.has).fold(own, u64::min);
        if self.position.fetch_max(all, Ordering::Release) < all {
            self.risen.notify_waiters();
        }
    }

    /// From now on the word of this attachment is needed too; it has everything up to `has`. The safe position never falls by
    /// it.
    pub fn require(&self, session: u64, has: Position) {
        let mut required = self.required();
        if !required.iter().any(|r| r.session == session) {
            required.push(Required {
                session,
                has: has.0,
            });
        }
        self.shared.store(true, Ordering::Release);
    }

    /// The word of this attachment is not needed any more.
    pub fn release(&self, session: u64) {
        let mut required = self.required();
        required.retain(|r| r.session != session);
        self.shared.store(!required.is_empty(), Ordering::Release);
        self.settle(&required);
    }

    /// An attachment reports that it has everything up to `position`.
    pub fn report(&self, session: u64, position: Position) {
        let mut required = self.required();
        if let Some(found) = required.iter_mut().find(|r| r.session == session) {
            found.has = found.has.max(position.0);
            self.settle(&required);
        }
    }

    /// Begins anew as a holder whose set needs these attachments, none of which has reported yet: nothing that was inherited is
    /// safe before all of them have it.
    pub fn begin(&self, sessions: &[u64]) {
        let mut required = self.required();
        required.clear();
        required.extend(sessions.iter().map(|&session| Required { session, has: 0 }));
        self.shared.store(!required.is_empty(), Ordering::Release);
        let own = self.own.load(Ordering::Acquire);
        let all = if required.is_empty() { own } else { 0 };
        self.position.store(all, Ordering::Release);
        // A rise of what this copy has in between is not lost.
        self.settle(&required);
    }

    /// Gives up the verdicts that wait: this server is not the holder any more.
    pub fn depose(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
        self.required().clear();
        self.shared.store(false, Ordering::Release);
        self.risen.notify_waiters();
    }

    /// Wakes whoever waits, to look again.
    pub fn look_again(&self) {
        self.risen.notify_waiters();
    }

    /// Names the time in which a verdict was formed: see [`Self::reached`].
    pub fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// What this copy has.
    pub fn own(&self) -> Position {
        Position(self.own.load(Ordering::Acquire))
    }

    /// What all copies that must have it have.
    pub fn safe(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    fn has(&self, position: Position) -> bool {
        self.safe() >= position
    }

    /// Waits until everything up to `position` is safe and `may_answer` says yes.
    ///
    /// # Errors
    /// [`Deposed`] when that will never be, since the era has ended.
    pub async fn reached(
        &self,
        position: Position,
        era: u64,
        may_answer: impl Fn() -> bool,
    ) -> Result<(), Deposed> {
        let settled = || {
            if self.era() != era {
                return Some(Err(Deposed));
            }
            (self.has(position) && may_answer()).then_some(Ok(()))
        };
        // The usual case with one copy in memory; whoever waits has to be entered into a list, under its lock.
        if let Some(settled) = settled() {
            return settled;
        }
        loop {
            let risen = self.risen.notified();
            let mut risen = std::pin::pin!(risen);
            // From here on a rise is not missed; it may have come just before.
            risen.as_mut().enable();
            if let Some(settled) = settled() {
                return settled;
            }
            risen.await;
        }
    }

    /// Waits until this copy has everything up to `position`.
    pub async fn owned(&self, position: Position) {
        loop {
            let risen = self.risen.notified();
            let mut risen = std::pin::pin!(risen);
            risen.as_mut().enable();
            if self.own() >= position {
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

    fn waiting(safe: &SafePosition, position: u64) -> Option<Result<(), Deposed>> {
        safe.reached(Position(position), safe.era(), || true)
            .now_or_never()
    }

    #[tokio::test]
    async fn a_verdict_waits_until_its_position_is_safe() {
        let safe = SafePosition::default();
        safe.raise(Position(3));
        assert_eq!(waiting(&safe, 3), Some(Ok(())));
        let mut later = Box::pin(safe.reached(Position(5), 0, || true));
        assert!(later.as_mut().now_or_never().is_none());
        safe.raise(Position(4));
        assert!(later.as_mut().now_or_never().is_none());
        safe.raise(Position(6));
        assert_eq!(later.await, Ok(()));
        safe.raise(Position(1));
        assert_eq!(waiting(&safe, 6), Some(Ok(())));
    }

    #[test]
    fn what_is_safe_is_what_every_required_copy_has_and_never_falls() {
        let safe = SafePosition::default();
        safe.raise(Position(5));
        safe.require(1, Position(2));
        assert_eq!(safe.safe(), Position(5), "it does not fall");
        safe.raise(Position(9));
        assert_eq!(safe.safe(), Position(5));
        safe.report(1, Position(7));
        assert_eq!(safe.safe(), Position(7));
        safe.require(2, Position(6));
        safe.report(1, Position(9));
        safe.report(2, Position(8));
        assert_eq!(safe.safe(), Position(8));
        safe.report(3, Position(1));
        safe.release(2);
        assert_eq!(safe.safe(), Position(9));
    }

    #[test]
    fn what_a_new_holder_has_inherited_is_safe_once_its_whole_set_has_it() {
        let safe = SafePosition::default();
        safe.raise(Position(5));
        safe.begin(&[1, 2]);
        assert!(waiting(&safe, 5).is_none());
        safe.report(1, Position(5));
        assert!(waiting(&safe, 5).is_none());
        safe.report(2, Position(5));
        assert_eq!(waiting(&safe, 5), Some(Ok(())));
        safe.begin(&[]);
        assert_eq!(waiting(&safe, 5), Some(Ok(())));
    }

    #[tokio::test]
    async fn verdicts_of_a_holder_that_is_deposed_are_given_up() {
        let safe = SafePosition::default();
        safe.require(1, Position(0));
        safe.raise(Position(1));
        let mut waiting = Box::pin(safe.reached(Position(1), safe.era(), || true));
        assert!(waiting.as_mut().now_or_never().is_none());
        safe.depose();
        assert_eq!(waiting.await, Err(Deposed));
        safe.owned(Position(1)).await;
    }
}
