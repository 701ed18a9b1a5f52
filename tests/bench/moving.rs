//! What moves cost: how fast a model goes from one server to another, and what pushes notice of it.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use glint::{Client, Durability};
use serde::{Deserialize, Serialize};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    direct::{Bench, child},
    fleet::Fleet,
    limits::Limits,
    machine,
    report::Goal,
    worker::Pace,
    workload::VECTOR,
};

/// Bytes of the model that moves as fast as it goes, where there is memory for it twice, and something else.
const LARGE: u64 = 4 << 30;
/// Bytes a second of a move at the usual rate, and of the model that moves so: 8 seconds of it.
const RATE: u64 = glint_server::server::MOVE_RATE;
const USUAL: u64 = 8 * RATE;
/// Keys of a push meanwhile.
const KEYS: u64 = 10_000;
/// Partitions of the model whose pauses are measured, each of 1 MiB, and values of one of them.
const PARTITIONS: u32 = 256;
const PARTITION: u64 = 256 << 10;

/// Adds the rows to the report.
pub(crate) async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    if bench.asked("move unlimited") {
        unlimited(bench).await?;
    }
    if bench.asked("move at the usual rate") {
        beside(bench).await?;
    }
    if bench.asked("move pause") {
        pauses(bench).await?;
    }
    Ok(())
}

/// A model goes to and fro between two servers.
async fn unlimited(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let mut bytes = if bench.run.quick { LARGE / 64 } else { LARGE };
    let free = machine::kilobytes("/proc/meminfo", "MemAvailable")
        .context("/proc/meminfo does not say what is free")?;
    while bytes * 5 / 2 > free {
        bytes /= 2;
    }
    let memory = (bytes + (64 << 20)).to_string();
    let mut fleet = Fleet::start(
        &bench.run.glint,
        &["s1"],
        &["--move-rate", "0", "--memory", &memory],
    )
    .await?;
    let vector = fleet.client().vector::<f32>(VECTOR, bytes / 4);
    let vector = vector.initial(1.0).durability(Durability::Memory);
    vector.create().await?;
    fleet.join("s2").await?;
    let name = format!("move unlimited, {} MiB", bytes >> 20);
    // In pairs, so that the model is where it was after each round, and memory is as warm.
    for round in 1..=bench.run.rounds {
        eprintln!("{name}, round {round} of {}", bench.run.rounds);
        let limits = limits(bench).await?;
        machine::touch(bytes)?;
        let (from, to) = if round % 2 == 1 {
            ("s1", "s2")
        } else {
            ("s2", "s1")
        };
        let took = fleet.empty(from).await?.as_secs_f64();
        fleet.keep(from).await?;
        let rate = bytes as f64 / took;
        let goal = bench.goal(Goal::AtLeast(0.5));
        bench.report.add(
            &name,
            (rate / 1e9, "GB/s"),
            Some((limits.large / 1e9, "GB/s of one TCP stream")),
            goal,
        );
        eprintln!("  to {to}: {:.2} GB/s", rate / 1e9);
    }
    Ok(())
}

async fn limits(bench: &Bench<'_>) -> anyhow::Result<Limits> {
    let mut arguments = vec!["limits"];
    arguments.extend(bench.run.quick.then_some("--quick"));
    child(arguments).await
}

/// Pushes go on while a model moves at the usual rate.
async fn beside(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let bytes = if bench.run.quick { USUAL / 8 } else { USUAL };
    let seconds = if bench.run.quick { 0.5 } else { 5.0 };
    let mut fleet = Fleet::start(&bench.run.glint, &["s1"], &["--memory", "4GiB"]).await?;
    let vector = fleet.client().vector::<f32>(VECTOR, bytes / 4);
    let vector = vector.initial(1.0).durability(Durability::Memory);
    vector.create().await?;
    fleet.join("s2").await?;
    for round in 1..=bench.run.rounds {
        eprintln!(
            "move at the usual rate, round {round} of {}",
            bench.run.rounds
        );
        let from = if round % 2 == 1 { "s1" } else { "s2" };
        let calm = steady(fleet.url(), seconds).await?;
        let moving = fleet.empty(from);
        let pushing = steady(fleet.url(), seconds);
        let (took, busy) = tokio::try_join!(moving, pushing)?;
        fleet.keep(from).await?;
        anyhow::ensure!(
            bench.run.quick || took.as_secs_f64() > seconds * 0.9,
            "the move took {took:?} and was over before the pushes"
        );
        let goal = bench.goal(Goal::AtLeast(0.8));
        bench.report.add(
            "move at the usual rate, pushes meanwhile",
            (busy.rate, "/s"),
            Some((calm.rate, "/s undisturbed")),
            goal,
        );
        let rate = bytes as f64 / took.as_secs_f64();
        bench.report.add(
            "move at the usual rate, how fast",
            (rate / f64::from(1 << 20), "MiB/s"),
            Some((RATE as f64 / f64::from(1 << 20), "MiB/s")),
            None,
        );
    }
    Ok(())
}

async fn steady(url: &str, seconds: f64) -> anyhow::Result<Pace> {
    let (keys, seconds) = (KEYS.to_string(), seconds.to_string());
    let arguments = ["--keys", &keys, "--seconds", &seconds];
    child([&["steady", "--master", url][..], &arguments].concat()).await
}

/// The longest that a push to each partition took, in seconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Longest(Vec<f64>);

/// Each partition is pushed to without a pause while it moves.
async fn pauses(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let partitions = if bench.run.quick { 16 } else { PARTITIONS };
    let mut fleet = Fleet::start(&bench.run.glint, &["s1"], &["--memory", "2GiB"]).await?;
    let keys = PARTITION * u64::from(partitions);
    let vector = fleet.client().vector::<f32>(VECTOR, keys);
    let vector = vector.partitions(partitions).durability(Durability::Memory);
    vector.create().await?;
    fleet.join("s2").await?;
    for round in 1..=bench.run.rounds {
        eprintln!("move pause, round {round} of {}", bench.run.rounds);
        let from = if round % 2 == 1 { "s1" } else { "s2" };
        let calm = watched(fleet.url(), async {
            sleep(Duration::from_secs(2)).await;
            Ok(())
        })
        .await?;
        let busy = watched(fleet.url(), async {
            fleet.empty(from).await?;
            Ok(())
        })
        .await?;
        fleet.keep(from).await?;
        for (name, of) in [("p99", 0.99), ("longest", 1.0)] {
            let goal = bench.goal(Goal::AtMost(1.0)).filter(|_| of < 1.0);
            let limit = Some((20.0, "ms at most")).filter(|_| of < 1.0);
            bench.report.add(
                &format!("move pause, {name} over partitions"),
                (at(&busy, of) * 1e3, "ms"),
                limit.or(Some((at(&calm, of) * 1e3, "ms undisturbed"))),
                goal,
            );
        }
        bench.report.add(
            "move pause, p99 over partitions, undisturbed",
            (at(&calm, 0.99) * 1e3, "ms"),
            None,
            None,
        );
    }
    Ok(())
}

fn at(longest: &Longest, of: f64) -> f64 {
    let mut sorted = longest.0.clone();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() as f64 * of) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Has every partition pushed to by a process of its own while something is done.
async fn watched(
    url: &str,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Longest> {
    let folder = tempfile::tempdir()?;
    let (ready, stop) = (folder.path().join("ready"), folder.path().join("stop"));
    let worker = Command::new(std::env::current_exe()?)
        .args(["watch", "--master", url, "--folder"])
        .arg(folder.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let began = Instant::now();
    while !ready.exists() {
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(30),
            "nobody pushes to the partitions"
        );
        sleep(Duration::from_millis(5)).await;
    }
    work.await?;
    std::fs::write(stop, "")?;
    let output = worker.wait_with_output().await?;
    anyhow::ensure!(output.status.success(), "the pushes failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Pushes to every partition without a pause, each by a task of its own, from when there is a file `ready` until there is one
/// `stop`; prints [`Longest`] as JSON.
pub(crate) fn watch(master: &str, folder: &std::path::Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (master, folder) = (master.to_owned(), folder.to_owned());
    let work = runtime.spawn(async move {
        let client = Client::connect(&master).await?;
        let vector = client.open_vector::<f32>(VECTOR).await?;
        let partitions = vector.len() / PARTITION;
        let (started, stop) = (folder.join("ready"), folder.join("stop"));
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let pushing = (0..partitions).map(|partition| {
            let (vector, end) = (vector.clone(), std::sync::Arc::clone(&end));
            tokio::spawn(async move {
                // Connections and maps are there after the first.
                vector.push(&[partition * PARTITION], &[1.0]).await?;
                let mut longest = 0.0_f64;
                while !end.load(std::sync::atomic::Ordering::Relaxed) {
                    let push = Instant::now();
                    vector.push(&[partition * PARTITION], &[1.0]).await?;
                    longest = longest.max(push.elapsed().as_secs_f64());
                    // Not more than the machine can do, or only its queues would be measured.
                    sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, glint::Error>(longest)
            })
        });
        let pushing: Vec<_> = pushing.collect();
        sleep(Duration::from_millis(200)).await;
        tokio::fs::write(started, "").await?;
        while !stop.exists() {
            sleep(Duration::from_millis(5)).await;
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
        let longest = try_join_all(pushing).await?;
        let longest: Result<Vec<f64>, _> = longest.into_iter().collect();
        anyhow::Ok(Longest(longest?))
    });
    let longest = runtime.block_on(work).context("the worker panicked")??;
    println!("{}", serde_json::to_string(&longest)?);
    Ok(())
}
