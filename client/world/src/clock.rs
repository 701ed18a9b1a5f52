//! The time of day, for the births of lanes and for people, and what leases are measured by. Other durations come from tokio's
//! timers.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Tells the time. It may jump; nothing's safety rests on it.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;

    /// What this machine's clock says now, by which leases are measured; it never falls. Another machine's may run faster or
    /// slower: of that only the freshness of what is read depends.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}
