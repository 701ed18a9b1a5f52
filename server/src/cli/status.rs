//! `glint status` and `glint models`.

mod watch;

use std::fmt::Write;

use glint_protocol::{
    Partitioning, ServerId,
    admin::DrainState,
    control::{
        ClusterStatus, ModelState, ModelSummary, PartitionLoad, RecoveryProgress, ServerState,
        ServerSummary,
    },
};
use glint_server::master::Size;

use super::{admin, api::Target, print, table::Table};

/// Moves, and busy partitions, that are shown at most.
const MOVES_SHOWN: usize = 8;
const BUSIEST_SHOWN: usize = 8;

/// Show servers and models of a cluster.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glint status
  glint status --watch                     again every second, with how fast copies move and how long that takes
  glint status --master http://glint-master:7100 --json")]
pub(crate) struct Status {
    #[command(flatten)]
    target: Target,
    /// Print the master's JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Show it again every second, until it is ended.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// List the models of a cluster.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glint models
  GLINT_URL=http://glint-master:7100 glint models --json")]
pub(crate) struct Models {
    #[command(flatten)]
    target: Target,
    /// Print the master's JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = self.target.api()?;
        if self.watch {
            return watch::run(&api).await;
        }
        let status: ClusterStatus = api.get("/v1/status").await?;
        if self.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&status)?));
        }
        print(&show(&status)?)
    }
}

impl Models {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = self.target.api()?;
        let models: Vec<ModelSummary> = api.get("/v1/models").await?;
        if self.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&models)?));
        }
        print(&model_table(&models))
    }
}

fn show(status: &ClusterStatus) -> anyhow::Result<String> {
    let cluster = match status.cluster {
        Some(cluster) => format!("cluster {cluster}"),
        None => "a cluster that no server has named yet".to_owned(),
    };
    let mut text = format!(
        "{cluster}, master's start {}, version {}\n\n",
        status.term, status.version
    );
    if status.servers.is_empty() {
        text.push_str("No servers. Start one with: glint server --master URL\n");
    } else {
        text.push_str(&server_table(&status.servers));
    }
    write_transfers(&mut text, status)?;
    let silent: Vec<String> = status
        .servers
        .iter()
        .filter(|s| s.state != ServerState::Alive && s.holds > 0)
        .map(|s| format!("{} ({})", s.id, s.holds))
        .collect();
    if !silent.is_empty() {
        writeln!(
            text,
            "\nPulls and pushes of what only {} can serve wait until it is back.",
            silent.join(", ")
        )?;
    }
    let full: Vec<_> = status.servers.iter().filter(|s| is_full(s)).collect();
    if !full.is_empty() {
        let names: Vec<_> = full.iter().map(|s| s.id.to_string()).collect();
        writeln!(
            text,
            "\nThe disk of {} is full: pushes to its models that are not `memory` wait. Make room; they go on by themselves.",
            names.join(", ")
        )?;
    }
    for refused in &status.refused {
        writeln!(
            text,
            "\nServer {} at {} was refused {} ago: {}",
            refused.server,
            refused.url,
            span(refused.ago_ms),
            refused.error.message
        )?;
    }
    text.push('\n');
    text.push_str(&model_table(&status.models));
    for model in &status.models {
        write_losses(&mut text, model)?;
    }
    if let Some(adoption) = &status.adoption {
        text.push_str(
            "\nThis master takes over what servers hold; end it with: glint adopt --finish\n",
        );
        text.push_str(&admin::show(adoption)?);
    }
    Ok(text)
}

/// What is on its way between servers, and what is asked for most.
fn write_transfers(text: &mut String, status: &ClusterStatus) -> std::fmt::Result {
    let transfers = &status.transfers;
    if transfers.learning > 0 {
        writeln!(
            text,
            "\n{} copies ({}) are being made, since there are too few.",
            transfers.learning,
            Size(transfers.learning_bytes)
        )?;
    }
    if transfers.stalled > 0 {
        writeln!(
            text,
            "\n{} copies are missing, and are made when the servers that had them are back, or others can take them.",
            transfers.stalled
        )?;
    }
    if transfers.moving > 0 {
        writeln!(
            text,
            "\n{} copies ({}) move to other servers{}",
            transfers.moving,
            Size(transfers.moving_bytes),
            if transfers.levelling {
                ", and more follow until all have about as much:"
            } else {
                ":"
            }
        )?;
        for moving in transfers.moves.iter().take(MOVES_SHOWN) {
            writeln!(
                text,
                "  {} partition {}, {}: {} -> {}",
                moving.model,
                moving.partition,
                Size(moving.bytes),
                moving.from,
                moving.to
            )?;
        }
        if transfers.moving as usize > MOVES_SHOWN {
            text.push_str("  …\n");
        }
    }
    for model in &status.models {
        if model.copies.waiting > 0 {
            writeln!(
                text,
                "\n{} partitions of '{}' wait for a server with a copy that is in sync: start it again, or, if it is gone for good: \
                 glint server forget NAME --dead",
                model.copies.waiting, model.spec.name
            )?;
        }
    }
    let busiest = busiest(status, |_| true);
    if !busiest.is_empty() {
        text.push('\n');
        text.push_str(&busiest_table(&busiest));
    }
    Ok(())
}

/// The partitions that are asked for most, and of whom, the busiest first.
pub(crate) fn busiest(
    status: &ClusterStatus,
    wanted: impl Fn(&PartitionLoad) -> bool,
) -> Vec<(&PartitionLoad, &ServerId)> {
    let all = status.servers.iter().flat_map(|server| {
        let id = &server.id;
        server.busiest.iter().map(move |load| (load, id))
    });
    let mut busiest: Vec<_> = all.filter(|(load, _)| wanted(load)).collect();
    busiest.sort_by_key(|(load, _)| std::cmp::Reverse(load.weight()));
    busiest.truncate(BUSIEST_SHOWN);
    busiest
}

/// They as a table.
pub(crate) fn busiest_table(busiest: &[(&PartitionLoad, &ServerId)]) -> String {
    let columns = [
        "BUSIEST",
        ">PARTITION",
        "SERVER",
        ">REQUESTS/S",
        ">BYTES/S",
        ">REQUESTS",
        ">BYTES",
    ];
    let mut table = Table::new(&columns);
    for (load, server) in busiest {
        table.row(vec![
            load.model.clone(),
            load.partition.to_string(),
            server.to_string(),
            load.requests_per_second.to_string(),
            Size(load.bytes_per_second).to_string(),
            load.requests.to_string(),
            Size(load.bytes).to_string(),
        ]);
    }
    table.render()
}

/// What a model has lost, and why.
fn write_losses(text: &mut String, model: &ModelSummary) -> std::fmt::Result {
    if model.losses.is_empty() {
        return Ok(());
    }
    let name = &model.spec.name;
    writeln!(text, "\nValues of '{name}' are lost:")?;
    for loss in &model.losses {
        writeln!(
            text,
            "  {} partitions on {}: {}",
            loss.partitions, loss.server, loss.reason
        )?;
    }
    writeln!(
        text,
        "Start it again from its initial value with: glint model reset {name}"
    )
}

/// How far a recovery is, for people.
fn progress(recovery: Option<RecoveryProgress>) -> String {
    match recovery {
        Some(p) if p.disk_full => "recovering, disk full".to_owned(),
        Some(p) if p.total_bytes > 0 => {
            let percent = p.done_bytes.min(p.total_bytes) as f64 * 100.0 / p.total_bytes as f64;
            format!("recovering {percent:.0} % of {}", Size(p.total_bytes))
        }
        _ => "recovering".to_owned(),
    }
}

/// Whether a server waits for room on its disk.
fn is_full(server: &ServerSummary) -> bool {
    match server.state {
        ServerState::Alive => server.load.disk_full,
        ServerState::Recovering => server.recovery.is_some_and(|recovery| recovery.disk_full),
        ServerState::Silent | ServerState::Left => false,
    }
}

fn server_table(servers: &[ServerSummary]) -> String {
    // Where there are no zones, no column is spent on them.
    let zones = servers.iter().any(|server| server.labels.zone.is_some());
    let mut columns = vec!["SERVER", "STATE", "ADDRESS"];
    columns.extend(zones.then_some("ZONE"));
    columns.extend([
        ">PLACED",
        ">CAPACITY",
        ">PARTITIONS",
        ">PULLS",
        ">PUSHES",
        ">REPEATED",
        ">LEDGER",
    ]);
    let mut table = Table::new(&columns);
    for server in servers {
        let state = match server.state {
            ServerState::Alive => "alive".to_owned(),
            ServerState::Silent => format!("silent {}", span(server.silent_ms)),
            ServerState::Left => format!("left {}", span(server.silent_ms)),
            ServerState::Recovering => progress(server.recovery),
        };
        let state = if is_full(server) && server.state == ServerState::Alive {
            format!("{state}, disk full")
        } else {
            state
        };
        let state = match server.drain {
            Some(DrainState::Drained) => format!("{state}, drained"),
            Some(DrainState::Draining) => {
                format!("{state}, draining {}", Size(server.placed_bytes))
            }
            None => state,
        };
        let load = &server.load;
        let mut row = vec![server.id.to_string(), state, server.url.clone()];
        if zones {
            row.push(server.labels.zone.clone().unwrap_or_default());
        }
        row.extend([
            Size(server.placed_bytes).to_string(),
            Size(server.capacity_bytes).to_string(),
            load.partitions.to_string(),
            load.pulls.to_string(),
            load.pushes.to_string(),
            load.repeated.to_string(),
            load.ledger_entries.to_string(),
        ]);
        table.row(row);
    }
    table.render()
}

/// A span of time for people, from milliseconds.
fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        s @ 1..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// Models, one per line.
pub(crate) fn model_table(models: &[ModelSummary]) -> String {
    if models.is_empty() {
        return "No models. Make one with: glint model create NAME --vector KEYS\n".to_owned();
    }
    let mut table = Table::new(&[
        "MODEL",
        "SHAPE",
        "ELEMENT",
        "RULE",
        "DURABILITY",
        ">COPIES",
        ">PARTITIONS",
        "BY",
        ">SIZE",
        "STATE",
    ]);
    for model in models {
        let spec = &model.spec;
        table.row(vec![
            spec.name.clone(),
            spec.shape.to_string(),
            spec.element.to_string(),
            spec.rule.to_string(),
            spec.durability().to_string(),
            spec.copies().to_string(),
            spec.partition_count.to_string(),
            by(&spec.partitioning),
            Size(model.bytes).to_string(),
            state(model),
        ]);
    }
    table.render()
}

/// How a model is partitioned, for people.
pub(crate) fn by(partitioning: &Partitioning) -> String {
    match partitioning {
        Partitioning::Named { name, .. } => format!("partitioner {name}"),
        other => other.name().to_owned(),
    }
}

/// How a model fares, for people.
pub(crate) fn state(model: &ModelSummary) -> String {
    match model.state {
        ModelState::Creating => "creating".to_owned(),
        ModelState::Live => "live".to_owned(),
        ModelState::Degraded => format!(
            "degraded ({} partitions below {} copies)",
            model.copies.below, model.copies.wanted
        ),
        ModelState::Lost => format!("lost ({} partitions)", model.lost_partitions),
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{
        ClusterId, ElementType, ModelDraft, Shape, Term,
        admin::PlannedMove,
        control::{CopiesSummary, Labels, ServerLoad, Transfers},
        ids::Revision,
    };

    use super::*;

    #[test]
    fn a_status_shows_servers_models_and_what_waits() {
        let draft = ModelDraft::new(
            "topics",
            Shape::Matrix {
                rows: 4258,
                cols: 20,
            },
            ElementType::I64,
        );
        let status = ClusterStatus {
            cluster: Some(ClusterId(1)),
            term: Term(2),
            version: "0.1.0".into(),
            servers: vec![ServerSummary {
                id: ServerId("s1".into()),
                url: "http://127.0.0.1:1".into(),
                state: ServerState::Silent,
                silent_ms: 61_000,
                capacity_bytes: 8 << 30,
                placed_bytes: 681_280,
                load: ServerLoad::default(),
                durable: true,
                recovery: None,
                copies: 3,
                holds: 2,
                drain: Some(DrainState::Draining),
                labels: Labels {
                    node: None,
                    zone: Some("europe-west3-a".into()),
                },
                busiest: vec![PartitionLoad {
                    model: "topics".into(),
                    partition: 7,
                    requests: 4321,
                    bytes: 1 << 20,
                    requests_per_second: 987,
                    bytes_per_second: 1 << 10,
                }],
            }],
            models: vec![ModelSummary {
                spec: draft.resolve(1).unwrap(),
                incarnation: glint_protocol::Incarnation::default(),
                state: ModelState::Lost,
                revision: Revision(1),
                lost_partitions: 1,
                losses: Vec::new(),
                bytes: 681_280,
                copies: CopiesSummary {
                    wanted: 2,
                    fewest: 1,
                    below: 1,
                    waiting: 1,
                },
            }],
            transfers: Transfers {
                moving: 1,
                stalled: 5,
                moving_bytes: 1 << 20,
                moves: vec![PlannedMove {
                    model: "topics".into(),
                    partition: 9,
                    from: ServerId("s1".into()),
                    to: ServerId("s2".into()),
                    bytes: 1 << 20,
                }],
                ..Transfers::default()
            },
            refused: vec![],
            adoption: None,
        };
        let text = show(&status).unwrap();
        for part in [
            "silent 61 s",
            "europe-west3-a",
            "665.3 KiB",
            "8.0 GiB",
            "matrix of 4258 x 20",
            "lost (1 partitions)",
            "only s1 (2) can serve",
            "5 copies are missing",
            "draining 665.3 KiB",
            "partition 9, 1.0 MiB: s1 -> s2",
            "1 partitions of 'topics' wait",
            "987",
            "1.0 KiB",
            "4321",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_recovery_shows_how_far_it_is_and_a_full_disk_what_to_do() {
        let read = RecoveryProgress {
            done_bytes: 1 << 20,
            total_bytes: 4 << 20,
            disk_full: false,
        };
        assert_eq!(progress(Some(read)), "recovering 25 % of 4.0 MiB");
        assert_eq!(progress(None), "recovering");
        let waits = RecoveryProgress {
            disk_full: true,
            ..read
        };
        let full = |id: &str, state, recovery| ServerSummary {
            id: ServerId(id.into()),
            url: "http://127.0.0.1:1".into(),
            state,
            silent_ms: 0,
            capacity_bytes: 1,
            placed_bytes: 1,
            load: ServerLoad {
                disk_full: true,
                ..ServerLoad::default()
            },
            durable: true,
            recovery,
            copies: 1,
            holds: 1,
            drain: None,
            labels: Labels::default(),
            busiest: Vec::new(),
        };
        let status = ClusterStatus {
            cluster: Some(ClusterId(1)),
            term: Term(1),
            version: String::new(),
            servers: vec![
                full("s1", ServerState::Alive, None),
                full("s2", ServerState::Recovering, Some(waits)),
                full("s3", ServerState::Silent, None),
            ],
            models: vec![],
            transfers: Transfers::default(),
            refused: vec![],
            adoption: None,
        };
        let text = show(&status).unwrap();
        for part in [
            "alive, disk full",
            "recovering, disk full",
            "The disk of s1, s2 is full",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_empty_cluster_says_what_to_type_next() {
        let empty = ClusterStatus {
            cluster: Some(ClusterId(1)),
            term: Term(1),
            version: String::new(),
            servers: vec![],
            models: vec![],
            transfers: Transfers::default(),
            refused: vec![],
            adoption: None,
        };
        let text = show(&empty).unwrap();
        assert!(text.contains("glint server --master"), "{text}");
        assert!(text.contains("glint model create"), "{text}");
    }
}
