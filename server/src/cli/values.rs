//! `glint pull` and `glint push`: a few values from the shell, through the client library.

use std::{fmt::Write, ops::Range, time::Duration};

use anyhow::Context;
use clap::{ArgGroup, Args};
use glint::{Client, Element, ElementType, ModelSpec, Scalar};

use super::{
    api::{self, Target},
    notation::{Keys, Pair, Row, Update},
    print,
};

/// Values that are pulled before they are printed.
const AT_ONCE: u64 = 1 << 16;

#[derive(Args)]
#[command(
    group(ArgGroup::new("places").required(true).args(["keys", "rows", "pairs"])),
    after_help = "\
Examples:
  glint pull weights 0 7 100..110              keys 0, 7 and 100 to 109 of a vector
  glint pull topics --rows 0..3 17             rows 0, 1, 2 and 17 of a matrix
  glint pull topics --pairs 3:14 0:0           single values of a matrix, as row:column

Each line is the place, a tab, and the value (of a row all values)."
)]
pub(crate) struct Pull {
    /// Name of the model.
    name: String,
    /// Keys of a vector: single, or runs such as 5..9 (5, 6, 7, 8).
    #[arg(value_name = "KEYS")]
    keys: Vec<Keys>,
    /// Whole rows of a matrix: single, or runs.
    #[arg(long, value_name = "ROWS", num_args = 1..)]
    rows: Vec<Keys>,
    /// Single values of a matrix.
    #[arg(long, value_name = "ROW:COLUMN", num_args = 1..)]
    pairs: Vec<Pair>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
#[command(
    group(ArgGroup::new("values").required(true).multiple(true).args(["updates", "rows"])),
    after_help = "\
Examples:
  glint push weights 0=1.5 7=-2                keys of a vector
  glint push topics 3:14=1 0:0=-1              single values of a matrix, as row:column
  glint push topics --row 3=1,2,3 --row 4=0,0,1    whole rows

What is pushed is merged by the model's update rule: added, unless the model was created with another."
)]
pub(crate) struct Push {
    /// Name of the model.
    name: String,
    /// What to push where.
    #[arg(value_name = "PLACE=VALUE")]
    updates: Vec<Update>,
    /// All values of a row of a matrix.
    #[arg(long = "row", value_name = "ROW=VALUE,…")]
    rows: Vec<Row>,
    #[command(flatten)]
    target: Target,
}

/// Calls a generic method for a model's element type.
macro_rules! by_element {
    ($element:expr, $self:ident . $method:ident ( $($argument:expr),* )) => {
        match $element {
            ElementType::I32 => $self.$method::<i32>($($argument),*).await,
            ElementType::I64 => $self.$method::<i64>($($argument),*).await,
            ElementType::F32 => $self.$method::<f32>($($argument),*).await,
            ElementType::F64 => $self.$method::<f64>($($argument),*).await,
        }
    };
}

async fn connect(target: &Target) -> anyhow::Result<Client> {
    let deadline = Duration::from_secs(target.timeout.max(1));
    Client::builder(&target.master)
        .deadline(deadline)
        .connect_deadline(deadline)
        .connect()
        .await
        .map_err(|error| match error {
            glint::Error::Unreachable { .. } => anyhow::anyhow!("{error}; {}", api::START),
            other => other.into(),
        })
}

/// Runs cut into parts of at most `length` keys.
fn parts(keys: &[Keys], length: u64) -> impl Iterator<Item = Range<u64>> + '_ {
    let length = length.max(1);
    keys.iter().flat_map(move |Keys(range)| {
        let range = range.clone();
        let count = (range.end - range.start).div_ceil(length);
        (0..count).map(move |part| {
            let start = range.start + part * length;
            start..range.end.min(start.saturating_add(length))
        })
    })
}

impl Pull {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let client = connect(&self.target).await?;
        let spec = client.map(&self.name).await?.spec;
        match (spec.shape.is_matrix(), self.keys.is_empty()) {
            (true, false) => anyhow::bail!(
                "'{}' is a {}: give rows or places, such as --rows 0..3 or --pairs 3:14",
                self.name,
                spec.shape
            ),
            (false, true) => anyhow::bail!(
                "'{}' is a {}: give keys, such as glint pull {} 0 5..9",
                self.name,
                spec.shape,
                self.name
            ),
            (false, false) => by_element!(spec.element, self.pull_keys(&client)),
            (true, true) => by_element!(spec.element, self.pull_rows(&client, &spec)),
        }
    }

    async fn pull_keys<T: Element>(&self, client: &Client) -> anyhow::Result<()> {
        let vector = client.open_vector::<T>(&self.name).await?;
        for range in parts(&self.keys, AT_ONCE) {
            let values = vector.pull_range(range.clone()).await?;
            let mut text = String::new();
            for (key, value) in range.zip(values) {
                writeln!(text, "{key}\t{}", value.scalar())?;
            }
            print(&text)?;
        }
        Ok(())
    }

    async fn pull_rows<T: Element>(&self, client: &Client, spec: &ModelSpec) -> anyhow::Result<()> {
        let matrix = client.open_matrix::<T>(&self.name).await?;
        let cols = spec.shape.cols().max(1);
        for range in parts(&self.rows, AT_ONCE / u64::from(cols)) {
            let values = matrix.pull_row_range(range.clone()).await?;
            let mut text = String::new();
            for (row, values) in range.zip(values.chunks_exact(cols as usize)) {
                write!(text, "{row}\t")?;
                for (column, value) in values.iter().enumerate() {
                    let gap = if column == 0 { "" } else { " " };
                    write!(text, "{gap}{}", value.scalar())?;
                }
                text.push('\n');
            }
            print(&text)?;
        }
        let pairs: Vec<(u64, u32)> = self.pairs.iter().map(|p| (p.0, p.1)).collect();
        let values = matrix.pull_pairs(&pairs).await?;
        let mut text = String::new();
        for ((row, column), value) in pairs.iter().zip(values) {
            writeln!(text, "{row}:{column}\t{}", value.scalar())?;
        }
        print(&text)
    }
}

/// Values as the model's element type has them.
fn convert<T: Element>(values: &[Scalar], spec: &ModelSpec) -> anyhow::Result<Vec<T>> {
    values
        .iter()
        .map(|&value| {
            T::from_scalar(value).with_context(|| {
                format!(
                    "{value} is no {}, which the values of '{}' are; give one that fits",
                    spec.element, spec.name
                )
            })
        })
        .collect()
}

impl Push {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let client = connect(&self.target).await?;
        let spec = client.map(&self.name).await?.spec;
        if spec.shape.is_matrix() {
            by_element!(spec.element, self.push_matrix(&client, &spec))?;
        } else {
            by_element!(spec.element, self.push_vector(&client, &spec))?;
        }
        let rows: usize = self.rows.iter().map(|Row(_, values)| values.len()).sum();
        print(&format!(
            "pushed {} values to '{}' (rule: {})\n",
            self.updates.len() + rows,
            self.name,
            spec.rule
        ))
    }

    async fn push_vector<T: Element>(
        &self,
        client: &Client,
        spec: &ModelSpec,
    ) -> anyhow::Result<()> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for update in &self.updates {
            match *update {
                Update::Key(key, value) if self.rows.is_empty() => {
                    keys.push(key);
                    values.push(value);
                }
                _ => return Err(self.wrong_form(spec, "7=1.5")),
            }
        }
        if !self.rows.is_empty() {
            return Err(self.wrong_form(spec, "7=1.5"));
        }
        let values = convert::<T>(&values, spec)?;
        let vector = client.open_vector::<T>(&self.name).await?;
        vector.push(&keys, &values).await?;
        Ok(())
    }

    async fn push_matrix<T: Element>(
        &self,
        client: &Client,
        spec: &ModelSpec,
    ) -> anyhow::Result<()> {
        let mut pairs = Vec::new();
        let mut single = Vec::new();
        for update in &self.updates {
            match *update {
                Update::Pair(Pair(row, column), value) => {
                    pairs.push((row, column));
                    single.push(value);
                }
                Update::Key(..) => return Err(self.wrong_form(spec, "3:14=1.5 or --row 3=1,2,3")),
            }
        }
        let cols = spec.shape.cols() as usize;
        let mut rows = Vec::new();
        let mut whole = Vec::new();
        for Row(row, values) in &self.rows {
            anyhow::ensure!(
                values.len() == cols,
                "row {row} has {} values here, a row of '{}' has {cols}; give as many",
                values.len(),
                self.name
            );
            rows.push(*row);
            whole.extend_from_slice(values);
        }
        // All of it is converted before any of it is pushed.
        let (single, whole) = (convert::<T>(&single, spec)?, convert::<T>(&whole, spec)?);
        let matrix = client.open_matrix::<T>(&self.name).await?;
        matrix.push_pairs(&pairs, &single).await?;
        matrix.push_rows(&rows, &whole).await?;
        Ok(())
    }

    fn wrong_form(&self, spec: &ModelSpec, form: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "'{}' is a {}: write updates as {form}",
            self.name,
            spec.shape
        )
    }
}

#[cfg(test)]
mod tests {
    use glint_server::local::{Local, LocalConfig};
    use glint_world::World;

    use super::*;

    #[test]
    fn runs_are_cut_into_parts() {
        let keys = ["0", "5..12", "3..3"].map(|k| k.parse().unwrap());
        let parts: Vec<_> = parts(&keys, 3).collect();
        assert_eq!(parts, [0..1, 5..8, 8..11, 11..12]);
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        push: Push,
    }

    #[test]
    fn rows_may_follow_single_values() {
        let words = ["glint", "m", "3:14=-1", "--row", "0=-1,2", "--row", "1=0,0"];
        let push = <Line as clap::Parser>::try_parse_from(words).unwrap().push;
        assert_eq!((push.updates.len(), push.rows.len()), (1, 2));
        assert!(<Line as clap::Parser>::try_parse_from(["glint", "m"]).is_err());
    }

    fn push(target: &Target, name: &str, updates: &[&str], rows: &[&str]) -> Push {
        Push {
            name: name.into(),
            updates: updates.iter().map(|u| u.parse().unwrap()).collect(),
            rows: rows.iter().map(|r| r.parse().unwrap()).collect(),
            target: target.clone(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_pushed_from_the_shell_is_there_and_wrong_forms_change_nothing() {
        let cluster = Local::start(World::real(), LocalConfig::default())
            .await
            .unwrap();
        let target = Target {
            master: cluster.master_url.clone(),
            timeout: 10,
        };
        let client = connect(&target).await.unwrap();
        let vector: glint::Vector<f64> = client.vector("w", 10).create().await.unwrap();
        let matrix: glint::Matrix<i32> = client.matrix("m", 4, 2).create().await.unwrap();
        push(&target, "w", &["0=1.5", "7=-2", "0=1"], &[])
            .run()
            .await
            .unwrap();
        push(&target, "m", &["3:1=5"], &["0=1,2"])
            .run()
            .await
            .unwrap();
        for (name, updates, rows, says) in [
            ("w", &["1:1=3"][..], &[][..], "write updates as 7=1.5"),
            ("w", &[], &["0=1"], "write updates as 7=1.5"),
            ("w", &["99=1"], &[], "99"),
            ("m", &["1=3"], &[], "--row"),
            ("m", &["0:0=1"], &["0=1"], "has 1 values here"),
            ("m", &["0:0=1.5"], &[], "1.5 is no i32"),
            ("none", &["0=1"], &[], "none"),
        ] {
            let error = push(&target, name, updates, rows).run().await.unwrap_err();
            assert!(format!("{error:#}").contains(says), "{says}: {error:#}");
        }
        let expected = [2.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0];
        assert_eq!(vector.pull_range(0..10).await.unwrap(), expected);
        assert_eq!(
            matrix.pull_row_range(0..4).await.unwrap(),
            [1, 2, 0, 0, 0, 0, 0, 5]
        );
        cluster.stop().await;
    }
}
