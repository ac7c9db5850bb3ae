//! The matrix as a table for people and as JSON.

use std::fmt::Write as _;

use serde_json::json;

use crate::matrix::{Row, WAITING};
use crate::outcome::{Outcome, Result};

/// Columns: heading, and whether its values stand at the right.
const COLUMNS: [(&str, bool); 12] = [
    ("row", true),
    ("fault", false),
    ("runs", true),
    ("observed/injected", true),
    ("observed effect", false),
    ("operations", true),
    ("ambiguous: had effect/none", true),
    ("violations", true),
    ("undecided", true),
    ("longest gap", true),
    ("served after", true),
    ("result", false),
];

/// As many accounts as are shown of one row.
const WHYS_SHOWN: usize = 12;

/// The table, and a line below it that says it all.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let by_row = by_row(outcomes);
    let mut rows: Vec<[String; COLUMNS.len()]> = by_row.iter().map(cells).collect();
    for waiting in WAITING {
        let mut row = [const { String::new() }; COLUMNS.len()];
        row[0] = waiting.number.to_string();
        waiting.fault.clone_into(&mut row[1]);
        row[11] = format!("waits for {}", waiting.waits_for);
        rows.push(row);
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(COLUMNS[column].0.len())
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = line(&COLUMNS.map(|(heading, _)| heading.to_owned()), &widths);
    for row in &rows {
        text.push_str(&line(row, &widths));
    }
    for outcome in by_row.iter().filter(|o| !o.why.is_empty()) {
        let _ = writeln!(text, "\nrow {}, {}:", outcome.row, outcome.fault);
        for why in outcome.why.iter().take(WHYS_SHOWN) {
            let _ = writeln!(text, "  {why}");
        }
        if outcome.result == Result::Failed {
            let _ = writeln!(text, "  again: cargo xtask faults --row {}", outcome.row);
        }
        for kept in &outcome.kept {
            let _ = writeln!(text, "  kept in {kept}");
        }
    }
    text.push('\n');
    text.push_str(&claim(outcomes));
    text
}

/// The rows and what is injected in each, and those that wait.
pub(crate) fn list(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let bounded = if row.setup.ci_seconds.is_some() {
            "  (--ci)"
        } else {
            ""
        };
        let _ = writeln!(text, "{:>3}  {}{bounded}", row.number, row.fault);
    }
    for row in WAITING {
        let _ = writeln!(
            text,
            "{:>3}  {}: waits for {}",
            row.number, row.fault, row.waits_for
        );
    }
    text
}

/// One outcome for each row, in the order of their first runs.
fn by_row(outcomes: &[Outcome]) -> Vec<Outcome> {
    let mut rows: Vec<Outcome> = Vec::new();
    for outcome in outcomes {
        match rows.iter_mut().find(|row| row.row == outcome.row) {
            Some(row) => row.add(outcome),
            None => rows.push(outcome.clone()),
        }
    }
    rows
}

/// What was shown, with its figures.
fn claim(outcomes: &[Outcome]) -> String {
    let controls = outcomes
        .iter()
        .filter(|o| o.result == Result::FailedAsItMust)
        .count();
    let counted: Vec<&Outcome> = outcomes
        .iter()
        .filter(|o| o.result != Result::FailedAsItMust)
        .collect();
    let sum = |of: fn(&Outcome) -> u64| counted.iter().map(|outcome| of(outcome)).sum::<u64>();
    let mut classes: Vec<u32> = counted.iter().map(|outcome| outcome.row).collect();
    classes.sort_unstable();
    classes.dedup();
    let failed = counted
        .iter()
        .filter(|o| o.result == Result::Failed)
        .count();
    format!(
        "{} faults with observed effect ({} classes), {} operations checked ({} ambiguous: by the log \
         {} of them took effect, {} did not), {} violations, {} undecided; {} requests were sent again; \
         {} s without a fault, in which everything had to be in time; {failed} of {} runs failed; {controls} negative \
         controls failed as they must\n",
        sum(|o| if o.row == 1 { 0 } else { o.observed }),
        classes.iter().filter(|row| **row != 1).count(),
        sum(|o| o.operations),
        sum(|o| o.ambiguous),
        sum(|o| o.took_effect),
        sum(|o| o.without_effect),
        sum(|o| o.violations as u64),
        sum(|o| o.undecided as u64),
        sum(|o| o.retries),
        sum(|o| o.calm_ms) / 1_000,
        counted.len(),
    )
}

/// Everything, for machines.
pub(crate) fn json(outcomes: &[Outcome]) -> String {
    let waiting: Vec<_> = WAITING
        .iter()
        .map(|row| json!({"row": row.number, "fault": row.fault, "waits_for": row.waits_for}))
        .collect();
    let all = json!({ "runs": outcomes, "waiting": waiting });
    serde_json::to_string_pretty(&all).expect("plain values") + "\n"
}

fn cells(outcome: &Outcome) -> [String; COLUMNS.len()] {
    let effects: Vec<String> = outcome
        .effects
        .iter()
        .map(|(what, times)| format!("{what}: {times}"))
        .chain(outcome.notes.iter().cloned())
        .collect();
    let result = match outcome.result {
        Result::Passed => "passed",
        Result::Failed => "FAILED",
        Result::FailedAsItMust => "failed as it must",
    };
    [
        outcome.row.to_string(),
        outcome.fault.to_owned(),
        outcome.runs.to_string(),
        format!("{}/{}", outcome.observed, outcome.injected),
        effects.join(", "),
        outcome.operations.to_string(),
        format!(
            "{}: {}/{}",
            outcome.ambiguous, outcome.took_effect, outcome.without_effect
        ),
        outcome.violations.to_string(),
        outcome.undecided.to_string(),
        format!("{} ms", outcome.longest_gap_ms),
        format!("{} ms", outcome.served_after_ms),
        result.to_owned(),
    ]
}

fn line(cells: &[String; COLUMNS.len()], widths: &[usize]) -> String {
    let mut text = String::new();
    for ((cell, width), (_, right)) in cells.iter().zip(widths).zip(COLUMNS) {
        if right {
            let _ = write!(text, "{cell:>width$}  ");
        } else {
            let _ = write!(text, "{cell:<width$}  ");
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(row: u32, result: Result) -> Outcome {
        Outcome {
            row,
            fault: "a fault",
            runs: 1,
            injected: 3,
            observed: 2,
            effects: vec![("terms changed", 3)],
            notes: Vec::new(),
            operations: 10,
            ambiguous: 1,
            resolved: 1,
            took_effect: 1,
            without_effect: 0,
            windows: 0,
            live_views: 0,
            retries: 0,
            calm_ms: 0,
            violations: 0,
            undecided: 0,
            longest_gap_ms: 5,
            served_after_ms: 7,
            took_s: 1,
            result,
            why: Vec::new(),
            kept: Vec::new(),
        }
    }

    #[test]
    fn runs_of_a_row_add_up_and_one_failure_is_enough() {
        let runs = [outcome(2, Result::Passed), outcome(2, Result::Failed)];
        let text = table(&runs);
        assert!(text.contains("terms changed: 6"), "{text}");
        assert!(text.contains("4/6"), "{text}");
        assert!(text.contains("FAILED"), "{text}");
        assert!(
            text.contains("4 faults with observed effect (1 classes), 20 operations"),
            "{text}"
        );
        assert!(text.contains("1 of 2 runs failed"), "{text}");
    }

    #[test]
    fn a_negative_control_counts_apart() {
        let runs = [
            outcome(2, Result::Passed),
            outcome(26, Result::FailedAsItMust),
        ];
        let text = table(&runs);
        assert!(
            text.contains("2 faults with observed effect (1 classes)"),
            "{text}"
        );
        assert!(
            text.contains("1 negative controls failed as they must"),
            "{text}"
        );
    }
}
