//! `evermind serve`: one node of a cluster.

mod config;
mod files;
mod listener;
mod logging;
mod plan;
mod rate;
mod settings;
mod space;
mod stop;

use std::process::ExitCode;

use evermind_api::{Access, App, Limits};
use evermind_raft::node::{LogKept, Node, NodeConfig};

use crate::exit::Failure;

pub(crate) use plan::{BOOTSTRAP_IDENTITY, Plan};
pub(crate) use rate::RateLimit;
pub(crate) use settings::Settings;
#[cfg(test)]
pub(crate) use settings::api_key as check_api_key;

/// Run one node of a cluster
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every flag may also be given as a variable (--node-id as EVERMIND_NODE_ID, --log-level\n\
    as EVERMIND_LOG too), or in the TOML file of --config (node-id = 1). A flag wins over a\n\
    variable, a variable over the file.\n\n\
    A cluster of three on three machines, on each with its own --node-id:\n  \
    evermind serve --node-id 1 --data-dir /var/lib/evermind \\\n    \
    --listen 0.0.0.0:7600 --peer-listen 0.0.0.0:7610 \\\n    \
    --initial-cluster 1=n1:7610,2=n2:7610,3=n3:7610 \\\n    \
    --cluster-secret-file /etc/evermind/secret --bootstrap-api-key-file /etc/evermind/key \\\n    \
    --admin-token-file /etc/evermind/admin-token"
)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// A TOML file with the settings above, under the flags' names
    #[arg(long, env = "EVERMIND_CONFIG", value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Stop at once when stdin closes: how `evermind dev` takes its nodes with it, however it ends
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    /// Make snapshots sooner than usual: for tests
    #[arg(long, hide = true, value_name = "BYTES", default_value_t = LogKept::default().bytes)]
    log_bytes_kept: u64,
    /// Send snapshots sooner than usual: for tests
    #[arg(long, hide = true, value_name = "ENTRIES", default_value_t = LogKept::default().entries)]
    log_entries_kept: u64,
}

/// Runs the node until it is told to stop, or must.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let plan = Plan::new(config::layered(args.settings, args.config.as_deref())?)?;
    logging::start(plan.log_format, &plan.log_level)?;
    if args.stop_with_stdin {
        stop::with_stdin();
    }
    for warning in config::unknown_variables() {
        tracing::warn!("{warning}");
    }
    let connections_max = files::connections_max(crate::allow_many_connections())?;
    let log_kept = LogKept {
        bytes: args.log_bytes_kept,
        entries: args.log_entries_kept,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(plan.worker_threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the async runtime: {error}")))?;
    let outcome = runtime.block_on(serve(plan, log_kept, connections_max));
    // Nothing left on the runtime matters any more: what was acknowledged is on disk.
    runtime.shutdown_background();
    outcome
}

async fn serve(plan: Plan, log_kept: LogKept, connections_max: usize) -> Result<ExitCode, Failure> {
    let mut stop = stop::Signals::new()?;
    let listener = listener::for_callers("--listen", &plan.listen).await?;
    let peer_listener = listener::bind("--peer-listen", &plan.peer_listen).await?;
    let addresses = plan.addresses(
        listener
            .local_addr()
            .map_err(|error| Failure::new(error.to_string()))?,
        peer_listener
            .local_addr()
            .map_err(|error| Failure::new(error.to_string()))?,
    )?;
    tracing::info!(
        node_id = plan.node_id,
        data_dir = %plan.data_dir.display(),
        http = %addresses.advertise_http,
        peer = %addresses.advertise_peer,
        version = env!("CARGO_PKG_VERSION"),
        connections_max,
        "starting"
    );
    let space = space::watch(plan.data_dir.clone());
    let config = NodeConfig {
        node_id: plan.node_id,
        data_dir: plan.data_dir,
        peer_listener: Box::new(peer_listener),
        advertise_peer: addresses.advertise_peer,
        advertise_http: addresses.advertise_http,
        initial_cluster: plan.initial_cluster,
        cluster_secret: plan.cluster_secret,
        global_prefix: plan.global_prefix,
        bootstrap_key: plan.bootstrap_key,
        log_kept,
    };
    let node = tokio::select! {
        node = Node::start(config) => node.map_err(|error| {
            Failure::new(format!("the node cannot start: {error}"))
                .hint("the message names what stands in the way; nothing was changed on other nodes")
        })?,
        () = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    tracing::info!("serving");
    tokio::spawn(space);
    let limits = Limits {
        licence_requests_per_second: plan.rate_limit.map(|limit| limit.0),
        connections_max,
        ..Limits::default()
    };
    let access = Access {
        admin: plan.admin_token,
        origins: plan.cors_origins,
    };
    let app = App::new(node.clone(), limits, access);
    let mut edge = tokio::spawn(evermind_api::serve(listener, app, async {
        let _ = closed.await;
    }));
    tokio::select! {
        () = stop.asked() => {}
        why = node.stopped() => {
            return Err(Failure::new(format!("the node has stopped: {why}"))
                .hint("it must not go on with what it has; its log says what happened before"));
        }
        ended = &mut edge => {
            let why = ended.map_or_else(|error| error.to_string(), |()| "nobody asked it to".to_owned());
            return Err(Failure::new(format!("the HTTP server has ended: {why}"))
                .hint("the node stops with it, so that its peers take over"));
        }
    }
    stop::leave_anyway();
    tracing::info!("stopping: leadership is handed over, then open requests are finished");
    let leave = async {
        node.hand_over().await;
        let _ = close.send(());
        let _ = edge.await;
        node.shutdown().await;
    };
    tokio::select! {
        outcome = tokio::time::timeout(stop::LEAVE_MAX, leave) => {
            if outcome.is_ok() {
                tracing::info!("stopped");
            } else {
                tracing::warn!("stopped with requests still open: 10 s are over");
            }
        }
        () = stop.asked() => tracing::warn!("stopped at once, at the second signal"),
    }
    Ok(ExitCode::SUCCESS)
}
