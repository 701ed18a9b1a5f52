//! Explores scenarios on all cores, and prints a line for each as it is done.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    Arguments,
    explore::{Explored, Extent, explore},
    mutants,
    scenario::Scenario,
    scenarios,
    sight::SIGHTS,
};

/// What is expected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Holds,
    Caught,
}

/// Whether everything came out as expected.
pub(crate) fn run(arguments: &Arguments) -> bool {
    let holds = scenarios::all()
        .into_iter()
        .filter(|s| s.quick || !arguments.quick);
    let holds = holds.map(|scenario| (Expected::Holds, scenario));
    let caught = mutants::all()
        .into_iter()
        .map(|scenario| (Expected::Caught, scenario));
    let chosen = |(_, scenario): &(Expected, Scenario)| scenario.name.contains(&arguments.only);
    let mut all: Vec<(Expected, Scenario)> = holds.chain(caught).filter(chosen).collect();
    // The large ones first, so that no core is idle at the end.
    all.sort_by_key(|(_, scenario)| scenario.quick);
    if all.is_empty() {
        eprintln!(
            "error: no scenario and no mutant has '{}' in its name",
            arguments.only
        );
        return false;
    }
    let begun = Instant::now();
    let (next, states) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let good = AtomicBool::new(true);
    let print = Mutex::new(());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                while let Some((expected, scenario)) = all.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let started = Instant::now();
                    let extent = Extent {
                        states: arguments.states,
                        settles: scenario.settles,
                    };
                    let found = explore(scenario, extent);
                    states.fetch_add(found.states, Ordering::Relaxed);
                    let _one_at_a_time = print.lock();
                    if !line(
                        *expected,
                        scenario,
                        &found,
                        started.elapsed(),
                        arguments.traces,
                    ) {
                        good.store(false, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let good = good.into_inner();
    println!(
        "{} scenarios and mutants, {} states, {:.0} s: {}",
        all.len(),
        states.into_inner(),
        begun.elapsed().as_secs_f32(),
        if good {
            "as expected"
        } else {
            "NOT as expected"
        }
    );
    good
}

fn line(
    expected: Expected,
    scenario: &Scenario,
    found: &Explored,
    took: Duration,
    traces: bool,
) -> bool {
    let unseen: Vec<&str> = (0..SIGHTS.len())
        .filter(|i| found.sights >> i & 1 == 0)
        .map(|i| SIGHTS[i])
        .collect();
    let (word, good) = match (expected, &found.violation) {
        _ if found.cut_short => ("TOO LARGE", false),
        (Expected::Holds, Some(_)) => ("BROKEN", false),
        (Expected::Holds, None) if unseen.is_empty() => ("holds", true),
        (Expected::Holds, None) => ("UNSEEN", false),
        (Expected::Caught, Some(_)) => ("caught", true),
        (Expected::Caught, None) => ("NOT CAUGHT", false),
    };
    println!(
        "{:<58} {word:<10} {:>9} states {:>9} steps  depth {:>2} {:>6.1} s",
        scenario.name,
        found.states,
        found.steps,
        found.depth,
        took.as_secs_f32()
    );
    if let Some(violation) = &found.violation {
        println!(
            "    {} (after {} steps)",
            violation.property,
            violation.trace.len()
        );
        if traces || !good {
            for step in &violation.trace {
                println!("      {step}");
            }
        }
    }
    if expected == Expected::Holds && found.violation.is_none() {
        for sight in unseen {
            println!("    never seen: {sight}");
        }
        if scenario.settles && good {
            println!(
                "    settles from every state, by itself from each of {} healthy ones",
                found.healthy
            );
        }
    }
    good
}
