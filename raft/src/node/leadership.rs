//! Follows who leads: the clock of each term, and where commands go.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};

use tokio::time::Instant;

use super::Raft;
use super::core::Core;
use super::route::Route;

/// A leader that no majority answered for this long takes no requests: it says that there is no
/// leader rather than let callers wait for an unknown outcome. Well above the election timeout, so
/// that a busy machine does not refuse what it could serve.
const QUORUM_SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// How often the quorum's silence is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs until consensus stops, and stops the node with it.
pub(crate) async fn run(core: Arc<Core>, raft: Raft) {
    let mut metrics = raft.metrics();
    // The term in which this node leads, and since when it is known to.
    let mut leads: Option<(u64, Instant)> = None;
    loop {
        let (route, failed) = {
            let now = metrics.borrow_and_update();
            let term = now.current_term;
            if now.state != ServerState::Leader {
                leads = None;
            } else if leads.is_none_or(|(since, _)| since != term) {
                leads = Some((term, Instant::now()));
            }
            let began = leads.is_some_and(|(_, since)| since.elapsed() < QUORUM_SILENCE_MAX);
            let acked = now.last_quorum_acked;
            let heard = began || acked.is_some_and(|at| at.elapsed() < QUORUM_SILENCE_MAX);
            let route = match (now.state, now.current_leader) {
                (ServerState::Leader, _) if heard => Route::Local { term },
                (ServerState::Leader, _) | (_, None) => Route::None,
                (_, Some(leader)) if leader == core.me => Route::None,
                (_, Some(leader)) => Route::Remote { leader, term },
            };

            // The clock of a term runs before anything is proposed in it, and goes on through a
            // silence of the quorum: time passed for this leader, whether or not it was heard.
            core.anchor_clock(leads.map(|(term, _)| term));
            (
                route,
                now.running_state.as_ref().err().map(ToString::to_string),
            )
        };
        if let Some(why) = failed {
            core.route.send_replace(Route::None);
            core.stop(format!("consensus stopped: {why}"));
            return;
        }
        core.route.send_if_modified(|current| {
            let changed = *current != route;
            if changed {
                tracing::info!(?route, "the route of commands changed");
                *current = route;
            }
            changed
        });
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_EVERY, metrics.changed()).await {
            core.route.send_replace(Route::None);
            core.stop("consensus stopped".to_owned());
            return;
        }
    }
}
