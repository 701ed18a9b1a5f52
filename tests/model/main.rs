//! `make model`: the protocol of copies, fail-over and moves, explored in every order of its steps.
//!
//! A state machine of clients with lanes, a holder, followers and a master with compare-and-swap; an adversary that delays,
//! repeats, loses and reorders every message and promotes, crashes and removes whenever it may. Each scenario ([`scenarios`])
//! bounds how often what may happen; within, every state is explored ([`explore`]), and in each the promises ([`property`])
//! must hold. Then one rule at a time is left out ([`mutant`]): each must be missed, or the model proves nothing about it.
//!
//! - [`scenario`], [`scenarios`], [`mutants`]: what is explored
//! - [`state`], [`set`], [`copy`], [`message`]: what there is
//! - [`action`], [`possible`], [`step`]: what may happen
//! - [`client`], [`judge`], [`holder`], [`followers`], [`follower`], [`promotion`], [`master`], [`machine`], [`checkpoint`]: the protocol
//! - [`property`], [`sight`]: what must hold, and what must be seen
//! - [`explore`], [`fingerprint`]: the explorer

mod action;
mod checkpoint;
mod client;
mod copy;
mod explore;
mod fingerprint;
mod follower;
mod followers;
mod holder;
mod judge;
mod machine;
mod master;
mod message;
mod mutant;
mod mutants;
mod possible;
mod promotion;
mod property;
mod scenario;
mod scenarios;
mod set;
mod sight;
mod state;
mod step;
mod table;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    about = "Explores the protocol's model, and the model without each of its rules",
    version
)]
struct Arguments {
    /// Only small scenarios; all mutants.
    #[arg(long)]
    quick: bool,
    /// Only scenarios and mutants with this in their name.
    #[arg(long, default_value = "")]
    only: String,
    /// Print how each mutant breaks, step by step.
    #[arg(long)]
    traces: bool,
    /// States of one scenario at most; more is an error.
    #[arg(long, default_value_t = 20_000_000)]
    states: usize,
    /// Threads; by default one per core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if table::run(&arguments) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
