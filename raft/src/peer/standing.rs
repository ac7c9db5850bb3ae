//! A connection that is made again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use evermind_lock::command::NodeId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Task;
use super::endpoint::Endpoint;
use super::lane::{Lane, dial};

/// A connection that lasted this long was a good one: the next dial does not wait.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// What is complained of, whatever the purpose and the reason.
const UNREACHABLE: &str = "unreachable";

enum State<L> {
    /// Being dialed for the first time, or again right after a good connection was lost.
    Connecting,
    Up(Arc<L>),
    /// The last dial failed; the next one comes.
    Down(Arc<str>),
}

/// The dialed connection of one purpose to one peer.
pub(super) struct Standing<L: Lane> {
    state: watch::Receiver<State<L>>,
    _task: Task,
}

impl<L: Lane> Standing<L> {
    /// Starts to dial.
    pub(super) fn start(endpoint: Arc<Endpoint>, node: NodeId) -> Self {
        let (sender, state) = watch::channel(State::Connecting);
        Self {
            state,
            _task: Task::spawn(keep(endpoint, node, sender)),
        }
    }

    /// The connection. Fails at once, with the reason, while the peer cannot be reached; waits up
    /// to `within` only where no dial has failed yet.
    pub(super) async fn ready(&self, within: Duration) -> Result<Arc<L>, Arc<str>> {
        if let State::Up(lane) = &*self.state.borrow() {
            return Ok(lane.clone());
        }
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting));
        match timeout(within, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Up(lane) => Ok(lane.clone()),
                State::Down(reason) => Err(reason.clone()),
                State::Connecting => Err("connecting".into()),
            },
            Ok(Err(_)) => Err("this node is stopping".into()),
            Err(_) => Err(format!("no connection within {within:?}").into()),
        }
    }
}

async fn keep<L: Lane>(endpoint: Arc<Endpoint>, node: NodeId, state: watch::Sender<State<L>>) {
    let config = &endpoint.config;
    let mut wait = config.redial_min;
    loop {
        let reason: Arc<str> = match dial::<L>(&endpoint, node).await {
            Ok(dialed) => {
                let since = Instant::now();
                tracing::debug!(node, purpose = %L::PURPOSE, "connected to peer");
                state.send_replace(State::Up(dialed.lane.clone()));
                if endpoint.complaints.over(node, UNREACHABLE) {
                    tracing::info!(node, "peer is reached again");
                }
                let error = dialed.run(config).await;
                tracing::debug!(node, purpose = %L::PURPOSE, %error, "connection to peer lost");
                if since.elapsed() >= GOOD_AFTER {
                    wait = config.redial_min;
                    state.send_replace(State::Connecting);
                    continue;
                }
                error.to_string().into()
            }
            Err(error) => error.to_string().into(),
        };
        if endpoint.complaints.may(node, UNREACHABLE) {
            tracing::warn!(node, %reason, "cannot reach peer");
        }
        state.send_replace(State::Down(reason));
        sleep(wait).await;
        wait = (wait * 2).min(config.redial_max);
    }
}
