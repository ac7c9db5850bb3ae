//! What the benchmark counted.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::cpu;
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
    /// From a release sent to the next holder's grant read, where another client was in line.
    hand_offs: Histogram<u64>,
    /// The release of a key that is under way or was the last: when it was sent, and by whom.
    releasing: HashMap<u64, (Instant, u64)>,
    errors: BTreeMap<String, u64>,
    started: Instant,
    cpu_started: Duration,
    /// This program's own.
    cpu: Duration,
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
            hand_offs: histogram()?,
            releasing: HashMap::new(),
            errors: BTreeMap::new(),
            started: now,
            cpu_started: Duration::ZERO,
            cpu: Duration::ZERO,
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
        self.cpu_started = cpu::used();
        self.longest_pause = Duration::ZERO;
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.elapsed = now - self.started;
        self.cpu = cpu::used().saturating_sub(self.cpu_started);
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

    /// A client sends the release of a key that others may be in line for.
    pub(super) fn releases(&mut self, key: u64, client: u64) {
        self.releasing.insert(key, (Instant::now(), client));
    }

    /// A client, in line since `start`, has read that it has the key now. It is a hand-off if it was
    /// in line when another released.
    pub(super) fn granted(&mut self, key: u64, client: u64, start: Instant) {
        if let Some((released, by)) = self.releasing.remove(&key)
            && by != client
            && start < released
        {
            self.hand_offs.saturating_record(micros(released.elapsed()));
        }
    }

    pub(super) fn failed(&mut self, why: &str) {
        *self.errors.entry(why.to_owned()).or_default() += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cycles.is_empty()
    }

    /// How many requests failed.
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// What failed most often.
    pub(super) fn main_error(&self) -> Option<&str> {
        let most = self.errors.iter().max_by_key(|(_, count)| **count);
        most.map(|(why, _)| why.as_str())
    }

    /// How it goes, in a few words.
    pub(super) fn progress(&self, now: Instant) -> String {
        let cycles = self.cycles.len();
        let failed = self.failures();
        let mut text = format!(
            "{cycles} cycles, {:.0}/s, p99 {} ms",
            rate(cycles, now.saturating_duration_since(self.started)),
            ms(self.cycles.value_at_percentile(99.0)),
        );
        if failed > 0 {
            write!(text, ", {failed} failed").expect("writing to a string cannot fail");
        }
        text
    }

    fn per_second(&self) -> f64 {
        rate(self.cycles.len(), self.elapsed)
    }

    /// This program's own, user and system, in µs.
    fn cpu_per_cycle(&self) -> f64 {
        1e6 / rate(self.cycles.len(), self.cpu).max(1e-9)
    }

    fn rows(&self) -> Vec<(&'static str, &Histogram<u64>)> {
        let rows = [
            ("cycle", &self.cycles),
            ("acquire", &self.acquires),
            ("extend", &self.extends),
            ("release", &self.releases),
            ("hand-off", &self.hand_offs),
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
        if !self.is_empty() {
            let cpu = self.cpu_per_cycle();
            writeln!(text, "this program's own CPU: {cpu:.1} µs per cycle")
                .expect("writing to a string cannot fail");
        }
        for (why, count) in &self.errors {
            writeln!(text, "failed: {count} x {why}").expect("writing to a string cannot fail");
        }
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
        if !self.is_empty() {
            answer["cpuPerCycle"] = self.cpu_per_cycle().into();
        }
        for (name, histogram) in self.rows() {
            let name = if name == "hand-off" { "handOff" } else { name };
            let mut figures = json!({ "count": histogram.len(), "max": histogram.max() });
            for (percentile, p) in PERCENTILES {
                figures[percentile] = histogram.value_at_percentile(p).into();
            }
            answer[name] = figures;
        }
        answer
    }
}

#[allow(clippy::cast_precision_loss, reason = "up to 2^53 cycles are exact")]
fn rate(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64().max(1e-9)
}

/// Two decimals: a hundredth of a millisecond is what a loopback answer differs by.
fn ms(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
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

    #[test]
    fn a_hand_off_is_from_a_release_to_who_was_in_line() {
        let mut tally = Tally::new().unwrap();
        let before = Instant::now();
        tally.granted(1, 7, before);
        assert!(tally.hand_offs.is_empty(), "nobody had it");
        tally.releases(1, 7);
        tally.granted(2, 8, before);
        assert!(tally.hand_offs.is_empty(), "another key");
        tally.granted(1, 8, before);
        assert_eq!(tally.hand_offs.len(), 1);
        tally.releases(1, 8);
        tally.granted(1, 8, before);
        assert_eq!(tally.hand_offs.len(), 1, "its own");
        tally.releases(1, 8);
        tally.granted(1, 7, Instant::now() + Duration::from_secs(1));
        assert_eq!(tally.hand_offs.len(), 1, "it came later");
        tally.cycle(Duration::from_millis(1));
        assert_eq!(tally.json("fifo", 2)["handOff"]["count"], 1);
        assert!(tally.text("fifo", 2).contains("hand-off"));
    }

    #[test]
    fn progress_is_told_with_what_failed() {
        let mut tally = Tally::new().unwrap();
        let now = Instant::now();
        tally.start(now);
        let now = now + Duration::from_secs(1);
        assert_eq!(tally.progress(now), "0 cycles, 0/s, p99 0.00 ms");
        tally.cycle(Duration::from_millis(1));
        tally.failed("no_leader");
        assert_eq!(tally.main_error(), Some("no_leader"));
        assert_eq!(tally.progress(now), "1 cycles, 1/s, p99 1.00 ms, 1 failed");
    }
}
