//! One node: consensus, its clock, its waiting callers, and the way of a command to the leader.

mod accounts;
mod acquisition;
mod clock;
mod closing;
mod config;
mod core;
mod dispatch;
mod elections;
mod following;
mod gate;
mod handler;
mod keys;
mod leadership;
mod pending;
mod reads;
mod route;
mod start;
mod steward;
mod turns;
mod under_way;
mod upkeep;
mod wall;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evermind_lock::command::{Acquire, Action, Extend, KeyHash, Release};
use evermind_lock::names::{Key, Resource};
use evermind_lock::outcome::{Decision, Refusal};
use evermind_lock::view::{LockView, LocksPage};
use evermind_storage::machine::Machine;
use evermind_storage::runner::Runner;
use evermind_storage::types::TypeConfig;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use tokio::sync::oneshot;
use tokio::time::timeout;

pub use self::acquisition::Acquisition;
pub use self::clock::{Clocks, SystemClocks};
pub use self::config::{LogKept, NodeConfig, Seams, StartError, Timing};

use self::acquisition::Operation;
use self::core::Core;
use self::keys::Keys;
use self::reads::Reads;
use self::turns::Turns;
use crate::api::{
    AcquireRequest, Caller, ClusterStatus, Consistency, ExtendRequest, MemberStatus, NodeError,
    ReleaseRequest, Role,
};
use crate::peer::AddressBook;

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// How long a request waits for a leader to propose it to.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// How long after its waiting window a request ends, whatever happened: its outcome is unknown.
const UNKNOWN_AFTER: Duration = Duration::from_secs(10);

/// How long a hand-over of leadership may take.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);

/// How long a stopping node waits until its callers in line are passed over.
const LEAVE_LINES_MAX: Duration = Duration::from_secs(1);

/// When to try again while there is no leader: about one election.
fn no_leader() -> NodeError {
    NodeError::NoLeader {
        retry_after: Duration::from_secs(1),
    }
}

/// One node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    raft: Raft,
    reads: Reads,
    keys: Keys,
    addresses: AddressBook,
    /// A linearizable read succeeded once: what was committed at the start is applied.
    caught_up: Arc<AtomicBool>,
    runner: Arc<dyn Runner>,
    /// Listings one after the other: each takes milliseconds of a processor, in a big table.
    listings: Arc<Turns>,
    closing: closing::Closing,
}

impl Node {
    /// Looks a key up in applied state. One not found waits for one linearizable read, shared with
    /// whoever asks meanwhile, and is then remembered as unknown for a second. `Ok(None)`: no such
    /// key.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] if no read could be confirmed within 5 s.
    pub async fn authenticate(&self, hash: KeyHash) -> Result<Option<Caller>, NodeError> {
        self.inner.keys.caller(hash).await
    }

    /// Proposes an acquire. Dropping the [`Acquisition`] before [`Acquisition::handed_over`] gives
    /// up: a place in line is detached, a grant that raced is released.
    pub fn acquire(&self, caller: &Caller, request: AcquireRequest) -> Acquisition {
        let resource = Resource {
            identity: caller.identity.clone(),
            key: request.key.clone(),
        };
        let acquire = Acquire {
            caller: caller.key,
            key: request.key,
            holder: request.holder,
            lease_ms: request.lease_ms,
            retry_attempts: request.retry_attempts,
            window_ms: request.window_ms,
            fifo: request.fifo,
            idempotency: request.idempotency,
        };
        Acquisition::start(&self.inner.core, acquire, resource)
    }

    /// Proposes an extension, and waits for its decision.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn extend(
        &self,
        caller: &Caller,
        request: ExtendRequest,
    ) -> Result<Decision, NodeError> {
        self.decide(Action::Extend(Extend {
            caller: caller.key,
            key: request.key,
            holder: request.holder,
            extend_by_ms: request.extend_by_ms,
            idempotency: request.idempotency,
        }))
        .await
    }

    /// Proposes a release, and waits for its decision. Once proposed it goes on without its caller.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn release(
        &self,
        caller: &Caller,
        request: ReleaseRequest,
    ) -> Result<Decision, NodeError> {
        self.decide(Action::Release(Release {
            caller: caller.key,
            key: request.key,
            holder: request.holder,
            idempotency: request.idempotency,
        }))
        .await
    }

    async fn decide(&self, action: Action) -> Result<Decision, NodeError> {
        let mut operation =
            Operation::start(&self.inner.core, action, Duration::ZERO, None, |_| None)?;
        operation.decision().await
    }

    /// A lock; `None` if it is free. Refused if the key is taken no longer, as of the same read.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] if a linearizable read could not be confirmed within 5 s.
    pub async fn lock(
        &self,
        caller: &Caller,
        key: &Key,
        consistency: Consistency,
    ) -> Result<Result<Option<LockView>, Refusal>, NodeError> {
        self.catch_up(consistency).await?;
        let resource = Resource {
            identity: caller.identity.clone(),
            key: key.clone(),
        };
        Ok(self.inner.core.table.read(|table| {
            table.check_key(caller.key)?;
            Ok(table.lock(&resource))
        }))
    }

    /// The caller's locks whose keys start with `prefix`, after `after`, at most `limit` (1 to
    /// 1000) of them. Refused if the key is taken no longer, as of the same read.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] if a linearizable read could not be confirmed within 5 s,
    /// [`NodeError::Listings`] if 16 listings of this identity wait already.
    pub async fn locks(
        &self,
        caller: &Caller,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Result<LocksPage, Refusal>, NodeError> {
        self.catch_up(consistency).await?;
        let turn = self.inner.listings.take(&caller.identity).await?;
        // Off the threads that keep the cluster together.
        let (done, page) = oneshot::channel();
        let (core, caller) = (Arc::clone(&self.inner.core), caller.clone());
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        let list = move || {
            let _ = done.send(list(&core, &caller, &prefix, after.as_ref(), limit));
            drop(turn);
        };
        self.inner.runner.once("listing", Box::new(list));
        // It is dropped untold only where the node ends.
        page.await.map_err(|_| NodeError::Stopping)
    }

    /// The same of local applied state, however old, on the calling thread: in a big table this takes
    /// milliseconds.
    pub fn list_here(
        &self,
        caller: &Caller,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<LocksPage, Refusal> {
        list(&self.inner.core, caller, prefix, after, limit)
    }

    async fn catch_up(&self, consistency: Consistency) -> Result<(), NodeError> {
        match consistency {
            Consistency::Linearizable => self.inner.reads.barrier().await,
            Consistency::Stale => Ok(()),
        }
    }

    /// What this node knows of its cluster, without asking anyone.
    pub fn status(&self) -> ClusterStatus {
        let inner = &self.inner;
        let core = &inner.core;
        let metrics = inner.raft.metrics();
        // Copied out, so that the borrow is short: consensus waits for it to report.
        let (state, term, leader, membership) = {
            let now = metrics.borrow_watched();
            (
                now.state,
                now.current_term,
                now.current_leader,
                Arc::clone(&now.membership_config),
            )
        };
        let role = match state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Follower | ServerState::Shutdown => Role::Follower,
        };
        let voters: Vec<_> = membership.membership().voter_ids().collect();
        let (members, global_prefix) = core.table.read(|table| {
            let members = membership.membership().nodes().map(|(id, _)| {
                let known = table.member(*id);
                MemberStatus {
                    id: *id,
                    http: known.map(|member| member.http.clone()).unwrap_or_default(),
                    peer: inner
                        .addresses
                        .get(*id)
                        .or_else(|| known.map(|member| member.peer.clone()))
                        .unwrap_or_default(),
                    voter: voters.contains(id),
                }
            });
            (
                members.collect(),
                table.global_prefix().unwrap_or_default().to_owned(),
            )
        });
        ClusterStatus {
            id: core.me,
            role,
            leader,
            term,
            members,
            applied_index: *core.applied.borrow(),
            global_prefix,
        }
    }

    /// Knows a leader and has applied what was committed when it started.
    pub fn is_ready(&self) -> bool {
        let core = &self.inner.core;
        !core.stopping.load(Ordering::Acquire)
            && self.inner.caught_up.load(Ordering::Acquire)
            && core.route().leader(core.me).is_some()
    }

    /// Resolves when the node can no longer go on by itself, with why: a failed disk, a disk that
    /// its peers refuse. The process should then end with an error.
    pub async fn stopped(&self) -> String {
        self.inner.core.stopped().await
    }

    /// Hands leadership over, if this node leads, to the follower that has the most of the log; at
    /// most 3 s. Requests go on meanwhile.
    pub async fn hand_over(&self) {
        let raft = &self.inner.raft;
        let me = self.inner.core.me;
        let metrics = raft.metrics();
        let to = {
            let now = metrics.borrow_watched();
            let voters: Vec<_> = now.membership_config.membership().voter_ids().collect();
            let followers = now
                .replication
                .as_ref()
                .filter(|_| now.state == ServerState::Leader);
            followers.and_then(|followers| {
                let voting = followers
                    .iter()
                    .filter(|(id, _)| **id != me && voters.contains(id));
                voting
                    .max_by_key(|(_, matching)| matching.as_ref().map(|log_id| log_id.index))
                    .map(|(id, _)| *id)
            })
        };
        let Some(to) = to else { return };
        tracing::info!(to, "handing leadership over");
        if let Err(error) = raft.trigger().transfer_leader(to).await {
            tracing::warn!(%error, "leadership could not be handed over");
            return;
        }
        let moved = |now: &openraft::RaftMetrics<TypeConfig>| {
            now.current_leader.is_some_and(|leader| leader != me)
        };
        if raft
            .wait(Some(HAND_OVER_MAX))
            .metrics(moved, "another leads")
            .await
            .is_err()
        {
            tracing::warn!(to, "leadership was not taken over in time");
        }
    }

    /// Stops. What was acknowledged is on disk already; what is open ends as unknown. Callers that
    /// still stood in line are passed over from here on (at most 1 s is spent on saying so), and
    /// keep their places for those who come back elsewhere.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        self.leave_lines().await;
        {
            let mut pending = inner.core.pending();
            inner.core.stopping.store(true, Ordering::Release);
            pending.fail_all();
        }
        if let Err(error) = inner.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in order");
        }
        inner.closing.close().await;
    }

    async fn leave_lines(&self) {
        let core = &self.inner.core;
        let action = Action::DetachNode {
            node: core.me,
            boot: core.boot,
        };
        // Behind everything that this node has sent: the hang-ups of the callers just closed too.
        if let Ok(mut left) = Operation::start(core, action, Duration::ZERO, None, |_| None) {
            let _ = timeout(LEAVE_LINES_MAX, left.decision()).await;
        }
    }
}

fn list(
    core: &Core,
    caller: &Caller,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<LocksPage, Refusal> {
    let table = &core.table;
    let view = table.read(|table| table.check_key(caller.key).map(|()| table.freeze()))?;
    // Out of the table's lock.
    Ok(view.locks(&caller.identity, prefix, after, limit))
}
