//! The tables, as they go into docs/performance.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::figures::{Sample, Spread, ratio};
use crate::systems::Kind;

/// A column: its head, and how its cell is made of a figure.
type Column = (&'static str, fn(&Sample) -> f64, fn(f64) -> String);

const COLUMNS: [Column; 8] = [
    ("cycles/s", |sample| sample.cycles_per_second, whole),
    ("acquire p50 ms", |sample| ms(sample.acquire_p50), fine),
    ("acquire p99 ms", |sample| ms(sample.acquire_p99), fine),
    ("release p50 ms", |sample| ms(sample.release_p50), fine),
    ("release p99 ms", |sample| ms(sample.release_p99), fine),
    (
        "server CPU s per 1,000",
        |sample| sample.server_cpu_seconds_per_1000,
        finer,
    ),
    (
        "client CPU s per 1,000",
        |sample| sample.client_cpu_seconds_per_1000,
        finer,
    ),
    ("leader MB", |sample| sample.leader_peak_mb, whole),
];

/// One line while it runs.
pub(crate) fn progress(sample: &Sample, rounds: u32) -> String {
    let mut line = format!(
        "round {}/{rounds}  {:18} {:>4} clients  {:>8} cycles/s  acquire {} / {} ms",
        sample.round,
        sample.system.name(),
        sample.clients,
        whole(sample.cycles_per_second),
        fine(ms(sample.acquire_p50)),
        fine(ms(sample.acquire_p99)),
    );
    for (why, count) in &sample.failures {
        let _ = write!(line, "  FAILED {count} x {why}");
    }
    line
}

/// Everything, as Markdown.
pub(crate) fn text(
    kinds: &[Kind],
    clients: &[u32],
    samples: &[Sample],
    versions: &BTreeMap<&str, String>,
) -> String {
    let mut text = String::new();
    for &count in clients {
        let heading = if count == 1 {
            "1 client".to_owned()
        } else {
            format!("{count} clients")
        };
        let _ = writeln!(text, "{heading}: median (min–max)\n");
        text += &figures(kinds, count, samples);
        text.push('\n');
    }
    for above in [Kind::Evermind, Kind::Limit] {
        if kinds.contains(&above) && kinds.len() > 1 {
            let _ = writeln!(
                text,
                "{} ÷ others, cycles/s: median (min–max)\n",
                above.title()
            );
            text += &ratios(kinds, clients, samples, above);
            text.push('\n');
        }
    }
    let versions: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("{name}: {version}"))
        .collect();
    let _ = writeln!(text, "{}", versions.join("; "));
    for sample in samples {
        for (why, count) in &sample.failures {
            let (name, clients, round) = (sample.system.name(), sample.clients, sample.round);
            let _ = writeln!(
                text,
                "failed: {name}, {clients} clients, round {round}: {count} x {why}"
            );
        }
    }
    text
}

fn figures(kinds: &[Kind], clients: u32, samples: &[Sample]) -> String {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(COLUMNS.iter().map(|(head, ..)| (*head).to_owned()));
    for &kind in kinds {
        let mut row = vec![kind.title().to_owned()];
        for (_, figure, show) in COLUMNS {
            let of_kind = samples
                .iter()
                .filter(|sample| sample.system == kind && sample.clients == clients);
            row.push(cell(Spread::of(of_kind.map(figure)), show));
        }
        rows.push(row);
    }
    markdown(&rows)
}

fn ratios(kinds: &[Kind], clients: &[u32], samples: &[Sample], above: Kind) -> String {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(clients.iter().map(|count| format!("C={count}")));
    for &below in kinds.iter().filter(|kind| **kind != above) {
        let mut row = vec![below.title().to_owned()];
        for &count in clients {
            row.push(cell(ratio(samples, count, above, below), fine));
        }
        rows.push(row);
    }
    markdown(&rows)
}

fn cell(spread: Option<Spread>, show: fn(f64) -> String) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { median, min, max }) => match [median, min, max].map(show) {
            [median, min, max] if min == max => median,
            [median, min, max] => format!("{median} ({min}–{max})"),
        },
    }
}

/// A table, its first row the head.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows[0].len();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if column == 0 {
                write!(text, "| {cell:width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                let colon = if column == 0 { '-' } else { ':' };
                let _ = write!(text, "| {dashes}{colon}");
            }
            text.push_str("|\n");
        }
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "a minute has 6e7 microseconds")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// `12,345`
fn whole(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn fine(figure: f64) -> String {
    format!("{figure:.2}")
}

fn finer(figure: f64) -> String {
    format!("{figure:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::sample;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(whole(999.6), "1,000");
        assert_eq!(whole(1_234_567.0), "1,234,567");
        assert_eq!(whole(12.0), "12");
        assert_eq!(fine(ms(265)), "0.27");
    }

    #[test]
    fn the_tables_hold_every_system_and_every_failure() {
        let kinds = [Kind::Evermind, Kind::Limit, Kind::Redlock];
        let mut samples = vec![
            sample(Kind::Evermind, 1, 1500.0),
            sample(Kind::Evermind, 2, 1700.0),
            sample(Kind::Limit, 1, 3000.0),
            sample(Kind::Limit, 2, 3400.0),
        ];
        samples[1].failures.insert("acquire: no".into(), 3);
        let text = text(
            &kinds,
            &[8],
            &samples,
            &BTreeMap::from([("Linux", "6.1".into())]),
        );
        assert!(text.contains("1,600 (1,500–1,700)"), "{text}");
        assert!(text.contains(" 0.50 |"), "{text}");
        assert!(text.contains("Redlock, appendfsync always |"), "{text}");
        assert!(text.contains("Linux: 6.1"), "{text}");
        assert!(
            text.contains("failed: evermind, 8 clients, round 2: 3 x acquire: no"),
            "{text}"
        );
    }
}
