//! Following the map of a model that is used: one task per open model, which asks the master for the map after the one that is
//! known, and for the present one when an operation is in trouble. Nothing else waits for the master.
//!
//! Thousands of clients hear of a change in one instant. So that they do not ask again in one instant, each waits a random
//! while first; a poll ends after a random while; and what asks because of trouble asks rarely while a poll is out, whose
//! answer would bring what is new anyway.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use glint_protocol::{ModelMap, ids::Revision};
use glint_world::{Random, Shutdown};
use tokio::{sync::Notify, time::Instant};

use crate::{
    Error, Result,
    control::Control,
    routing::Model,
    stats::{Counters, count},
};

/// How long the master is asked to hold a poll, at most; at least half of it.
const HOLD: Duration = Duration::from_secs(20);
/// The longest random pause between an answer and the next poll.
const SPREAD: Duration = Duration::from_millis(100);
/// The longest random pause before the map is asked for beside a poll that is out.
const BESIDE: Duration = Duration::from_millis(50);
/// About how rarely that is done.
const RARELY: Duration = Duration::from_secs(1);
/// The pause after a poll that failed: it doubles up to the longest, and half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What the pause shrinks to while an operation is in trouble, and as much again at random.
const IN_TROUBLE: Duration = Duration::from_millis(250);
/// A model that was not used for so long is not followed.
const IDLE: Duration = Duration::from_secs(60);

/// Whether a model is used and followed.
#[derive(Debug, Default)]
pub(crate) struct Following {
    used: AtomicBool,
    running: AtomicBool,
    /// How many answers of the master have come, of whatever kind.
    answers: AtomicU64,
    /// An operation is in trouble.
    wanted: Notify,
    /// The last handle is gone.
    dropped: Shutdown,
}

impl Following {
    /// Notes that the model is used; true when somebody is to start following it.
    pub(crate) fn note_use(&self) -> bool {
        // The usual case: one look.
        if self.used.load(Ordering::Relaxed) {
            return false;
        }
        self.used.store(true, Ordering::SeqCst);
        !self.running.swap(true, Ordering::SeqCst)
    }

    /// How many answers of the master have come: to be read before the attempt whose failure asks for another.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Acquire)
    }

    /// Asks for a fresh map, unless an answer has come since `seen` was read.
    pub(crate) fn want(&self, seen: u64) {
        if self.answers() == seen {
            self.wanted.notify_one();
        }
    }

    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Release);
    }

    /// The last handle is gone: nothing is to be followed any more.
    pub(crate) fn end(&self) {
        self.dropped.cancel();
    }

    /// Stops following unless the model was used meanwhile; true when it has stopped.
    fn stop(&self) -> bool {
        self.running.store(false, Ordering::SeqCst);
        !self.used.load(Ordering::SeqCst) || self.running.swap(true, Ordering::SeqCst)
    }
}

/// What follows one model. It does not hold it.
pub(crate) struct Follower {
    model: Weak<Model>,
    name: String,
    dropped: Shutdown,
    control: Arc<Control>,
    counters: Arc<Counters>,
    random: Random,
}

/// How a poll went.
enum Polled {
    /// There is another map.
    News,
    /// The poll was held, and there is none.
    Held,
    /// It failed, or was not held.
    Failed,
    /// There is nothing to follow any more.
    Over,
}

impl Follower {
    pub(crate) fn new(model: &Arc<Model>, random: Random) -> Self {
        Self {
            name: model.name().to_owned(),
            dropped: model.following.dropped.clone(),
            control: Arc::clone(&model.control),
            counters: Arc::clone(&model.counters),
            model: Arc::downgrade(model),
            random,
        }
    }

    /// Runs until the model is not used any more, or is gone.
    pub(crate) async fn run(self) {
        let dropped = self.dropped.clone();
        tokio::select! {
            biased;
            () = dropped.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut used = Instant::now();
        let mut failures = 0;
        let mut rarely = used;
        // Opening it has just brought its map.
        let mut pause = self.spread(SPREAD);
        loop {
            self.rest(pause, failures > 0).await;
            let Some(model) = self.model.upgrade() else {
                return;
            };
            let now = Instant::now();
            if model.following.used.swap(false, Ordering::SeqCst) {
                used = now;
            } else if now.saturating_duration_since(used) > IDLE && model.following.stop() {
                return;
            }
            let revision = model.routes().revision();
            drop(model);
            let hold = HOLD / 2 + self.spread(HOLD / 2);
            count(&self.counters.map_polls, 1);
            let poll = self.control.next_map(&self.name, revision, hold);
            let answer = tokio::select! {
                biased;
                answer = poll => answer,
                () = self.refresh_when_wanted(&mut rarely) => return,
            };
            let held = now.elapsed() >= hold / 2;
            let polled = match self.take(answer, revision) {
                Polled::Held if !held => Polled::Failed,
                other => other,
            };
            pause = match polled {
                Polled::Over => return,
                Polled::News => {
                    failures = 0;
                    self.spread(SPREAD)
                }
                Polled::Held => {
                    failures = 0;
                    Duration::ZERO
                }
                Polled::Failed => {
                    let whole = FIRST_PAUSE.saturating_mul(1 << failures).min(LONGEST_PAUSE);
                    failures = (failures + 1).min(16);
                    whole / 2 + self.spread(whole / 2)
                }
            };
        }
    }

    /// Waits, not long when an operation is in trouble, but longer when the master is too.
    async fn rest(&self, pause: Duration, failed: bool) {
        let until = Instant::now() + pause;
        let Some(following) = self.following() else {
            return;
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => {}
            () = following.wanted.notified() => {
                let least = if failed { IN_TROUBLE } else { Duration::ZERO };
                let soon = Instant::now() + least + self.spread(least.max(BESIDE));
                tokio::time::sleep_until(until.min(soon)).await;
            }
        }
    }

    /// Asks for the present map when an operation is in trouble, though a poll is out: its connection may be dead.
    async fn refresh_when_wanted(&self, rarely: &mut Instant) {
        loop {
            let Some(following) = self.following() else {
                return;
            };
            following.wanted.notified().await;
            let soon = Instant::now() + self.spread(BESIDE);
            tokio::time::sleep_until(soon.max(*rarely)).await;
            count(&self.counters.map_refreshes, 1);
            let answer = self.control.map_once(&self.name).await;
            if matches!(self.take(answer, Revision(0)), Polled::Over) {
                return;
            }
            *rarely = Instant::now() + RARELY / 2 + self.spread(RARELY);
        }
    }

    fn following(&self) -> Option<Arc<Following>> {
        self.model
            .upgrade()
            .map(|model| Arc::clone(&model.following))
    }

    /// Takes an answer of the master, who was told that this revision is known.
    fn take(&self, answer: Result<ModelMap>, known: Revision) -> Polled {
        let Some(model) = self.model.upgrade() else {
            return Polled::Over;
        };
        match model.heard(answer) {
            Err(Error::Gone { .. }) => Polled::Over,
            Err(_) => Polled::Failed,
            Ok(()) if model.routes().revision() > known => Polled::News,
            Ok(()) => Polled::Held,
        }
    }

    fn spread(&self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.unit())
    }
}
