//! The time as one host sees it: simulated time, more or less.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The time of day at the start of a simulation, in milliseconds since 1970.
const START_MS: i64 = 1_767_225_600_000;

/// The clock of one host. Cheap to clone; clones are one clock.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    ahead_ms: Arc<AtomicI64>,
    /// How many of its microseconds pass in a second, for durations.
    rate: u64,
    /// What it has leapt forward so far, for durations.
    leapt_ms: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that is right now `ahead_ms` ahead of the true time; negative is behind.
    pub fn new(ahead_ms: i64) -> Self {
        Self {
            start: Instant::now(),
            ahead_ms: Arc::new(AtomicI64::new(ahead_ms)),
            rate: 1_000_000,
            leapt_ms: Arc::default(),
        }
    }

    /// The same, but that so many microseconds pass on it in a second, as far as durations go.
    #[must_use]
    pub fn running_at(self, rate: u64) -> Self {
        Self { rate, ..self }
    }

    /// Lets more time pass on it at once, as far as durations go.
    pub fn leap(&self, by_ms: u64) {
        self.leapt_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Moves it by so much.
    pub fn jump(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl glint_world::Clock for Clock {
    fn unix_ms(&self) -> u64 {
        let passed = self.start.elapsed().as_millis() as i64;
        (START_MS + passed + self.ahead_ms.load(Ordering::Relaxed)).max(0) as u64
    }

    fn now(&self) -> Instant {
        let passed = self.start.elapsed().as_micros() * u128::from(self.rate) / 1_000_000;
        let leapt = Duration::from_millis(self.leapt_ms.load(Ordering::Relaxed));
        self.start + Duration::from_micros(passed as u64) + leapt
    }
}
