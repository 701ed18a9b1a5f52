//! How long to wait before a look that failed is repeated: longer after each failure in a row, and never in step with others.

use std::time::Duration;

/// The wait after the first failure is at most twice this.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// How long to wait after `failed` failures in a row; `spread`, from 0 to 1, is another one for each object that failed, so
/// that objects that failed together do not try again together.
pub fn wait(failed: u32, spread: f64) -> Duration {
    let longest = FIRST.saturating_mul(1 << failed.min(9)).min(LONGEST);
    longest.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_row_doubles_the_wait_up_to_five_minutes() {
        let longest: Vec<u64> = (1..12).map(|n| wait(n, 1.0).as_secs()).collect();
        assert_eq!(
            longest,
            [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300],
            "seconds"
        );
        assert_eq!(wait(u32::MAX, 1.0), LONGEST);
    }

    #[test]
    fn objects_that_failed_together_are_spread_over_half_of_the_wait() {
        for failed in 1..12 {
            let (soonest, latest) = (wait(failed, 0.0), wait(failed, 1.0));
            assert_eq!(soonest * 2, latest, "after {failed} failures");
            let between = wait(failed, 0.5);
            assert!(soonest < between && between < latest);
        }
        assert_eq!(
            wait(3, 7.0),
            wait(3, 1.0),
            "whatever the spread, there is a bound"
        );
    }
}
