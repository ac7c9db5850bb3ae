//! What is kept of one measurement, and what becomes of several.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Done;
use crate::systems::Kind;

/// One system with so many clients in one round.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    pub(crate) system: Kind,
    pub(crate) durable: bool,
    pub(crate) clients: u32,
    pub(crate) round: u32,
    pub(crate) seconds: f64,
    pub(crate) cycles: u64,
    pub(crate) cycles_per_second: f64,
    /// Times are in microseconds.
    pub(crate) acquire_p50: u64,
    pub(crate) acquire_p99: u64,
    pub(crate) release_p50: u64,
    pub(crate) release_p99: u64,
    /// CPU time of the three servers together.
    pub(crate) server_cpu_seconds_per_1000: f64,
    /// CPU time of the one client.
    pub(crate) client_cpu_seconds_per_1000: f64,
    /// The most that the leader had in memory since it was started, in 10^6 bytes.
    pub(crate) leader_peak_mb: f64,
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Sample {
    #[allow(clippy::cast_precision_loss, reason = "up to 2^53 cycles are exact")]
    pub(crate) fn new(
        system: Kind,
        clients: u32,
        round: u32,
        done: Done,
        server_cpu_seconds: f64,
        client_cpu_seconds: f64,
        leader_peak_mb: f64,
    ) -> Self {
        let cycles = done.cycles as f64;
        let seconds = done.elapsed.as_secs_f64();
        Self {
            system,
            durable: system.is_durable(),
            clients,
            round,
            seconds,
            cycles: done.cycles,
            cycles_per_second: cycles / seconds,
            acquire_p50: done.acquires.value_at_quantile(0.5),
            acquire_p99: done.acquires.value_at_quantile(0.99),
            release_p50: done.releases.value_at_quantile(0.5),
            release_p99: done.releases.value_at_quantile(0.99),
            server_cpu_seconds_per_1000: server_cpu_seconds / cycles * 1e3,
            client_cpu_seconds_per_1000: client_cpu_seconds / cycles * 1e3,
            leader_peak_mb,
            failures: done.failures,
        }
    }
}

/// Of one figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of nothing.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Some(Self { median, min, max })
    }
}

/// Cycles per second of one system divided by another's, round by round: what drifts between rounds
/// is in both.
pub(crate) fn ratio(samples: &[Sample], clients: u32, above: Kind, below: Kind) -> Option<Spread> {
    let of = |kind: Kind| {
        samples
            .iter()
            .filter(move |sample| sample.system == kind && sample.clients == clients)
    };
    Spread::of(of(above).filter_map(|above| {
        let below = of(below).find(|below| below.round == above.round)?;
        Some(above.cycles_per_second / below.cycles_per_second)
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(system: Kind, round: u32, cycles_per_second: f64) -> Sample {
        Sample {
            system,
            durable: system.is_durable(),
            clients: 8,
            round,
            seconds: 1.0,
            cycles: 1,
            cycles_per_second,
            acquire_p50: 260,
            acquire_p99: 390,
            release_p50: 1190,
            release_p99: 12_020,
            server_cpu_seconds_per_1000: 0.028,
            client_cpu_seconds_per_1000: 0.016,
            leader_peak_mb: 14.0,
            failures: BTreeMap::new(),
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        let three = spread(&[3.0, 1.0, 2.0]).expect("three figures");
        assert_eq!((three.median, three.min, three.max), (2.0, 1.0, 3.0));
        let even = spread(&[4.0, 1.0]).expect("two figures");
        let expected = Spread {
            median: 2.5,
            min: 1.0,
            max: 4.0,
        };
        assert_eq!(even, expected);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let samples = [
            sample(Kind::Evermind, 1, 100.0),
            sample(Kind::Etcd, 1, 50.0),
            sample(Kind::Etcd, 2, 10.0),
            sample(Kind::Evermind, 2, 30.0),
            sample(Kind::Evermind, 3, 7.0),
        ];
        let ratio = ratio(&samples, 8, Kind::Evermind, Kind::Etcd).expect("two rounds");
        assert_eq!((ratio.min, ratio.max), (2.0, 3.0));
    }
}
