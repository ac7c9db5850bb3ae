//! Linearizable reads: one confirmation of the leader (`ReadIndex`) serves everyone who asked before
//! it began.

use std::sync::Arc;
use std::time::Duration;

#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::core::Core;
use super::route::Route;
use super::{LEADER_PATIENCE, Raft, no_leader};
use crate::api::NodeError;
use crate::peer::PeerClient;

/// One try to have the leader confirmed.
const TRY_FOR: Duration = Duration::from_secs(1);

/// Before the next try on the same route.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

type Done = oneshot::Sender<Result<(), NodeError>>;

/// Asks for linearizable reads.
#[derive(Clone)]
pub(crate) struct Reads {
    /// Bounded by the callers: each waits for its own answer.
    asks: mpsc::UnboundedSender<Done>,
}

impl Reads {
    pub(crate) fn start(core: Arc<Core>, raft: Raft, peers: PeerClient) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(run(core, raft, peers, asked));
        Self { asks }
    }

    /// When this returns, local state has everything that was answered before the call.
    /// [`NodeError::NoLeader`] after 5 s.
    pub(crate) async fn barrier(&self) -> Result<(), NodeError> {
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::StaleRead) {
            return Ok(());
        }
        let (done, result) = oneshot::channel();
        self.asks.send(done).map_err(|_| NodeError::Stopping)?;
        match timeout(LEADER_PATIENCE, result).await {
            Ok(result) => result.map_err(|_| NodeError::Stopping)?,
            // It was asked behind another round, and that took most of the time.
            Err(_) => Err(no_leader()),
        }
    }
}

async fn run(
    core: Arc<Core>,
    raft: Raft,
    peers: PeerClient,
    mut asked: mpsc::UnboundedReceiver<Done>,
) {
    let mut together = Vec::new();
    while asked.recv_many(&mut together, usize::MAX).await > 0 {
        let result = confirm(&core, &raft, &peers).await;
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::ReadJoinsRound) {
            while let Ok(late) = asked.try_recv() {
                together.push(late);
            }
        }
        for done in together.drain(..) {
            // Whoever hung up needs no answer.
            let _ = done.send(result.clone());
        }
    }
}

async fn confirm(core: &Core, raft: &Raft, peers: &PeerClient) -> Result<(), NodeError> {
    let deadline = Instant::now() + LEADER_PATIENCE;
    let mut route = core.route.subscribe();
    loop {
        let by = *route.borrow_and_update();
        if let Some(index) = read_index(by, raft, peers).await {
            let mut applied = core.applied.subscribe();
            let reached = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
            return reached
                .map_err(|_| no_leader())?
                .map(|_| ())
                .map_err(|_| NodeError::Stopping);
        }
        if Instant::now() >= deadline {
            return Err(no_leader());
        }
        // A new route is tried at once, the same one a little later.
        let _ = timeout_at(
            deadline.min(
                Instant::now()
                    + if matches!(by, Route::None | Route::GiveBack { .. }) {
                        LEADER_PATIENCE
                    } else {
                        TRY_AGAIN_AFTER
                    },
            ),
            route.changed(),
        )
        .await;
    }
}

async fn read_index(by: Route, raft: &Raft, peers: &PeerClient) -> Option<u64> {
    match by {
        Route::None | Route::GiveBack { .. } => None,
        Route::Local { .. } => local_read_index(raft).await,
        // Bounded by the peer transport.
        Route::Remote { leader, .. } => Some(peers.read_index(leader).await.ok()?.index),
    }
}

/// The index up to which a read must have applied, if a majority confirms that this node leads.
pub(crate) async fn local_read_index(raft: &Raft) -> Option<u64> {
    #[cfg(evermind_mutants)]
    if mutant::is(Mutant::DeposedLeaderRead) {
        use openraft::async_runtime::WatchReceiver as _;
        let now = raft.metrics().borrow_watched().clone();
        let applied = now.last_applied.filter(|_| now.state.is_leader());
        return applied.map(|applied| applied.index);
    }
    let confirmed = timeout(TRY_FOR, raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
    let linearizer = confirmed.ok()?.ok()?;
    Some(linearizer.read_log_id().index())
}
