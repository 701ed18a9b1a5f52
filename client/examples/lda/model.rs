//! What the workers share: two models on the servers.
//!
//! The matrix has a row a word and a column a topic, how often the word has the topic; it is cyclic, so the rows of
//! the busiest words lie on different partitions. The vector has the sum of each column.

use anyhow::{Context, Result};
use glint::{BufferOptions, BufferedMatrix, Client, Matrix, Partitioning, Vector};

use crate::together::waiting_for;

/// How many rows are pulled at once where all of them are read.
const ROWS: usize = 2_000;

/// How the models lie on the servers.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Spread {
    /// How many servers have a copy of each partition, 1 to 3: with 2, any one of them may be lost; as the cluster has it
    /// unless said
    #[arg(long)]
    pub(crate) copies: Option<u8>,
    /// How many partitions of the counts each server has at the beginning
    #[arg(long, default_value_t = 2)]
    pub(crate) partitions_per_server: u32,
}

/// The two models.
#[derive(Clone)]
pub(crate) struct Model {
    name: String,
    /// Topic counts by word.
    pub(crate) counts: Matrix<i64>,
    /// Topic counts of all words together.
    pub(crate) totals: Vector<i64>,
}

impl Model {
    /// Makes both, all zero. Left-overs of an earlier run under this name are an error.
    pub(crate) async fn create(
        client: &Client,
        name: &str,
        words: usize,
        topics: usize,
        spread: Spread,
    ) -> Result<Self> {
        let then = |kind: &str| {
            format!(
                "cannot make the model {name}-{kind}; if an earlier run left it: \
                 glint model delete {name}-{kind}, or choose another --name"
            )
        };
        let mut counts = client
            .matrix(format!("{name}-counts"), words as u64, topics as u32)
            .partitioning(Partitioning::Cyclic)
            .partitions_per_server(spread.partitions_per_server);
        let mut totals = client.vector(format!("{name}-totals"), topics as u64);
        if let Some(copies) = spread.copies {
            (counts, totals) = (counts.copies(copies), totals.copies(copies));
        }
        Ok(Self {
            name: name.to_owned(),
            counts: counts.create().await.with_context(|| then("counts"))?,
            totals: totals.create().await.with_context(|| then("totals"))?,
        })
    }

    /// Waits until another process has made both.
    pub(crate) async fn open(client: &Client, name: &str) -> Result<Self> {
        let [counts, totals] = ["counts", "totals"].map(|kind| format!("{name}-{kind}"));
        Ok(Self {
            name: name.to_owned(),
            counts: waiting_for(|| client.open_matrix(&counts)).await?,
            totals: waiting_for(|| client.open_vector(&totals)).await?,
        })
    }

    /// Deletes both.
    pub(crate) async fn delete(self, client: &Client) -> Result<()> {
        client.delete(&format!("{}-counts", self.name)).await?;
        client.delete(&format!("{}-totals", self.name)).await?;
        Ok(())
    }

    /// A buffer that combines changes of the counts; those of the first `hot_words` in a dense array.
    pub(crate) fn buffer(&self, hot_words: u64) -> BufferedMatrix<i64> {
        self.counts.buffered(BufferOptions {
            hot_rows: hot_words,
            ..BufferOptions::default()
        })
    }

    /// Reads all rows in order, the next ones on their way while `each` looks at some: the first row's number, the rows.
    pub(crate) async fn for_all_rows(
        &self,
        mut each: impl FnMut(u64, &[i64]) -> Result<()>,
    ) -> Result<()> {
        let mut blocks = self.counts.row_blocks(ROWS).prefetch(1);
        while let Some(block) = blocks.next().await? {
            each(block.start, block.values())?;
        }
        Ok(())
    }
}
