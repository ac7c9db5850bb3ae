//! What the benchmark counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::table;

/// Longer answers than a minute are counted as one.
const MICROS_MAX: u64 = 60_000_000;
const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Acquire,
    Extend,
    Release,
}

impl Op {
    pub(super) fn path(self) -> &'static str {
        match self {
            Op::Acquire => "/lock/acquire",
            Op::Extend => "/lock/extend",
            Op::Release => "/lock/release",
        }
    }
}

/// All clients' figures.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    acquires: Histogram<u64>,
    extends: Histogram<u64>,
    releases: Histogram<u64>,
    cycles: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    started: Instant,
    last_done: Instant,
    /// The longest time in which nobody's request was done: what a failover costs.
    longest_pause: Duration,
    elapsed: Duration,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = || {
            Histogram::new_with_bounds(1, MICROS_MAX, 3)
                .map_err(|error| Failure::new(format!("cannot make a histogram: {error}")))
        };
        let now = Instant::now();
        Ok(Self {
            acquires: histogram()?,
            extends: histogram()?,
            releases: histogram()?,
            cycles: histogram()?,
            errors: BTreeMap::new(),
            started: now,
            last_done: now,
            longest_pause: Duration::ZERO,
            elapsed: Duration::ZERO,
        })
    }

    /// Forgets what came before: it was not to be measured. Errors are kept.
    pub(super) fn start(&mut self, now: Instant) {
        for histogram in [&mut self.acquires, &mut self.extends, &mut self.releases] {
            histogram.reset();
        }
        (self.started, self.last_done) = (now, now);
        self.longest_pause = Duration::ZERO;
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.elapsed = now - self.started;
    }

    /// A request sent at `start` was done now.
    pub(super) fn done(&mut self, op: Op, start: Instant) {
        let now = Instant::now();
        self.longest_pause = self.longest_pause.max(now - self.last_done);
        self.last_done = now;
        let histogram = match op {
            Op::Acquire => &mut self.acquires,
            Op::Extend => &mut self.extends,
            Op::Release => &mut self.releases,
        };
        histogram.saturating_record(micros(now - start));
    }

    pub(super) fn cycle(&mut self, took: Duration) {
        self.cycles.saturating_record(micros(took));
    }

    pub(super) fn failed(&mut self, why: &str) {
        *self.errors.entry(why.to_owned()).or_default() += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cycles.is_empty()
    }

    #[allow(clippy::cast_precision_loss, reason = "up to 2^53 cycles are exact")]
    fn per_second(&self) -> f64 {
        self.cycles.len() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn rows(&self) -> Vec<(&'static str, &Histogram<u64>)> {
        let rows = [
            ("cycle", &self.cycles),
            ("acquire", &self.acquires),
            ("extend", &self.extends),
            ("release", &self.releases),
        ];
        rows.into_iter()
            .filter(|(_, histogram)| !histogram.is_empty())
            .collect()
    }

    /// For people; times in ms.
    pub(super) fn text(&self, workload: &str, clients: u32) -> String {
        let mut text = format!(
            "{workload}, {clients} clients, {:.1} s: {} cycles, {:.0} cycles/s\n\
             longest time without an answer: {:.1} ms\n",
            self.elapsed.as_secs_f64(),
            self.cycles.len(),
            self.per_second(),
            self.longest_pause.as_secs_f64() * 1e3
        );
        for (why, count) in &self.errors {
            writeln!(text, "failed: {count} x {why}").expect("writing to a string cannot fail");
        }
        let ms = |micros: u64| format!("{}.{:02}", micros / 1000, micros % 1000 / 10);
        let row = |(name, histogram): (&str, &Histogram<u64>)| {
            let mut cells = vec![name.to_owned(), histogram.len().to_string()];
            let at = PERCENTILES
                .iter()
                .map(|(_, p)| ms(histogram.value_at_percentile(*p)));
            cells.extend(at);
            cells.push(ms(histogram.max()));
            cells
        };
        let rows: Vec<_> = self.rows().into_iter().map(row).collect();
        text.push_str(&table::render(
            &["MS", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"],
            &rows,
        ));
        text
    }

    /// For programs; times in µs.
    pub(super) fn json(&self, workload: &str, clients: u32) -> Value {
        let mut answer = json!({
            "workload": workload,
            "clients": clients,
            "seconds": self.elapsed.as_secs_f64(),
            "cycles": self.cycles.len(),
            "cyclesPerSecond": self.per_second(),
            "longestPause": micros(self.longest_pause),
            "errors": self.errors,
        });
        for (name, histogram) in self.rows() {
            let mut figures = json!({ "count": histogram.len(), "max": histogram.max() });
            for (percentile, p) in PERCENTILES {
                figures[percentile] = histogram.value_at_percentile(p).into();
            }
            answer[name] = figures;
        }
        answer
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_what_was_done() {
        let mut tally = Tally::new().unwrap();
        let now = Instant::now();
        tally.start(now);
        for ms in 1..=100 {
            tally.cycle(Duration::from_millis(ms));
        }
        tally.failed("no_leader");
        tally.end(now + Duration::from_secs(2));
        let figures = tally.json("cycle", 3);
        assert_eq!(figures["cycles"], 100);
        assert_eq!(figures["cyclesPerSecond"], 50.0);
        assert_eq!(figures["errors"]["no_leader"], 1);
        let p99 = figures["cycle"]["p99"].as_u64().unwrap();
        assert!((99_000..99_100).contains(&p99), "{p99}");
        let text = tally.text("cycle", 3);
        assert!(
            text.contains("100 cycles, 50 cycles/s") && text.contains("1 x no_leader"),
            "{text}"
        );
    }
}
