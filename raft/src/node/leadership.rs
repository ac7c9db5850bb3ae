//! Follows who leads: the clock of each term, and where commands go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};

use tokio::time::Instant;

use super::Raft;
use super::core::Core;
use super::route::Route;
use crate::peer::PeerClient;

/// A leader that no majority answered for this long takes no requests, and one that was not heard
/// for this long gets none: there is no leader then, which is better said than left to an unknown
/// outcome. Well above the election timeout, so
/// that a busy machine does not refuse what it could serve.
const QUORUM_SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// How often it is looked whether a silence has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs until consensus stops, and stops the node with it.
pub(crate) async fn run(core: Arc<Core>, raft: Raft, peers: PeerClient) {
    let mut metrics = raft.metrics();
    // Who leads, and in which term: what is waited for, because the metrics change with every entry.
    let mut office = raft.server_metrics();
    // The term in which this node leads, and since when it is known to.
    let mut leads: Option<(u64, Instant)> = None;
    let mut over = false;
    loop {
        let (route, silence, failed, settled) = {
            let now = metrics.borrow_and_update();
            let term = now.current_term;
            if now.state != ServerState::Leader {
                leads = None;
            } else if leads.is_none_or(|(since, _)| since != term) {
                leads = Some((term, Instant::now()));
            }
            let (route, silence) = match (now.state, now.current_leader) {
                // Nobody answers the one voter of a cluster of one, and nobody has to.
                (ServerState::Leader, _)
                    if now.membership_config.membership().voter_ids().count() == 1 =>
                {
                    (Route::Local { term }, Duration::ZERO)
                }
                (ServerState::Leader, _) => {
                    let began = leads.map_or(Duration::MAX, |(_, since)| since.elapsed());
                    let acked = now.last_quorum_acked.map_or(began, |at| at.elapsed());
                    (Route::Local { term }, began.min(acked))
                }
                (_, Some(leader)) if leader != core.me => {
                    let heard = peers.last_heard(leader);
                    let silence = heard.map_or(Duration::MAX, |heard| heard.elapsed());
                    (Route::Remote { leader, term }, silence)
                }
                _ => (Route::None, Duration::MAX),
            };
            // Consensus names a dead leader until another is elected, which without a majority
            // is never.
            let route = if silence < QUORUM_SILENCE_MAX {
                route
            } else {
                Route::None
            };

            // The clock of a term runs before anything is proposed in it, and goes on through a
            // silence of the quorum: time passed for this leader, whether or not it was heard.
            core.anchor_clock(leads.map(|(term, _)| term));
            // Consensus tells of the office first, so the metrics may not have it yet.
            let office = office.borrow_and_update();
            let settled = (office.state, office.current_leader) == (now.state, now.current_leader)
                && office.vote == now.vote
                && office.membership_config == now.membership_config;
            (
                route,
                silence,
                now.running_state.as_ref().err().map(ToString::to_string),
                settled,
            )
        };
        if failed.is_some() || over {
            core.route.send_replace(Route::None);
            if !core.stopping.load(Ordering::Acquire) {
                let why = failed.map_or(String::new(), |why| format!(": {why}"));
                core.stop(format!("consensus stopped{why}"));
            }
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
        let changed = async {
            if settled {
                office.changed().await
            } else {
                metrics.changed().await
            }
        };
        let look = if route == Route::None {
            LOOK_EVERY
        } else {
            // Not before the silence can be too long.
            QUORUM_SILENCE_MAX.saturating_sub(silence)
        };
        // Consensus leaves word of why it ends in the metrics, then lets go of both.
        over = matches!(tokio::time::timeout(look, changed).await, Ok(Err(_)));
    }
}
