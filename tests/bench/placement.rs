//! Placement: how long the master thinks about 1 000 servers and 100 000 partitions with two copies each.

use std::time::Instant;

use glint_server::master::placement::{Effort, Partition, Plan, Server, Standing, drain, plan};

use crate::{direct::Bench, report::Goal};

const SERVERS: u32 = 1000;
const PARTITIONS: u32 = 100_000;
const MODELS: u32 = 100;
/// What is decided.
const ROWS: [&str; 4] = [
    "placement: new models",
    "placement: a server joins",
    "placement: a server drains",
    "placement: a server is lost",
];
/// What a decision may take.
const GOAL: f64 = 100.0;

/// Adds the rows.
pub(crate) fn measure(bench: &mut Bench<'_>) {
    if !ROWS.iter().any(|row| bench.wanted(row)) {
        return;
    }
    eprintln!("deciding where partitions go");
    let size = if bench.run.quick { 10 } else { 1 };
    let (count, partitions) = (SERVERS / size, PARTITIONS / size);
    let new = (0..partitions).map(|p| Partition {
        model: p / (partitions / MODELS).max(1),
        bytes: (1 << 20) + u64::from(p.wrapping_mul(0x9e37_79b1) >> 12),
        copies: 2,
        durable: true,
        holder: None,
        members: Vec::new(),
        learners: Vec::new(),
    });
    let new: Vec<Partition> = new.collect();
    let servers: Vec<Server> = (0..count).map(server).collect();
    let joined: Vec<Server> = (0..=count).map(server).collect();
    let placed = after(&new, &plan(&servers, &new, Effort::Balance));
    let mut lost = servers.clone();
    lost[7].standing = Standing::Silent;
    for _ in 0..bench.run.rounds {
        row(bench, ROWS[0], || plan(&servers, &new, Effort::Balance));
        row(bench, ROWS[1], || plan(&joined, &placed, Effort::Balance));
        row(bench, ROWS[2], || {
            drain(&servers, &placed, 7).unwrap_or_default()
        });
        row(bench, ROWS[3], || plan(&lost, &placed, Effort::Balance));
    }
}

fn row(bench: &mut Bench<'_>, name: &str, decide: impl Fn() -> Plan) {
    if !bench.wanted(name) {
        return;
    }
    let begun = Instant::now();
    let plan = decide();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if plan.changes.is_empty() {
        bench
            .failures
            .push(format!("{name}: nothing was to be done"));
    }
    let goal = bench.goal(Goal::AtMost(1.0));
    bench
        .report
        .add(name, (took, "ms"), Some((GOAL, "ms")), goal);
}

fn server(number: u32) -> Server {
    Server {
        zone: Some(format!("zone-{}", number % 3)),
        node: Some(format!("node-{number}")),
        capacity: Some(4 << 30),
        other_bytes: 0,
        durable: true,
        standing: Standing::Live,
    }
}

/// Everything as the plan says.
fn after(partitions: &[Partition], plan: &Plan) -> Vec<Partition> {
    let mut partitions = partitions.to_vec();
    for change in &plan.changes {
        let partition = &mut partitions[change.partition as usize];
        partition.members.clone_from(&change.servers);
        partition.holder = Some(change.holder);
    }
    partitions
}
