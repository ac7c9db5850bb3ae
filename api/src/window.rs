//! How long an acquire waits in line.

#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};

/// Draws the waiting window of one request, in ms: the sum over `attempts` retries of `delay_ms`
/// and a random 0 to `jitter_ms`.
pub(crate) fn draw(attempts: u32, delay_ms: u64, jitter_ms: u64) -> u64 {
    #[cfg(evermind_mutants)]
    let attempts = if mutant::is(Mutant::WindowOneShort) {
        attempts.saturating_sub(1)
    } else {
        attempts
    };
    let fixed = u64::from(attempts) * delay_ms;
    if attempts == 0 || jitter_ms == 0 {
        return fixed;
    }
    // Jitter only spreads callers out. Where the system has no randomness, the middle will do.
    let Ok(seed) = getrandom::u64() else {
        return fixed + u64::from(attempts) * jitter_ms / 2;
    };
    let mut random = SplitMix64(seed);
    fixed + (0..attempts).map(|_| random.up_to(jitter_ms)).sum::<u64>()
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `max`, both included. The bias of multiply-and-shift is below `max` in 2^64.
    fn up_to(&mut self, max: u64) -> u64 {
        let wide = u128::from(self.next()) * (u128::from(max) + 1);
        u64::try_from(wide >> 64).expect("the product is below 2^64 times (max + 1)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn without_jitter_nothing_is_drawn() {
        assert_eq!(draw(10, 500, 0), 5_000);
        assert_eq!(draw(0, 60_000, 60_000), 0);
    }

    #[test]
    fn every_value_of_the_jitter_comes_up_and_no_other() {
        let mut seen = [false; 4];
        let mut random = SplitMix64(1);
        for _ in 0..1_000 {
            seen[usize::try_from(random.up_to(3)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 4]);
        for _ in 0..100 {
            assert!((1_000..=1_300).contains(&draw(10, 100, 30)));
        }
    }
}
