//! Follows who leads: the clock of each term, and where commands go.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};

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
    loop {
        let (route, failed) = {
            let now = metrics.borrow_and_update();
            let term = now.current_term;
            let heard = now
                .last_quorum_acked
                .is_none_or(|at| at.elapsed() < QUORUM_SILENCE_MAX);
            let route = match (now.state, now.current_leader) {
                (ServerState::Leader, _) if heard => Route::Local { term },
                (ServerState::Leader, _) | (_, None) => Route::None,
                (_, Some(leader)) if leader == core.me => Route::None,
                (_, Some(leader)) => Route::Remote { leader, term },
            };
            let leads = (now.state == ServerState::Leader).then_some(term);
            // The clock of a term runs before anything is proposed in it, and goes on through a
            // silence of the quorum: time passed for this leader, whether or not it was heard.
            core.anchor_clock(leads);
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
