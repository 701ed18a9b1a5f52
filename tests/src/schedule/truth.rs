//! What must be so: every push and pull is told here when it begins and when it ends, and what a pull found is compared
//! with what is known.
//!
//! Each push adds a power of four of its own to each cell that it names, so that a cell's value says of each push how often
//! it is in: a doubled one is told from a lost one, at every pull, not only in the end.

mod hosts;
mod instance;
mod judge;
mod models;
mod rough;
mod wrong;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use glint::{Applied, Error, ForgottenPushes, Read};
use glint_protocol::{Durability, Incarnation};
use tokio::{sync::Notify, time::Instant};

use super::target::{Form, Pulled};
use crate::simulated::Trace;
use instance::{Instance, Push, Verdict};
use wrong::violation;
pub use wrong::{Counts, Violation, Wrong};

/// What an `async` model may lose when its machine stops: what was acknowledged so shortly before. It is the time between
/// two syncs and what one sync takes, on a disk that needs up to 4 ms for an operation, of which a sync has three.
const ASYNC_WINDOW: Duration = Duration::from_millis(100 + 2 * 3 * 4);
/// The same on a slow disk, where an operation takes up to 512 ms: two whole syncs.
pub(super) const SLOW_WINDOW: Duration = Duration::from_millis(2 * 3 * 512);

/// Cheap to clone; clones are one truth.
#[derive(Clone)]
pub(super) struct Truth {
    shared: Arc<Mutex<Known>>,
    broken: Arc<Notify>,
    trace: Trace,
}

pub(super) struct Known {
    /// Counts everything that is told: what was told earlier has a lower number.
    order: u64,
    models: BTreeMap<Incarnation, Instance>,
    /// The last model that was opened under each name.
    current: BTreeMap<String, Incarnation>,
    /// When calls began that were to make a model of a name, and have not ended well: it may be made all the same.
    asked: Vec<(String, u64)>,
    /// Ends of servers.
    deaths: BTreeMap<String, Vec<u64>>,
    /// Harm that was done to disks, and when.
    harms: Vec<(String, u64)>,
    /// When the master lost its state.
    master_losses: Vec<u64>,
    /// Adoptions that are being ended right now: what is missing is about to be lost.
    adopting: u32,
    /// When the last adoption ended.
    adopted: u64,
    /// When the last operation began that a host has answered.
    served: BTreeMap<String, u64>,
    /// When an admin last gave up what no copy has for certain.
    given_up: u64,
    /// Calls to delete the model of a name, whichever it is then: when they began, and when they ended if they have.
    deletes: Vec<(String, u64, Option<u64>)>,
    /// Faults are over: every operation must succeed.
    calm: bool,
    /// Clocks are so wrong that leases do not keep a holder that was replaced from answering: pulls may find what was.
    may_be_stale: bool,
    counts: Counts,
    violation: Option<Violation>,
}

/// A push that has begun.
pub(super) struct Begun {
    pub(super) numbers: Vec<u64>,
    incarnation: Incarnation,
    at: usize,
}

/// An attempt to open a model that has begun.
#[derive(Clone, Copy)]
pub(super) struct Since(u64);

/// A pull that has begun.
pub(super) struct Asked {
    /// In the order of everything, and in simulated time.
    since: u64,
    at: Instant,
    /// Which client asks, and of which copies.
    by: u64,
    read: Read,
}

/// What a worker does after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    Continue,
    /// It opens the model again.
    Reopen,
    /// It deletes the model and makes it again.
    Renew,
}

impl Truth {
    pub(super) fn new(trace: Trace, may_be_stale: bool) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Known {
                order: 0,
                models: BTreeMap::new(),
                current: BTreeMap::new(),
                asked: Vec::new(),
                deaths: BTreeMap::new(),
                harms: Vec::new(),
                master_losses: Vec::new(),
                adopting: 0,
                adopted: 0,
                served: BTreeMap::new(),
                given_up: 0,
                deletes: Vec::new(),
                calm: false,
                may_be_stale,
                counts: Counts::default(),
                violation: None,
            })),
            broken: Arc::new(Notify::new()),
            trace,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        super::lock(&self.shared)
    }

    /// Something is not as promised. The first such thing is what the schedule fails with.
    pub(super) fn violated(&self, wrong: Wrong, text: String) {
        self.trace
            .note("CHECKER", format_args!("{wrong:?}: {text}"));
        self.lock()
            .violation
            .get_or_insert(Violation { wrong, text });
        self.broken.notify_one();
    }

    fn judged(&self, who: &str, verdict: Result<(), Violation>) {
        if let Err(Violation { wrong, text }) = verdict {
            self.violated(wrong, format!("{who}: {text}"));
        }
    }

    /// Waits until something is not as promised.
    pub(super) async fn broken(&self) {
        self.broken.notified().await;
    }

    pub(super) fn violation(&self) -> Option<Violation> {
        self.lock().violation.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// What clients were told of acknowledged pushes that are gone: it must have happened what such pushes do not survive.
    pub(super) fn told_of_losses(&self, losses: &[ForgottenPushes]) {
        for loss in losses {
            let mut known = self.lock();
            known.counts.forgotten += 1;
            let may = known.models.values().any(|model| {
                model.plan.name == loss.model
                    && model.plan.durability == Durability::Async
                    && model.shortened
            });
            drop(known);
            if !may {
                let text = format!(
                    "a client is told that pushes are gone, which nothing explains: {loss:?}"
                );
                self.violated(Wrong::Other, text);
            }
        }
    }

    /// Faults are over.
    pub(super) fn calm(&self) {
        self.lock().calm = true;
    }

    /// A push of a client begins; none when one of its cells can tell no more pushes apart.
    pub(super) fn begin_push(
        &self,
        by: u64,
        incarnation: Incarnation,
        form: &Form,
    ) -> Option<Begun> {
        let mut known = self.lock();
        let order = known.tick();
        let model = known.models.get_mut(&incarnation)?;
        let (at, numbers) = model.begin(by, form, order)?;
        known.counts.operations += 1;
        Some(Begun {
            numbers,
            incarnation,
            at,
        })
    }

    /// A push has ended. An error says what to do next.
    pub(super) fn end_push(&self, who: &str, begun: &Begun, end: &glint::Result<()>) -> Next {
        let (verdict, began) = {
            let mut known = self.lock();
            let order = known.tick();
            let verdict = match end {
                Ok(()) => Verdict::Acknowledged(order, Instant::now()),
                Err(error) if error.applied() == Applied::No => Verdict::Refused(order),
                Err(_) => Verdict::Unknown,
            };
            let counts = &mut known.counts;
            match verdict {
                Verdict::Acknowledged(..) => counts.acknowledged += 1,
                Verdict::Refused(_) => counts.refused += 1,
                _ => counts.unknown += 1,
            }
            known.end(begun, verdict);
            (verdict, known.push(begun).began)
        };
        let id = begun.at;
        self.trace.note(
            who,
            format_args!("push {id} to {}: {end:?}", begun.incarnation),
        );
        match end {
            Ok(()) => {
                let served = {
                    let mut known = self.lock();
                    known.note_served(begun, began);
                    known.may_serve(begun, began)
                };
                self.judged(who, served);
                Next::Continue
            }
            Err(error) => {
                let _ = verdict;
                self.failed(who, begun.incarnation, &format!("push {id}"), error)
            }
        }
    }

    /// Nobody waits for a push any more.
    pub(super) fn cancelled(&self, who: &str, begun: &Begun) {
        let id = begun.at;
        self.trace.note(
            who,
            format_args!("push {id} to {} is taken back", begun.incarnation),
        );
        let mut known = self.lock();
        known.counts.unknown += 1;
        known.end(begun, Verdict::Unknown);
    }

    /// A pull of a client begins.
    pub(super) fn begin_pull(&self, by: u64, read: Read) -> Asked {
        let mut known = self.lock();
        known.counts.operations += 1;
        Asked {
            since: known.tick(),
            at: Instant::now(),
            by,
            read,
        }
    }

    /// A pull has ended.
    pub(super) fn end_pull(
        &self,
        who: &str,
        incarnation: Incarnation,
        asked: &Asked,
        form: &Form,
        found: &glint::Result<Pulled>,
    ) -> Next {
        match found {
            Ok(pulled) => {
                self.trace.note(
                    who,
                    format_args!(
                        "{:?} pull of {form:?} from {incarnation}: {:x?}",
                        asked.read, pulled.bits
                    ),
                );
                let judged = {
                    let mut known = self.lock();
                    known.counts.pulled += 1;
                    known.judge(incarnation, asked, form, pulled)
                };
                self.judged(who, judged);
                Next::Continue
            }
            Err(error) => {
                self.trace.note(
                    who,
                    format_args!("pull of {form:?} from {incarnation}: {error:?}"),
                );
                self.failed(who, incarnation, "pull", error)
            }
        }
    }

    /// A server says that the values of a partition are lost.
    pub(super) fn said_to_be_lost(&self, who: &str, incarnation: Incarnation, partition: u32) {
        let judged = {
            let known = self.lock();
            let model = known.models.get(&incarnation);
            model.map_or(Ok(()), |model| known.may_be_lost(model, partition))
        };
        self.judged(who, judged);
    }

    /// An operation has failed: whether it may, and what to do next.
    pub(super) fn failed(
        &self,
        who: &str,
        incarnation: Incarnation,
        what: &str,
        error: &Error,
    ) -> Next {
        let (next, judged) = self.lock().may_fail(incarnation, what, error);
        self.judged(who, judged);
        next
    }
}

impl Known {
    fn tick(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn end(&mut self, begun: &Begun, verdict: Verdict) {
        self.push(begun).verdict = verdict;
        if let Some(model) = self.models.get_mut(&begun.incarnation)
            && let Some(rough) = &mut model.rough
        {
            rough.end(begun.at, verdict);
        }
    }

    fn push(&mut self, begun: &Begun) -> &mut Push {
        let model = self
            .models
            .get_mut(&begun.incarnation)
            .expect("the model of a push is known");
        &mut model.pushes[begun.at]
    }

    /// The holders of the partitions of a push have answered it.
    fn note_served(&mut self, begun: &Begun, began: u64) {
        let model = &self.models[&begun.incarnation];
        for touch in &model.pushes[begun.at].touches {
            if let Some(host) = model.holder(touch.partition) {
                let last = self.served.entry(host.to_owned()).or_default();
                *last = began.max(*last);
            }
        }
    }

    /// Whether a model may be there no more: somebody deletes it; or the master has lost its state, and no server could
    /// report it.
    fn may_be_gone(&self, model: &Instance) -> bool {
        let unreported = model.plan.durability == Durability::Memory || !model.harmed.is_empty();
        model.ending.is_some()
            || (unreported && self.master_losses.iter().any(|&lost| lost > model.asked))
    }

    /// Whether a model may be there in parts only: the master lost its state while it was made, or deleted.
    fn may_be_partial(&self, model: &Instance) -> bool {
        self.master_losses.iter().any(|&lost| {
            (model.asked < lost && lost < model.confirmed)
                || model.ending.is_some_and(|ending| ending < lost)
        })
    }

    /// Whether a host's process has ended between two times.
    fn died_between(&self, host: &str, from: u64, to: u64) -> bool {
        let deaths = self.deaths.get(host);
        deaths.is_some_and(|deaths| deaths.iter().any(|&death| from < death && death < to))
    }
}
