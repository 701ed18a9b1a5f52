//! Random numbers from one generator per process, seeded by the system or by a test.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// A shared generator. Cheap to clone; clones draw from one sequence.
#[derive(Clone, Debug)]
pub struct Random {
    generator: Arc<Mutex<StdRng>>,
}

impl Random {
    /// The sequence of this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self {
            generator: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// A sequence that nobody can foretell.
    pub fn from_system() -> Self {
        Self {
            generator: Arc::new(Mutex::new(rand::make_rng())),
        }
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        self.generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&self) -> f64 {
        self.generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random()
    }
}
