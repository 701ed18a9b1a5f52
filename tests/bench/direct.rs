//! The directing process: rounds, children, failures.

use std::{ffi::OsStr, process::Stdio};

use anyhow::Context;
use glint::Durability;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use crate::{
    Run,
    cluster::Cluster,
    copied, durable, failover,
    instructions::Counter,
    ledger::{self, Path, Push},
    limits::Limits,
    machine::Machine,
    moving, placement,
    report::{self, Goal, Report},
    worker::Outcome,
    workload::{Sending, Sizes, Workload},
};

const TCP: &str = "GB/s of one TCP stream";

/// Measures everything, prints the table, writes the report. An interrupt ends all children with it.
pub(crate) fn main(run: &Run) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = direct(run) => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn direct(run: &Run) -> anyhow::Result<()> {
    let machine = Machine::here();
    let mut warnings = machine.warnings();
    eprintln!("{}", machine.describe());
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if run.quick {
        warnings.push("small sizes: the figures mean nothing".into());
    }
    let mut bench = Bench {
        run,
        sizes: Sizes::new(run.quick),
        report: Report::default(),
        failures: Vec::new(),
    };
    bench.workloads().await?;
    durable::measure(&mut bench).await?;
    copied::measure(&mut bench).await?;
    moving::measure(&mut bench).await?;
    failover::measure(&mut bench).await?;
    bench.exactly_once().await?;
    placement::measure(&mut bench);

    println!("\n{}\n", machine.describe());
    println!("{}", bench.report.table());
    for warning in &warnings {
        println!("warning: {warning}");
    }
    for failure in &bench.failures {
        println!("FAILED: {failure}");
    }
    let about = report::Run {
        machine: &machine,
        warnings: &warnings,
        rounds: run.rounds,
        quick: run.quick,
        failures: &bench.failures,
    };
    bench.report.write(&run.report, &about)?;
    println!("written to {}", run.report.display());
    anyhow::ensure!(
        bench.failures.is_empty(),
        "{} measurements failed",
        bench.failures.len()
    );
    Ok(())
}

/// Runs this binary again as a child, and reads the JSON that it prints.
pub(crate) async fn child<T: DeserializeOwned>(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> anyhow::Result<T> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    anyhow::ensure!(
        output.status.success(),
        "the child ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("the child printed something else than JSON")
}

pub(crate) struct Bench<'a> {
    pub(crate) run: &'a Run,
    sizes: Sizes,
    pub(crate) report: Report,
    pub(crate) failures: Vec<String>,
}

impl Bench<'_> {
    pub(crate) fn wanted(&self, name: &str) -> bool {
        name.contains(&self.run.only)
    }

    /// Whether a row, or one of a group of rows whose names begin so, is asked for.
    pub(crate) fn asked(&self, name: &str) -> bool {
        let only = &self.run.only;
        self.wanted(name) || only.starts_with(name)
    }

    /// A goal counts only at the sizes that it was set for.
    pub(crate) fn goal(&self, goal: Goal) -> Option<Goal> {
        (!self.run.quick).then_some(goal)
    }

    async fn workloads(&mut self) -> anyhow::Result<()> {
        let memory = self.wanted("memory");
        // The coalesced figure is judged by the others of its kind: one of them asks for all.
        let small =
            self.sizes.workloads.iter().any(|w| {
                matches!(w, Workload::Small { in_flight: 2.., .. }) && self.wanted(&w.name())
            });
        let workloads: Vec<Workload> = self
            .sizes
            .workloads
            .iter()
            .copied()
            .filter(|w| {
                memory && !w.on_matrix()
                    || self.wanted(&w.name())
                    || small && matches!(w, Workload::Small { in_flight: 2.., .. })
            })
            .collect();
        if workloads.is_empty() {
            return Ok(());
        }
        // Each model has a cluster of its own, so that a server's memory is compared with one model.
        let vector = Cluster::start(&self.run.glint)?;
        vector
            .create_vector(self.sizes.vector, Durability::Memory)
            .await?;
        let matrix = if workloads.iter().any(Workload::on_matrix) {
            let cluster = Cluster::start(&self.run.glint)?;
            cluster.create_matrix(self.sizes.rows).await?;
            Some(cluster)
        } else {
            None
        };
        for round in 1..=self.run.rounds {
            eprint!("round {round} of {}: limits", self.run.rounds);
            let mut arguments = vec!["limits"];
            arguments.extend(self.run.quick.then_some("--quick"));
            let limits: Limits = child(arguments).await?;
            let mut outcomes = Vec::new();
            for &workload in &workloads {
                let name = workload.name();
                eprint!(", {name}");
                let cluster = match &matrix {
                    Some(matrix) if workload.on_matrix() => matrix,
                    _ => &vector,
                };
                let json = serde_json::to_string(&workload)?;
                let arguments = ["worker", "--master", cluster.url(), "--workload", &json];
                match child::<Outcome>(arguments).await {
                    Ok(outcome) => outcomes.push((workload, outcome)),
                    Err(error) => self
                        .failures
                        .push(format!("{name}, round {round}: {error:#}")),
                }
            }
            eprintln!();
            self.record(&limits, &outcomes);
        }
        if memory {
            self.record_memory(&vector)?;
        }
        vector.stop().await?;
        if let Some(matrix) = matrix {
            matrix.stop().await?;
        }
        Ok(())
    }

    /// Adds the figures of one round.
    fn record(&mut self, limits: &Limits, outcomes: &[(Workload, Outcome)]) {
        for (workload, outcome) in outcomes {
            for direction in [Direction::Push, Direction::Pull] {
                self.record_one(limits, outcomes, workload, outcome, direction);
            }
        }
    }

    fn record_one(
        &mut self,
        limits: &Limits,
        outcomes: &[(Workload, Outcome)],
        workload: &Workload,
        outcome: &Outcome,
        direction: Direction,
    ) {
        let name = format!("{} {}", workload.name(), direction.name());
        let seconds = direction.of(outcome);
        let rate = (workload.bytes() as f64 / seconds / 1e9, "GB/s");
        let often = (1e-3 / seconds, "k/s");
        let tcp = |limit: f64| Some((limit / 1e9, TCP));
        let (value, limit, goal) = match *workload {
            Workload::Dense { values, .. } if values > 1 << 20 => {
                let goal = match direction {
                    Direction::Pull => Goal::AtLeast(0.85),
                    Direction::Push => Goal::AtLeast(0.75),
                };
                (rate, tcp(limits.large), Some(goal))
            }
            Workload::Dense { .. } | Workload::Sparse { .. } | Workload::Rows { .. } => {
                (rate, tcp(limits.small), None)
            }
            Workload::Small { in_flight: 1, .. } => {
                let limit = (limits.round_trips / 1e3, "k/s round trips of TCP");
                (often, Some(limit), None)
            }
            Workload::Small {
                sending: Sending::Coalesced,
                ..
            } => {
                // Against the better of the two ways to send them singly.
                let single = outcomes
                    .iter()
                    .filter(|(other, _)| other.is_single())
                    .map(|(_, outcome)| 1e-3 / direction.of(outcome))
                    .reduce(f64::max)
                    .map(|single| (single, "k/s single, the better"));
                (often, single, Some(Goal::AtLeast(3.0)))
            }
            Workload::Small { .. } => (often, None, None),
        };
        let goal = goal.and_then(|goal| self.goal(goal));
        self.report.add(&name, value, limit, goal);
    }

    fn record_memory(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let model = (self.sizes.vector * 4) as f64 / 1e6;
        let memory = cluster.server_memory()?;
        let limit = Some((model, "MB of the model"));
        self.report.add(
            "server memory after all",
            (memory.now as f64 / 1e6, "MB"),
            limit,
            self.goal(Goal::AtMost(1.15)),
        );
        self.report.add(
            "server memory at its peak",
            (memory.peak as f64 / 1e6, "MB"),
            limit,
            None,
        );
        Ok(())
    }

    async fn exactly_once(&mut self) -> anyhow::Result<()> {
        let pushes: Vec<Push> = Push::ALL
            .into_iter()
            .filter(|push| self.wanted(push.name()))
            .collect();
        if pushes.is_empty() {
            return Ok(());
        }
        let counter = match Counter::here().await {
            Ok(counter) => counter,
            Err(error) => {
                self.failures.push(format!("exactly-once: {error:#}"));
                return Ok(());
            }
        };
        for push in pushes {
            eprintln!("counting instructions: {}", push.name());
            if let Err(error) = self.count(counter, push).await {
                self.failures.push(format!("{}: {error:#}", push.name()));
            }
        }
        Ok(())
    }

    async fn count(&mut self, counter: Counter, push: Push) -> anyhow::Result<()> {
        let ledger = ledger::cost(counter, push, Path::Ledger).await?;
        let direct = ledger::cost(counter, push, Path::Direct).await?;
        self.report.add(
            push.name(),
            (ledger / 1e3, "k instr"),
            Some((direct / 1e3, "k instr without a ledger")),
            self.goal(Goal::AtMost(1.03)),
        );
        if push == Push::One {
            // What of a push of one key is not parsing and adding is the request itself: so it is counted too.
            let request = ledger::cost(counter, push, Path::Request).await?;
            self.report.add(
                &format!("{}, the whole request", push.name()),
                (request / 1e3, "k instr"),
                Some((
                    (request - ledger + direct) / 1e3,
                    "k instr without the ledger's",
                )),
                self.goal(Goal::AtMost(1.03)),
            );
            // The model has one copy: what copies need must cost it next to nothing.
            self.report.add(
                "exactly-once, push of 1 key, the whole request, copies: 1",
                (request / 1e3, "k instr"),
                Some((
                    ledger::BEFORE_COPIES / 1e3,
                    "k instr before there were copies",
                )),
                self.goal(Goal::AtMost(1.02))
                    .filter(|_| cfg!(target_arch = "x86_64")),
            );
        }
        Ok(())
    }
}

/// Which of the two figures of a worker.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Pull,
    Push,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    const fn of(self, outcome: &Outcome) -> f64 {
        match self {
            Self::Pull => outcome.pull,
            Self::Push => outcome.push,
        }
    }
}
