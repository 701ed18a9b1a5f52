//! How long pushes wait when a server is killed: from the kill to the first push to each of its partitions that is acknowledged.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use glint::{Client, Durability, Vector};
use tokio::time::{Instant, sleep};

use crate::{direct::Bench, fleet::Fleet, report::Goal, workload::VECTOR};

const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
const PARTITIONS: u32 = 12;
/// Values of a partition.
const PARTITION: u64 = 1 << 14;
/// How often a server is killed.
const KILLS: usize = 40;
/// Between two pushes to a partition.
const PAUSE: Duration = Duration::from_millis(2);
/// At the defaults, for the p99.
const GOAL_MS: f64 = 800.0;

/// Per partition: when the last acknowledged push began, and when it was acknowledged.
type Acknowledged = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// Adds the rows to the report.
pub(crate) async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    if !bench.asked("fail-over") {
        return Ok(());
    }
    let mut fleet = Fleet::start(&bench.run.glint, &SERVERS, &["--memory", "256MiB"]).await?;
    let vector = fleet
        .client()
        .vector::<f32>(VECTOR, PARTITION * u64::from(PARTITIONS))
        .partitions(PARTITIONS)
        .copies(2)
        .durability(Durability::Memory);
    vector.create().await?;
    fleet.until_whole().await?;
    let end = Arc::new(AtomicBool::new(false));
    let now = Instant::now();
    let seen: Acknowledged = Arc::new(Mutex::new(vec![(now, now); PARTITIONS as usize]));
    // A client of its own, as a training program has.
    let client = Client::connect(fleet.url()).await?;
    let vector = client.open_vector::<f32>(VECTOR).await?;
    let pushing: Vec<_> = (0..PARTITIONS as usize)
        .map(|partition| {
            let (vector, end, seen) = (vector.clone(), Arc::clone(&end), Arc::clone(&seen));
            tokio::spawn(push(vector, partition, end, seen))
        })
        .collect();
    let mut times = Vec::new();
    let kills = if bench.run.quick { 2 } else { KILLS };
    for kill in 0..kills {
        if kill % 10 == 0 {
            eprintln!("fail-over, {kill} of {kills} kills");
        }
        times.extend(one(&mut fleet, kill, &seen).await?);
    }
    end.store(true, Relaxed);
    for done in try_join_all(pushing).await? {
        done?;
    }
    anyhow::ensure!(!times.is_empty(), "no server held anything");
    times.sort_by(f64::total_cmp);
    let at = |of: f64| times[((times.len() as f64 * of) as usize).min(times.len() - 1)] * 1e3;
    let goal = bench.goal(Goal::AtMost(1.0));
    for (name, of, goal) in [
        ("p50", 0.5, None),
        ("p99", 0.99, goal),
        ("longest", 1.0, None),
    ] {
        bench.report.add(
            &format!("fail-over, {name} of {} partitions", times.len()),
            (at(of), "ms"),
            Some((GOAL_MS, "ms")),
            goal,
        );
    }
    Ok(())
}

/// Pushes to one partition until the end; each acknowledgement is noted.
async fn push(
    vector: Vector<f32>,
    partition: usize,
    end: Arc<AtomicBool>,
    seen: Acknowledged,
) -> glint::Result<()> {
    while !end.load(Relaxed) {
        let began = Instant::now();
        let key = partition as u64 * PARTITION;
        vector.push(&[key], &[1.0]).await?;
        seen.lock().unwrap_or_else(PoisonError::into_inner)[partition] = (began, Instant::now());
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Kills one server; how long it took for each partition that it held. Then it comes back.
async fn one(fleet: &mut Fleet, kill: usize, seen: &Acknowledged) -> anyhow::Result<Vec<f64>> {
    let name = SERVERS[kill % SERVERS.len()];
    let map = fleet.client().map(VECTOR).await?;
    let held: Vec<usize> = (0..PARTITIONS)
        .filter(|&p| map.holder(p).is_some_and(|(server, _)| server.id.0 == name))
        .map(|p| p as usize)
        .collect();
    let killed = fleet.kill(name).await?;
    // From here on it has answered nobody: a push that begins now is acknowledged by another.
    let dead = Instant::now();
    let mut times = Vec::new();
    for partition in held {
        let acknowledged = loop {
            let (began, acknowledged) =
                seen.lock().unwrap_or_else(PoisonError::into_inner)[partition];
            if began > dead {
                break acknowledged;
            }
            anyhow::ensure!(
                killed.elapsed() < Duration::from_secs(30),
                "partition {partition} is not served again"
            );
            sleep(Duration::from_millis(1)).await;
        };
        times.push((acknowledged - killed).as_secs_f64());
    }
    fleet.join(name).await?;
    fleet.until_whole().await?;
    // Not in step with the beacons.
    sleep(Duration::from_millis(100 + (kill as u64 * 37) % 50)).await;
    Ok(times)
}
