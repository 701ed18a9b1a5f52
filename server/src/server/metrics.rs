//! What a server holds and has done, in the text form that Prometheus reads: `GET /metrics`. Of single partitions only the
//! busiest are named, so that there are never more than a few dozen lines, whatever the size of the models.

use std::{
    fmt::{Display, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use glint_protocol::control::PartitionLoad;

use super::state::State;

/// Of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// All of them.
pub(super) fn text(state: &State) -> String {
    let load = state.load();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let single = [
        (
            "pulls_total",
            "counter",
            "Requests that were pulls.",
            load.pulls,
        ),
        (
            "pushes_total",
            "counter",
            "Requests that were pushes.",
            load.pushes,
        ),
        (
            "repeated_total",
            "counter",
            "Groups of pushes that were answered from the ledger, without applying them again.",
            load.repeated,
        ),
        (
            "received_bytes_total",
            "counter",
            "Bytes received in bodies.",
            load.bytes_in,
        ),
        (
            "sent_bytes_total",
            "counter",
            "Bytes sent in bodies.",
            load.bytes_out,
        ),
        (
            "partitions",
            "gauge",
            "Partitions of which it has a copy.",
            load.partitions,
        ),
        (
            "value_bytes",
            "gauge",
            "Bytes of their values.",
            load.value_bytes,
        ),
        (
            "capacity_bytes",
            "gauge",
            "Bytes of values that it may hold.",
            state.capacity_bytes,
        ),
        (
            "ledger_entries",
            "gauge",
            "Entries in the ledgers of all partitions.",
            load.ledger_entries,
        ),
        (
            "followers_level_from_memory_total",
            "counter",
            "Followers that had all but the last records, which were in memory.",
            read(&state.counters.level_from_memory),
        ),
        (
            "followers_level_from_log_total",
            "counter",
            "Followers that lacked more records, which were read from the log.",
            read(&state.counters.level_from_log),
        ),
        (
            "followers_sent_state_total",
            "counter",
            "Followers to which the whole state of a partition was sent.",
            read(&state.counters.level_by_state),
        ),
        (
            "disk_full",
            "gauge",
            "Whether the disk of its data directory is full: pushes to models that are not `memory` wait for room.",
            u64::from(load.disk_full),
        ),
        (
            "registered",
            "gauge",
            "Whether it has registered with the master since its start.",
            u64::from(state.is_registered()),
        ),
    ];
    let mut text = Text::default();
    for (name, kind, help, value) in single {
        text.family(name, kind, help);
        text.sample(name, "", value);
    }
    let busiest = state.busiest();
    for (name, kind, help, value) in OF_PARTITIONS {
        text.family(name, kind, help);
        for load in &busiest {
            // Names of models have nothing in them that would have to be escaped.
            let labels = format!(
                "{{model=\"{}\",partition=\"{}\"}}",
                load.model, load.partition
            );
            text.sample(name, &labels, value(load));
        }
    }
    text.0
}

/// Name, kind, meaning, and the value of one partition.
type OfPartition = (
    &'static str,
    &'static str,
    &'static str,
    fn(&PartitionLoad) -> u64,
);

const OF_PARTITIONS: [OfPartition; 4] = [
    (
        "partition_requests_per_second",
        "gauge",
        "Groups of pulls and pushes of the busiest partitions, of late.",
        |load| load.requests_per_second,
    ),
    (
        "partition_bytes_per_second",
        "gauge",
        "Bytes of them, in both directions.",
        |load| load.bytes_per_second,
    ),
    (
        "partition_requests_total",
        "counter",
        "Groups of pulls and pushes of the busiest partitions since they are here.",
        |load| load.requests,
    ),
    (
        "partition_bytes_total",
        "counter",
        "Bytes of them, in both directions.",
        |load| load.bytes,
    ),
];

#[derive(Default)]
struct Text(String);

impl Text {
    // Writing into a string does not fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP glint_server_{name} {help}");
        let _ = writeln!(self.0, "# TYPE glint_server_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "glint_server_{name}{labels} {value}");
    }
}
