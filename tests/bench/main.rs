//! `make bench`: how fast Glint is, as ratios against what this machine can do at all.
//!
//! One process of this binary directs ([`direct`]): it starts a master and servers of the release binary `glint`
//! ([`cluster`]), and runs itself again as a child for every measurement, so that each starts in a fresh process: the
//! limits of the machine ([`limits`], [`disk`]), a worker with one workload ([`worker`]), the cost of exactly-once
//! ([`ledger`]) and of durability ([`durable`]), of moves ([`moving`]), copies ([`copied`]) and the loss of a server ([`failover`], with
//! several servers: [`fleet`]). How long the master thinks ([`placement`]) is measured in the first one.
//! What comes out is put together in [`report`]; [`workload`] says what is measured, `docs/performance.md` why.

mod cluster;
mod copied;
mod direct;
mod disk;
mod durable;
mod failover;
mod fleet;
mod instructions;
mod ledger;
mod limits;
mod machine;
mod moving;
mod placement;
mod report;
mod statistics;
mod worker;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// As a training program that pulls much should have it: the usual allocator gives large buffers back to the system as
/// soon as they are free, and each new one is filled page by page. `docs/performance.md` has what that costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "bench",
    about = "Measure Glint against the limits of this machine"
)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: Run,
}

/// What and how often.
#[derive(clap::Args, Clone)]
struct Run {
    /// Rounds; each measures the machine's limits and then every workload once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only what has this in its name, such as 'dense', 'sparse 10k', 'small', 'memory', 'exactly-once', 'async', 'sync', 'placement',
    /// 'replay', 'snapshot', 'move', 'copies: 2' or 'fail-over'
    #[arg(long, value_name = "PATTERN", default_value = "")]
    only: String,
    /// Small sizes, to see that everything runs: the figures mean nothing and no goal is judged
    #[arg(long)]
    quick: bool,
    /// The binary to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/glint")]
    glint: PathBuf,
    /// Where servers keep their data directories meanwhile: on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench/data")]
    data: PathBuf,
    /// Where to write the figures
    #[arg(long, value_name = "FILE", default_value = "target/bench/report.json")]
    report: PathBuf,
}

/// Parts that the directing process runs as children.
#[derive(Subcommand)]
enum Part {
    /// Measure what TCP over loopback can do
    #[command(hide = true)]
    Limits {
        /// Move less
        #[arg(long)]
        quick: bool,
    },
    /// Run one workload against a cluster
    #[command(hide = true)]
    Worker {
        /// URL of the master
        #[arg(long)]
        master: String,
        /// The workload, as JSON
        #[arg(long)]
        workload: String,
    },
    /// Measure what the disk below a folder can do
    #[command(hide = true)]
    Disk {
        /// The folder
        #[arg(long)]
        folder: PathBuf,
        /// Move less
        #[arg(long)]
        quick: bool,
    },
    /// Read files and add what is in them to values
    #[command(hide = true)]
    ReadAndAdd {
        /// The folder that has them
        #[arg(long)]
        folder: PathBuf,
    },
    /// Push random keys without a pause, each push timed
    #[command(hide = true)]
    Steady {
        /// URL of the master
        #[arg(long)]
        master: String,
        /// Keys per push
        #[arg(long)]
        keys: u64,
        /// For so long
        #[arg(long)]
        seconds: f64,
    },
    /// Push to every partition, and tell the longest that a push to each took
    #[command(hide = true)]
    Watch {
        /// URL of the master
        #[arg(long)]
        master: String,
        /// Where a file says when to stop
        #[arg(long)]
        folder: PathBuf,
    },
    /// Run a push through a server's path again and again, for counting instructions
    #[command(hide = true)]
    Ledger {
        /// Which push, as JSON
        #[arg(long)]
        push: String,
        /// Through the ledger, or straight to the values
        #[arg(long)]
        path: ledger::Path,
        /// How often
        #[arg(long)]
        count: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        None => direct::main(&arguments.run),
        Some(Part::Limits { quick }) => limits::main(quick),
        Some(Part::Worker { master, workload }) => worker::main(&master, &workload),
        Some(Part::Disk { folder, quick }) => disk::main(&folder, quick),
        Some(Part::ReadAndAdd { folder }) => disk::read_and_add(&folder),
        Some(Part::Steady {
            master,
            keys,
            seconds,
        }) => worker::steady(&master, keys, seconds),
        Some(Part::Watch { master, folder }) => moving::watch(&master, &folder),
        Some(Part::Ledger { push, path, count }) => ledger::main(&push, path, count),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
