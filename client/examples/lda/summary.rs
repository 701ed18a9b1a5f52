//! The end: the topics in words, and the proof that the servers counted right.
//!
//! At the end every worker counts its topics again and takes them away from what the servers hold, and nothing may be
//! left, to the last token: of millions of updates none was lost and none was applied twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use anyhow::{Result, ensure};

use crate::corpus::Corpus;
use crate::model::Model;
use crate::together::Together;
use crate::worker::Worker;

/// Words by count, the rarest to be taken first, of equal ones the later.
type Best = BinaryHeap<Reverse<(i64, Reverse<u64>)>>;

/// The most frequent words of each topic.
pub(crate) struct Summary {
    topics: Vec<Vec<String>>,
    tokens: usize,
}

impl Summary {
    /// Reads the whole model, and takes it away; fails if it was not exactly what the workers' topics add up to.
    pub(crate) async fn read(
        model: &Model,
        corpus: &Corpus,
        workers: &[Worker],
        top: usize,
        together: &mut Together,
    ) -> Result<Self> {
        let totals = model.totals.pull_range(0..model.totals.len()).await?;
        let topics = totals.len();
        let mut best = vec![Best::new(); topics];
        let mut sums = vec![0; topics];
        model
            .for_all_rows(|first, rows| {
                for (word, row) in (first..).zip(rows.chunks_exact(topics)) {
                    for (topic, &count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                        sums[topic] += count;
                        best[topic].push(Reverse((count, Reverse(word))));
                        if best[topic].len() > top {
                            best[topic].pop();
                        }
                    }
                }
                Ok(())
            })
            .await?;
        ensure!(
            sums == totals,
            "the totals on the servers are not the sums of the counts there"
        );
        together.arrive().await?;
        for worker in workers {
            worker.count(-1).await?;
        }
        together.leave().await?;
        if together.index == 0 {
            nothing_is_left(model, corpus).await?;
        }
        let topics = best
            .into_iter()
            .map(|heap| {
                let words = heap.into_sorted_vec().into_iter();
                words
                    .map(|Reverse((_, Reverse(word)))| corpus.words[word as usize].clone())
                    .collect()
            })
            .collect();
        Ok(Self {
            topics,
            tokens: corpus.tokens(),
        })
    }
}

/// Fails unless all counts are zero.
async fn nothing_is_left(model: &Model, corpus: &Corpus) -> Result<()> {
    let totals = model.totals.pull_range(0..model.totals.len()).await?;
    let topics = totals.len();
    ensure!(
        totals.iter().all(|total| *total == 0),
        "the servers' totals are not those of the documents: an update was lost or doubled"
    );
    model
        .for_all_rows(|first, rows| {
            for (word, row) in (first..).zip(rows.chunks_exact(topics)) {
                ensure!(
                    row.iter().all(|count| *count == 0),
                    "the servers' counts of `{}` are not those of the documents: an update was lost or doubled",
                    corpus.words[word as usize]
                );
            }
            Ok(())
        })
        .await
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (topic, words) in self.topics.iter().enumerate() {
            writeln!(out, "topic {topic:>3}: {}", words.join(" "))?;
        }
        writeln!(
            out,
            "the servers' counts are those of the documents, to the last of {} tokens",
            self.tokens
        )
    }
}
