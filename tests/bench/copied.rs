//! What a second copy costs: the same pushes to a model with one copy and to one with two, on two servers.

use crate::{
    direct::{Bench, child},
    fleet::Fleet,
    report::Goal,
    worker::Outcome,
    workload::{Sending, VECTOR, Workload},
};

/// Values of the vectors: 128 MiB.
const VALUES: u64 = 32 << 20;

/// Adds the rows to the report.
pub(crate) async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let quick = bench.run.quick;
    let workloads = [
        (
            Workload::Dense {
                values: if quick { 1 << 20 } else { 16 << 20 },
                repetitions: if quick { 3 } else { 15 },
            },
            0.5,
        ),
        (
            Workload::Small {
                in_flight: 64,
                requests: if quick { 2500 } else { 25_000 },
                sending: Sending::Coalesced,
            },
            0.45,
        ),
    ];
    let name = |workload: &Workload| format!("copies: 2, {} push", workload.name());
    if !workloads.iter().any(|(w, _)| bench.asked(&name(w))) {
        return Ok(());
    }
    let mut fleets = Vec::new();
    for copies in [1, 2] {
        let fleet = Fleet::start(&bench.run.glint, &["s1", "s2"], &["--memory", "1GiB"]).await?;
        let values = if quick { VALUES / 16 } else { VALUES };
        let vector = fleet.client().vector::<f32>(VECTOR, values);
        vector.initial(1.0).copies(copies).create().await?;
        fleet.until_whole().await?;
        fleets.push(fleet);
    }
    for round in 1..=bench.run.rounds {
        eprintln!("copies: 2, round {round} of {}", bench.run.rounds);
        for (workload, goal) in &workloads {
            if !bench.asked(&name(workload)) {
                continue;
            }
            let mut rates = Vec::new();
            for fleet in &fleets {
                let json = serde_json::to_string(workload)?;
                let arguments = ["worker", "--master", fleet.url(), "--workload", &json];
                let outcome: Outcome = child(arguments).await?;
                rates.push(1.0 / outcome.push);
            }
            let (scale, unit, one) = match workload {
                Workload::Small { .. } => (1e-3, "k/s", "k/s with one copy"),
                _ => (workload.bytes() as f64 / 1e9, "GB/s", "GB/s with one copy"),
            };
            let goal = bench.goal(Goal::AtLeast(*goal));
            bench.report.add(
                &name(workload),
                (rates[1] * scale, unit),
                Some((rates[0] * scale, one)),
                goal,
            );
        }
    }
    Ok(())
}
