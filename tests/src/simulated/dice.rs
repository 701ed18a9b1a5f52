//! The numbers that decide everything in a simulation.

use std::{ops::Range, time::Duration};

/// A generator of numbers: one seed, one sequence. Each part of a simulation has its own, so that what one draws does not
/// change what another sees.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Dice {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: mix(seed ^ 0x5851_f42d_4c95_7f2d),
        }
    }

    /// A sequence of its own for a part of the simulation.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        let named = name
            .bytes()
            .fold(self.state, |state, byte| mix(state ^ u64::from(byte)));
        Self { state: named }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `end`, 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number of a range; its start when it is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// Yes, so often.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.bits() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// A duration of whole milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// A number from 1 to about `largest`, where each order of magnitude is as likely as another.
    pub fn magnitude(&mut self, largest: u64) -> u64 {
        let digits = 64 - u64::from(largest.max(1).leading_zeros());
        let bits = self.within(0..digits);
        (1 << bits) + self.below(1 << bits)
    }

    /// One of several things.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// The index of one of several things, each as likely as its weight says.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (index, &weight) in weights.iter().enumerate() {
            if at < weight {
                return index;
            }
            at -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence_and_parts_are_others() {
        let draw = |mut dice: Dice| [dice.bits(), dice.bits(), dice.bits()];
        assert_eq!(draw(Dice::new(7)), draw(Dice::new(7)));
        assert_ne!(draw(Dice::new(7)), draw(Dice::new(8)));
        assert_ne!(draw(Dice::new(7)), draw(Dice::new(7).part("disk")));
        assert_ne!(
            draw(Dice::new(7).part("disk")),
            draw(Dice::new(7).part("net"))
        );
    }

    #[test]
    fn draws_lie_where_they_should() {
        let mut dice = Dice::new(1);
        let mut yes = 0;
        for _ in 0..10_000 {
            assert!((3..9).contains(&dice.within(3..9)));
            assert!((1..=1023).contains(&dice.magnitude(1000)));
            yes += u32::from(dice.chance(0.25));
        }
        assert!((2300..2700).contains(&yes), "{yes}");
        assert_eq!(dice.weighted(&[0, 0, 5]), 2);
    }
}
