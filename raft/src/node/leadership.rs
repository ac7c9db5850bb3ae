//! Follows who leads: the clock of each term, and where commands go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evermind_lock::command::NodeId;
use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};

use tokio::time::Instant;

use super::Raft;
use super::core::Core;
use super::following::LAG_MAX;
use super::route::Route;
use crate::peer::PeerClient;

/// A leader that no majority answered for this long takes no requests, and one whose own heartbeats
/// did not come for this long gets none: there is no leader then, which is better said than left to an unknown
/// outcome. Well above the election timeout, so
/// that a busy machine does not refuse what it could serve.
const QUORUM_SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// A leader that answers this node and does not reach it for this long is told of: sooner, it is about
/// to connect to a node that has just started.
const DEAF_TOLD_AFTER: Duration = Duration::from_secs(3);

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
    // The leader answers this node, and is not heard by itself.
    let mut deaf_since: Option<Instant> = None;
    loop {
        let (route, silence, lag, failed, settled) = {
            let now = metrics.borrow_and_update();
            let term = now.current_term;
            if now.state != ServerState::Leader {
                leads = None;
            } else if leads.is_none_or(|(since, _)| since != term) {
                leads = Some((term, Instant::now()));
            }
            let at = Instant::now();
            let mut lag = Duration::ZERO;
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
                    lag = core.following.lag(leader, *core.applied.borrow(), at);
                    let silence = core.following.silence(leader, term, at);
                    (Route::Remote { leader, term }, silence)
                }
                _ => (Route::None, Duration::MAX),
            };
            // Consensus names a dead leader until another is elected, which without a majority
            // is never.
            let counts = silence < QUORUM_SILENCE_MAX && lag < LAG_MAX;
            let mut fallback = Route::None;
            if let Route::Remote { leader, term } = route {
                let answers = peers
                    .last_heard(leader)
                    .is_some_and(|heard| heard.elapsed() < QUORUM_SILENCE_MAX);
                if answers {
                    fallback = Route::GiveBack { leader, term };
                }
                let deaf = silence >= QUORUM_SILENCE_MAX && answers;
                deaf_since = deaf_since.filter(|_| deaf).or(deaf.then_some(at));
                let deaf = deaf_since.is_some_and(|since| since.elapsed() >= DEAF_TOLD_AFTER);
                tell_of(&core, leader, deaf, lag);
            }
            let route = if counts { route } else { fallback };

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
                lag,
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
        let look = if matches!(route, Route::None | Route::GiveBack { .. }) {
            LOOK_EVERY
        } else {
            // Not before the silence can be too long.
            let silent = QUORUM_SILENCE_MAX.saturating_sub(silence);
            if lag.is_zero() {
                silent
            } else {
                silent.min(LAG_MAX.saturating_sub(lag))
            }
        };
        // Consensus leaves word of why it ends in the metrics, then lets go of both.
        over = matches!(tokio::time::timeout(look, changed).await, Ok(Err(_)));
    }
}

/// Says why this node does not serve, where its leader is there.
fn tell_of(core: &Core, leader: NodeId, deaf: bool, lag: Duration) {
    const DEAF: &str = "not reached by the leader";
    const BEHIND: &str = "behind";
    let complaints = &core.complaints;
    if deaf {
        if complaints.may(leader, DEAF) {
            tracing::warn!(
                leader,
                "the leader does not reach this node, though this node reaches it: it takes no requests until then; \
                 hint: is the address of node {} in the leader's --initial-cluster the one of its --peer-listen, \
                 and may the leader connect to it?",
                core.me
            );
        }
    } else if complaints.over(leader, DEAF) {
        tracing::info!(leader, "the leader reaches this node again");
    }
    if lag >= LAG_MAX {
        if complaints.may(leader, BEHIND) {
            tracing::warn!(
                leader,
                applied = *core.applied.borrow(),
                "this node does not apply what is committed: it takes no requests until it has caught up"
            );
        }
    } else if lag.is_zero() && complaints.over(leader, BEHIND) {
        tracing::info!(leader, "this node applies what is committed again");
    }
}
