//! What must be so: every push and pull is told here when it begins and when it ends, and what a pull found is compared
//! with what is known.
//!
//! Each push adds a power of four of its own to each cell that it names, so that a cell's value says of each push how often
//! it is in: a doubled one is told from a lost one, at every pull, not only in the end.

mod instance;
mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use glint::{Applied, Error, ForgottenPushes, ModelHandle, ModelSpec};
use glint_protocol::{Durability, ErrorCode, Incarnation};
use tokio::{sync::Notify, time::Instant};

use super::{
    plan::ModelPlan,
    target::{Form, Pulled},
};
use crate::simulated::{End, Trace};
use instance::{Instance, Push, Verdict};

/// What an `async` model may lose when its machine stops: what was acknowledged so shortly before. It is the time between
/// two syncs and what one sync takes, on a disk that needs up to 4 ms for an operation, of which a sync has three.
const ASYNC_WINDOW: Duration = Duration::from_millis(100 + 2 * 3 * 4);
/// The same on a slow disk, where an operation takes up to 512 ms: two whole syncs.
pub(super) const SLOW_WINDOW: Duration = Duration::from_millis(2 * 3 * 512);

/// What was found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// What was acknowledged is gone.
    Lost,
    /// A push is in more than once.
    Doubled,
    /// Something else is not as promised.
    Other,
}

/// What was found to be wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind of thing.
    pub wrong: Wrong,
    /// What exactly.
    pub text: String,
}

/// How the operations of a schedule ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pushes and pulls that were begun.
    pub operations: u64,
    /// Pushes that were acknowledged.
    pub acknowledged: u64,
    /// Pushes that ended with an error, certainly not applied.
    pub refused: u64,
    /// Pushes of which the caller does not know.
    pub unknown: u64,
    /// Pulls that were answered.
    pub pulled: u64,
    /// Operations that met lost values.
    pub lost: u64,
    /// Times that clients were told of acknowledged pushes to `async` models which are gone.
    pub forgotten: u64,
}

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
    /// Calls to delete the model of a name, whichever it is then: when they began, and when they ended if they have.
    deletes: Vec<(String, u64, Option<u64>)>,
    /// Faults are over: every operation must succeed.
    calm: bool,
    counts: Counts,
    violation: Option<Violation>,
}

/// A push that has begun.
pub(super) struct Begun {
    pub(super) numbers: Vec<u64>,
    incarnation: Incarnation,
    at: usize,
}

/// A pull, or an attempt to open a model, that has begun.
#[derive(Clone, Copy)]
pub(super) struct Since(u64);

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
    pub(super) fn new(trace: Trace) -> Self {
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
                deletes: Vec::new(),
                calm: false,
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

    /// An attempt to open a model begins, and perhaps to make it.
    pub(super) fn opening(&self, name: &str, make: bool) -> Since {
        let mut known = self.lock();
        let order = known.tick();
        if make {
            known.asked.push((name.to_owned(), order));
        }
        Since(order)
    }

    /// A model was opened or created in a call that began at `since`.
    pub(super) fn opened(
        &self,
        who: &str,
        since: Since,
        plan: &ModelPlan,
        spec: &ModelSpec,
        handle: &ModelHandle,
    ) {
        let mut known = self.lock();
        let order = known.tick();
        let name = handle.name.clone();
        let before = known.current.insert(name.clone(), handle.incarnation);
        let vanished = before
            .filter(|&inc| inc != handle.incarnation)
            .filter(|inc| {
                let model = &known.models[inc];
                !known.may_be_gone(model) && model.confirmed < since.0
            });
        known.asked.retain(|(_, began)| *began != since.0);
        let asked = known.asked.iter().filter(|(of, _)| *of == name);
        let asked = asked.map(|(_, began)| *began).fold(since.0, u64::min);
        let ending = known.deletes.iter().find_map(|(of, begun, ended)| {
            let may_be_it = *of == name && ended.is_none_or(|ended| ended > asked);
            may_be_it.then_some(*begun)
        });
        let harms = known.harms.iter().filter(|(_, at)| *at > asked);
        let harmed: BTreeSet<String> = harms.map(|(host, _)| host.clone()).collect();
        known.models.entry(handle.incarnation).or_insert_with(|| {
            let mut model = Instance::new(plan, spec, asked, order, harmed);
            model.ending = ending;
            model
        });
        drop(known);
        if let Some(vanished) = vanished {
            let now = handle.incarnation;
            self.violated(
                Wrong::Lost,
                format!(
                    "{who}: model {name} was {vanished}, nobody deleted it, and it is {now} now"
                ),
            );
        }
    }

    /// There is no model of this name, as a call was told that began at `since`.
    pub(super) fn not_there(&self, who: &str, since: Since, name: &str) {
        let known = self.lock();
        let vanished = known.current.get(name).copied().filter(|inc| {
            let model = &known.models[inc];
            !known.may_be_gone(model) && model.confirmed < since.0
        });
        drop(known);
        if let Some(vanished) = vanished {
            self.violated(
                Wrong::Lost,
                format!("{who}: model {name} ({vanished}) has vanished, though nobody deleted it"),
            );
        }
    }

    /// A model could be neither opened nor made.
    pub(super) fn cannot_open(&self, who: &str, since: Since, name: &str, error: &Error) {
        let excusable = match error {
            Error::DeadlineExceeded { .. }
            | Error::Unreachable { .. }
            | Error::NoServers { .. } => !self.lock().calm,
            // A master that has lost its state, and to which no server could report anything, begins a new cluster.
            Error::WrongCluster { .. } => !self.lock().master_losses.is_empty(),
            // It was made, and somebody has deleted it before this call heard of it.
            Error::Refused(error) if error.code == ErrorCode::Gone => {
                let known = self.lock();
                let mut calls = known.deletes.iter();
                calls.any(|(of, _, end)| of == name && end.is_none_or(|end| end > since.0))
            }
            _ => false,
        };
        if !excusable {
            let text = format!("{who}: model {name} can be neither opened nor made: {error}");
            self.violated(Wrong::Other, text);
        }
    }

    /// Which servers hold the partitions of a model.
    pub(super) fn placed(&self, incarnation: Incarnation, holders: Vec<String>) {
        let mut known = self.lock();
        let known = &mut *known;
        if let Some(model) = known.models.get_mut(&incarnation) {
            // A master that has lost its state places what is lost anywhere.
            if known.master_losses.iter().all(|&lost| lost < model.asked) {
                model.holders.get_or_insert(holders);
            }
        }
    }

    pub(super) fn is_placed(&self, incarnation: Incarnation) -> bool {
        let known = self.lock();
        let model = known.models.get(&incarnation);
        model.is_some_and(|model| model.holders.is_some())
    }

    /// Somebody is about to delete or reset the model that has this name, whichever it is. Gives what to end this with.
    pub(super) fn ending(&self, name: &str, makes_another: bool) -> usize {
        let mut known = self.lock();
        let order = known.tick();
        known.deletes.push((name.to_owned(), order, None));
        if makes_another {
            known.asked.push((name.to_owned(), order));
        }
        for model in known.models.values_mut() {
            if model.plan.name == name {
                model.ending.get_or_insert(order);
            }
        }
        known.deletes.len() - 1
    }

    /// A call to delete a model has ended.
    pub(super) fn deleted(&self, call: usize) {
        let mut known = self.lock();
        let order = known.tick();
        known.deletes[call].2 = Some(order);
    }

    /// The start of a process, to be compared with what [`Self::has_served_since`].
    pub(super) fn started(&self) -> u64 {
        self.lock().tick()
    }

    /// Whether a server has answered what was asked after some time: then the master knows this start of it.
    pub(super) fn has_served_since(&self, host: &str, start: u64) -> bool {
        self.lock().served.get(host).is_some_and(|&at| at > start)
    }

    /// The master has lost its state, and is to adopt what servers hold.
    ///
    /// With it goes what it knew of their disks: one that was set back and that has not come to it since is believed.
    pub(super) fn master_lost(&self) {
        let mut known = self.lock();
        let order = known.tick();
        known.master_losses.push(order);
        let known = &mut *known;
        for (host, harmed) in &known.harms {
            if known.served.get(host).is_none_or(|served| served < harmed) {
                for model in known.models.values_mut() {
                    model.excuse(host, None);
                }
            }
        }
    }

    /// The admin ends an adoption.
    pub(super) fn adopting(&self) {
        self.lock().adopting += 1;
    }

    /// An adoption has ended, without these servers; or it could not be ended.
    pub(super) fn adopted(&self, missing: Option<&[String]>) {
        for server in missing.into_iter().flatten() {
            self.damaged(server, true);
        }
        let mut known = self.lock();
        known.adopting -= 1;
        if missing.is_some() {
            known.adopted = known.tick();
        }
    }

    /// A process of a host has ended.
    pub(super) fn died(&self, host: &str, end: End, failed_sync: Option<Instant>, slow: bool) {
        let window = if slow { SLOW_WINDOW } else { ASYNC_WINDOW };
        let mut known = self.lock();
        let order = known.tick();
        known.deaths.entry(host.to_owned()).or_default().push(order);
        if end == End::Machine || failed_sync.is_some() {
            let last = (end == End::Machine).then(Instant::now);
            for model in known.models.values_mut() {
                if model.plan.durability == Durability::Async {
                    for at in [last, failed_sync].into_iter().flatten() {
                        model.excuse(host, at.checked_sub(window));
                    }
                }
            }
        }
    }

    /// The disk of a host was harmed. `all_found` says that whatever is missing must be noticed; else what was acknowledged
    /// before may be gone without a word.
    pub(super) fn damaged(&self, host: &str, all_found: bool) {
        let mut known = self.lock();
        let order = known.tick();
        known.harms.push((host.to_owned(), order));
        // A master that has lost its state, and has not heard of all servers since, does not know what they had.
        let lost = known.master_losses.last();
        let unknown = lost.is_some_and(|&lost| known.adopted < lost);
        for model in known.models.values_mut() {
            model.harmed.insert(host.to_owned());
            if !all_found || unknown {
                model.excuse(host, None);
            }
        }
    }

    /// Whether the disk of a host was harmed.
    pub(super) fn is_damaged(&self, host: &str) -> bool {
        self.lock().harms.iter().any(|(harmed, _)| harmed == host)
    }

    /// A push begins; none when one of its cells can tell no more pushes apart.
    pub(super) fn begin_push(&self, incarnation: Incarnation, form: &Form) -> Option<Begun> {
        let mut known = self.lock();
        let order = known.tick();
        let model = known.models.get_mut(&incarnation)?;
        let (at, numbers) = model.begin(form, order)?;
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
            let push = known.push(begun);
            push.verdict = verdict;
            (verdict, push.began)
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
        known.push(begun).verdict = Verdict::Unknown;
    }

    /// A pull begins.
    pub(super) fn begin_pull(&self) -> Since {
        let mut known = self.lock();
        known.counts.operations += 1;
        Since(known.tick())
    }

    /// A pull has ended.
    pub(super) fn end_pull(
        &self,
        who: &str,
        incarnation: Incarnation,
        since: Since,
        form: &Form,
        found: &glint::Result<Pulled>,
    ) -> Next {
        match found {
            Ok(pulled) => {
                self.trace.note(
                    who,
                    format_args!("pull of {form:?} from {incarnation}: {:x?}", pulled.bits),
                );
                let judged = {
                    let mut known = self.lock();
                    known.counts.pulled += 1;
                    known.judge(incarnation, since.0, form, pulled)
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

fn violation(wrong: Wrong, text: impl fmt::Display) -> Violation {
    Violation {
        wrong,
        text: text.to_string(),
    }
}
