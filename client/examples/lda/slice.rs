//! A worker's share of the documents: the topic of every place, and what follows from it.
//!
//! The topics stay with the worker; only their counts by word are shared, on the servers.

use std::ops::Range;

use rand::{Rng, RngExt};

use crate::corpus::Corpus;

/// Where a word stands.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The document, among those of the slice.
    pub(crate) document: u32,
    /// The place, among those of the slice.
    pub(crate) position: u32,
}

/// Some documents of a corpus.
pub(crate) struct Slice {
    /// How many topics there are.
    pub(crate) topics: usize,
    /// The topic at each position, document after document.
    pub(crate) assigned: Vec<u16>,
    /// Where each document starts in `assigned`, and where the last one ends.
    starts: Vec<u32>,
    /// How often each topic occurs in each document: a row of `topics` a document.
    counts: Vec<u32>,
    /// The places of all words, word after word.
    places: Vec<Place>,
    /// Where each word starts in `places`, and where the last one ends.
    words: Vec<u32>,
}

impl Slice {
    /// Takes every `of`th document from number `index` on, and gives each of its places a random topic.
    pub(crate) fn new(
        corpus: &Corpus,
        index: usize,
        of: usize,
        topics: usize,
        random: &mut impl Rng,
    ) -> Self {
        let documents: Vec<&[u32]> = corpus
            .documents
            .iter()
            .skip(index)
            .step_by(of)
            .map(Vec::as_slice)
            .collect();
        let mut slice = Self {
            topics,
            assigned: Vec::new(),
            starts: vec![0],
            counts: vec![0; documents.len() * topics],
            places: Vec::new(),
            words: Vec::new(),
        };
        for (document, words) in documents.iter().enumerate() {
            for _ in *words {
                let topic = random.random_range(0..topics);
                slice.assigned.push(topic as u16);
                slice.counts[document * topics + topic] += 1;
            }
            slice.starts.push(slice.assigned.len() as u32);
        }
        slice.sort_places(&documents, corpus.words.len());
        slice
    }

    /// Fills `places` and `words`: a counting sort of all places by word.
    fn sort_places(&mut self, documents: &[&[u32]], vocabulary: usize) {
        let mut ends = vec![0u32; vocabulary + 1];
        for &word in documents.iter().copied().flatten() {
            ends[word as usize + 1] += 1;
        }
        for word in 0..vocabulary {
            ends[word + 1] += ends[word];
        }
        self.words.clone_from(&ends);
        self.places = vec![
            Place {
                document: 0,
                position: 0
            };
            self.assigned.len()
        ];
        let mut position = 0;
        for (document, words) in documents.iter().enumerate() {
            for &word in *words {
                let next = &mut ends[word as usize];
                self.places[*next as usize] = Place {
                    document: document as u32,
                    position,
                };
                *next += 1;
                position += 1;
            }
        }
    }

    /// Where the places of a word stand, for [`Slice::place`].
    pub(crate) fn places_of(&self, word: u64) -> Range<usize> {
        self.words[word as usize] as usize..self.words[word as usize + 1] as usize
    }

    /// One place.
    pub(crate) fn place(&self, index: usize) -> Place {
        self.places[index]
    }

    /// The positions of a document.
    pub(crate) fn positions(&self, document: u32) -> Range<usize> {
        self.starts[document as usize] as usize..self.starts[document as usize + 1] as usize
    }

    /// How often each topic occurs in a document.
    pub(crate) fn counts(&self, document: u32) -> &[u32] {
        &self.counts[document as usize * self.topics..][..self.topics]
    }

    /// The same, to change.
    pub(crate) fn counts_mut(&mut self, document: u32) -> &mut [u32] {
        &mut self.counts[document as usize * self.topics..][..self.topics]
    }

    /// The length of each document and the topics in it.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let lengths = self
            .starts
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as usize);
        lengths.zip(self.counts.chunks_exact(self.topics))
    }

    /// Adds up, from the topics themselves, how often each topic occurs with a word.
    pub(crate) fn add_word_counts(&self, word: u64, row: &mut [i64]) {
        for place in &self.places[self.places_of(word)] {
            row[self.assigned[place.position as usize] as usize] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn slices_hold_every_place_once_under_its_word() {
        let corpus = Corpus::parse("2 0:3 2:1\n1 1:2\n3 0:1 1:1 2:4\n", "a\nb\nc\n").unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        let mut found = vec![0; corpus.words.len()];
        for index in 0..2 {
            let slice = Slice::new(&corpus, index, 2, 4, &mut random);
            let mut seen = vec![false; slice.assigned.len()];
            for word in 0..corpus.words.len() as u64 {
                for at in slice.places_of(word) {
                    let Place { document, position } = slice.place(at);
                    let positions = slice.positions(document);
                    let original = &corpus.documents[index + 2 * document as usize];
                    assert!(positions.contains(&(position as usize)));
                    assert_eq!(original[position as usize - positions.start], word as u32);
                    assert!(!std::mem::replace(&mut seen[position as usize], true));
                    found[word as usize] += 1;
                }
            }
            assert!(seen.iter().all(|&seen| seen));
            for (length, counts) in slice.documents() {
                assert_eq!(counts.iter().sum::<u32>() as usize, length);
            }
        }
        assert_eq!(found, corpus.frequencies);
    }
}
