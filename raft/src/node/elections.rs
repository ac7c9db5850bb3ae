//! Has the clock of consensus turn only while there may be something to elect.
//!
//! Consensus looks for a silent leader at every turn of its clock, 25 times a second, so that an
//! election comes when it is due. Each turn wakes the processor. A leader has nothing to look for
//! (`upkeep::heartbeats` sends what it must), and a follower only once its leader's lease runs out,
//! or once its leader hands its office over.

use std::sync::Arc;
use std::time::Duration;

use evermind_storage::types::TypeConfig;
use openraft::alias::InstantOf;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::errors::Fatal;
use openraft::{RaftState, ServerState};
use tokio::time::sleep;

use super::Raft;
use super::config::Timing;
use super::core::Core;

/// The clock turns this much before the first moment at which an election may begin.
const EARLIER: Duration = Duration::from_millis(50);

/// While it turns, how often it is looked whether a leader was heard.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs until consensus stops.
pub(crate) async fn run(core: Arc<Core>, raft: Raft, timing: Timing) {
    let patience = timing.silence_min().saturating_sub(EARLIER);
    let mut office = raft.server_metrics();
    // A vote that was read from disk has no lease, nor has that of a leader which hands over.
    let Ok(mut without_lease) = heard(&raft).await else {
        return;
    };
    loop {
        let (state, led) = {
            let office = office.borrow_and_update();
            (office.state, office.current_leader.is_some())
        };
        let waits = match state {
            ServerState::Leader => None,
            ServerState::Follower | ServerState::Learner if led => {
                let Ok(heard) = heard(&raft).await else {
                    return;
                };
                let lease = heard.filter(|_| heard != without_lease);
                Some(lease.map_or(Duration::ZERO, |heard| {
                    patience.saturating_sub(heard.elapsed())
                }))
            }
            _ => Some(Duration::ZERO),
        };
        raft.runtime_config().tick(waits == Some(Duration::ZERO));
        let looks_again = async {
            match waits {
                None => std::future::pending().await,
                Some(waits) => sleep(if waits.is_zero() { LOOK_EVERY } else { waits }).await,
            }
        };
        tokio::select! {
            changed = office.changed() => if changed.is_err() {
                // Consensus has ended.
                return;
            },
            () = core.hands_over.notified() => match heard(&raft).await {
                Ok(heard) => without_lease = heard,
                Err(_) => return,
            },
            () = looks_again => {}
        }
    }
}

/// When the vote was last made or confirmed: what consensus counts a leader's silence from.
async fn heard(raft: &Raft) -> Result<Option<InstantOf<TypeConfig>>, Fatal<TypeConfig>> {
    let heard = |state: &RaftState<TypeConfig>| state.vote_last_modified();
    raft.with_raft_state(heard).await
}
