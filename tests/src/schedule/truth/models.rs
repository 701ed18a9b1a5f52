//! Which models there are, as far as those were told who opened, made and deleted them.

use std::collections::BTreeSet;

use glint::{Error, ModelHandle, ModelSpec};
use glint_protocol::{ErrorCode, Incarnation};

use super::{Instance, Since, Truth, Wrong};
use crate::schedule::plan::ModelPlan;

impl Truth {
    /// An attempt to open a model begins, and perhaps to make it.
    pub(in crate::schedule) fn opening(&self, name: &str, make: bool) -> Since {
        let mut known = self.lock();
        let order = known.tick();
        if make {
            known.asked.push((name.to_owned(), order));
        }
        Since(order)
    }

    /// A model was opened or created in a call that began at `since`.
    pub(in crate::schedule) fn opened(
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
    pub(in crate::schedule) fn not_there(&self, who: &str, since: Since, name: &str) {
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
    pub(in crate::schedule) fn cannot_open(
        &self,
        who: &str,
        since: Since,
        name: &str,
        error: &Error,
    ) {
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
    pub(in crate::schedule) fn placed(&self, incarnation: Incarnation, holders: Vec<String>) {
        let mut known = self.lock();
        let known = &mut *known;
        if let Some(model) = known.models.get_mut(&incarnation) {
            // A master that has lost its state places what is lost anywhere.
            if known.master_losses.iter().all(|&lost| lost < model.asked) {
                model.holders.get_or_insert(holders);
            }
        }
    }

    pub(in crate::schedule) fn is_placed(&self, incarnation: Incarnation) -> bool {
        let known = self.lock();
        let model = known.models.get(&incarnation);
        model.is_some_and(|model| model.holders.is_some())
    }

    /// Somebody is about to delete or reset the model that has this name, whichever it is. Gives what to end this with.
    pub(in crate::schedule) fn ending(&self, name: &str, makes_another: bool) -> usize {
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
    pub(in crate::schedule) fn deleted(&self, call: usize) {
        let mut known = self.lock();
        let order = known.tick();
        known.deletes[call].2 = Some(order);
    }
}
