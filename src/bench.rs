//! `evermind bench`: how fast, in a closed loop.

mod http1;
mod tally;
mod worker;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use crate::connection::Connection;
use crate::exit::Failure;
use crate::{duration, output};
use tally::Tally;
use worker::{Plan, Worker};

/// A node that has hung must not hold up the start.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
/// A wait that began in time may end this much later; then it is cut off.
const OVERTIME_MAX: Duration = Duration::from_secs(20);

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
    /// For how long
    #[arg(long, value_parser = duration::parse, value_name = "TIME", default_value = "10s")]
    duration: Duration,
    /// How many locks [default: 10000 for cycle, 1 for contended and fifo, 100000 for hold]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    keys: Option<u64>,
    /// What the clients do
    #[arg(long, value_enum, default_value_t = Workload::Cycle)]
    workload: Workload,
    /// Spread the clients over the nodes; the default is the leader first
    #[arg(long)]
    any_node: bool,
    /// Print JSON; times are in microseconds
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
    /// Take many locks once, then extend them round and round; they are left to run out
    Hold,
}

impl Workload {
    fn keys(self) -> u64 {
        match self {
            Workload::Cycle => 10_000,
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
        }
    }
}

/// Fails if nothing was done.
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
        return Err(Failure::new("nothing was done: every request failed")
            .hint("`evermind cluster` shows whether the cluster is up and the key is right")
            .code(crate::exit::UNAVAILABLE));
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &Args) -> Result<Tally, Failure> {
    let targets = targets(args).await?;
    let keys = args.keys.unwrap_or_else(|| args.workload.keys());
    if args.workload == Workload::Hold && keys < u64::from(args.clients) {
        return Err(
            Failure::usage("hold needs at least one of --keys for each of --clients")
                .hint("leave --keys out, or lower --clients"),
        );
    }
    let run = getrandom::u64().map_err(|error| Failure::new(error.to_string()))?;
    let plan = Rc::new(Plan {
        targets,
        api_key: args.connection.api_key()?.to_owned(),
        workload: args.workload,
        clients: u64::from(args.clients),
        keys,
        run,
        spread: args.any_node,
        duration: args.duration,
    });
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let local = LocalSet::new();
    let work = local.run_until(async {
        let mut workers = JoinSet::new();
        for number in 0..plan.clients {
            let worker = Worker::new(number, Rc::clone(&plan), Rc::clone(&tally));
            workers.spawn_local(worker.prepare());
        }
        let ready: Vec<Worker> = workers.join_all().await;
        tally.borrow_mut().start(Instant::now());
        let end = Instant::now() + plan.duration;
        let mut workers = JoinSet::new();
        for worker in ready {
            workers.spawn_local(worker.run(end));
        }
        let all = async { while workers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(plan.duration + OVERTIME_MAX, all).await;
        workers.abort_all();
    });
    work.await;
    let mut tally = tally.borrow().clone();
    tally.end(Instant::now());
    Ok(tally)
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
