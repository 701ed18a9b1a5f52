//! A hash for keys that are numbers and no secret: a few instructions instead of a keyed hash, on the path of every small
//! operation.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes [`Spread`] hashers.
pub(crate) type Spreading = BuildHasherDefault<Spread>;

/// Spreads numbers over the bits of a hash.
#[derive(Debug, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}
