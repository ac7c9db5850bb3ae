//! What every node does for itself: checkpoints, snapshots, watching its disk, noticing that it has
//! caught up; and heartbeats, if it leads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermind_lock::command::KeyHash;
use evermind_storage::log::LogStore;
use evermind_storage::machine::{Checkpoints, Snapshots};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::Raft;
use super::core::{Core, lock};
use super::reads::Reads;

/// Retry of the first linearizable read.
const CATCH_UP_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long a caught-up node waits for the cluster to be founded and the operator's key to be
/// there. Not for ever: a full key table or a deleted key must not keep a node from serving.
const FOUNDED_WITHIN: Duration = Duration::from_secs(5);

/// Sets `caught_up` after the first linearizable read, and once `key` can be used.
pub(crate) async fn catch_up(
    core: Arc<Core>,
    reads: Reads,
    key: Option<KeyHash>,
    caught_up: Arc<AtomicBool>,
) {
    while reads.barrier().await.is_err() {
        if core.stopping.load(Ordering::Acquire) {
            return;
        }
        tokio::time::sleep(CATCH_UP_AGAIN_AFTER).await;
    }
    core.caught_up();
    let mut applied = core.applied.subscribe();
    let founded = applied.wait_for(|_| {
        core.table.read(|table| {
            table.global_prefix().is_some() && key.is_none_or(|key| table.api_key(&key).is_some())
        })
    });
    if tokio::time::timeout(FOUNDED_WITHIN, founded).await.is_err() {
        tracing::warn!(
            "the bootstrap API key is not in the cluster's table; was it deleted, or its licence revoked?"
        );
    }
    caught_up.store(true, Ordering::Release);
    tracing::info!(
        applied = *core.applied.borrow(),
        "caught up with the cluster"
    );
}

/// How often the table is written to its checkpoint, at most.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Asks for checkpoints, until the last one has everything that is applied.
pub(crate) async fn tick_checkpoints(
    core: Arc<Core>,
    checkpoints: Arc<Mutex<Option<Checkpoints>>>,
) {
    let mut applied = core.applied.subscribe();
    loop {
        applied.mark_unchanged();
        if let Some(checkpoints) = &*lock(&checkpoints) {
            checkpoints.tick();
        }
        tokio::time::sleep(CHECKPOINT_EVERY).await;
        let settled = lock(&checkpoints)
            .as_ref()
            .is_none_or(Checkpoints::is_settled);
        if settled && applied.changed().await.is_err() {
            return;
        }
    }
}

/// Sends heartbeats while this node leads. Consensus would send them itself, at a turn of its clock:
/// that would have to turn five times as often for it, on every node, with nothing to do.
pub(crate) async fn heartbeats(raft: Raft, every: Duration) {
    let mut office = raft.server_metrics();
    loop {
        let leads = office.wait_until(|office| office.state == ServerState::Leader);
        if leads.await.is_err() || raft.trigger().heartbeat().await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}

/// Stops the node when its log fails: what was not acknowledged may or may not be on disk, and
/// nothing more may be.
pub(crate) async fn watch_disk(core: Arc<Core>, log: LogStore) {
    let failure = log.failed().await;
    core.stop(format!(
        "the log cannot be written: {failure}\n\
         hint: nothing acknowledged is lost; look at the disk, then start the node again"
    ));
}

/// How often the size of the log is looked at, at most.
const COMPACT_EVERY: Duration = Duration::from_secs(1);

/// A snapshot that was asked for and is not there after this long is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// Has a snapshot made when the log since the last one has grown past `log_bytes_kept`, or past the
/// size of that snapshot if it is more: so what is written for snapshots is never more than what is
/// written for the log. Openraft then purges the log behind it.
pub(crate) async fn compact(
    core: Arc<Core>,
    raft: Raft,
    log: LogStore,
    snapshots: Snapshots,
    log_bytes_kept: u64,
) {
    let mut applied = core.applied.subscribe();
    let mut asked: Option<(u64, Instant)> = None;
    loop {
        applied.mark_unchanged();
        let snapshot = snapshots.current();
        let (covered, bytes) = snapshot.map_or((0, 0), |snapshot| {
            (
                snapshot
                    .snapshot_meta()
                    .last_log_id
                    .map_or(0, |log_id| log_id.index),
                snapshot.len(),
            )
        });
        let due = log.bytes_since(covered) > log_bytes_kept.max(bytes);
        let under_way =
            asked.is_some_and(|(at, when)| at == covered && when.elapsed() < ASK_AGAIN_AFTER);
        if due && !under_way {
            asked = Some((covered, Instant::now()));
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        tokio::time::sleep(COMPACT_EVERY).await;
        // Nothing can be covered that was not before.
        if !due && applied.changed().await.is_err() {
            return;
        }
    }
}
