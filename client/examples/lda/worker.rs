//! A worker: walks over the blocks of the matrix, pulling ahead, sampling, and pushing behind.
//!
//! ```text
//! network    pull 2 │ push 1, pull 3 │ push 2, pull 4 │ …
//! processor  sample 1 │ sample 2       │ sample 3       │ …
//! ```
//!
//! Every worker starts at another block and goes round. So at any moment they work on different words, and the counts
//! that a worker pulled are exact while it uses them, but for the totals. (Workers that change the same words at the
//! same time, each with a stale copy, still converge, to slightly worse topics.)

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use glint::BufferedMatrix;
use tokio::task::{JoinHandle, block_in_place};

use crate::corpus::Corpus;
use crate::model::Model;
use crate::sampler::{Change, Priors, Sampler, Totals};
use crate::slice::Slice;

/// What a worker is told.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) priors: Priors,
    /// Offers per token and sweep.
    pub(crate) rounds: usize,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Words whose changes are combined in a dense array.
    pub(crate) hot_words: u64,
    pub(crate) seed: u64,
}

/// A share of the documents, and who samples it.
pub(crate) struct Worker {
    model: Model,
    buffer: BufferedMatrix<i64>,
    blocks: Arc<[Range<u64>]>,
    /// The block to start with.
    first: usize,
    priors: Priors,
    sampler: Sampler,
    slice: Slice,
    /// Memory for rows, used again and again.
    spare: Vec<Vec<i64>>,
}

impl Worker {
    /// Worker number `index`: takes its documents, and counts their random topics into the model.
    pub(crate) async fn start(
        model: Model,
        corpus: Arc<Corpus>,
        blocks: Arc<[Range<u64>]>,
        plan: Plan,
        index: usize,
    ) -> Result<Self> {
        let Plan {
            priors, workers, ..
        } = plan;
        let mut sampler = Sampler::new(
            priors,
            plan.rounds,
            plan.seed.wrapping_mul(1_000) + index as u64,
        );
        let slice =
            block_in_place(|| Slice::new(&corpus, index, workers, priors.topics, sampler.random()));
        let worker = Self {
            buffer: model.buffer(plan.hot_words),
            model,
            first: blocks.len() * index / workers,
            blocks,
            priors,
            sampler,
            slice,
            spare: Vec::new(),
        };
        worker.count(1).await?;
        Ok(worker)
    }

    /// Adds the topics of the slice to the model, `times` 1 or −1.
    pub(crate) async fn count(&self, times: i64) -> Result<()> {
        let mut totals = vec![0; self.priors.topics];
        let mut row = vec![0; self.priors.topics];
        for word in 0..self.priors.vocabulary as u64 {
            row.fill(0);
            self.slice.add_word_counts(word, &mut row);
            for (topic, &count) in row.iter().enumerate().filter(|(_, count)| **count != 0) {
                self.buffer.add(word, topic as u32, times * count).await?;
                totals[topic] += times * count;
            }
        }
        self.buffer.flush().await?;
        self.model.totals.push_range(0, &totals).await?;
        Ok(())
    }

    /// Draws the topic of every token once; when it returns, the servers know of every change.
    pub(crate) async fn sweep(mut self) -> Result<Self> {
        let blocks = self.blocks.clone();
        let mut round = blocks[self.first..].iter().chain(&blocks[..self.first]);
        let mut totals = Totals::new(
            self.model
                .totals
                .pull_range(0..self.priors.topics as u64)
                .await?,
            self.priors,
        );
        let mut coming = round.next().map(|block| (block, self.pull(block)));
        let mut leaving: Option<JoinHandle<Result<()>>> = None;
        while let Some((block, rows)) = coming.take() {
            let mut rows = rows.await??;
            coming = round.next().map(|block| (block, self.pull(block)));
            let changes = block_in_place(|| {
                self.sampler
                    .resample(block.start, &mut rows, &mut totals, &mut self.slice)
            });
            self.spare.push(rows);
            if let Some(push) = leaving.take() {
                push.await??;
            }
            leaving = Some(self.push(changes, totals.take_changes()));
        }
        if let Some(push) = leaving {
            push.await??;
        }
        Ok(self)
    }

    /// Asks for the rows of a block, in the background.
    fn pull(&mut self, block: &Range<u64>) -> JoinHandle<Result<Vec<i64>>> {
        let (counts, block) = (self.model.counts.clone(), block.clone());
        let mut rows = self.spare.pop().unwrap_or_default();
        rows.resize((block.end - block.start) as usize * self.priors.topics, 0);
        tokio::spawn(async move {
            counts.pull_row_range_into(block, &mut rows).await?;
            Ok(rows)
        })
    }

    /// Sends changes, in the background: one token that moved is −1 here and +1 there, combined by the buffer.
    fn push(&self, changes: Vec<Change>, totals: Vec<i64>) -> JoinHandle<Result<()>> {
        let (model, buffer) = (self.model.clone(), self.buffer.clone());
        tokio::spawn(async move {
            for Change { word, from, to } in changes {
                buffer.add(word, from, -1).await?;
                buffer.add(word, to, 1).await?;
            }
            buffer.flush().await?;
            model.totals.push_range(0, &totals).await?;
            Ok(())
        })
    }

    /// The documents and their topics.
    pub(crate) fn slice(&self) -> &Slice {
        &self.slice
    }
}
