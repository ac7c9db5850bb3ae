//! Where everything random comes from: one seed.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use twox_hash::XxHash3_128;

/// A stream of random numbers. Clones are the same stream; [`Dice::named`] makes another, so that
/// one part's draws do not move another's.
#[derive(Debug, Clone)]
pub struct Dice {
    seed: u64,
    rng: Arc<Mutex<StdRng>>,
}

impl Dice {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// Another stream of the same seed.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let bytes = [&self.seed.to_le_bytes(), name.as_bytes()].concat();
        let hash = XxHash3_128::oneshot(&bytes).to_le_bytes();
        let mut seed = [0; 8];
        seed.copy_from_slice(&hash[..8]);
        Self::new(u64::from_le_bytes(seed))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.with(|rng| rng.random_range(low..=high))
    }

    /// True this often in a thousand.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.between(0, 999) < per_mille
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        let last = from.len().checked_sub(1).expect("one of at least one");
        let at = self.between(0, last as u64);
        from[usize::try_from(at).expect("an index")]
    }

    /// Random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(bytes));
    }

    /// A random number.
    pub fn number(&self) -> u64 {
        self.with(StdRng::next_u64)
    }
}
