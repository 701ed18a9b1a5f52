//! What vectors and matrices have in common: checking lengths, cutting long lists into runs, planning, and carrying out.

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
};

use glint_protocol::{Element, ModelMap};
use tokio::time::Instant;

use crate::{
    Error, Read, Result,
    client::Shared,
    plan::{Ground, Plan, RUN},
    pull::{Asked, pull},
    push::push,
    routing::Model,
    stats::count,
};

/// An operation on one model, about to be carried out.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    shared: &'a Shared,
    model: &'a Arc<Model>,
    read: &'a Read,
}

/// Refuses a model of another element type.
pub(crate) fn check_element<T: Element>(map: &ModelMap) -> Result<()> {
    if map.spec.element == T::TYPE {
        return Ok(());
    }
    Err(Error::WrongElement {
        model: map.spec.name.clone(),
        asked: T::TYPE,
        has: map.spec.element,
    })
}

impl<'a> Operation<'a> {
    pub(crate) fn new(shared: &'a Shared, model: &'a Arc<Model>, read: &'a Read) -> Self {
        Self {
            shared,
            model,
            read,
        }
    }

    pub(crate) fn ground(&self) -> Ground<'a> {
        Ground {
            spec: &self.model.spec,
            layout: &self.model.layout,
            request_bytes: self.shared.options.request_bytes,
        }
    }

    /// Counts it, notes that the model is used, and says when the operation must have ended.
    fn begin(&self, counter: &AtomicU64) -> Instant {
        count(counter, 1);
        self.model.note_use();
        self.shared.deadline()
    }

    /// Counts an operation that has failed.
    fn ended(&self, end: Result<()>) -> Result<()> {
        if end.is_err() {
            count(&self.shared.counters.failed, 1);
        }
        end
    }

    /// Refuses a slice that is not `items × width` long.
    pub(crate) fn check_length(
        &self,
        items: usize,
        what: &str,
        width: usize,
        given: usize,
    ) -> Result<()> {
        let expected = items as u64 * width as u64;
        if expected == given as u64 {
            return Ok(());
        }
        Err(Error::Length {
            model: self.model.name().to_owned(),
            items: if width == 1 {
                format!("{items} {what}")
            } else {
                format!("{items} {what} of {width} columns")
            },
            expected,
            given: given as u64,
        })
    }

    /// Pulls listed items, each of `width` values. All of them are checked before the first is pulled.
    pub(crate) async fn pull_runs<T: Element, K>(
        &self,
        items: &[K],
        width: usize,
        out: &mut [T],
        plan: impl Fn(&Ground<'_>, &[K]) -> Result<Plan>,
    ) -> Result<()> {
        let deadline = self.begin(&self.shared.counters.pulls);
        let ground = self.ground();
        let work = async {
            self.check_all(items, &plan)?;
            for (items, out) in items.chunks(RUN).zip(out.chunks_mut(RUN * width)) {
                let plan = plan(&ground, items)?;
                self.pull(&plan, out, deadline).await?;
            }
            Ok(())
        };
        self.ended(work.await)
    }

    async fn pull<T: Element>(&self, plan: &Plan, out: &mut [T], deadline: Instant) -> Result<()> {
        let asked = Asked {
            shared: self.shared,
            model: self.model,
            read: self.read,
            plan,
        };
        pull(asked, out, deadline).await
    }

    /// Pushes listed items, each of `width` values. All of them are checked before the first is pushed.
    pub(crate) async fn push_runs<T: Element, K>(
        &self,
        items: &[K],
        width: usize,
        values: &[T],
        plan: impl Fn(&Ground<'_>, &[K]) -> Result<Plan>,
    ) -> Result<()> {
        let deadline = self.begin(&self.shared.counters.pushes);
        let ground = self.ground();
        let work = async {
            self.check_all(items, &plan)?;
            let mut done = 0;
            for (items, some) in items.chunks(RUN).zip(values.chunks(RUN * width)) {
                let plan = plan(&ground, items)?;
                let end = push(self.shared, self.model, &plan, some, deadline).await;
                end.map_err(|error| self.after(error, done, values.len()))?;
                done += some.len() as u64;
            }
            Ok(())
        };
        self.ended(work.await)
    }

    /// One run of a long list is planned twice, so that no memory is needed for the whole.
    fn check_all<K>(
        &self,
        items: &[K],
        plan: &impl Fn(&Ground<'_>, &[K]) -> Result<Plan>,
    ) -> Result<()> {
        if items.len() > RUN {
            let ground = self.ground();
            for items in items.chunks(RUN) {
                plan(&ground, items)?;
            }
        }
        Ok(())
    }

    /// Pulls a checked range of keys or rows.
    pub(crate) async fn pull_range<T: Element>(
        &self,
        range: Range<u64>,
        out: &mut [T],
    ) -> Result<()> {
        let deadline = self.begin(&self.shared.counters.pulls);
        let ground = self.ground();
        let (step, width) = self.step();
        let work = async {
            let mut rest = out;
            for range in runs(range, step) {
                let items = (range.end - range.start) as usize;
                let (now, later) = rest.split_at_mut(items * width);
                let plan = Plan::range(&ground, range)?;
                self.pull(&plan, now, deadline).await?;
                rest = later;
            }
            Ok(())
        };
        self.ended(work.await)
    }

    /// Pushes to a checked range of keys or rows.
    pub(crate) async fn push_range<T: Element>(
        &self,
        range: Range<u64>,
        values: &[T],
    ) -> Result<()> {
        let deadline = self.begin(&self.shared.counters.pushes);
        let ground = self.ground();
        let (step, width) = self.step();
        let work = async {
            let mut done = 0;
            for range in runs(range, step) {
                let items = (range.end - range.start) as usize;
                let some = &values[done..done + items * width];
                let plan = Plan::range(&ground, range)?;
                let end = push(self.shared, self.model, &plan, some, deadline).await;
                end.map_err(|error| self.after(error, done as u64, values.len()))?;
                done += some.len();
            }
            Ok(())
        };
        self.ended(work.await)
    }

    /// Ranges are planned whole where neighbours lie together, else in runs as lists are.
    fn step(&self) -> (u64, usize) {
        let step = if self.model.layout.stride().is_some() {
            u64::MAX
        } else {
            RUN as u64
        };
        (step, self.model.spec.shape.cols() as usize)
    }

    /// The error of a run of a push of which `done` values are applied already.
    fn after(&self, error: Error, done: u64, of: usize) -> Error {
        let (applied, cause) = match error {
            Error::Partial { applied, cause, .. } => (applied + done, cause),
            other if done > 0 => (done, Box::new(other)),
            other => return other,
        };
        Error::Partial {
            model: self.model.name().to_owned(),
            applied,
            of: of as u64,
            cause,
        }
    }
}

/// A range in runs of `step`.
fn runs(range: Range<u64>, step: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let from = at;
        at = at.saturating_add(step).min(range.end);
        (from < at).then_some(from..at)
    })
}
