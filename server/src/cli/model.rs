//! `glint model create`, `show`, `reset` and `delete`.

mod show;

use std::fmt::Write;

use clap::{ArgGroup, Args, Subcommand};
use glint_protocol::{
    Durability, ElementType, ModelDraft, ModelId, ModelMap, Partitioning, Partitions, RequestId,
    Rule, Scalar, Shape, admin::ResetModel, control::CreateModel,
};
use glint_server::master::Size;
use http::Method;

use super::{api::Target, notation, print};

/// Create, show, reset or delete a model.
#[derive(Subcommand)]
pub(crate) enum Model {
    /// Create a vector or a matrix.
    Create(Create),
    /// Show what a model is and who holds its partitions.
    Show(show::Show),
    /// Set all values of a model back to its initial value, as after some of them were lost.
    Reset(Reset),
    /// Delete a model and its values.
    Delete(Delete),
}

impl Model {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Show(show) => show.run().await,
            Self::Reset(reset) => reset.run().await,
            Self::Delete(delete) => delete.run().await,
        }
    }
}

#[derive(Args)]
#[command(
    group(ArgGroup::new("shape").required(true).args(["vector", "matrix"])),
    group(ArgGroup::new("count").args(["partitions", "partitions_per_server"])),
    after_help = "\
Examples:
  glint model create weights --vector 1_000_000
  glint model create topics --matrix 4258x20 --element i64 --partitioning cyclic
  glint model create best --vector 100 --element f64 --initial -Infinity --rule max
  glint model create kept --vector 1_000_000 --durability sync
  glint model create safe --vector 1_000_000 --copies 2"
)]
pub(crate) struct Create {
    /// Name of the model: letters, digits, `.`, `_`, `-`.
    name: String,
    /// A vector with so many keys, which start at 0.
    #[arg(long, value_name = "KEYS", value_parser = notation::count)]
    vector: Option<u64>,
    /// A matrix of so many rows and columns.
    #[arg(long, value_name = "ROWSxCOLS", value_parser = notation::matrix)]
    matrix: Option<Shape>,
    /// Type of its values: i32, i64, f32 or f64.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    element: ElementType,
    /// How keys (rows) are spread over partitions: in runs of neighbours, or in turn.
    #[arg(long, value_enum, default_value_t = Spread::Range)]
    partitioning: Spread,
    /// How many partitions; by size unless said.
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// How many partitions per server that is there now.
    #[arg(long, value_name = "N")]
    partitions_per_server: Option<u32>,
    /// Every value at the start.
    #[arg(
        long,
        value_name = "VALUE",
        default_value = "0",
        allow_hyphen_values = true
    )]
    initial: Scalar,
    /// How pushes are merged: add, assign, max or min.
    #[arg(long, value_name = "RULE", default_value = "add")]
    rule: Rule,
    /// What it survives: memory (only while its servers run), async (the end of a process) or sync (the end of a machine);
    /// what the master was started with unless said.
    #[arg(long, value_name = "MODE")]
    durability: Option<Durability>,
    /// How many servers have a copy of each partition, 1 to 3, so that it goes on when one is gone; what the master was
    /// started with unless said.
    #[arg(long, value_name = "N")]
    copies: Option<u8>,
    /// How many copies must be in sync for a push to be taken.
    #[arg(long, value_name = "N")]
    min_in_sync: Option<u8>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Spread {
    /// Runs of neighbouring keys.
    Range,
    /// Key k in partition k mod P: spreads neighbours.
    Cyclic,
}

impl Create {
    fn draft(&self) -> Option<ModelDraft> {
        let shape = self
            .matrix
            .or_else(|| self.vector.map(|keys| Shape::Vector { keys }))?;
        let mut draft = ModelDraft::new(&self.name, shape, self.element);
        draft.partitioning = match self.partitioning {
            Spread::Range => Partitioning::Range,
            Spread::Cyclic => Partitioning::Cyclic,
        };
        draft.partitions = match (self.partitions, self.partitions_per_server) {
            (Some(count), _) => Partitions::Exactly(count),
            (None, Some(count)) => Partitions::PerServer(count),
            (None, None) => Partitions::Auto,
        };
        draft.initial = self.initial;
        draft.rule = self.rule;
        draft.durability = self.durability;
        draft.copies = self.copies;
        draft.min_in_sync = self.min_in_sync;
        Some(draft)
    }

    async fn run(self) -> anyhow::Result<()> {
        let Some(model) = self.draft() else {
            anyhow::bail!("give --vector KEYS or --matrix ROWSxCOLS");
        };
        let api = self.target.api()?;
        let request = CreateModel {
            id: ModelId(api.world.random.bits()),
            model,
            or_open: false,
        };
        let map: ModelMap = api.call(Method::POST, "/v1/models", &request).await?;
        print(&format!(
            "created '{}': {} of {} ({}) in {} partitions on {} servers, durability {}\n",
            map.spec.name,
            map.spec.shape,
            map.spec.element,
            Size(map.spec.bytes().unwrap_or(0)),
            map.spec.partition_count,
            map.servers.len(),
            map.spec.durability()
        ))
    }
}

/// The path of a model; what cannot be a name would be another path.
fn path(name: &str) -> anyhow::Result<String> {
    glint_protocol::spec::check_name(name)?;
    Ok(format!("/v1/models/{name}"))
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint model reset topics

All values of the model become its initial value again, lost or not; jobs that have it open are told and open it again.")]
pub(crate) struct Reset {
    /// Name of the model.
    name: String,
    #[command(flatten)]
    target: Target,
}

impl Reset {
    async fn run(self) -> anyhow::Result<()> {
        let path = format!("{}/reset", path(&self.name)?);
        let api = self.target.api()?;
        let request = ResetModel {
            id: RequestId(api.world.random.bits()),
            model: None,
        };
        let map: ModelMap = api.call(Method::POST, &path, &request).await?;
        print(&format!(
            "reset '{}': every value is {} again, generation {}\n",
            map.spec.name, map.spec.initial, map.incarnation.generation
        ))
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint model delete topics
  glint model delete topics --id 00f3a1b2c3d4e5f6     (only if it is still that one)")]
pub(crate) struct Delete {
    /// Name of the model.
    name: String,
    /// Delete only if the model has this id, as `glint model show` tells it.
    #[arg(long)]
    id: Option<ModelId>,
    #[command(flatten)]
    target: Target,
}

impl Delete {
    async fn run(self) -> anyhow::Result<()> {
        let mut path = path(&self.name)?;
        if let Some(id) = self.id {
            write!(path, "?id={id}")?;
        }
        let _: serde_json::Value = self.target.api()?.call(Method::DELETE, &path, &()).await?;
        print(&format!("deleted '{}'\n", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        model: Model,
    }

    fn draft(line: &str) -> Result<ModelDraft, clap::Error> {
        let words = std::iter::once("glint").chain(line.split(' '));
        match Line::try_parse_from(words)?.model {
            Model::Create(create) => Ok(create.draft().unwrap()),
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn flags_become_a_draft() {
        let line = "create t --matrix 10x3 --element i64 --partitioning cyclic --partitions-per-server 2 --initial -1 --rule min";
        let draft = draft(line).unwrap();
        assert_eq!(draft.shape, Shape::Matrix { rows: 10, cols: 3 });
        assert_eq!(draft.element, ElementType::I64);
        assert_eq!(draft.partitioning, Partitioning::Cyclic);
        assert_eq!(draft.partitions, Partitions::PerServer(2));
        assert_eq!(draft.initial, Scalar::Integer(-1));
        assert_eq!(draft.rule, Rule::Min);
    }

    #[test]
    fn contradictions_are_refused_before_anyone_is_asked() {
        for line in [
            "create t",
            "create t --vector 3 --matrix 1x1",
            "create t --vector 3 --partitions 1 --partitions-per-server 1",
            "create t --vector 3 --element f16",
            "create t --vector many",
        ] {
            assert!(draft(line).is_err(), "{line}");
        }
        assert!(path("a/b").is_err());
    }
}
