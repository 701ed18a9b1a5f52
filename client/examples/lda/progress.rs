//! What a person sees while it runs: a bar on a terminal, a line now and then elsewhere. Or what a program sees.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use glint::ClientStats;
use indicatif::{ProgressBar, ProgressStyle};

use crate::event::Event;

/// Shows how far the training is.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// Whether lines of JSON are wanted.
    events: bool,
    sweeps: usize,
    tokens: usize,
    started: Instant,
    /// Time spent in sweeps, without looking at the likelihood.
    sampling: Duration,
    done: usize,
    /// When the last line was written, and the requests up to then.
    last: (Instant, u64),
    /// The likelihood, and the requests a second, when they were looked at last.
    reached: Option<(f64, f64)>,
}

impl Progress {
    /// Starts the clock; `events` asks for lines of JSON.
    pub(crate) fn start(events: bool, sweeps: usize, tokens: usize, stats: ClientStats) -> Self {
        let bar = (!events && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template(
                "{bar:30.cyan/blue} sweep {pos}/{len}  {msg}  eta {eta}",
            );
            ProgressBar::new(sweeps as u64)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let now = Instant::now();
        Self {
            bar,
            events,
            sweeps,
            tokens,
            started: now,
            sampling: Duration::ZERO,
            done: 0,
            last: (now, stats.requests),
            reached: None,
        }
    }

    /// One more sweep is done.
    pub(crate) fn sweep(&mut self, took: Duration, stats: ClientStats) {
        self.done += 1;
        self.sampling += took;
        self.tell(stats, took, false);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
            bar.set_message(self.message());
        }
    }

    /// The likelihood is known after a sweep.
    pub(crate) fn likelihood(&mut self, likelihood: f64, stats: ClientStats) {
        let (then, before) = self.last;
        let rate = (stats.requests - before) as f64 / then.elapsed().as_secs_f64();
        self.last = (Instant::now(), stats.requests);
        self.reached = Some((likelihood, rate));
        if self.events {
            // It is told with the next sweep, or at the end.
        } else if let Some(bar) = &self.bar {
            bar.set_message(self.message());
        } else {
            println!("sweep {:>5}/{}  {}", self.done, self.sweeps, self.message());
        }
    }

    /// The training has ended, and what the servers have was found to be right.
    pub(crate) fn end(&self, stats: ClientStats) {
        self.tell(stats, Duration::ZERO, true);
    }

    fn tell(&self, stats: ClientStats, took: Duration, exact: bool) {
        if !self.events {
            return;
        }
        let event = Event {
            sweep: self.done,
            seconds: took.as_secs_f64(),
            tokens: (self.tokens * self.done) as u64,
            log_likelihood: self.reached.map(|(likelihood, _)| likelihood),
            calls: stats.pulls + stats.pushes,
            failed_calls: stats.failed,
            sent_again: stats.retries,
            exact,
        };
        // Numbers and words only: this cannot fail.
        println!("{}", serde_json::to_string(&event).unwrap_or_default());
    }

    /// Sweeps that are done.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    fn message(&self) -> String {
        let speed = self.tokens_per_second() / 1e6;
        self.reached.map_or_else(
            || format!("{speed:.2} M tokens/s"),
            |(likelihood, requests)| {
                format!("{speed:.2} M tokens/s  log-likelihood {likelihood:.0}  {requests:.0} requests/s")
            },
        )
    }

    /// Tokens drawn anew per second of sweeping.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        (self.tokens * self.done) as f64 / self.sampling.as_secs_f64()
    }

    /// Takes the bar away; how long it all took.
    pub(crate) fn finish(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }
}
