//! How fast the states of partitions are sent to new followers: so that training keeps its rate meanwhile.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A bucket that fills with time: whoever takes more than it has waits.
#[derive(Debug)]
pub(in crate::server) struct Rate {
    /// Bytes a second; none without a limit.
    per_second: Option<u64>,
    /// When what was taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

/// What may be taken at once after a pause.
const BURST: Duration = Duration::from_millis(20);

impl Rate {
    pub(in crate::server) fn new(per_second: Option<u64>) -> Self {
        Self {
            per_second: per_second.map(|rate| rate.max(1)),
            paid: Mutex::default(),
        }
    }

    /// Takes so many bytes; says how long to wait before the next.
    pub(super) fn take(&self, bytes: usize) -> Duration {
        let Some(rate) = self.per_second else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = paid.map_or(earliest, |paid| paid.max(earliest));
        let next = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *paid = Some(next);
        next.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_sent_in_a_second_than_the_rate_allows() {
        let rate = Rate::new(Some(1000));
        let began = Instant::now();
        for _ in 0..30 {
            tokio::time::sleep(rate.take(100)).await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((2.9..3.1).contains(&took), "{took}");
        assert_eq!(Rate::new(None).take(1 << 30), Duration::ZERO);
    }
}
