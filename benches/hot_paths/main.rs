//! What runs for every entry, measured two ways from one list of cases: time by criterion, and
//! instructions by callgrind, which a busy machine does not change.
//!
//! `cargo bench -p evermind-raft --bench hot_paths` times; `cargo xtask counts` counts and compares with
//! benches/counts.toml. See docs/benchmarks.md.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

mod log;
mod meter;
mod peer;
mod table;

use criterion::{Criterion, Throughput};

use meter::{Case, Meter};

/// Every measured call does its thing this many times: a batch as a busy node has them.
const BATCH: u64 = 64;
/// Rounds before the one that is counted: buffers have grown, code has run once.
const WARM_ROUNDS: u32 = 3;

fn cases() -> Vec<Case> {
    [table::CASES, log::CASES, peer::CASES].concat()
}

/// `--list-cases` prints the names, `--count NAME` runs one case for callgrind; anything else is
/// criterion's.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--list-cases"] => {
            for case in cases() {
                println!("{}", case.name);
            }
        }
        ["--count", name] => count(name),
        _ => time(),
    }
}

fn count(name: &str) {
    let cases = cases();
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        eprintln!("error: no case {name}\nhint: --list-cases prints what there is");
        std::process::exit(2);
    };
    let mut round = (case.prepare)();
    for _ in 0..WARM_ROUNDS {
        round(&mut Meter::Off);
    }
    round(&mut Meter::Instructions);
}

fn time() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases() {
        let (group, name) = case.name.split_once('/').unwrap();
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(BATCH));
        let mut round = None;
        group.bench_function(name, |bencher| {
            // Prepared only where a filter lets it run.
            let round = round.get_or_insert_with(case.prepare);
            bencher.iter_custom(|rounds| {
                let mut meter = Meter::time();
                for _ in 0..rounds {
                    round(&mut meter);
                }
                meter.elapsed()
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
