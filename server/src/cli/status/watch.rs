//! `glint status --watch`: the same again every second, with how fast copies move and how long that will take.

use std::{
    fmt::Write,
    io::{IsTerminal, stdout},
    time::Duration,
};

use glint_protocol::{admin::DrainState, control::ClusterStatus};
use glint_server::master::Size;
use tokio::time::Instant;

use super::{show, span};
use crate::cli::{api::Api, print};

const EVERY: Duration = Duration::from_secs(1);
/// Over how many looks a rate is taken.
const LOOKS: usize = 10;
/// Moves the cursor home, and clears from there.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the status until the command is ended.
pub(super) async fn run(api: &Api) -> anyhow::Result<()> {
    let mut pace = Pace::default();
    loop {
        let status: ClusterStatus = api.get("/v1/status").await?;
        pace.see(left(&status), Instant::now());
        let clear = if stdout().is_terminal() { CLEAR } else { "\n" };
        print(&format!("{clear}{}{}", show(&status)?, pace.text()?))?;
        tokio::time::sleep(EVERY).await;
    }
}

/// Bytes that are left to move, or to copy.
pub(crate) fn left(status: &ClusterStatus) -> u64 {
    let draining = status.servers.iter();
    let draining = draining.filter(|s| s.drain == Some(DrainState::Draining));
    let draining: u64 = draining.map(|s| s.placed_bytes).sum();
    // What moves off a drained server is counted there.
    let drained = |id| {
        let mut servers = status.servers.iter();
        servers.any(|s| s.id == id && s.drain.is_some())
    };
    let moves = &status.transfers.moves;
    let counted: u64 = moves
        .iter()
        .filter(|m| drained(m.from.clone()))
        .map(|m| m.bytes)
        .sum();
    draining
        + status.transfers.moving_bytes.saturating_sub(counted)
        + status.transfers.learning_bytes
}

/// How fast what is left becomes less.
#[derive(Default)]
pub(crate) struct Pace {
    seen: Vec<(Instant, u64)>,
}

impl Pace {
    /// Notes what is left now.
    pub(crate) fn see(&mut self, left: u64, now: Instant) {
        // When it grows, something new has begun.
        if self.seen.last().is_some_and(|&(_, before)| left > before) {
            self.seen.clear();
        }
        self.seen.push((now, left));
        if self.seen.len() > LOOKS {
            self.seen.remove(0);
        }
    }

    /// Bytes left, the rate, and the time that they take at that.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let (Some(&(first, had)), Some(&(last, left))) = (self.seen.first(), self.seen.last())
        else {
            return Ok(text);
        };
        if left == 0 && had == 0 {
            return Ok(text);
        }
        write!(text, "\n{} left to copy", Size(left))?;
        let passed = last.saturating_duration_since(first).as_secs_f64();
        let rate = (had - left) as f64 / passed.max(0.001);
        if left > 0 && rate >= 1.0 {
            let ms = left as f64 / rate * 1000.0;
            write!(text, ", {}/s, {} to go", Size(rate as u64), span(ms as u64))?;
        }
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_says_how_long_the_rest_takes() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.text().unwrap(), "");
        for (second, left) in [(0, 40 << 20), (1, 30 << 20), (2, 20 << 20)] {
            pace.see(left, start + Duration::from_secs(second));
        }
        assert_eq!(
            pace.text().unwrap(),
            "\n20.0 MiB left to copy, 10.0 MiB/s, 2 s to go\n"
        );
        pace.see(0, start + Duration::from_secs(4));
        assert_eq!(pace.text().unwrap(), "\n0 B left to copy\n");
        // More has come: the old pace says nothing of it.
        pace.see(1 << 20, start + Duration::from_secs(5));
        assert_eq!(pace.text().unwrap(), "\n1.0 MiB left to copy\n");
    }
}
