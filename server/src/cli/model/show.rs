//! `glint model show`: what a model is, and where its copies are.

use std::{collections::BTreeSet, fmt::Write};

use clap::Args;
use glint_protocol::{
    ModelMap, ServerId,
    admin::{ModelCopies, PartitionCopies},
    control::ClusterStatus,
};
use glint_server::master::Size;

use super::{
    super::{api::Target, print, status, table::Table},
    path,
};

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint model show topics
  glint model show topics --json        (the partition map, as clients get it)")]
pub(crate) struct Show {
    /// Name of the model.
    name: String,
    /// Print the master's JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let path = path(&self.name)?;
        let api = self.target.api()?;
        let map: ModelMap = api.get(&path).await?;
        if self.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&map)?));
        }
        let copies: ModelCopies = api.get(&format!("{path}/copies")).await?;
        let status: ClusterStatus = api.get("/v1/status").await?;
        let busiest = status::busiest(&status, |load| load.model == self.name);
        let mut text = describe(&map, &copies)?;
        if !busiest.is_empty() {
            text.push('\n');
            text.push_str(&status::busiest_table(&busiest));
        }
        print(&text)
    }
}

fn describe(map: &ModelMap, copies: &ModelCopies) -> anyhow::Result<String> {
    let spec = &map.spec;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| writeln!(text, "{name:<13}{value}");
    line("model", &spec.name)?;
    line("id", &map.incarnation)?;
    line("shape", &spec.shape)?;
    line("element", &spec.element)?;
    line("size", &Size(spec.bytes().unwrap_or(0)))?;
    line("initial", &spec.initial)?;
    line("rule", &spec.rule)?;
    line("durability", &spec.durability())?;
    line(
        "copies",
        &format_args!(
            "{}, pushes are taken with {} in sync",
            spec.copies(),
            spec.min_in_sync()
        ),
    )?;
    line(
        "partitions",
        &format_args!(
            "{} by {}",
            spec.partition_count,
            status::by(&spec.partitioning)
        ),
    )?;
    line("revision", &map.revision)?;
    text.push('\n');
    text.push_str(&places(map, copies));
    let waiting = copies.partitions.iter().filter(|p| p.waiting).count();
    if waiting > 0 {
        writeln!(
            text,
            "\n{waiting} partitions wait for a server with a copy that is in sync to come back."
        )?;
    }
    if !map.lost.is_empty() {
        writeln!(
            text,
            "\nThe values of lost partitions are gone; `glint status` says why. Start the model again from its initial value \
             with: glint model reset {}",
            spec.name
        )?;
    }
    Ok(text)
}

/// What each server has of it.
fn places(map: &ModelMap, copies: &ModelCopies) -> String {
    let columns = [
        "SERVER",
        "ADDRESS",
        ">HOLDS",
        ">IN SYNC",
        ">LEARNING",
        ">LEAVING",
        ">LOST",
        "HOLDS WHICH",
    ];
    let mut table = Table::new(&columns);
    let of_it = |p: &PartitionCopies| {
        let others = p.in_sync.iter().chain(&p.learning).chain(&p.leaving);
        others.chain([&p.holder]).cloned().collect::<Vec<_>>()
    };
    let servers: BTreeSet<ServerId> = copies.partitions.iter().flat_map(of_it).collect();
    for id in &servers {
        let count = |has: &dyn Fn(&PartitionCopies) -> bool| {
            let having = copies.partitions.iter().filter(|p| has(p));
            having.count().to_string()
        };
        let held = (0..).zip(&copies.partitions);
        let held: Vec<u32> = held
            .filter(|(_, p)| p.holder == *id)
            .map(|(n, _)| n)
            .collect();
        let url = map.servers.iter().find(|s| s.id == *id);
        table.row(vec![
            id.to_string(),
            url.map(|s| s.url.clone()).unwrap_or_default(),
            held.len().to_string(),
            count(&|p| p.in_sync.contains(id)),
            count(&|p| p.learning.contains(id)),
            count(&|p| p.leaving.contains(id)),
            count(&|p| p.lost && p.holder == *id),
            runs(&held),
        ]);
    }
    table.render()
}

/// Partitions as `0 2 4 … (37 more)`.
fn runs(partitions: &[u32]) -> String {
    const SHOWN: usize = 8;
    let text = partitions
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    match partitions.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} … ({more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{
        ClusterId, ElementType, Epoch, Incarnation, ModelDraft, Partitions, Shape, ids::Revision,
        map::ServerAddress,
    };

    use super::*;

    #[test]
    fn a_model_is_described_with_who_holds_what() {
        let mut draft = ModelDraft::new("w", Shape::Vector { keys: 100 }, ElementType::F32);
        draft.partitions = Partitions::Exactly(20);
        let server = |name: &str| ServerAddress {
            id: ServerId(name.into()),
            url: format!("http://{name}:1"),
        };
        let map = ModelMap {
            cluster: ClusterId(1),
            spec: draft.resolve(2).unwrap(),
            incarnation: Incarnation::default(),
            revision: Revision(4),
            max_deadline_ms: 1,
            servers: vec![server("s1"), server("s2")],
            holders: (0..20).map(|p| p % 2).collect(),
            epochs: vec![Epoch(1); 20],
            followers: Vec::new(),
            lost: vec![3],
        };
        let copies = ModelCopies {
            name: "w".into(),
            incarnation: Incarnation::default(),
            wanted: 2,
            partitions: (0..20)
                .map(|p| PartitionCopies {
                    holder: map.servers[p % 2].id.clone(),
                    in_sync: vec![map.servers[1 - p % 2].id.clone()],
                    learning: if p == 0 {
                        vec![ServerId("s3".into())]
                    } else {
                        vec![]
                    },
                    leaving: vec![],
                    moving_from: None,
                    waiting: p == 5,
                    lost: p == 3,
                })
                .collect(),
        };
        let text = describe(&map, &copies).unwrap();
        for part in [
            "20 by range",
            "0 2 4 6 8 10 12 14 … (2 more)",
            "1 partitions wait",
            "s3",
            "values of lost partitions are gone",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
