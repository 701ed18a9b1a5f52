//! States by 64 bits of their hash: millions are kept, and comparing them whole would need tens of gigabytes.
//!
//! Two of 16 million states share a fingerprint with probability 1 in 100 000; then the later one would not be explored.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Multiplies to 128 bits and folds: every bit of a word reaches every bit of the result.
struct Folding {
    sum: u64,
    word: u64,
    filled: u32,
}

const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xd1b5_4a32_d192_ed03;

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Folding {
    fn mix(&mut self, word: u64) {
        self.sum = fold(
            self.sum.rotate_left(23) ^ word,
            FIRST ^ word.rotate_left(32),
        )
        .wrapping_add(SECOND);
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u8(byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.filled += 1;
        if self.filled == 8 {
            self.mix(self.word);
            (self.word, self.filled) = (0, 0);
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u8(length as u8);
    }

    fn write_isize(&mut self, variant: isize) {
        self.write_u8(variant as u8);
    }

    fn finish(&self) -> u64 {
        fold(
            fold(self.sum ^ self.word, FIRST),
            SECOND ^ u64::from(self.filled),
        )
    }
}

/// 64 bits that stand for the state.
pub(crate) fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Folding {
        sum: SECOND,
        word: 0,
        filled: 0,
    };
    state.hash(&mut hasher);
    hasher.finish()
}

/// A fingerprint is its own hash.
#[derive(Default)]
pub(crate) struct Itself(u64);

impl Hasher for Itself {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// For maps whose keys are fingerprints.
pub(crate) type ByFingerprint = BuildHasherDefault<Itself>;
