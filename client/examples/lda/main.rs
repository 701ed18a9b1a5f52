//! Latent Dirichlet allocation on a text, by several workers that share their counts through Glint.
//!
//! The workload that Glint was first made for, and a model of how to use its client. Read in this order:
//! - `corpus`: the text;
//! - `model`: what lives on the servers, a matrix and a vector;
//! - `worker`: the loop that pulls ahead, samples, and pushes behind: the part to copy from;
//! - `slice`, `sampler`, `alias`: the sampler, which knows nothing of servers;
//! - `likelihood`, `summary`: how good it is, and that no update was lost or doubled;
//! - `progress`: what is shown; `event`: the same for programs;
//! - `together`: several processes, such as the pods of a Job, that wait for each other at the end of a sweep.

mod alias;
mod corpus;
mod event;
mod likelihood;
mod model;
mod progress;
mod sampler;
mod slice;
mod summary;
mod together;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use glint::Client;
use tokio::task::{JoinSet, block_in_place};

use corpus::Corpus;
use likelihood::Likelihood;
use model::{Model, Spread};
use progress::Progress;
use sampler::Priors;
use summary::Summary;
use together::Together;
use worker::{Plan, Worker};

/// Topics of a text by latent Dirichlet allocation, the counts on Glint's servers
#[derive(Parser)]
#[command(name = "lda", args_override_self = true)]
struct Flags {
    /// The cluster's master; start one with: glint local --servers 2
    #[arg(long, env = "GLINT_URL", default_value = "http://127.0.0.1:7100")]
    master: String,
    /// The text, in ldac form, with a .tokens file beside it
    #[arg(long, default_value = "target/data/reuters.ldac")]
    corpus: PathBuf,
    /// How many topics
    #[arg(long, default_value_t = 20)]
    topics: usize,
    /// Prior weight of a topic in a document
    #[arg(long, default_value_t = 0.1)]
    alpha: f64,
    /// Prior weight of a word in a topic
    #[arg(long, default_value_t = 0.01)]
    eta: f64,
    /// How often every token's topic is drawn anew
    #[arg(long, default_value_t = 1500)]
    sweeps: usize,
    /// Go on after these sweeps until standard input ends
    #[arg(long)]
    keep_going: bool,
    /// Print each sweep as a line of JSON instead of a bar
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    spread: Spread,
    /// How many topics of its word, and of its document, a token is offered each time
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// How many processes train together, each with its share of the documents
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Which of them this is, from 0 on; Kubernetes says it to the pods of an indexed Job
    #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0)]
    process: usize,
    /// How many workers a process has
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How many rows are pulled at once, at most
    #[arg(long, default_value_t = 1000)]
    block_rows: usize,
    /// The most frequent words, whose changes are combined in a dense array
    #[arg(long, default_value_t = 200)]
    hot_words: u64,
    /// Where all randomness comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Look at the likelihood every so many sweeps
    #[arg(long, default_value_t = 10)]
    report_every: usize,
    /// The log-likelihood to reach, as the Python package lda does
    #[arg(long, allow_hyphen_values = true)]
    reference: Option<f64>,
    /// How much worse than the reference is still good, in percent
    #[arg(long, default_value_t = 0.5)]
    tolerance: f64,
    /// The tokens per second of the Python package lda on this text, to compare with
    #[arg(long)]
    reference_speed: Option<f64>,
    /// How many words of each topic are shown at the end
    #[arg(long, default_value_t = 8)]
    top_words: usize,
    /// The models on the servers are called NAME-counts and NAME-totals
    #[arg(long, default_value = "lda")]
    name: String,
}

impl Flags {
    fn check(&self) -> Result<()> {
        ensure!(
            (1..=65_536).contains(&self.topics),
            "--topics is 1 to 65536"
        );
        ensure!(
            self.alpha > 0.0 && self.eta > 0.0,
            "--alpha and --eta are above 0"
        );
        for (name, value) in [
            ("sweeps", self.sweeps),
            ("rounds", self.rounds),
            ("workers", self.workers),
            ("processes", self.processes),
            ("block-rows", self.block_rows),
            ("report-every", self.report_every),
        ] {
            ensure!(value > 0, "--{name} is at least 1");
        }
        ensure!(
            !self.keep_going || self.processes == 1,
            "--keep-going is for one process: several must know when the others stop"
        );
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    flags.check()?;
    let corpus = Arc::new(Corpus::read(&flags.corpus)?);
    println!(
        "{} documents, {} words, {} tokens; {} topics, {} workers",
        corpus.documents.len(),
        corpus.words.len(),
        corpus.tokens(),
        flags.topics,
        flags.workers
    );
    let client = Client::connect(&flags.master).await.with_context(|| {
        format!(
            "no cluster at {}; start one with: glint local --servers 2",
            flags.master
        )
    })?;
    let first = flags.process == 0;
    let model = if first {
        let words = corpus.words.len();
        Model::create(&client, &flags.name, words, flags.topics, flags.spread).await?
    } else {
        Model::open(&client, &flags.name).await?
    };
    let sums = flags.sweeps.div_ceil(flags.report_every) as u64 + 1;
    let mut together =
        Together::start(&client, &flags.name, flags.process, flags.processes, sums).await?;
    let outcome = train(&flags, &client, &corpus, &model, &mut together).await;
    // The models outlive this process: they go also when the training failed.
    let deleted = if first {
        together
            .delete(&client)
            .await
            .and(model.delete(&client).await)
    } else {
        Ok(())
    };
    let good = outcome?;
    deleted?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Trains, shows the topics, and says whether the reference was reached.
async fn train(
    flags: &Flags,
    client: &Client,
    corpus: &Arc<Corpus>,
    model: &Model,
    together: &mut Together,
) -> Result<bool> {
    let all_workers = flags.workers * flags.processes;
    let priors = Priors {
        topics: flags.topics,
        vocabulary: corpus.words.len(),
        alpha: flags.alpha,
        eta: flags.eta,
    };
    let plan = Plan {
        priors,
        rounds: flags.rounds,
        workers: all_workers,
        hot_words: flags.hot_words,
        seed: flags.seed,
    };
    // Twice as many blocks as workers, so that the block ahead of one is not the block of another.
    let blocks: Arc<[_]> = corpus.blocks(flags.block_rows, 2 * all_workers).into();
    let starting = (0..flags.workers).map(|index| {
        Worker::start(
            model.clone(),
            corpus.clone(),
            blocks.clone(),
            plan.clone(),
            flags.process * flags.workers + index,
        )
    });
    let mut workers = all(starting).await?;
    together.arrive().await?;

    let likelihood = Likelihood::new(corpus, priors);
    let stopped = Stopped::when_input_ends(flags.keep_going);
    let mut progress = Progress::start(flags.events, flags.sweeps, corpus.tokens(), client.stats());
    let mut reached = f64::NAN;
    for sweep in 1.. {
        let started = Instant::now();
        workers = all(workers.into_iter().map(Worker::sweep)).await?;
        together.arrive().await?;
        progress.sweep(started.elapsed(), client.stats());
        let last = sweep >= flags.sweeps && stopped.is_true();
        if sweep % flags.report_every == 0 || last {
            let documents = likelihood_of_documents(&likelihood, &workers)?;
            let documents = together.sum(documents).await?;
            reached = documents + likelihood_of_words(&likelihood, model).await?;
            // Nobody changes a count before all have read them.
            together.arrive().await?;
            progress.likelihood(reached, client.stats());
        }
        if last {
            break;
        }
    }
    let took = progress.finish();

    let summary = Summary::read(model, corpus, &workers, flags.top_words, together).await?;
    if flags.process > 0 {
        println!("process {} of {} is done", flags.process, flags.processes);
        return Ok(true);
    }
    print!("{summary}");
    progress.end(client.stats());
    let speed = progress.tokens_per_second();
    print!(
        "{:.2} M tokens/s in {:.1} s",
        speed / 1e6,
        took.as_secs_f64()
    );
    match flags.reference_speed {
        Some(theirs) => println!(
            "; the Python package lda {:.2} M, ratio {:.2}",
            theirs / 1e6,
            speed / theirs
        ),
        None => println!(),
    }
    print!(
        "log-likelihood {reached:.0} after {} sweeps",
        progress.done()
    );
    let Some(reference) = flags.reference else {
        println!();
        return Ok(true);
    };
    println!("; reference lda {reference:.0}");
    let good = is_good(reached, reference, flags.tolerance);
    if !good {
        eprintln!(
            "worse than the reference by over {} %: try more --sweeps",
            flags.tolerance
        );
    }
    Ok(good)
}

/// Whether a log-likelihood is at most so many percent worse than the reference.
fn is_good(reached: f64, reference: f64, tolerance: f64) -> bool {
    reached >= reference - reference.abs() * tolerance / 100.0
}

/// Whether the training shall end.
struct Stopped(Arc<AtomicBool>);

impl Stopped {
    /// At once, or when standard input ends.
    fn when_input_ends(waits: bool) -> Self {
        let stopped = Arc::new(AtomicBool::new(!waits));
        if waits {
            let at_end = Arc::clone(&stopped);
            // It ends with the process.
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                at_end.store(true, Relaxed);
            });
        }
        Self(stopped)
    }

    fn is_true(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Runs one task for each, at the same time; gives what they return, in no order.
async fn all<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    let mut running = tasks.collect::<JoinSet<_>>();
    let mut done = Vec::with_capacity(running.len());
    while let Some(task) = running.join_next().await {
        done.push(task??);
    }
    Ok(done)
}

/// The part of log p(w, z) that is in the documents of this process.
fn likelihood_of_documents(likelihood: &Likelihood, workers: &[Worker]) -> Result<f64> {
    block_in_place(|| {
        workers
            .iter()
            .map(|worker| likelihood.of_documents(worker.slice()))
            .sum()
    })
}

/// The part of it that is in the model, while no worker is in a sweep.
async fn likelihood_of_words(likelihood: &Likelihood, model: &Model) -> Result<f64> {
    let totals = model.totals.pull_range(0..model.totals.len()).await?;
    let mut sum = likelihood.of_totals(&totals)?;
    model
        .for_all_rows(|_, rows| {
            sum += likelihood.of_rows(rows)?;
            Ok(())
        })
        .await?;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worse_than_the_reference_by_more_than_the_tolerance_is_not_good() {
        for (reached, good) in [
            (-655_858.0, true),
            (-600_000.0, true),
            (-659_137.0, true),
            (-659_138.0, false),
            (-700_000.0, false),
            (f64::NAN, false),
            (f64::NEG_INFINITY, false),
        ] {
            assert_eq!(is_good(reached, -655_858.0, 0.5), good, "{reached}");
        }
    }
}
