//! The fault matrix: real `evermind serve` processes, real faults, and a check of what their clients
//! saw against what a lock server may answer.

mod archive;
mod caller;
mod calm;
mod checks;
mod cleanup;
mod cluster;
mod image;
mod lan;
mod link;
mod load;
mod matrix;
mod outcome;
mod random;
mod report;
mod reset;
mod rows;
mod run;
mod scene;
mod setup;
mod store;
mod tally;
mod time;
mod tool;
mod trace;
mod watch;
mod worker;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::matrix::{ROWS, Row};
use crate::outcome::{Outcome, Result};

/// Injects the faults of the matrix, and prints what came of them
#[derive(Debug, Parser)]
struct Cli {
    /// Only this row; may be given several times
    #[arg(long, value_name = "N")]
    row: Vec<u32>,
    /// Goes through the rows again and again until this time is used up
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// The bounded set, for continuous integration
    #[arg(long)]
    ci: bool,
    /// JSON on standard output instead of the table
    #[arg(long)]
    json: bool,
    /// Prints the rows and runs none
    #[arg(long)]
    list: bool,
    /// Where runs work, and where failed ones and the report are kept
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    dir: PathBuf,
    /// Is the client of row 8 instead: holds this lock and writes
    #[arg(long, hide = true, value_name = "KEY", requires = "at")]
    hold: Option<String>,
    /// Where that client's node is
    #[arg(long, hide = true, value_name = "HOST:PORT")]
    at: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let (Some(key), Some(at)) = (&cli.hold, &cli.at) {
        rows::pause::hold(key, at);
        return ExitCode::SUCCESS;
    }
    let rows = match chosen(&cli) {
        Ok(rows) => rows,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    if cli.list {
        print!("{}", report::list(&rows));
        return ExitCode::SUCCESS;
    }
    // A row that fails says so by panicking, and is told in the report: here a line is enough.
    std::panic::set_hook(Box::new(|panic| eprintln!("   {panic}")));
    cleanup::on_signals();
    fs::create_dir_all(&cli.dir).expect("a directory for the runs");
    let dir = fs::canonicalize(&cli.dir).expect("it was made");
    let ends = cli
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut lap = 0;
    loop {
        lap += 1;
        for row in &rows {
            if ends.is_some_and(|ends| lap > 1 && Instant::now() >= ends) {
                break;
            }
            outcomes.push(one(&cli, row, &dir, lap));
            // After each run: what a long one has shown is not lost with it.
            let path = dir.join("report.json");
            if let Err(error) = fs::write(&path, report::json(&outcomes)) {
                eprintln!("error: {}: {error}", path.display());
            }
        }
        if ends.is_none_or(|ends| Instant::now() >= ends) {
            break;
        }
    }
    if cli.json {
        print!("{}", report::json(&outcomes));
    } else {
        print!("{}", report::table(&outcomes));
    }
    let failed = outcomes.iter().any(|o| o.result == Result::Failed);
    ExitCode::from(u8::from(failed))
}

/// One run, with its progress on standard error.
fn one(cli: &Cli, row: &Row, dir: &std::path::Path, lap: u64) -> Outcome {
    let seconds = match row.setup.ci_seconds {
        Some(seconds) if cli.ci => seconds,
        _ => row.setup.seconds,
    };
    let dir = dir.join(format!("{}-row-{}-{lap}", std::process::id(), row.number));
    eprintln!("== row {}: {} ({seconds} s)", row.number, row.fault);
    let mut outcome = run::run(row, seconds, &dir, lap);
    if outcome.result == Result::Failed {
        outcome.kept.push(dir.display().to_string());
    }
    eprintln!(
        "== row {}: {:?} after {} s, {} faults, {} operations{}",
        row.number,
        outcome.result,
        outcome.took_s,
        outcome.injected,
        outcome.operations,
        outcome
            .why
            .iter()
            .fold(String::new(), |text, why| format!("{text}\n   {why}"))
    );
    outcome
}

fn chosen(cli: &Cli) -> std::result::Result<Vec<Row>, String> {
    if let Some(unknown) = cli
        .row
        .iter()
        .find(|n| !ROWS.iter().any(|r| r.number == **n))
    {
        let waits = matrix::WAITING.iter().find(|row| row.number == *unknown);
        return Err(if let Some(row) = waits {
            format!("row {unknown} ({}) waits for {}", row.fault, row.waits_for)
        } else {
            let known: Vec<String> = ROWS.iter().map(|row| row.number.to_string()).collect();
            format!(
                "there is no row {unknown}\nhint: the rows are {}",
                known.join(", ")
            )
        });
    }
    let wanted = |row: &&Row| {
        let named = cli.row.is_empty() || cli.row.contains(&row.number);
        named && (!cli.ci || row.setup.ci_seconds.is_some())
    };
    Ok(ROWS.iter().filter(wanted).copied().collect())
}
