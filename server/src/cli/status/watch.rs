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
    let mut seen = false;
    loop {
        let clear = if stdout().is_terminal() { CLEAR } else { "\n" };
        match api.get::<ClusterStatus>("/v1/status").await {
            Ok(status) => {
                seen = true;
                pace.see(left(&status), Instant::now());
                print(&format!("{clear}{}{}", show(&status)?, pace.text()?))?;
            }
            // There was a master: it is waited for. What it says then is compared with nothing from before.
            Err(error) if seen => {
                pace = Pace::default();
                print(&format!("{clear}{error:#}\nasking again\n"))?;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Bytes that are left to move, or to copy; what has come of a copy that is on its way is not.
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
    let servers = status.servers.iter();
    let arrived: u64 = servers.map(|s| s.load.arrived_bytes).sum();
    let whole = draining
        + status.transfers.moving_bytes.saturating_sub(counted)
        + status.transfers.learning_bytes;
    whole.saturating_sub(arrived)
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
    use serde_json::{Value, json};

    use super::*;

    /// A server that has so many bytes, is drained or not, and to which so many have come.
    fn server(id: &str, placed: u64, drain: Option<&str>, arrived: u64) -> Value {
        let load = json!({
            "value_bytes": 0, "partitions": 0, "pulls": 0, "pushes": 0, "repeated": 0, "bytes_in": 0, "bytes_out": 0,
            "ledger_entries": 0, "arrived_bytes": arrived,
        });
        json!({
            "id": id, "url": "http://s:1", "boot": "1", "state": "alive", "silent_ms": 0, "capacity_bytes": 1000,
            "placed_bytes": placed, "copies": 1, "drain": drain, "load": load,
        })
    }

    fn status(servers: &[Value], transfers: &Value) -> ClusterStatus {
        let status = json!({
            "term": 1, "version": "1", "servers": servers, "models": [], "transfers": transfers,
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn left_is_what_has_not_come_yet_and_counts_nothing_twice() {
        let transfers = |moves: &Value| {
            json!({
                "moving": 1, "moving_bytes": 100, "learning": 1, "learning_bytes": 40, "levelling": false, "moves": moves,
            })
        };
        let one = |from: &str| json!([{ "model": "m", "partition": 0, "from": from, "to": "s2", "bytes": 100 }]);
        let plain = |arrived| {
            let servers = [server("s1", 300, None, 0), server("s2", 0, None, arrived)];
            left(&status(&servers, &transfers(&one("s1"))))
        };
        // Within a partition it becomes less as it comes.
        assert_eq!([0, 30, 139, 140, 200].map(plain), [140, 110, 1, 0, 0]);
        let drained = |drain, arrived| {
            let servers = [
                server("s1", 300, Some(drain), 0),
                server("s2", 0, None, arrived),
            ];
            left(&status(&servers, &transfers(&one("s1"))))
        };
        // What moves off a server that is emptied is a part of what it has.
        assert_eq!(drained("draining", 0), 340);
        assert_eq!(drained("draining", 60), 280);
        assert_eq!(drained("drained", 0), 40);
    }

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
