//! What `cargo xtask test` says at its end: a table, then one plain line of counts.

use std::fmt::Write as _;
use std::time::Duration;

/// How one stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ran and found nothing wrong.
    Passed,
    /// It ran and found something wrong, or could not run to its end.
    Failed,
    /// A program it needs is not on this machine.
    Skipped,
    /// Something of the network it needs could not be reached.
    Unreachable,
}

/// One line of the table.
struct Row {
    stage: &'static str,
    verdict: Verdict,
    took: Duration,
    note: String,
}

/// The table, filled stage by stage.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds the end of one stage. Only the note's first line goes into the table.
    pub(crate) fn add(
        &mut self,
        stage: &'static str,
        verdict: Verdict,
        took: Duration,
        note: &str,
    ) {
        let note = note.lines().next().unwrap_or_default().to_owned();
        self.rows.push(Row {
            stage,
            verdict,
            took,
            note,
        });
    }

    /// Whether nothing failed; with `strict`, whether nothing was skipped either.
    pub(crate) fn is_good(&self, strict: bool) -> bool {
        self.count(Verdict::Failed) == 0 && (!strict || self.count(Verdict::Skipped) == 0)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows
            .iter()
            .filter(|row| row.verdict == verdict)
            .count()
    }

    /// The table and the closing line.
    pub(crate) fn text(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|row| row.stage.len())
            .max()
            .unwrap_or(0)
            .max(5);
        let mut text = format!("\n{:width$}  {:11}  seconds\n", "stage", "result");
        for row in &self.rows {
            let result = match row.verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "FAILED",
                Verdict::Skipped => "skipped",
                Verdict::Unreachable => "unreachable",
            };
            let seconds = row.took.as_secs_f64();
            let line = format!(
                "{:width$}  {result:11}  {seconds:7.1}  {}",
                row.stage, row.note
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let total: Duration = self.rows.iter().map(|row| row.took).sum();
        let _ = writeln!(
            text,
            "{:width$}  {:11}  {:7.1}",
            "all",
            "",
            total.as_secs_f64()
        );
        let _ = write!(
            text,
            "\nstages: {} passed, {} failed, {} skipped",
            self.count(Verdict::Passed),
            self.count(Verdict::Failed),
            self.count(Verdict::Skipped)
        );
        match self.count(Verdict::Unreachable) {
            0 => {}
            count => {
                let _ = write!(text, ", {count} unreachable");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[(&'static str, Verdict)]) -> Report {
        let mut report = Report::default();
        for &(stage, verdict) in verdicts {
            report.add(stage, verdict, Duration::from_millis(1500), "first\nsecond");
        }
        report
    }

    #[test]
    fn a_skip_is_bad_only_where_nothing_may_be_skipped() {
        let skipped = report(&[("lint", Verdict::Passed), ("deny", Verdict::Skipped)]);
        assert!(skipped.is_good(false));
        assert!(!skipped.is_good(true));
    }

    #[test]
    fn a_failure_is_always_bad_and_an_unreachable_database_never() {
        assert!(!report(&[("lint", Verdict::Failed)]).is_good(false));
        assert!(report(&[("advisories", Verdict::Unreachable)]).is_good(true));
    }

    #[test]
    fn the_table_ends_in_one_line_of_counts() {
        let text = report(&[
            ("lint", Verdict::Passed),
            ("advisories", Verdict::Unreachable),
            ("deny", Verdict::Skipped),
        ])
        .text();
        assert_eq!(
            text,
            "\nstage       result       seconds\n\
             lint        passed           1.5  first\n\
             advisories  unreachable      1.5  first\n\
             deny        skipped          1.5  first\n\
             all                          4.5\n\
             \nstages: 1 passed, 0 failed, 1 skipped, 1 unreachable"
        );
    }
}
