//! The text: documents as bags of words, read from David Blei's `ldac` form.
//!
//! `NAME.ldac` has a line a document: how many distinct words, then `word:count` pairs. `NAME.tokens` has a line a
//! word. Words are numbered anew, the most frequent one first: a row's number then says how busy the row is, which is
//! what cyclic partitioning (spread the busy rows over all servers) and hot rows (combine their changes) rest on.

use std::cmp::Reverse;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// A text, its words numbered from the most frequent one.
pub(crate) struct Corpus {
    /// The words, by number.
    pub(crate) words: Vec<String>,
    /// How often each word occurs, by number; never rises.
    pub(crate) frequencies: Vec<u32>,
    /// The word at each place of each document.
    pub(crate) documents: Vec<Vec<u32>>,
}

impl Corpus {
    /// Reads `path` and the `.tokens` beside it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let tokens: PathBuf = path.with_extension("tokens");
        let ldac = fs::read_to_string(path)
            .with_context(|| format!("cannot read the corpus {}", path.display()))?;
        let words = fs::read_to_string(&tokens)
            .with_context(|| format!("cannot read the words {}", tokens.display()))?;
        Self::parse(&ldac, &words).with_context(|| format!("in {}", path.display()))
    }

    /// Makes a corpus of the contents of the two files.
    pub(crate) fn parse(ldac: &str, words: &str) -> Result<Self> {
        let words: Vec<String> = words.lines().map(str::to_owned).collect();
        let documents = ldac
            .lines()
            .enumerate()
            .map(|(line, text)| {
                document(text, words.len()).with_context(|| format!("line {}", line + 1))
            })
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            documents.iter().any(|document| !document.is_empty()),
            "the corpus has no words"
        );
        Ok(Self::by_frequency(&words, documents))
    }

    fn by_frequency(words: &[String], mut documents: Vec<Vec<u32>>) -> Self {
        let mut counts = vec![0u32; words.len()];
        for &word in documents.iter().flatten() {
            counts[word as usize] += 1;
        }
        let mut order: Vec<usize> = (0..words.len()).collect();
        order.sort_by_key(|&word| (Reverse(counts[word]), word));
        let mut numbers = vec![0u32; words.len()];
        for (number, &word) in order.iter().enumerate() {
            numbers[word] = number as u32;
        }
        for word in documents.iter_mut().flatten() {
            *word = numbers[*word as usize];
        }
        Self {
            words: order.iter().map(|&word| words[word].clone()).collect(),
            frequencies: order.iter().map(|&word| counts[word]).collect(),
            documents,
        }
    }

    /// How many places all documents have.
    pub(crate) fn tokens(&self) -> usize {
        self.documents.iter().map(Vec::len).sum()
    }

    /// Cuts the words into consecutive blocks of about the same number of tokens, each of at most `rows` words.
    ///
    /// There are at least `blocks` of them where there are that many words. Equal blocks keep workers that started at
    /// different blocks at different blocks.
    pub(crate) fn blocks(&self, rows: usize, blocks: usize) -> Vec<Range<u64>> {
        let share = self
            .tokens()
            .div_ceil(blocks.max(self.words.len().div_ceil(rows)));
        let mut cut = Vec::new();
        let (mut start, mut tokens) = (0, 0);
        for (word, &count) in self.frequencies.iter().enumerate() {
            if word > start && (tokens + count as usize > share || word - start == rows) {
                cut.push(start as u64..word as u64);
                (start, tokens) = (word, 0);
            }
            tokens += count as usize;
        }
        cut.push(start as u64..self.words.len() as u64);
        cut
    }
}

/// The words of one line, each as often as it occurs.
fn document(line: &str, vocabulary: usize) -> Result<Vec<u32>> {
    let mut fields = line.split_ascii_whitespace();
    let distinct: usize = fields
        .next()
        .unwrap_or("0")
        .parse()
        .context("the count of words")?;
    let mut words = Vec::new();
    let mut seen = 0;
    for field in fields {
        let pair = field.split_once(':').and_then(|(word, times)| {
            Some((word.parse::<u32>().ok()?, times.parse::<u32>().ok()?))
        });
        let Some((word, times)) = pair else {
            bail!("`{field}` is not word:count");
        };
        ensure!(
            (word as usize) < vocabulary,
            "word {word} has no line in the .tokens file, which has {vocabulary}"
        );
        ensure!(
            times <= 1_000_000,
            "word {word} is said to occur {times} times in one document"
        );
        words.extend(std::iter::repeat_n(word, times as usize));
        seen += 1;
    }
    ensure!(
        seen == distinct,
        "says {distinct} distinct words, has {seen}"
    );
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_from_the_most_frequent() {
        let corpus = Corpus::parse("2 0:1 1:2\n2 1:1 2:2\n", "rare\noften\nmiddling\n").unwrap();
        assert_eq!(corpus.words, ["often", "middling", "rare"]);
        assert_eq!(corpus.frequencies, [3, 2, 1]);
        assert_eq!(corpus.documents, [vec![2, 0, 0], vec![0, 1, 1]]);
        assert_eq!(corpus.tokens(), 6);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (ldac, said) in [
            ("1 0:1\n1 7:1\n", "word 7 has no line"),
            ("1 0:1\n1 zero:1\n", "`zero:1` is not word:count"),
            ("1 0:1\n2 0:1\n", "says 2 distinct words, has 1"),
            ("1 0:1\n1 0:4000000000\n", "4000000000 times"),
        ] {
            let error = format!("{:#}", Corpus::parse(ldac, "word\n").err().unwrap());
            assert!(error.contains("line 2") && error.contains(said), "{error}");
        }
        assert!(
            Corpus::parse("0\n", "word\n").is_err(),
            "a corpus without a word"
        );
    }

    #[test]
    fn blocks_cover_all_words_in_order_within_their_bound() {
        let ldac = "6 0:9 1:5 2:3 3:1 4:1 5:1\n";
        let corpus = Corpus::parse(ldac, "a\nb\nc\nd\ne\nf\n").unwrap();
        assert_eq!(corpus.blocks(6, 1), std::slice::from_ref(&(0..6)));
        assert_eq!(corpus.blocks(2, 1), [0..1, 1..2, 2..4, 4..6]);
        assert_eq!(corpus.blocks(6, 2), [0..1, 1..5, 5..6]);
        assert_eq!(corpus.blocks(1, 1).len(), 6);
    }
}
