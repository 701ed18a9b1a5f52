//! The same master, servers and clients in a simulation, where one seed decides everything: network, disks, clocks, and who
//! dies when. `make faults` runs more of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as promised"
)]

use glint_tests::{schedule, simulated::Trace};

fn traced(seed: u64) -> (Vec<String>, schedule::Report) {
    let trace = Trace::kept();
    let report = schedule::run(seed, &trace);
    (trace.events(), report)
}

#[test]
fn in_fair_weather_nothing_fails_and_nothing_is_tried_twice() {
    for seed in 1..=10 {
        let report = schedule::run_in_fair_weather(seed, &Trace::off());
        assert_eq!(report.violation, None, "seed {seed}");
        let counts = report.counts;
        assert!(counts.operations >= 200, "{report:?}");
        assert_eq!((report.faults, report.retries), (0, 0), "{report:?}");
        assert_eq!(counts.refused + counts.lost, 0, "{report:?}");
    }
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
    let (mut operations, mut faults, mut retries, mut forgotten) = (0, 0, 0, 0);
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
    }
    // What clients are told of losses is rare: only `async` models with one copy lose anything, and only with their machine.
    assert!(
        operations > 20_000 && faults > 300 && retries > 1000 && forgotten > 5,
        "{operations} operations, {faults} faults, {retries} retries, {forgotten} forgotten"
    );
}
