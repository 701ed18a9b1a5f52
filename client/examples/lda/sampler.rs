//! The sampler: Metropolis–Hastings for collapsed Gibbs sampling, at a cost per token that does not grow with the topics.
//!
//! The topic of a token of word *w* in document *d* is to be drawn from
//! `p(t) ∝ (n_dt + α) · (n_wt + η) / (n_t + V·η)`, the token itself not counted. Instead of looking at all topics, draw
//! from something cheap that looks like *p*, and accept it so often that the result is as if drawn from *p* (LightLDA,
//! Yuan et al. 2015). Two cheap things take turns, as each knows one factor of *p*:
//! - **the word's**: `n_wt + η` as it was when the row came from the server, by an alias table built once per word;
//! - **the document's**: `n_dt + α`, by taking the topic of a random place of the document, or any topic.
//!
//! Tokens are visited word by word, so the row and the table of the word at hand stay in the processor's nearest cache.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::alias::Alias;
use crate::slice::{Place, Slice};

/// The parameters of the model.
#[derive(Clone, Copy)]
pub(crate) struct Priors {
    /// How many topics.
    pub(crate) topics: usize,
    /// How many words.
    pub(crate) vocabulary: usize,
    /// The prior weight of a topic in a document.
    pub(crate) alpha: f64,
    /// The prior weight of a word in a topic.
    pub(crate) eta: f64,
}

/// One token of `word` went from one topic to another.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) word: u64,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// A worker's copy of the totals `n_t`, with what it changed.
pub(crate) struct Totals {
    counts: Vec<i64>,
    /// `1 / (n_t + V·η)`: asked for far more often than changed.
    inverse: Vec<f64>,
    changes: Vec<i64>,
    eta_sum: f64,
}

impl Totals {
    /// Takes what the server says.
    pub(crate) fn new(counts: Vec<i64>, priors: Priors) -> Self {
        let mut totals = Self {
            inverse: vec![0.0; counts.len()],
            changes: vec![0; counts.len()],
            eta_sum: priors.eta * priors.vocabulary as f64,
            counts,
        };
        (0..totals.counts.len()).for_each(|topic| totals.add(topic, 0));
        totals
    }

    fn add(&mut self, topic: usize, delta: i64) {
        self.counts[topic] += delta;
        self.changes[topic] += delta;
        self.inverse[topic] = 1.0 / (self.counts[topic].max(0) as f64 + self.eta_sum);
    }

    /// What was changed since this was asked last.
    pub(crate) fn take_changes(&mut self) -> Vec<i64> {
        let fresh = vec![0; self.changes.len()];
        std::mem::replace(&mut self.changes, fresh)
    }
}

/// Draws topics anew.
pub(crate) struct Sampler {
    priors: Priors,
    /// How often each token is offered a topic of its word and one of its document.
    rounds: usize,
    random: SmallRng,
    alias: Alias,
}

impl Sampler {
    /// A sampler whose randomness comes from `seed` alone.
    pub(crate) fn new(priors: Priors, rounds: usize, seed: u64) -> Self {
        Self {
            priors,
            rounds,
            random: SmallRng::seed_from_u64(seed),
            alias: Alias::default(),
        }
    }

    /// The randomness, for the first topics.
    pub(crate) fn random(&mut self) -> &mut SmallRng {
        &mut self.random
    }

    /// Draws the topic of every token of a block of words anew.
    ///
    /// `rows` are the counts of the words from `first` on, row by row. They, the totals and the slice are changed on
    /// the spot; what changed for others is returned.
    pub(crate) fn resample(
        &mut self,
        first: u64,
        rows: &mut [i64],
        totals: &mut Totals,
        slice: &mut Slice,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (word, row) in (first..).zip(rows.chunks_exact_mut(self.priors.topics)) {
            let places = slice.places_of(word);
            if places.is_empty() {
                continue;
            }
            // Another worker's −1 may be here before its +1: below zero is zero.
            self.alias.rebuild(
                row.iter()
                    .map(|&count| count.max(0) as f64 + self.priors.eta),
            );
            for index in places {
                let place = slice.place(index);
                let from = slice.assigned[place.position as usize] as usize;
                row[from] -= 1;
                totals.add(from, -1);
                slice.counts_mut(place.document)[from] -= 1;
                let to = self.walk(from, place, row, totals, slice);
                row[to] += 1;
                totals.add(to, 1);
                slice.counts_mut(place.document)[to] += 1;
                if to != from {
                    changes.push(Change {
                        word,
                        from: from as u32,
                        to: to as u32,
                    });
                }
            }
        }
        changes
    }

    /// Some steps of the Markov chain for one token, which is not counted anywhere while it walks.
    fn walk(
        &mut self,
        from: usize,
        place: Place,
        row: &[i64],
        totals: &Totals,
        slice: &mut Slice,
    ) -> usize {
        let Priors {
            topics, alpha, eta, ..
        } = self.priors;
        let positions = slice.positions(place.document);
        let length = positions.len() as f64;
        let mut current = from;
        let in_document =
            |slice: &Slice, topic: usize| f64::from(slice.counts(place.document)[topic]) + alpha;
        let in_word = |topic: usize| row[topic].max(0) as f64 + eta;
        let offered = |alias: &Alias, topic: usize| {
            let own = if topic == from { 1.0 } else { 0.0 };
            (alias.weight(topic) - own).max(eta)
        };
        let mut here = in_document(slice, current) * in_word(current) * totals.inverse[current];
        for _ in 0..self.rounds {
            // A topic of the word, q: accept with min(1, p(t)·q(s) / p(s)·q(t)). The table still counts the token itself
            // under `from`; a draw that hits just that is no offer, or words that occur once would never look elsewhere.
            let topic = self.alias.draw(&mut self.random);
            let own_hit =
                topic == from && self.random.random::<f64>() * self.alias.weight(from) < 1.0;
            if topic != current && !own_hit {
                let there = in_document(slice, topic) * in_word(topic) * totals.inverse[topic];
                if self.random.random::<f64>() * here * offered(&self.alias, topic)
                    < there * offered(&self.alias, current)
                {
                    (current, here) = (topic, there);
                    slice.assigned[place.position as usize] = topic as u16;
                }
            }
            // A topic of the document: its own counts are the weights, so that factor of p cancels.
            let at = self.random.random::<f64>() * (length + alpha * topics as f64);
            let topic = if at < length {
                slice.assigned[positions.start + at as usize] as usize
            } else {
                (((at - length) / alpha) as usize).min(topics - 1)
            };
            if topic != current {
                let there = in_word(topic) * totals.inverse[topic];
                let chance = there * in_document(slice, current);
                if self.random.random::<f64>() * here < chance {
                    (current, here) = (topic, there * in_document(slice, topic));
                    slice.assigned[place.position as usize] = topic as u16;
                }
            }
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;

    fn counts(slice: &Slice, corpus: &Corpus) -> (Vec<i64>, Vec<i64>) {
        let mut rows = vec![0; corpus.words.len() * slice.topics];
        for (word, row) in rows.chunks_exact_mut(slice.topics).enumerate() {
            slice.add_word_counts(word as u64, row);
        }
        let mut totals = vec![0; slice.topics];
        for (index, count) in rows.iter().enumerate() {
            totals[index % slice.topics] += count;
        }
        (rows, totals)
    }

    #[test]
    fn a_sweep_keeps_all_counts_and_changes_consistent() {
        let corpus =
            Corpus::parse("3 0:9 1:5 2:2\n2 1:4 3:1\n2 0:2 3:3\n", "a\nb\nc\nd\n").unwrap();
        let priors = Priors {
            topics: 5,
            vocabulary: 4,
            alpha: 0.1,
            eta: 0.01,
        };
        let mut sampler = Sampler::new(priors, 2, 3);
        let mut slice = Slice::new(&corpus, 0, 1, priors.topics, sampler.random());
        let (mut rows, totals) = counts(&slice, &corpus);
        let (mut replayed, mut replayed_totals) = (rows.clone(), totals.clone());
        let mut moved = 0;
        for _ in 0..50 {
            let mut totals = Totals::new(replayed_totals.clone(), priors);
            for change in sampler.resample(0, &mut rows, &mut totals, &mut slice) {
                replayed[change.word as usize * 5 + change.from as usize] -= 1;
                replayed[change.word as usize * 5 + change.to as usize] += 1;
                moved += 1;
            }
            for (sum, change) in replayed_totals.iter_mut().zip(totals.take_changes()) {
                *sum += change;
            }
            assert_eq!((&rows, &totals.counts), (&replayed, &replayed_totals));
            assert_eq!(counts(&slice, &corpus), (rows.clone(), totals.counts));
            for (length, counts) in slice.documents() {
                assert_eq!(counts.iter().sum::<u32>() as usize, length);
            }
        }
        assert!(
            moved > 0,
            "a sampler that never moves a token tests nothing"
        );
    }

    /// With few tokens the posterior can be added up over all states; the chain must visit them accordingly.
    ///
    /// Two slices with a document each: every table serves one token only, so none is stale and the chain is exact.
    #[test]
    fn topics_are_drawn_from_the_posterior() {
        let corpus = Corpus::parse("2 0:1 1:1\n1 0:1\n", "a\nb\n").unwrap();
        let priors = Priors {
            topics: 2,
            vocabulary: 2,
            alpha: 0.5,
            eta: 0.3,
        };
        let mut sampler = Sampler::new(priors, 1, 5);
        let mut slices = [0, 1].map(|index| Slice::new(&corpus, index, 2, 2, sampler.random()));
        let (mut rows, mut totals) = (vec![0; 4], vec![0; 2]);
        for slice in &slices {
            let (more_rows, more_totals) = counts(slice, &corpus);
            rows.iter_mut()
                .zip(more_rows)
                .for_each(|(sum, more)| *sum += more);
            totals
                .iter_mut()
                .zip(more_totals)
                .for_each(|(sum, more)| *sum += more);
        }
        let mut totals = Totals::new(totals, priors);
        let sweeps = 400_000;
        let mut seen = [0u32; 8];
        for _ in 0..sweeps {
            for slice in &mut slices {
                sampler.resample(0, &mut rows, &mut totals, slice);
            }
            let assigned = slices.iter().flat_map(|slice| &slice.assigned);
            seen[assigned.fold(0, |state, &topic| state * 2 + topic as usize)] += 1;
        }
        // p(w, z) by the chain rule: one token after the other, each given those before it.
        let tokens = [(0, 0usize), (0, 1), (1, 0)];
        let mut weights = [0.0; 8];
        for (state, weight) in weights.iter_mut().enumerate() {
            let (mut in_documents, mut in_words) = ([[0.0f64; 2]; 2], [[0.0f64; 2]; 2]);
            let mut p = 1.0;
            for (index, &(document, word)) in tokens.iter().enumerate() {
                let topic = state >> (2 - index) & 1;
                let length: f64 = in_documents[document].iter().sum();
                p *= (in_documents[document][topic] + priors.alpha) / (length + 2.0 * priors.alpha);
                let total = in_words[0][topic] + in_words[1][topic];
                p *= (in_words[word][topic] + priors.eta) / (total + 2.0 * priors.eta);
                in_documents[document][topic] += 1.0;
                in_words[word][topic] += 1.0;
            }
            *weight = p;
        }
        let sum: f64 = weights.iter().sum();
        for state in 0..8 {
            let part = f64::from(seen[state]) / f64::from(sweeps);
            assert!(
                (part - weights[state] / sum).abs() < 0.002,
                "{state}: {seen:?} {weights:?}"
            );
        }
    }
}
