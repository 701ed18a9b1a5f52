//! `make faults`: many schedules of the simulation, on all cores, or one with its trace.

use std::{
    collections::BTreeMap,
    io::Write,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use glint_tests::{
    schedule::{self, Fault, Report, Wrong},
    simulated::Trace,
};

/// The simulation allocates all the time, in a few sizes, on as many threads as there are cores.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    about = "Runs schedules of the simulated cluster, each decided by its seed",
    version
)]
struct Arguments {
    /// How many schedules to run.
    #[arg(long, default_value_t = 1000)]
    schedules: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run only this seed, and print what happens; `RUST_LOG` adds what the processes themselves say.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; by default one per core.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop at the first seed that fails.
    #[arg(long)]
    stop: bool,
}

/// What all schedules came to.
#[derive(Default)]
struct Sum {
    done: u64,
    operations: u64,
    faults: u64,
    /// Of each kind.
    kinds: BTreeMap<Fault, u64>,
    unknown: u64,
    lost: u64,
    doubled: u64,
    other: u64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.done += 1;
        self.operations += report.counts.operations;
        self.unknown += report.counts.unknown;
        self.faults += report.faults;
        for (&kind, count) in &report.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        match report.violation.as_ref().map(|v| v.wrong) {
            None => {}
            Some(Wrong::Lost) => self.lost += 1,
            Some(Wrong::Doubled) => self.doubled += 1,
            Some(Wrong::Other) => self.other += 1,
        }
    }

    fn failed(&self) -> u64 {
        self.lost + self.doubled + self.other
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return replay(seed);
    }
    let threads = arguments.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let began = Instant::now();
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first + arguments.schedules;
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = schedule::run(seed, &Trace::off());
                    if report.violation.is_some() && arguments.stop {
                        next.store(end, Ordering::Relaxed);
                    }
                    tell(&report, &sum, began, threads);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_default();
    let other = if sum.other == 0 {
        String::new()
    } else {
        format!(", {} otherwise wrong", sum.other)
    };
    let kinds = Fault::ALL.map(|kind| {
        let count = sum.kinds.get(&kind).copied().unwrap_or_default();
        format!("{kind:?} {count}")
    });
    println!("faults: {}", kinds.join(", "));
    println!(
        "{} schedules, {} operations, {} lost, {} doubled{other}",
        sum.done, sum.operations, sum.lost, sum.doubled
    );
    if sum.failed() > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn tell(report: &Report, sum: &Mutex<Sum>, began: Instant, threads: usize) {
    let Ok(mut sum) = sum.lock() else { return };
    sum.add(report);
    if let Some(violation) = &report.violation {
        println!(
            "seed {} failed, {:?}: {}\n  replay it with: make faults SEED={}",
            report.seed, violation.wrong, violation.text, report.seed
        );
    }
    if sum.done.is_multiple_of(1000) {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{} schedules in {seconds:.0} s ({:.0} a second and core): {} operations, {} of unknown end, {} faults, {} failed",
            sum.done,
            sum.done as f64 / seconds / threads as f64,
            sum.operations,
            sum.unknown,
            sum.faults,
            sum.failed()
        );
    }
    let _ = std::io::stdout().flush();
}

fn replay(seed: u64) -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stdout)
            .without_time()
            .init();
    }
    let report = schedule::run(seed, &Trace::printed());
    println!("{report:#?}");
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}
