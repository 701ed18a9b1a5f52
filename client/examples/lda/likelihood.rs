//! How well the topics explain the text: `log p(w, z)`, the same figure that the Python package `lda` prints.
//!
//! With `R(a, n) = ln Γ(a + n) − ln Γ(a) = ln a + ln (a+1) + … + ln (a+n−1)` it is
//! `Σ_wt R(η, n_wt) − Σ_t R(V·η, n_t) + Σ_dt R(α, n_dt) − Σ_d R(K·α, n_d)`:
//! the words given their topics from what the servers hold, the topics from what the workers hold.

use anyhow::{Context, Result};

use crate::corpus::Corpus;
use crate::sampler::Priors;
use crate::slice::Slice;

/// `R(a, n)` for one `a` and all `n` up to the largest that can occur: a table of sums.
struct Rising(Vec<f64>);

impl Rising {
    fn new(a: f64, largest: usize) -> Self {
        let mut sum = 0.0;
        let rest = (0..largest).map(|n| {
            sum += (a + n as f64).ln();
            sum
        });
        Self(std::iter::once(0.0).chain(rest).collect())
    }

    /// Fails for a count that no text of this size has, which only a broken server could send.
    fn at(&self, n: i64) -> Result<f64> {
        usize::try_from(n)
            .ok()
            .and_then(|n| self.0.get(n).copied())
            .with_context(|| format!("a count of {n} where at most {} can be", self.0.len() - 1))
    }
}

/// The parts of the sum, for one corpus.
pub(crate) struct Likelihood {
    word_topic: Rising,
    topic: Rising,
    document_topic: Rising,
    document: Rising,
}

impl Likelihood {
    /// Prepares the tables.
    pub(crate) fn new(corpus: &Corpus, priors: Priors) -> Self {
        let commonest = corpus.frequencies.first().copied().unwrap_or(0) as usize;
        let longest = corpus.documents.iter().map(Vec::len).max().unwrap_or(0);
        Self {
            word_topic: Rising::new(priors.eta, commonest),
            topic: Rising::new(priors.eta * priors.vocabulary as f64, corpus.tokens()),
            document_topic: Rising::new(priors.alpha, longest),
            document: Rising::new(priors.alpha * priors.topics as f64, longest),
        }
    }

    /// The part of some rows of the matrix.
    pub(crate) fn of_rows(&self, counts: &[i64]) -> Result<f64> {
        counts.iter().map(|&count| self.word_topic.at(count)).sum()
    }

    /// The part of the totals.
    pub(crate) fn of_totals(&self, totals: &[i64]) -> Result<f64> {
        totals
            .iter()
            .map(|&total| self.topic.at(total).map(|part| -part))
            .sum()
    }

    /// The part of the documents of a slice.
    pub(crate) fn of_documents(&self, slice: &Slice) -> Result<f64> {
        let mut sum = 0.0;
        for (length, counts) in slice.documents() {
            sum -= self.document.at(length as i64)?;
            for &count in counts {
                sum += self.document_topic.at(i64::from(count))?;
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    /// One document of two different words, one topic: p(z) = 1; p(w|z) = 1/2 · 1/3 with η = 1.
    #[test]
    fn one_topic_by_hand() {
        let corpus = Corpus::parse("2 0:1 1:1\n", "a\nb\n").unwrap();
        let priors = Priors {
            topics: 1,
            vocabulary: 2,
            alpha: 1.0,
            eta: 1.0,
        };
        let slice = Slice::new(&corpus, 0, 1, 1, &mut SmallRng::seed_from_u64(1));
        let parts = Likelihood::new(&corpus, priors);
        let sum = parts.of_rows(&[1, 1]).unwrap()
            + parts.of_totals(&[2]).unwrap()
            + parts.of_documents(&slice).unwrap();
        assert!((sum - (1.0f64 / 6.0).ln()).abs() < 1e-12, "{sum}");
    }

    /// The same with two topics, both tokens in the first: p(z) = 1/2 · 2/3 with α = 1.
    #[test]
    fn two_topics_by_hand() {
        let corpus = Corpus::parse("2 0:1 1:1\n", "a\nb\n").unwrap();
        let priors = Priors {
            topics: 2,
            vocabulary: 2,
            alpha: 1.0,
            eta: 1.0,
        };
        let parts = Likelihood::new(&corpus, priors);
        let slice = (0..64)
            .map(|seed| Slice::new(&corpus, 0, 1, 2, &mut SmallRng::seed_from_u64(seed)))
            .find(|slice| slice.assigned == [0, 0])
            .unwrap();
        let sum = parts.of_rows(&[1, 0, 1, 0]).unwrap()
            + parts.of_totals(&[2, 0]).unwrap()
            + parts.of_documents(&slice).unwrap();
        assert!((sum - (1.0f64 / 18.0).ln()).abs() < 1e-12, "{sum}");
    }

    #[test]
    fn an_impossible_count_is_an_error() {
        let corpus = Corpus::parse("2 0:1 1:1\n", "a\nb\n").unwrap();
        let priors = Priors {
            topics: 2,
            vocabulary: 2,
            alpha: 1.0,
            eta: 1.0,
        };
        let parts = Likelihood::new(&corpus, priors);
        assert!(parts.of_rows(&[2]).is_err());
        assert!(parts.of_rows(&[-1]).is_err());
    }
}
