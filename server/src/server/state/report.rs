//! What the master is told of what a server holds and has done.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use glint_protocol::{
    ModelSpec,
    control::{CopyReport, HeldCopy, HeldModel, LostCopy, ServerLoad},
};

use super::{Slot, State};

impl State {
    /// What it holds, for the master; what is lost is left out, since it is not there any more.
    pub(in crate::server) fn copies(&self) -> Vec<CopyReport> {
        let models = self.models.load();
        let report = |slot: &Arc<Slot>| {
            let partition = slot.lock();
            partition.loss().is_none().then(|| CopyReport {
                incarnation: slot.description.incarnation,
                partition: slot.description.partition,
                epoch: partition.epoch(),
                position: partition.position(),
                last_epoch: partition.last_epoch(),
                follows: partition.followed(),
            })
        };
        models.slots().filter_map(report).collect()
    }

    /// What it holds by the word of a master, and whom acknowledgements wait for.
    pub(in crate::server) fn held_copies(&self) -> Vec<HeldCopy> {
        let models = self.models.load();
        let held = |slot: &Arc<Slot>| {
            let partition = slot.lock();
            let holds = partition.is_holder() && partition.loss().is_none();
            holds.then(|| HeldCopy {
                incarnation: slot.description.incarnation,
                partition: slot.description.partition,
                with: partition.waits_for(),
            })
        };
        models.slots().filter_map(held).collect()
    }

    /// Whether it holds any values: what is lost binds it to no cluster.
    pub(in crate::server) fn has_values(&self) -> bool {
        let models = self.models.load();
        models.slots().any(|slot| slot.lock().loss().is_none())
    }

    /// The partitions that it is to hold and whose values are lost.
    pub(in crate::server) fn lost_copies(&self) -> Vec<LostCopy> {
        let models = self.models.load();
        let lost = models.slots().filter(|slot| slot.lock().loss().is_some());
        lost.map(|slot| LostCopy {
            incarnation: slot.description.incarnation,
            partition: slot.description.partition,
        })
        .collect()
    }

    /// The models of which it holds partitions.
    pub(in crate::server) fn held_models(&self) -> Vec<HeldModel> {
        let models = self.models.load();
        models
            .by_incarnation
            .iter()
            .map(|(&incarnation, model)| HeldModel {
                incarnation,
                spec: ModelSpec::clone(&model.spec),
            })
            .collect()
    }

    pub(in crate::server) fn load(&self) -> ServerLoad {
        let models = self.models.load();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut load = ServerLoad {
            pulls: read(&self.counters.pulls),
            pushes: read(&self.counters.pushes),
            repeated: read(&self.counters.repeated),
            bytes_in: read(&self.counters.bytes_in),
            bytes_out: read(&self.counters.bytes_out),
            arriving_bytes: self.receiving.bytes(),
            arrived_bytes: self.receiving.arrived(),
            disk_full: self.disk_is_full(),
            ..ServerLoad::default()
        };
        for slot in models.slots() {
            load.partitions += 1;
            let bytes = slot.description.value_bytes();
            load.value_bytes += bytes;
            if slot.is_new_copy() {
                load.arrived_bytes += bytes;
            }
            load.ledger_entries += read(&slot.entries);
        }
        load
    }
}
