//! Sparse logistic regression: is a message spam? Two workers share a weight for each of 2^18
//! hashed words, and pull and push only the few thousand that their minibatch has.
//!
//! `make logistic` does all; by hand, `scripts/corpora/spam.py` fetches the messages, and
//! `GLINT_URL` names the cluster's master.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use glint::{Client, Vector};
use tokio::task::JoinSet;

/// A line a message: 1 (spam) or 0, then the numbers of its words.
const DATA: &str = "target/data/spam.features";

/// The hashed words, and one weight that every message has, the bias.
const WEIGHTS: u64 = (1 << 18) + 1;

/// Whether a message is spam, and the numbers of its words.
type Message = (f32, Vec<u64>);

fn parse(line: &str) -> Result<Message> {
    let (label, words) = line.split_once(' ').context("a line without words")?;
    let words = words.split(' ').map(str::parse).chain([Ok(WEIGHTS - 1)]);
    Ok((label.parse()?, words.collect::<Result<_, _>>()?))
}

/// The chance that a message is spam. Long messages count no more than short ones.
fn predict(words: &[u64], weight: impl Fn(&u64) -> f32) -> f32 {
    let sum: f32 = words.iter().map(weight).sum();
    1.0 / (1.0 + (-sum / (words.len() as f32).sqrt()).exp())
}

/// One pass over every second message, from number `worker` on.
async fn pass(weights: Vector<f32>, messages: Arc<Vec<Message>>, worker: usize) -> Result<()> {
    let mine: Vec<_> = messages.iter().skip(worker).step_by(2).collect();
    for batch in mine.chunks(32) {
        let words = batch.iter().flat_map(|(_, words)| words);
        let mut steps: BTreeMap<u64, f32> = words.map(|&word| (word, 0.0)).collect();
        let keys: Vec<u64> = steps.keys().copied().collect();
        let values = weights.pull(&keys).await?;
        let pulled: BTreeMap<_, _> = keys.iter().zip(values).collect();
        for (label, words) in batch {
            let error = label - predict(words, |word| pulled[word]);
            for word in words {
                *steps.entry(*word).or_default() += error / (words.len() as f32).sqrt();
            }
        }
        let steps: Vec<f32> = steps.into_values().collect();
        weights.push(&keys, &steps).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let text = std::fs::read_to_string(DATA).context("no messages; type: make logistic")?;
    let mut messages = text.lines().map(parse).collect::<Result<Vec<_>>>()?;
    let held_out = messages.split_off(messages.len() * 4 / 5);
    let messages = Arc::new(messages);
    let url = std::env::var("GLINT_URL").unwrap_or("http://127.0.0.1:7100".into());
    let client = Client::connect(&url).await?;
    let weights = client.vector("spam-weights", WEIGHTS).create().await?;
    for round in 1..=5 {
        let workers = [0, 1].map(|worker| pass(weights.clone(), messages.clone(), worker));
        let ended = workers.into_iter().collect::<JoinSet<_>>().join_all().await;
        ended.into_iter().collect::<Result<()>>()?;
        let all = weights.pull_range(0..WEIGHTS).await?;
        let spam = |words: &[u64]| predict(words, |&word| all[word as usize]) > 0.5;
        let right = held_out
            .iter()
            .filter(|(label, words)| spam(words) == (*label > 0.5));
        let accuracy = 100.0 * right.count() as f64 / held_out.len() as f64;
        println!("pass {round}: held-out accuracy {accuracy:.2} %");
    }
    client.delete("spam-weights").await?;
    Ok(())
}
