//! Walker's alias table: a draw from `n` weighted outcomes by one comparison, however many there are.
//!
//! Every outcome owns one of `n` boxes of equal size. What a box of a light outcome leaves empty is filled by one heavy
//! outcome, its alias. To draw: pick a box, then one of the at most two outcomes in it.

use rand::{Rng, RngExt};

/// A distribution over `0..n`, rebuilt in place.
#[derive(Default)]
pub(crate) struct Alias {
    weights: Vec<f64>,
    /// The part of each box that belongs to its owner.
    share: Vec<f64>,
    /// To whom the rest of it belongs.
    rest: Vec<u16>,
    light: Vec<u16>,
    heavy: Vec<u16>,
}

impl Alias {
    /// Takes new weights, all positive, at most 65 536 of them.
    pub(crate) fn rebuild(&mut self, weights: impl Iterator<Item = f64>) {
        self.weights.clear();
        self.weights.extend(weights);
        let scale = self.weights.len() as f64 / self.weights.iter().sum::<f64>();
        self.share.clear();
        self.share
            .extend(self.weights.iter().map(|weight| weight * scale));
        self.rest.clear();
        self.rest
            .extend((0..self.weights.len()).map(|outcome| outcome as u16));
        self.light.clear();
        self.heavy.clear();
        for (outcome, &share) in self.share.iter().enumerate() {
            if share < 1.0 {
                &mut self.light
            } else {
                &mut self.heavy
            }
            .push(outcome as u16);
        }
        while let (Some(light), Some(&heavy)) = (self.light.pop(), self.heavy.last()) {
            self.rest[light as usize] = heavy;
            let left = self.share[heavy as usize] - (1.0 - self.share[light as usize]);
            self.share[heavy as usize] = left;
            if left < 1.0 {
                self.heavy.pop();
                self.light.push(heavy);
            }
        }
        // A box that found no partner is its owner's: the rest of its share is lost to rounding, and the rest of it too.
    }

    /// Draws an outcome.
    pub(crate) fn draw(&self, random: &mut impl Rng) -> usize {
        let at = random.random::<f64>() * self.share.len() as f64;
        let outcome = at as usize;
        if at - outcome as f64 <= self.share[outcome] {
            outcome
        } else {
            self.rest[outcome] as usize
        }
    }

    /// The weight that an outcome had when the table was built.
    pub(crate) fn weight(&self, outcome: usize) -> f64 {
        self.weights[outcome]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn outcomes_are_drawn_as_often_as_their_weights_say() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut table = Alias::default();
        for weights in [
            vec![1.0],
            vec![1.0; 5],
            vec![0.01, 3.01, 0.01, 100.01, 7.01, 0.01, 0.5],
        ] {
            table.rebuild(weights.iter().copied());
            let draws = 400_000;
            let mut seen = vec![0u32; weights.len()];
            for _ in 0..draws {
                seen[table.draw(&mut random)] += 1;
            }
            let sum: f64 = weights.iter().sum();
            for (outcome, &weight) in weights.iter().enumerate() {
                let p = weight / sum;
                let allowed = 5.0 * (p * (1.0 - p) / f64::from(draws)).sqrt();
                let part = f64::from(seen[outcome]) / f64::from(draws);
                assert!(
                    (part - p).abs() <= allowed,
                    "{outcome} of {weights:?}: {part}, not {p}"
                );
                assert_eq!(table.weight(outcome), weight);
            }
        }
    }

    #[test]
    fn the_shares_of_the_boxes_add_up_to_the_weights() {
        let weights = [0.01, 3.01, 0.01, 100.01, 7.01, 0.01, 0.5];
        let mut table = Alias::default();
        table.rebuild(weights.iter().copied());
        let mut sums = [0.0; 7];
        for outcome in 0..7 {
            sums[outcome] += table.share[outcome].min(1.0);
            sums[table.rest[outcome] as usize] += (1.0 - table.share[outcome]).max(0.0);
        }
        let scale = 7.0 / weights.iter().sum::<f64>();
        for (sum, weight) in sums.iter().zip(weights) {
            assert!((sum - weight * scale).abs() < 1e-12, "{sums:?}");
        }
    }
}
