//! How far the nodes' clocks may have outrun the clients'.

use crate::history::Moment;

const NS_PER_MS: u128 = 1_000_000;

/// Cluster time is told in whole milliseconds, rounded down: between two readings that differ by
/// `n`, a little more than `n - 1` may have passed.
const READING_MS: u64 = 1;

/// A time in which some node's clock ran fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spell {
    /// From here on.
    pub from: Moment,
    /// Up to here.
    pub until: Moment,
    /// Per mille by which the fastest of the nodes' clocks outran the clients'.
    pub rate_per_mille: u64,
}

/// How much faster than the clients' the nodes' monotonic clocks may have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockBound<'a> {
    /// Per mille that they may have run fast at any time.
    pub rate_per_mille: u64,
    /// What comes to that at certain times; no two of them overlap.
    pub spells: &'a [Spell],
}

impl ClockBound<'_> {
    /// Clocks of one rate, as where all nodes are processes of one machine.
    pub const EXACT: Self = Self {
        rate_per_mille: 0,
        spells: &[],
    };

    /// How far the fastest clock can have come at a moment, in thousandths of ns: the sum of its
    /// greatest rates.
    pub fn most(self, moment: Moment) -> u128 {
        let usual = u128::from(moment.0) * u128::from(1000 + self.rate_per_mille);
        let more = self.spells.iter().map(|spell| {
            let lasted = spell.until.min(moment).0.saturating_sub(spell.from.0);
            u128::from(lasted) * u128::from(spell.rate_per_mille)
        });
        usual + more.sum::<u128>()
    }

    /// Until when a lease lasts at the least that was told of as `cluster_ms` from the first entry
    /// of a request sent at `invoked`: a clock 10 % fast ends it at 1 / 1.1. Rounded down.
    pub fn deadline(self, invoked: Moment, cluster_ms: u64) -> Moment {
        let since = |ns| {
            let then = Moment(invoked.0.saturating_add(ns));
            self.most(then) - self.most(invoked)
        };
        Moment(invoked.0.saturating_add(longest(cluster_ms, since)))
    }

    /// Since when at the latest something went on that at `moment` had lasted for `cluster_ms`.
    pub fn began(self, moment: Moment, cluster_ms: u64) -> Moment {
        let before = |ns| {
            let then = Moment(moment.0.saturating_sub(ns));
            self.most(moment) - self.most(then)
        };
        Moment(moment.0.saturating_sub(longest(cluster_ms, before)))
    }
}

/// The longest time, in ns, in which the fastest clock moves by no more than `cluster_ms`.
fn longest(cluster_ms: u64, moved: impl Fn(u64) -> u128) -> u64 {
    let by_cluster = u128::from(cluster_ms.saturating_sub(READING_MS)) * NS_PER_MS;
    // No clock that counts here is slower than the clients'.
    let (mut least, mut most) = (0, u64::try_from(by_cluster).unwrap_or(u64::MAX));
    while least < most {
        let middle = most - (most - least) / 2;
        if moved(middle) <= by_cluster * 1000 {
            least = middle;
        } else {
            most = middle - 1;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    const SPELLS: [Spell; 2] = [
        Spell {
            from: ms(1_000),
            until: ms(2_000),
            rate_per_mille: 100,
        },
        Spell {
            from: ms(5_000),
            until: ms(5_500),
            rate_per_mille: 100,
        },
    ];

    const FAST_AT_TIMES: ClockBound<'_> = ClockBound {
        rate_per_mille: 0,
        spells: &SPELLS,
    };

    #[test]
    fn a_lease_is_owed_whole_where_no_clock_was_fast() {
        assert_eq!(ClockBound::EXACT.deadline(ms(7), 101), ms(107));
        assert_eq!(FAST_AT_TIMES.deadline(ms(0), 901), ms(900));
        assert_eq!(FAST_AT_TIMES.deadline(ms(2_000), 3_001), ms(5_000));
        assert_eq!(FAST_AT_TIMES.deadline(ms(6_000), 60_001), ms(66_000));
    }

    #[test]
    fn what_is_forgiven_is_a_tenth_of_the_time_in_which_a_clock_was_fast() {
        // 1,100 ms by the fast clock within its spell.
        assert_eq!(FAST_AT_TIMES.deadline(ms(1_000), 1_101), ms(2_000));
        assert_eq!(FAST_AT_TIMES.deadline(ms(1_500), 551), ms(2_000));
        // Over both spells: 150 ms of 8 s.
        assert_eq!(FAST_AT_TIMES.deadline(ms(0), 8_151), ms(8_000));
        let always = ClockBound {
            rate_per_mille: 100,
            ..ClockBound::EXACT
        };
        assert_eq!(always.deadline(ms(0), 8_801), ms(8_000));
    }

    #[test]
    fn the_same_is_so_backwards() {
        assert_eq!(FAST_AT_TIMES.began(ms(2_000), 1_101), ms(1_000));
        assert_eq!(FAST_AT_TIMES.began(ms(8_000), 8_151), ms(0));
        assert_eq!(FAST_AT_TIMES.began(ms(4_000), 501), ms(3_500));
        assert_eq!(FAST_AT_TIMES.began(ms(4), 1_000), ms(0));
    }

    #[test]
    fn the_longest_lease_is_no_overflow() {
        let end = FAST_AT_TIMES.deadline(ms(1), u64::MAX);
        assert_eq!(end, Moment(u64::MAX));
    }
}
