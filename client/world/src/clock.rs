//! The time of day, for the births of lanes and for people. Durations come from tokio's timers.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time of day. It may jump; nothing's safety rests on it.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;
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
