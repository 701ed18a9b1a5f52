//! Training that does not notice what becomes of its servers: a show, on real processes.
//!
//! The example `lda` trains, as a process of its own, first undisturbed, and then while servers join, are killed, hang, and are
//! drained. At the end both must have come to the same log-likelihood, no call may have failed, and the servers' counts must be
//! those of the documents to the last token, which `lda` looks after.
//!
//! - `acts`: what happens, in which order
//! - `fleet`: the master and the servers
//! - `training`: the process that trains, and what it tells
//! - `scene`: what is known now; `stage`: how it is shown

mod acts;
#[path = "../lda/event.rs"]
mod event;
mod fleet;
mod scene;
mod stage;
mod training;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Train while servers join, are killed, hang and are drained, and compare with undisturbed training
#[derive(Parser)]
#[command(name = "elastic")]
struct Flags {
    /// The program whose servers are used
    #[arg(long, value_name = "FILE", default_value = "target/release/glint")]
    glint: PathBuf,
    /// The program that trains
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/release/examples/lda"
    )]
    lda: PathBuf,
    /// The text, in ldac form, with a .tokens file beside it
    #[arg(long, default_value = "target/data/reuters.ldac")]
    corpus: PathBuf,
    /// How often every token's topic is drawn anew, at least
    #[arg(long, default_value_t = 1500)]
    sweeps: usize,
    /// By how much the log-likelihoods may differ, in percent
    #[arg(long, default_value_t = 0.5)]
    tolerance: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let ended = tokio::select! {
        ended = acts::play(&flags) => ended,
        // All processes end with the fleet.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
