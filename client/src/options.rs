//! Every knob of a client, with a default that needs no thought.

use std::time::Duration;

use glint_protocol::{MAX_BODY_BYTES, REQUEST_BYTES};

use crate::{Error, Read, Result};

/// How a client behaves. The default is right unless you have measured otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientOptions {
    /// How long a pull or push may take, with all its retries: 5 minutes. The cluster has a longest (10 minutes).
    pub deadline: Duration,
    /// How long [`crate::Client::connect`] waits for a master to answer: 30 seconds.
    pub connect_deadline: Duration,
    /// How long one request may take before it is given up and sent again: 10 seconds.
    pub request_timeout: Duration,
    /// Connections per server: 3. While one reply is copied and one arrives, one is being asked for.
    pub connections: usize,
    /// Lanes, the numbered streams of pushes that make each push count once: 4. More let more small pushes to one
    /// server be out at once; each costs an entry in the ledger of every partition it touches.
    pub lanes: usize,
    /// What one request aims at, in bytes: 1 MiB, which stays in a processor's cache.
    pub request_bytes: usize,
    /// Bytes of pushes in flight at most: 64 MiB. Further pushes wait.
    pub in_flight_bytes: usize,
    /// Which copies may answer pulls: the holder only. Handles can say otherwise ([`crate::Vector::reading`]).
    pub read: Read,
    /// Whether small operations that are in flight together share requests: yes.
    pub coalesce: bool,
    /// The pause before the first retry: 10 milliseconds. It doubles with each, and half of it is random.
    pub first_pause: Duration,
    /// The longest pause between retries: 2 seconds.
    pub longest_pause: Duration,
    /// Retries per second that the whole client may make in the long run: 200. Above it retries wait longer.
    pub retries_per_second: f64,
    /// Retries that it may make at once before [`Self::retries_per_second`] counts: 1000.
    pub retry_burst: u32,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5 * 60),
            connect_deadline: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            connections: 3,
            lanes: 4,
            request_bytes: REQUEST_BYTES,
            in_flight_bytes: 64 << 20,
            read: Read::Latest,
            coalesce: true,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(2),
            retries_per_second: 200.0,
            retry_burst: 1000,
        }
    }
}

impl ClientOptions {
    /// Says which option makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |option, problem: &str| {
            Err(Error::Options {
                option,
                problem: problem.into(),
            })
        };
        let largest = MAX_BODY_BYTES / 2;
        if self.deadline.is_zero() {
            return wrong("deadline", "must be longer than 0");
        }
        if self.request_timeout.is_zero() {
            return wrong("request_timeout", "must be longer than 0");
        }
        if !(1..=64).contains(&self.connections) {
            return wrong("connections", "give 1 to 64");
        }
        if !(1..=64).contains(&self.lanes) {
            return wrong("lanes", "give 1 to 64");
        }
        if !(4096..=largest).contains(&self.request_bytes) {
            return wrong("request_bytes", "give 4 KiB to 4 MiB");
        }
        if self.in_flight_bytes < self.request_bytes || self.in_flight_bytes > u32::MAX as usize {
            return wrong(
                "in_flight_bytes",
                "give at least `request_bytes` and less than 4 GiB",
            );
        }
        if matches!(self.read, Read::AtLeast(_)) {
            return wrong(
                "read",
                "positions are those of one model: give them to a handle of it",
            );
        }
        if self.first_pause.is_zero() || self.longest_pause < self.first_pause {
            return wrong(
                "first_pause",
                "must be longer than 0 and at most `longest_pause`",
            );
        }
        if !self.retries_per_second.is_finite()
            || self.retries_per_second < 0.1
            || self.retry_burst == 0
        {
            return wrong(
                "retries_per_second",
                "give at least 0.1, and a `retry_burst` of at least 1",
            );
        }
        Ok(())
    }

    /// The last part of a push's time, in which it is settled rather than tried again: so that at the deadline it is
    /// known whether it was applied.
    pub(crate) fn settling(deadline: Duration) -> Duration {
        (deadline / 5).min(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_named() {
        ClientOptions::default().check().unwrap();
        let lanes = ClientOptions {
            lanes: 0,
            ..ClientOptions::default()
        };
        assert!(lanes.check().unwrap_err().to_string().contains("'lanes'"));
        let bytes = ClientOptions {
            request_bytes: MAX_BODY_BYTES,
            ..ClientOptions::default()
        };
        assert!(
            bytes
                .check()
                .unwrap_err()
                .to_string()
                .contains("'request_bytes'")
        );
    }
}
