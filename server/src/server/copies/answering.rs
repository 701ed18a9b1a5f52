//! Whether a holder may answer now: not before the promises that it gave as a follower have ended, and not after those that its
//! followers gave it have. Clocks guard only freshness: without this nothing would be lost or doubled.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use glint_world::Clock;
use tokio::time::Instant;

/// Microseconds since the start of the server.
#[derive(Debug)]
pub(in crate::server) struct Answering {
    /// Not before.
    from: AtomicU64,
    /// Not after; [`FOR_EVER`] when nobody else could be promoted.
    until: AtomicU64,
}

const FOR_EVER: u64 = u64::MAX;

/// The start of a server, from which times are counted, by the clock of its machine.
#[derive(Clone)]
pub(in crate::server) struct Origin {
    start: Instant,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.start).finish()
    }
}

impl Origin {
    /// A server that starts now.
    pub(in crate::server) fn of(clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self { start, clock }
    }

    /// The time by this machine's clock.
    pub(in crate::server) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Microseconds from the start to a time by this machine's clock.
    pub(in crate::server) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }

    /// When so many microseconds had passed since the start; none for 0, which nobody names.
    pub(in crate::server) fn at(&self, micros: u64) -> Option<Instant> {
        let passed = (micros > 0).then(|| Duration::from_micros(micros))?;
        self.start.checked_add(passed)
    }

    /// Microseconds since the start.
    pub(in crate::server) fn passed(&self) -> u64 {
        self.micros(self.now())
    }
}

impl Default for Answering {
    fn default() -> Self {
        Self {
            from: AtomicU64::new(0),
            until: AtomicU64::new(FOR_EVER),
        }
    }
}

impl Answering {
    /// Whether a holder may answer; who is alone and waits for nothing does not look at the clock.
    pub(in crate::server) fn may(&self, origin: &Origin) -> bool {
        let until = self.until.load(Ordering::Acquire);
        let from = self.from.load(Ordering::Acquire);
        if until == FOR_EVER && from == 0 {
            return true;
        }
        let now = origin.passed();
        if from != 0 && now >= from {
            // What had to be waited for is over for good, unless it was set anew.
            let _ = self
                .from
                .compare_exchange(from, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        now >= from && now < until
    }

    /// Whether what had to be waited for is over.
    pub(in crate::server) fn has_begun(&self, origin: &Origin) -> bool {
        let from = self.from.load(Ordering::Acquire);
        from == 0 || origin.passed() >= from
    }

    /// It may not answer before.
    pub(in crate::server) fn wait_until(&self, micros: u64) {
        self.from.store(micros, Ordering::Release);
    }

    /// The promises of its followers end then; none when there is nobody who could take over.
    pub(in crate::server) fn leased_until(&self, micros: Option<u64>) {
        self.until
            .store(micros.unwrap_or(FOR_EVER), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use glint_world::SystemClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_holder_answers_between_the_end_of_its_promise_and_the_end_of_its_lease() {
        let origin = Origin::of(Arc::new(SystemClock));
        let answering = Answering::default();
        assert!(answering.may(&origin));
        answering.wait_until(200_000);
        answering.leased_until(Some(300_000));
        for (millis, may) in [(199, false), (1, true), (99, true), (1, false)] {
            tokio::time::advance(Duration::from_millis(millis)).await;
            assert_eq!(answering.may(&origin), may);
        }
        answering.leased_until(None);
        assert!(answering.may(&origin));
    }
}
