//! `evermind dev`: a real cluster on this machine, in one command.

mod announce;
mod directory;
mod licence;
mod node;
mod ready;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use evermind_api::Origin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::output;
use crate::serve::RateLimit;
use crate::stderr::say;
use announce::Secrets;
use directory::Directory;
use node::{Ended, Node, Stop};

/// A node ends within 10 s of SIGTERM.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// How long the cluster may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);

/// Run a three-node cluster on this machine, for trying and developing
///
/// The nodes are processes of their own, on loopback: kill one and see what happens. Ctrl-C stops
/// all three.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HTTP on the three ports after this one; the nodes talk to each other on ports 11 to 13 after
    #[arg(long, default_value_t = 7600, value_parser = clap::value_parser!(u16).range(1..=65_522))]
    port: u16,
    /// Keep the nodes' data here, for a later start to go on with; the API key and the admin token
    /// are new at each start, and earlier API keys still work [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How many requests each licence may send to each node, as in 100/s; extend and release are
    /// counted apart, ten times as many [default: no limit]
    #[arg(long, value_name = "N/s")]
    rate_limit: Option<RateLimit>,
    /// Whose pages may call from browsers; * for everyone's; may be given several times [default: nobody's]
    #[arg(long, value_name = "SCHEME://HOST[:PORT],…", value_delimiter = ',')]
    cors_origin: Vec<Origin>,
    /// Print one line of JSON once the cluster is ready, instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the cluster until Ctrl-C.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    node::check_ports(args.port)?;
    let directory = Directory::open(args.data_dir.as_deref())?;
    let key = directory.write_new_key()?;
    let token = directory.write_new_admin_token()?;
    let outcome = crate::single_threaded()?.block_on(cluster(args, &directory, key, token));
    directory.close();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn cluster(
    args: &Args,
    directory: &Directory,
    api_key: String,
    admin_token: String,
) -> Result<(), Failure> {
    let started = Instant::now();
    let failed = |error| Failure::new(format!("cannot listen for signals: {error}"));
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut asked = async || {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    };

    say!(
        "starting three nodes, data in {}",
        directory.path().display()
    );
    let (stop, stopped) = watch::channel(Stop::No);
    let mut nodes = Vec::new();
    let mut running = JoinSet::new();
    for id in 1..=node::COUNT {
        let node = Node::new(id, args.port, args.rate_limit, &args.cors_origin, directory)?;
        let (pid, ending) = node.start(stopped.clone())?;
        running.spawn(ending);
        nodes.push((node, pid));
    }

    let start = async {
        ready::wait(&nodes, &api_key, &admin_token).await?;
        licence::of_dev(&nodes, directory, &admin_token).await
    };
    let ready = tokio::select! {
        ready = tokio::time::timeout(READY_MAX, start) => match ready {
            Ok(ready) => ready,
            Err(_) => Err(Failure::new("the cluster was not ready within 30 s")
                .hint(format!("the nodes' logs are in {}", directory.path().display()))),
        },
        Some(Ok(ended)) = running.join_next() => Err(ended.before_ready(&nodes)),
        () = asked() => {
            leave(&stop, &mut running, asked).await;
            return Ok(());
        }
    };
    let outcome = ready.and_then(|licence_key| {
        say!("ready after {:.1} s", started.elapsed().as_secs_f64());
        let secrets = Secrets {
            api_key,
            licence_key,
            admin_token,
        };
        let text = if args.json {
            announce::json(&nodes, &secrets)?
        } else {
            announce::text(&nodes, &secrets, directory)
        };
        output::write(&text)
    });
    if outcome.is_ok() {
        until(&mut running, &nodes, &mut asked).await;
    }
    leave(&stop, &mut running, asked).await;
    outcome
}

/// Reports each node that ends, until told to stop.
async fn until(running: &mut JoinSet<Ended>, nodes: &[(Node, u32)], asked: &mut impl AsyncFnMut()) {
    loop {
        tokio::select! {
            Some(Ok(ended)) = running.join_next() => ended.report(nodes),
            () = asked() => return,
        }
    }
}

/// Stops the nodes; kills them when the time is up, or at the second signal.
async fn leave(
    stop: &watch::Sender<Stop>,
    running: &mut JoinSet<Ended>,
    mut asked: impl AsyncFnMut(),
) {
    if running.is_empty() {
        return;
    }
    say!("stopping the nodes");
    let _ = stop.send(Stop::Politely);
    let all = async { while running.join_next().await.is_some() {} };
    let in_time = tokio::select! {
        all = tokio::time::timeout(LEAVE_MAX, all) => all.is_ok(),
        () = asked() => false,
    };
    if !in_time {
        say!("killing the nodes that are still there");
        let _ = stop.send(Stop::AtOnce);
        while running.join_next().await.is_some() {}
    }
}
