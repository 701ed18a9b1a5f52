//! When to try again: exponential back-off with jitter, and a budget for the whole client, so that many operations that
//! fail together do not make things worse.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use glint_protocol::{Epoch, ErrorBody, ErrorCode};
use glint_world::Random;
use tokio::time::Instant;

use crate::{ClientOptions, error::Tried};

/// What one operation has tried.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    pub(crate) count: u32,
    pub(crate) since: Instant,
    pub(crate) last: Option<String>,
    /// Since when attempts have failed where they went last.
    troubled: Option<Instant>,
    /// Whether the last one failed since its server has not heard of the latest map yet.
    too_early: bool,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self::since(Instant::now())
    }

    pub(crate) fn since(since: Instant) -> Self {
        Self {
            count: 0,
            since,
            last: None,
            troubled: None,
            too_early: false,
        }
    }

    pub(crate) fn failed(&mut self, cause: &impl ToString) {
        self.last = Some(cause.to_string());
        self.troubled.get_or_insert_with(Instant::now);
        self.too_early = false;
    }

    /// The attempt at this epoch of a partition was refused.
    pub(crate) fn refused(&mut self, body: &ErrorBody, epoch: Epoch) {
        self.failed(body);
        let heard = body.detail.as_ref().and_then(|detail| detail.epoch);
        self.too_early = matches!(body.code, ErrorCode::NotYet | ErrorCode::StaleMap)
            && heard.is_some_and(|heard| heard < epoch);
    }

    /// Whether the next attempt may succeed very soon: the server that was asked is about to hear that it holds the partition.
    pub(crate) fn was_too_early(&self) -> bool {
        self.too_early
    }

    /// The next attempt goes elsewhere.
    pub(crate) fn moved(&mut self) {
        self.troubled = None;
    }

    /// How long attempts have failed.
    pub(crate) fn trouble(&self) -> Duration {
        self.troubled
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    #[allow(clippy::unnecessary_box_returns, reason = "errors hold it boxed")]
    pub(crate) fn tried(&self) -> Box<Tried> {
        Box::new(Tried {
            attempts: self.count,
            elapsed: self.since.elapsed(),
            last: self.last.clone(),
        })
    }
}

/// The pauses of a client.
#[derive(Debug)]
pub(crate) struct Pauses {
    first: Duration,
    longest: Duration,
    random: Random,
    budget: Mutex<Budget>,
}

impl Pauses {
    pub(crate) fn new(options: &ClientOptions, random: Random) -> Self {
        Self {
            first: options.first_pause,
            longest: options.longest_pause,
            random,
            budget: Mutex::new(Budget {
                tokens: options.retry_burst.into(),
                largest: options.retry_burst.into(),
                per_second: options.retries_per_second,
                at: Instant::now(),
            }),
        }
    }

    /// How long to wait before the next retry at a server, after so long a time in which attempts have failed, the last one
    /// `too_early`.
    ///
    /// While partitions may be about to move, pauses are short: then a map or a hint comes soon, and ends them. After that they
    /// double, and take from the budget.
    pub(crate) fn at_server(&self, trouble: Duration, too_early: bool) -> Duration {
        let first = if too_early {
            self.first / 16
        } else {
            self.first
        };
        let pause = growing(first, self.longest, trouble, self.random.unit());
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if trouble >= UNSETTLED {
            pause.max(budget.take(now))
        } else if budget.take_what_is_there(now) {
            pause
        } else {
            pause.max(QUICK.min(self.longest))
        }
    }

    /// How long to wait before the retry after `attempts` attempts; takes one retry from the budget.
    pub(crate) fn next(&self, attempts: u32) -> Duration {
        let pause = exponential(self.first, self.longest, attempts, self.random.unit());
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        pause.max(budget.take(Instant::now()))
    }
}

/// How long a partition that is about to move may take to do so.
const UNSETTLED: Duration = Duration::from_secs(2);
/// The longest pause until then.
const QUICK: Duration = Duration::from_millis(100);

/// As long as the trouble has lasted, so that it doubles, at most [`QUICK`] while things are unsettled; from then on it doubles
/// from there. The upper half of it is random.
fn growing(first: Duration, longest: Duration, trouble: Duration, unit: f64) -> Duration {
    let whole = match trouble.checked_sub(UNSETTLED) {
        None => (first + trouble).min(QUICK.max(first)),
        Some(since) => QUICK.max(first) + since,
    };
    whole.min(longest).mul_f64(0.5 + unit / 2.0)
}

/// `first × 2^(attempts − 1)`, at most `longest`; the upper half of it is random.
fn exponential(first: Duration, longest: Duration, attempts: u32, unit: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    whole.mul_f64(0.5 + unit / 2.0)
}

/// A bucket of retries that fills at a rate. It may be overdrawn: who overdraws it waits until it would be full enough.
#[derive(Debug)]
struct Budget {
    tokens: f64,
    largest: f64,
    per_second: f64,
    at: Instant,
}

impl Budget {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.largest);
    }

    /// Takes one without overdrawing; false when there is none.
    fn take_what_is_there(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn take(&mut self, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        // A debt of more than a minute would only say that there is no use in trying: it is not let grow.
        let wait = (-self.tokens / self.per_second).min(60.0);
        self.tokens = -wait * self.per_second;
        Duration::from_secs_f64(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_half_is_random() {
        let (first, longest) = (Duration::from_millis(10), Duration::from_secs(1));
        let pause = |attempts, unit| exponential(first, longest, attempts, unit);
        assert_eq!(pause(1, 0.0), Duration::from_millis(5));
        assert_eq!(pause(1, 1.0), Duration::from_millis(10));
        assert_eq!(pause(4, 1.0), Duration::from_millis(80));
        assert_eq!(pause(100, 1.0), longest);
    }

    #[test]
    fn pauses_stay_short_while_partitions_may_move_and_double_from_then_on() {
        let ms = Duration::from_millis;
        let pause = |trouble| growing(ms(10), Duration::from_secs(2), trouble, 1.0);
        assert_eq!(pause(ms(0)), ms(10));
        assert_eq!(pause(ms(10)), ms(20));
        assert_eq!(pause(ms(1999)), ms(100));
        assert_eq!(pause(ms(2000)), ms(100));
        assert_eq!(pause(ms(2100)), ms(200));
        assert_eq!(pause(ms(60_000)), Duration::from_secs(2));
        let mut soon = ms(0);
        for _ in 0..4 {
            soon += growing(ms(1), Duration::from_secs(2), soon, 1.0);
        }
        assert_eq!(soon, ms(15), "who was too early waits for 1, 2, 4, 8 ms");
        let half = growing(ms(10), Duration::from_secs(2), ms(500), 0.0);
        assert_eq!(half, ms(50));
    }

    #[test]
    fn what_is_taken_while_there_is_some_leaves_no_debt() {
        let start = Instant::now();
        let mut budget = Budget {
            tokens: 1.0,
            largest: 2.0,
            per_second: 10.0,
            at: start,
        };
        assert!(budget.take_what_is_there(start));
        assert!((0..1000).all(|_| !budget.take_what_is_there(start)));
        assert!(budget.take_what_is_there(start + Duration::from_millis(150)));
    }

    #[test]
    fn an_overdrawn_budget_spreads_retries_at_its_rate() {
        let start = Instant::now();
        let mut budget = Budget {
            tokens: 2.0,
            largest: 2.0,
            per_second: 10.0,
            at: start,
        };
        assert_eq!(budget.take(start), Duration::ZERO);
        assert_eq!(budget.take(start), Duration::ZERO);
        assert_eq!(budget.take(start), Duration::from_millis(100));
        assert_eq!(budget.take(start), Duration::from_millis(200));
        let later = start + Duration::from_secs(10);
        assert_eq!(budget.take(later), Duration::ZERO, "it fills again");
    }
}
