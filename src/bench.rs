//! `evermind bench`: how fast, in a closed loop.

mod cpu;
mod http1;
mod progress;
mod tally;
mod worker;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use crate::connection::Connection;
use crate::exit::{self, Failure};
use crate::{duration, output};
use progress::Progress;
use tally::Tally;
use worker::{Plan, Worker};

/// A node that has hung must not hold up the start.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
/// A wait that began in time may end this much later; then it is cut off.
const OVERTIME_MAX: Duration = Duration::from_secs(20);

/// Shorter ones count nothing but their own beginning.
const DURATION_MIN: Duration = Duration::from_millis(100);
/// The locks of `hold` and `extend` must outlast it, and a lease is a day at most.
const DURATION_MAX: Duration = Duration::from_hours(1);

/// Measure acquires and releases in a closed loop
///
/// Every client has one connection and one request open at a time, and sends the next when the
/// answer is there. What is measured includes this program's own work on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// How many clients at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// For how long; `hold` may be done earlier
    #[arg(long, value_parser = measurable, value_name = "TIME", default_value = "10s")]
    duration: Duration,
    /// How many locks
    /// [default: 10000 for cycle and extend, 1 for contended and fifo, 100000 for hold]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    keys: Option<u64>,
    /// What the clients do
    #[arg(long, value_enum, default_value_t = Workload::Cycle)]
    workload: Workload,
    /// Spread the clients over the nodes; the default is the leader first
    #[arg(long)]
    any_node: bool,
    /// Print JSON; times are in microseconds. No progress is shown meanwhile
    #[arg(long)]
    json: bool,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Acquire and release locks that nobody else wants
    Cycle,
    /// Acquire and release the same few locks, standing in line for them
    Contended,
    /// The same in strict order
    Fifo,
    /// Take many locks, each once, and hold them; they are left to run out
    Hold,
    /// Take locks before the measuring, then extend them round and round; they are left to run out
    Extend,
}

impl Workload {
    fn keys(self) -> u64 {
        match self {
            Workload::Cycle | Workload::Extend => 10_000,
            Workload::Contended | Workload::Fifo => 1,
            Workload::Hold => 100_000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Workload::Cycle => "cycle",
            Workload::Contended => "contended",
            Workload::Fifo => "fifo",
            Workload::Hold => "hold",
            Workload::Extend => "extend",
        }
    }
}

/// Fails if nothing was done, or if anything failed: its figures are of something else then.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    crate::allow_many_connections();
    let tally = crate::single_threaded()?.block_on(measure(args))?;
    let text = if args.json {
        format!("{}\n", tally.json(args.workload.name(), args.clients))
    } else {
        tally.text(args.workload.name(), args.clients)
    };
    output::write(&text)?;
    if tally.is_empty() {
        return Err(nothing_done(tally.main_error()));
    }
    let failed = tally.failures();
    if failed > 0 {
        return Err(some_failed(failed, tally.main_error()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is not one cycle, as far as what failed tells.
fn nothing_done(why: Option<&str>) -> Failure {
    let Some(why) = why else {
        return Failure::new("nothing was done: no request was answered in time")
            .hint("measure for longer, for example --duration 10s")
            .code(exit::UNAVAILABLE);
    };
    let (code, hint) = advice(why);
    Failure::new(format!("nothing was done: {why}"))
        .hint(hint)
        .code(code)
}

/// The figures are out, and some requests are not in them.
fn some_failed(failed: u64, most: Option<&str>) -> Failure {
    let why = most.unwrap_or_default();
    let (code, hint) = advice(why);
    Failure::new(format!("{failed} requests failed, most of them: {why}"))
        .hint(hint)
        .code(code)
}

fn advice(why: &str) -> (u8, &'static str) {
    match why {
        "unauthorized" | "licence_inactive" | "quota_exceeded" => (
            exit::REFUSED,
            "give an API key of an active licence with allowance left: --api-key or EVERMIND_API_KEY",
        ),
        "rate_limited" | "limit_reached" => (
            exit::NOT_ACQUIRED,
            "measure with fewer --clients or --keys, or a cluster without --rate-limit",
        ),
        "lock_held" => (
            exit::NOT_ACQUIRED,
            "give the line more room: fewer --clients, or more --keys",
        ),
        _ => (
            exit::UNAVAILABLE,
            "`evermind cluster` shows whether a majority of nodes is up",
        ),
    }
}

/// A duration that something can be counted in.
fn measurable(text: &str) -> Result<Duration, String> {
    let span = duration::parse(text)?;
    if (DURATION_MIN..=DURATION_MAX).contains(&span) {
        Ok(span)
    } else {
        Err("a measurement takes 100ms to 1h, for example 10s".into())
    }
}

async fn measure(args: &Args) -> Result<Tally, Failure> {
    let targets = targets(args).await?;
    let keys = args.keys.unwrap_or_else(|| args.workload.keys());
    let own_keys = !matches!(args.workload, Workload::Contended | Workload::Fifo);
    if own_keys && keys < u64::from(args.clients) {
        let name = args.workload.name();
        let what = format!("{name} needs at least one of --keys for each of --clients");
        return Err(Failure::usage(what).hint("leave --keys out, or lower --clients"));
    }
    let run = getrandom::u64().map_err(|error| Failure::new(error.to_string()))?;
    let plan = Rc::new(Plan {
        targets,
        api_key: args.connection.api_key()?,
        workload: args.workload,
        clients: u64::from(args.clients),
        keys,
        run,
        spread: args.any_node,
        duration: args.duration,
    });
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let progress = Progress::new(plan.duration, args.json);
    let local = LocalSet::new();
    local.run_until(work(&plan, &tally, &progress)).await;
    progress.clear();
    let mut tally = tally.borrow().clone();
    tally.end(Instant::now());
    Ok(tally)
}

/// Lets every client prepare, and then all of them work.
async fn work(plan: &Rc<Plan>, tally: &Rc<RefCell<Tally>>, progress: &Progress) {
    progress.prepare(match plan.workload {
        Workload::Extend => "taking the locks",
        _ => "connecting",
    });
    let mut workers = JoinSet::new();
    for number in 0..plan.clients {
        let worker = Worker::new(number, Rc::clone(plan), Rc::clone(tally));
        workers.spawn_local(worker.prepare());
    }
    let ready: Vec<Worker> = workers.join_all().await;
    tally.borrow_mut().start(Instant::now());
    let end = Instant::now() + plan.duration;
    let mut followers = JoinSet::new();
    followers.spawn_local(progress.clone().follow(Rc::clone(tally)));
    let mut workers = JoinSet::new();
    for worker in ready {
        workers.spawn_local(worker.run(end));
    }
    let all = async { while workers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(plan.duration + OVERTIME_MAX, all).await;
    workers.abort_all();
    followers.abort_all();
}

/// The nodes as `host:port`, the leader first.
async fn targets(args: &Args) -> Result<Vec<String>, Failure> {
    let client = args.connection.client()?.with_answer_grace(ANSWER_GRACE);
    let mut targets: Vec<String> = Vec::new();
    let mut leader = None;
    let mut trouble = None;
    for endpoint in client.endpoints() {
        match client.cluster(endpoint).await {
            Ok(answer) if answer.value.leader == Some(answer.value.id) => {
                leader = Some(targets.len());
            }
            Ok(_) => {}
            Err(error) => {
                trouble = Some(error);
                continue;
            }
        }
        targets.push(endpoint.host_and_port());
    }
    match (targets.is_empty(), trouble) {
        (true, Some(error)) => return Err(error.into()),
        _ => targets.swap(0, leader.unwrap_or(0)),
    }
    Ok(targets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn durations_have_bounds() {
        assert_eq!(measurable("10s").unwrap(), Duration::from_secs(10));
        assert_eq!(measurable("1h").unwrap(), Duration::from_hours(1));
        for wrong in ["0", "99ms", "61m", "ten"] {
            assert!(measurable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_done_has_a_hint_and_a_code() {
        for (why, code) in [
            (None, exit::UNAVAILABLE),
            (Some("unauthorized"), exit::REFUSED),
            (Some("rate_limited"), exit::NOT_ACQUIRED),
            (Some("lock_held"), exit::NOT_ACQUIRED),
            (Some("cannot connect"), exit::UNAVAILABLE),
        ] {
            for failure in [nothing_done(why), some_failed(7, why)] {
                assert_eq!(failure.code, code, "{why:?}");
                assert!(failure.hint.is_some());
            }
        }
    }
}
