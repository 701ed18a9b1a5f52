//! The same master, servers and clients in a simulation, where one seed decides everything: network, disks, clocks, and who
//! dies when. `make faults` runs more of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as promised"
)]

use std::collections::BTreeMap;

use glint_tests::{
    schedule::{self, Fault},
    simulated::Trace,
};

fn traced(seed: u64) -> (Vec<String>, schedule::Report) {
    let trace = Trace::kept();
    let report = schedule::run(seed, &trace);
    (trace.events(), report)
}

#[test]
fn in_fair_weather_nothing_fails_and_nothing_is_tried_twice() {
    let mut rounded = 0;
    for seed in 1..=10 {
        let report = schedule::run_in_fair_weather(seed, &Trace::off());
        assert_eq!(report.violation, None, "seed {seed}");
        let counts = report.counts;
        assert!(counts.operations >= 200, "{report:?}");
        assert_eq!((report.faults, report.retries), (0, 0), "{report:?}");
        assert_eq!(counts.refused + counts.lost, 0, "{report:?}");
        rounded += counts.rounded;
    }
    assert!(rounded > 100, "{rounded} rounded sums were compared");
}

#[test]
fn two_runs_from_one_seed_are_the_same_to_the_byte() {
    for seed in [3, 14, 15] {
        let (first, second) = (traced(seed), traced(seed));
        let differs = first.0.iter().zip(&second.0).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!(
                "seed {seed}: event {at} differs: '{}' and '{}'",
                first.0[at], second.0[at]
            );
        }
        assert_eq!(first, second);
        assert!(first.0.len() > 1000, "{} events", first.0.len());
        assert_ne!(first.0, traced(seed + 1).0, "the seed decides nothing");
    }
}

#[test]
fn whatever_the_seed_nothing_acknowledged_is_lost_or_doubled() {
    let (mut operations, mut faults, mut retries, mut forgotten, mut rounded) = (0, 0, 0, 0, 0);
    let mut kinds: BTreeMap<_, u64> = Fault::ALL.map(|kind| (kind, 0)).into();
    for seed in 1..=200 {
        let report = schedule::run(seed, &Trace::off());
        assert_eq!(
            report.violation, None,
            "seed {seed}; replay it with: make faults SEED={seed}"
        );
        assert!(report.counts.operations >= 200, "{report:?}");
        operations += report.counts.operations;
        faults += report.faults;
        retries += report.retries;
        forgotten += report.counts.forgotten;
        rounded += report.counts.rounded;
        for (kind, count) in report.kinds {
            *kinds.entry(kind).or_default() += count;
        }
    }
    // What clients are told of losses is rare: only `async` models with one copy lose anything, and only with their machine.
    assert!(
        operations > 20_000 && faults > 300 && retries > 1000 && forgotten > 5 && rounded > 1000,
        "{operations} operations, {faults} faults, {retries} retries, {forgotten} forgotten, {rounded} rounded"
    );
    assert!(kinds.values().all(|&count| count > 0), "{kinds:?}");
}
