//! Plays the table of terminal and signal cases with any command that runs other commands.
//!
//! `terminal-table PREFIX [FILTER] [ROW=REASON…]`: the cluster and the API key come from
//! `EVERMIND_BASE_URL` and `EVERMIND_API_KEY`. Prints the table. Exits with 1 if a row differs from
//! `env` that has no reason, or holds although it has one.

#![allow(clippy::print_stdout, reason = "the table is its output")]

use std::process::ExitCode;

use evermind_harness::terminal::{Runner, measure};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let prefix = words.next().expect("the first word is the prefix");
    let filter = words.next().unwrap_or_default();
    // The table keeps reasons for as long as the process lives.
    let excuses: Vec<(String, &'static str)> = words
        .filter_map(|word| {
            let (row, reason) = word.split_once('=')?;
            Some((row.to_owned(), &*reason.to_owned().leak()))
        })
        .collect();
    let excuses: Vec<(&str, &'static str)> = excuses
        .iter()
        .map(|(row, reason)| (row.as_str(), *reason))
        .collect();
    let env = ["EVERMIND_BASE_URL", "EVERMIND_API_KEY"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    let table = measure(&Runner { prefix, env }, &filter, &excuses);
    println!("{table}");
    if table.surprises().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
