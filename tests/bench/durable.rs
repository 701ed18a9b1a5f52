//! What durability costs: pushes to models of each durability side by side, how fast a server has its values again, and
//! how much pushes notice of snapshots.

use std::path::Path;

use anyhow::Context;
use glint::Durability;
use tokio::process::Command;

use crate::{
    cluster::Cluster,
    direct::{Bench, child},
    disk::DiskLimits,
    report::Goal,
    worker::{Outcome, Pace},
    workload::Workload,
};

/// Values of the vector: 128 MiB.
const VALUES: u64 = 32 << 20;
/// Values that are pushed at once so long as the log of a `sync` model is compared with the disk, and for the replay.
const DENSE: u64 = 16 << 20;
/// Keys of a push while snapshots are written.
const STEADY_KEYS: u64 = 10_000;

const SYNCED: &str = "GB/s written and synced, 1 MiB each";
const READ: &str = "GB/s read and added";

/// Adds the rows to the report.
pub(crate) async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let names = ["async", "sync", "replay", "snapshot"];
    let wanted = names.map(|name| {
        bench.run.only.is_empty() || bench.wanted(name) || bench.run.only.contains(name)
    });
    let [asynchronous, synchronous, replay, snapshot] = wanted;
    if asynchronous || synchronous {
        pushes(bench).await?;
    }
    if replay {
        replays(bench).await?;
    }
    if snapshot {
        snapshots(bench).await?;
    }
    Ok(())
}

/// Lets the disk finish what others have begun, so that it is not measured with the next.
async fn settle_disk() -> anyhow::Result<()> {
    let status = Command::new("sync").status().await?;
    anyhow::ensure!(status.success(), "`sync` ended with {status}");
    Ok(())
}

async fn cluster(
    bench: &Bench<'_>,
    durability: Durability,
    flags: &[&str],
) -> anyhow::Result<Cluster> {
    let cluster = Cluster::durable(&bench.run.glint, &bench.run.data, flags)?;
    let values = if bench.run.quick { VALUES / 16 } else { VALUES };
    cluster.create_vector(values, durability).await?;
    Ok(cluster)
}

async fn pushes(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let (large, repetitions) = if bench.run.quick {
        (1 << 20, 3)
    } else {
        (DENSE, 7)
    };
    let workloads = [
        Workload::Dense {
            values: large,
            repetitions,
        },
        Workload::Sparse {
            keys: 10_000,
            repetitions: if bench.run.quick { 5 } else { 101 },
        },
        Workload::Sparse {
            keys: 100_000,
            repetitions: if bench.run.quick { 5 } else { 41 },
        },
    ];
    let mut clusters = Vec::new();
    for durability in Durability::ALL {
        clusters.push((durability, cluster(bench, durability, &[]).await?));
    }
    for round in 1..=bench.run.rounds {
        eprintln!("durability, round {round} of {}", bench.run.rounds);
        let disk = disk_limits(bench).await?;
        for workload in workloads {
            let mut memory = None;
            for (durability, cluster) in &clusters {
                settle_disk().await?;
                let json = serde_json::to_string(&workload)?;
                let arguments = ["worker", "--master", cluster.url(), "--workload", &json];
                let name = format!("{durability}, {} push", workload.name());
                let outcome = match child::<Outcome>(arguments).await {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        bench
                            .failures
                            .push(format!("{name}, round {round}: {error:#}"));
                        continue;
                    }
                };
                let rate = workload.bytes() as f64 / outcome.push / 1e9;
                let is_dense = matches!(workload, Workload::Dense { .. });
                let (limit, goal) = match (durability, is_dense) {
                    (Durability::Memory, _) => {
                        memory = Some(rate);
                        (None, None)
                    }
                    (Durability::Sync, true) => {
                        (Some((disk.synced / 1e9, SYNCED)), Some(Goal::AtLeast(0.6)))
                    }
                    (Durability::Async, dense) => {
                        let goal = Goal::AtLeast(if dense { 0.5 } else { 0.7 });
                        (memory.map(|m| (m, "GB/s of memory")), Some(goal))
                    }
                    (Durability::Sync, false) => (memory.map(|m| (m, "GB/s of memory")), None),
                };
                let goal = goal.and_then(|goal| bench.goal(goal));
                bench.report.add(&name, (rate, "GB/s"), limit, goal);
            }
        }
    }
    for (_, cluster) in clusters {
        cluster.stop().await?;
    }
    Ok(())
}

async fn disk_limits(bench: &Bench<'_>) -> anyhow::Result<DiskLimits> {
    settle_disk().await?;
    let folder = bench.run.data.to_string_lossy().into_owned();
    let mut arguments = vec!["disk", "--folder", &folder];
    arguments.extend(bench.run.quick.then_some("--quick"));
    child(arguments).await
}

/// A server is killed with a log full of dense pushes and started again.
async fn replays(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    // No snapshots: all of it is in the log.
    let flags = ["--log-floor", "1TiB"];
    let mut cluster = cluster(bench, Durability::Async, &flags).await?;
    let values = if bench.run.quick { 1 << 20 } else { DENSE };
    let workload = serde_json::to_string(&Workload::Dense {
        values,
        repetitions: 15,
    })?;
    let _: Outcome = child(["worker", "--master", cluster.url(), "--workload", &workload]).await?;
    for round in 1..=bench.run.rounds {
        eprintln!("replay, round {round} of {}", bench.run.rounds);
        settle_disk().await?;
        let folder = cluster.directory().to_string_lossy().into_owned();
        let limit: f64 = child(["read-and-add", "--folder", &folder]).await?;
        let said = cluster.recover().await?;
        let number = |name: &str| {
            said[name]
                .as_f64()
                .with_context(|| format!("no {name} in {said}"))
        };
        let rate = number("bytes")? / number("seconds")?;
        let goal = bench.goal(Goal::AtLeast(0.5));
        bench.report.add(
            "replay of a log of dense pushes",
            (rate / 1e9, "GB/s"),
            Some((limit / 1e9, READ)),
            goal,
        );
    }
    cluster.stop().await
}

/// Files of snapshots in a data directory, with when they were written.
fn snapshot_times(directory: &Path) -> anyhow::Result<Vec<std::time::SystemTime>> {
    let mut times = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains("snapshot") {
            times.push(entry.metadata()?.modified()?);
        }
    }
    times.sort();
    Ok(times)
}

/// The same stream of pushes where no snapshot is written and where one follows another.
async fn snapshots(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let without = cluster(bench, Durability::Async, &["--log-floor", "1TiB"]).await?;
    let with = cluster(bench, Durability::Async, &["--log-floor", "1MiB"]).await?;
    let seconds = if bench.run.quick { "1" } else { "4" };
    let keys = STEADY_KEYS.to_string();
    for round in 1..=bench.run.rounds {
        eprintln!("snapshots, round {round} of {}", bench.run.rounds);
        let mut paces = Vec::new();
        let before = snapshot_times(&with.directory())?;
        for cluster in [&without, &with] {
            settle_disk().await?;
            let arguments = [
                "steady",
                "--master",
                cluster.url(),
                "--keys",
                &keys,
                "--seconds",
                seconds,
            ];
            paces.push(child::<Pace>(arguments).await?);
        }
        let written = snapshot_times(&with.directory())?;
        anyhow::ensure!(
            bench.run.quick || written != before,
            "no snapshot was written while pushes were timed"
        );
        let [calm, busy] = paces[..] else {
            anyhow::bail!("two streams were timed");
        };
        let rate = bench.goal(Goal::AtLeast(2.0 / 3.0));
        bench.report.add(
            "pushes while snapshots are written",
            (busy.rate, "/s"),
            Some((calm.rate, "/s without")),
            rate,
        );
        let p99 = bench.goal(Goal::AtMost(1.0));
        bench.report.add(
            "pushes while snapshots are written, p99",
            (busy.p99 * 1e3, "ms"),
            Some((20.0, "ms at most")),
            p99,
        );
        bench.report.add(
            "pushes while snapshots are written, slowest",
            (busy.slowest * 1e3, "ms"),
            Some((calm.slowest * 1e3, "ms without")),
            None,
        );
        bench.report.add(
            "pushes without snapshots, p99",
            (calm.p99 * 1e3, "ms"),
            None,
            None,
        );
    }
    without.stop().await?;
    with.stop().await
}
