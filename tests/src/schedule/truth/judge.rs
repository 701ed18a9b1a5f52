//! Whether what was found is what must be.

use std::{collections::BTreeMap, time::Duration};

use glint::{Error, Read};
use glint_protocol::{Durability, Incarnation};

use super::{Asked, Begun, Instance, Known, Next, Push, Verdict, Violation, Wrong, violation};
use crate::schedule::target::{Form, Pulled};

impl Known {
    /// Judges what a pull found that has ended now.
    pub(super) fn judge(
        &mut self,
        incarnation: Incarnation,
        asked: &Asked,
        form: &Form,
        pulled: &Pulled,
    ) -> Result<(), Violation> {
        let order = self.tick();
        let Some(mut model) = self.models.remove(&incarnation) else {
            return Ok(());
        };
        let judged = self.judge_model(&mut model, asked, order, form, pulled);
        self.models.insert(incarnation, model);
        judged.map_err(|v| violation(v.wrong, format_args!("model {incarnation}: {}", v.text)))
    }

    /// Whether what a pull asks for has a push that was acknowledged, if its caller was told before.
    fn is_asked_for(&self, asked: &Asked, push: &Push) -> bool {
        let Verdict::Acknowledged(order, at) = push.verdict else {
            return false;
        };
        let is_fresh = self.calm || !self.may_be_stale;
        order < asked.since
            && match &asked.read {
                Read::Latest => is_fresh,
                // The clock of a server may run so much faster than that of the simulation.
                Read::Within(age) => {
                    let bound = *age + *age / 100 + Duration::from_millis(1);
                    !self.may_be_stale && asked.at.saturating_duration_since(at) > bound
                }
                Read::OwnWrites => is_fresh && push.by == asked.by,
                _ => false,
            }
    }

    fn judge_model(
        &mut self,
        model: &mut Instance,
        asked: &Asked,
        order: u64,
        form: &Form,
        pulled: &Pulled,
    ) -> Result<(), Violation> {
        let since = asked.since;
        let cells = form.cells(model.cols);
        for &cell in &cells {
            self.alive(model, model.partition(cell), since)?;
        }
        let is_latest = asked.read == Read::Latest && (self.calm || !self.may_be_stale);
        if let Some(rough) = &model.rough {
            if is_latest {
                self.counts.rounded += rough.judge(since, &cells, &pulled.bits)?;
            }
            return Ok(());
        }
        // Of pushes whose end is open, per partition: whether they are in.
        let mut whole: BTreeMap<(u32, u32), bool> = BTreeMap::new();
        for (&cell, number) in cells.iter().zip(&pulled.numbers) {
            let partition = model.partition(cell);
            let slots = &model.cells[cell as usize];
            let Some(number) = *number else {
                let text = format!("cell {cell} has a value that no pushes make");
                return Err(violation(Wrong::Other, text));
            };
            if number >> (2 * slots.len().min(31)) != 0 {
                let text =
                    format!("cell {cell} is {number:#x}, which holds pushes that nobody made");
                return Err(violation(Wrong::Doubled, text));
            }
            for (slot, &id) in slots.iter().enumerate() {
                let push = &mut model.pushes[id as usize];
                let times = number >> (2 * slot) & 3;
                let what = || format!("push {id} in cell {cell} of partition {partition}");
                match (times, push.verdict) {
                    (0, Verdict::Acknowledged(..)) if self.is_asked_for(asked, push) => {
                        if !push.excused.contains(&partition) {
                            let text = format!(
                                "{} was acknowledged and is not there, for a pull of {:?}",
                                what(),
                                asked.read
                            );
                            return Err(violation(Wrong::Lost, text));
                        }
                    }
                    (1, Verdict::Refused(at)) if at < since && is_latest => {
                        let text = format!(
                            "{} is there, though its caller was told that it never would be",
                            what()
                        );
                        return Err(violation(Wrong::Other, text));
                    }
                    (0 | 1, _) => {
                        let is_in = times == 1;
                        if *whole.entry((id, partition)).or_insert(is_in) != is_in {
                            let text = format!("{} is in another cell, but not here", what());
                            return Err(violation(Wrong::Other, text));
                        }
                    }
                    _ => {
                        let text = format!("{} is in {times} times", what());
                        return Err(violation(Wrong::Doubled, text));
                    }
                }
                if times == 1 {
                    push.seen.insert(partition, (since, order));
                } else if let Some(&(asked, seen)) = push.seen.get(&partition)
                    && seen < since
                {
                    let holder = model.holders.as_ref().map(|h| &h[partition as usize]);
                    // A pull may show what is not safe yet: the end of the holder may take it back.
                    if holder.is_some_and(|host| !self.died_between(host, asked, order)) {
                        let text = format!("{} was there and is gone", what());
                        return Err(violation(Wrong::Other, text));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a partition may answer with values at all to who asked at `since`.
    fn alive(&self, model: &Instance, partition: u32, since: u64) -> Result<(), Violation> {
        if model.plan.durability != Durability::Memory {
            return Ok(());
        }
        let Some(host) = model.holder(partition) else {
            return Ok(());
        };
        if self.died_between(host, model.confirmed, since) {
            let text = format!(
                "partition {partition} answers, though its values were in the memory of {host}, which has died"
            );
            return Err(violation(Wrong::Lost, text));
        }
        Ok(())
    }

    /// Whether a push that began at `began` may be acknowledged.
    pub(super) fn may_serve(&self, begun: &Begun, began: u64) -> Result<(), Violation> {
        let model = &self.models[&begun.incarnation];
        for touch in &model.pushes[begun.at].touches {
            self.alive(model, touch.partition, began)?;
        }
        Ok(())
    }

    /// Whether an operation may fail so, and what to do next.
    pub(super) fn may_fail(
        &mut self,
        incarnation: Incarnation,
        what: &str,
        error: &Error,
    ) -> (Next, Result<(), Violation>) {
        let fail = |text: String| Err(violation(Wrong::Other, text));
        let Some(model) = self.models.get(&incarnation) else {
            return (Next::Reopen, Ok(()));
        };
        match error {
            Error::Partial { cause, .. } => self.may_fail(incarnation, what, cause),
            Error::DeadlineExceeded { .. }
            | Error::Unknown { .. }
            | Error::Unreachable { .. }
            | Error::NoServers { .. } => {
                let judged = if self.calm {
                    fail(format!(
                        "{what} failed though nothing is wrong any more: {error}"
                    ))
                } else {
                    Ok(())
                };
                (Next::Continue, judged)
            }
            Error::Gone { .. } | Error::UnknownModel { .. } => {
                let judged = if self.may_be_gone(model) {
                    Ok(())
                } else {
                    fail(format!(
                        "{what} on {incarnation} is told that the model is gone, which nobody deleted: {error}"
                    ))
                };
                (Next::Reopen, judged)
            }
            Error::WrongCluster { .. } if !self.master_losses.is_empty() => (Next::Reopen, Ok(())),
            Error::Lost { partition, .. } => {
                let judged = self.may_be_lost(model, *partition);
                self.counts.lost += 1;
                (Next::Renew, judged)
            }
            other => (Next::Continue, fail(format!("{what}: {other}"))),
        }
    }

    pub(super) fn may_be_lost(&self, model: &Instance, partition: u32) -> Result<(), Violation> {
        let durability = model.plan.durability;
        let hosts: Vec<&str> = match model.holder(partition) {
            Some(host) => vec![host],
            None => self.deaths.keys().map(String::as_str).collect(),
        };
        let may = hosts.iter().any(|host| {
            model.harmed.contains(*host)
                || (durability == Durability::Memory
                    && self.died_between(host, model.asked, u64::MAX))
        });
        let given_up = model.asked < self.given_up;
        if may || given_up || self.adopting > 0 || self.may_be_partial(model) {
            return Ok(());
        }
        let name = &model.plan.name;
        Err(violation(
            Wrong::Lost,
            format_args!(
                "partition {partition} of the {durability} model {name} is lost, though nothing happened that it does not survive"
            ),
        ))
    }
}
