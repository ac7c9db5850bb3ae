//! What the leader does unasked: ends what is due, carries time into the log, settles what every
//! node must agree on, and detaches the callers of nodes it no longer hears from.
//!
//! An idle cluster without leases proposes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evermind_lock::command::{Action, Command, KeyHash, Member, NodeId};
use evermind_lock::names::IdentityId;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Raft;
use super::clock::READ_EVERY;
use super::core::{Core, lock};
use super::dispatch::propose;
use super::route::Route;
use super::under_way::UnderWay;
use crate::peer::AddressBook;

/// While leases live, time is carried into the log at least this often: it bounds by how much a
/// failover lengthens them.
const TICK_MS: u64 = 1_000;

/// What is over ends in pieces, one at a time, and at most one in this time: ending 600,000 leases, or
/// answering 20,000 callers, leaves the processors to others for most of it.
const PIECE_EVERY: Duration = Duration::from_millis(15);

/// A node that has acknowledged nothing of this leader's for this long is taken for dead: its callers'
/// places in line are passed over until they come back. That the node talks to its leader is not
/// enough: what the leader does not bring there is not applied there, and a grant would be nobody's.
/// Longer than such a node serves, and than the silence that a leader keeps, and the others with it,
/// when it looks whether anyone hears it.
const SILENCE_MAX: Duration = Duration::from_millis(1_600);

/// Before what consensus refused is proposed again: it does so for a moment after an election.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// What the operator gave this node to settle once for the cluster.
pub(crate) struct Founding {
    pub(crate) global_prefix: String,
    pub(crate) api_key: Option<(KeyHash, IdentityId)>,
    pub(crate) advertise_http: String,
    pub(crate) advertise_peer: String,
    pub(crate) disk: u128,
}

pub(crate) struct Steward {
    core: Arc<Core>,
    raft: Raft,
    addresses: AddressBook,
    founding: Founding,
    /// Whether consensus refused a proposal.
    refused: Arc<AtomicBool>,
    /// Which boots of which nodes are being detached.
    detaching: UnderWay<(NodeId, u64)>,
}

impl Steward {
    pub(crate) fn new(
        core: Arc<Core>,
        raft: Raft,
        addresses: AddressBook,
        founding: Founding,
    ) -> Self {
        Self {
            core,
            raft,
            addresses,
            founding,
            refused: Arc::default(),
            detaching: UnderWay::default(),
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        let mut route = self.core.route.subscribe();
        loop {
            let term = match *route.borrow_and_update() {
                Route::Local { term } => Some(term),
                Route::None | Route::Remote { .. } | Route::GiveBack { .. } => None,
            };
            match term {
                Some(term) => tokio::select! {
                    () = self.lead(term) => {}
                    changed = route.changed() => if changed.is_err() { return },
                },
                None => {
                    if route.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn lead(&self, term: u64) {
        let since = Instant::now();
        // One at a time: what it leaves is proposed once it is applied, behind what came meanwhile.
        let mut expiring: Option<oneshot::Receiver<()>> = None;
        let mut next_piece_at = Instant::now();
        let mut chores_at = Instant::now();
        loop {
            if self.refused.swap(false, Ordering::AcqRel) {
                sleep(REFUSED_AGAIN_AFTER).await;
                chores_at = Instant::now();
            }
            let now = Instant::now();
            let Some(stamp) = self.core.stamp(term) else {
                return;
            };
            let deadline_ms = self.core.next_deadline_ms();
            let applied_ms = self.core.applied_ms();
            let due = stamp.cluster_ms >= deadline_ms;
            let tick = stamp.cluster_ms >= applied_ms + TICK_MS && self.has_leases();
            if (due || tick) && expiring.is_none() && now >= next_piece_at {
                next_piece_at = now + PIECE_EVERY;
                expiring = self.expire(term).await;
            }
            if now >= chores_at {
                chores_at = now + READ_EVERY;
                self.chores(term, since).await;
            }
            let wait = if due && expiring.is_none() {
                next_piece_at.saturating_duration_since(Instant::now())
            } else if due || deadline_ms == u64::MAX {
                READ_EVERY
            } else {
                READ_EVERY.min(Duration::from_millis(
                    deadline_ms.saturating_sub(stamp.cluster_ms).max(1),
                ))
            };
            let until_ms = stamp
                .cluster_ms
                .saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            // From here on an apply that brings an earlier deadline wakes this loop: but not while
            // one is under way, whose own end does.
            let until_ms = if expiring.is_some() { 0 } else { until_ms };
            self.core.steward_until_ms.store(until_ms, Ordering::SeqCst);
            if self.core.next_deadline_ms() == deadline_ms || expiring.is_some() {
                let applied = async {
                    match &mut expiring {
                        // Dropped, it will not be applied by this leader.
                        Some(applied) => drop(applied.await),
                        None => std::future::pending().await,
                    }
                };
                let over = tokio::select! {
                    () = applied => true,
                    () = self.core.steward.notified() => false,
                    () = sleep(wait) => false,
                };
                if over {
                    expiring = None;
                }
            }
            self.core.steward_until_ms.store(0, Ordering::SeqCst);
        }
    }

    /// Ends what is due; resolves once that is applied, or will not be. `None`: it was not taken.
    async fn expire(&self, term: u64) -> Option<oneshot::Receiver<()>> {
        let (applied, over) = oneshot::channel();
        let taken = self.propose_then(term, Action::Expire, move || {
            let _ = applied.send(());
        });
        taken.await.then_some(over)
    }

    fn has_leases(&self) -> bool {
        self.core.table.read(|table| table.live_leases() > 0)
    }

    async fn propose(&self, term: u64, action: Action) {
        // What is not taken is proposed again when it is looked at next.
        self.propose_then(term, action, || {}).await;
    }

    /// `then` is called once the entry is applied, or will not be, or is dropped uncalled. `false`:
    /// it was not taken.
    async fn propose_then(
        &self,
        term: u64,
        action: Action,
        then: impl FnOnce() + Send + 'static,
    ) -> bool {
        let command = Command {
            operation: None,
            action,
        };
        let (core, flag) = (Arc::clone(&self.core), Arc::clone(&self.refused));
        let told = move |refused| {
            if refused {
                flag.store(true, Ordering::Release);
                core.steward.notify_one();
            }
            then();
        };
        propose(&self.core, &self.raft, term, command, told).await
    }

    async fn chores(&self, term: u64, leading_since: Instant) {
        for action in self.unsettled() {
            self.propose(term, action).await;
        }
        for (node, boot) in self.silent(leading_since) {
            // Where commits are slow the node may be back before it is applied: a second one would
            // detach its callers again.
            if let Some(detaching) = self.detaching.begin((node, boot)) {
                let action = Action::DetachNode { node, boot };
                self.propose_then(term, action, move || drop(detaching))
                    .await;
            }
        }
    }

    /// What the table does not have yet, or no longer has right.
    fn unsettled(&self) -> Vec<Action> {
        let founding = &self.founding;
        let mut members = vec![Member {
            node: self.core.me,
            disk: founding.disk,
            http: founding.advertise_http.clone(),
            peer: founding.advertise_peer.clone(),
        }];
        for (node, contact) in lock(&self.core.contacts).iter() {
            members.push(Member {
                node: *node,
                disk: contact.disk,
                http: contact.http.clone(),
                peer: self.addresses.get(*node).unwrap_or_default(),
            });
        }
        self.core.table.read(|table| {
            let mut actions = Vec::new();
            if table.global_prefix().is_none() {
                actions.push(Action::Found {
                    global_prefix: founding.global_prefix.clone(),
                });
            }
            if let Some((hash, identity)) = &founding.api_key
                && table.api_key(hash).is_none()
                && !table.is_refused(hash, identity)
            {
                actions.push(Action::AddApiKey {
                    hash: *hash,
                    identity: identity.clone(),
                });
            }
            for member in members {
                let settled = table
                    .member(member.node)
                    .is_some_and(|known| known.disk != member.disk || *known == member);
                if !settled {
                    actions.push(Action::RecordMember(member));
                }
            }
            actions
        })
    }

    /// Nodes that have callers in line and are not reached, or were started anew since.
    fn silent(&self, leading_since: Instant) -> Vec<(NodeId, u64)> {
        let leading = leading_since.elapsed();
        let (acked, quorum) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let acked = now.heartbeat.iter().flatten();
            let acked = acked.filter_map(|(node, at)| Some((*node, at.as_ref()?.elapsed())));
            let quorum = now.last_quorum_acked.map_or(leading, |at| at.elapsed());
            (acked.collect::<BTreeMap<_, _>>(), quorum)
        };
        // It is this node that stood still, or is cut off: it does not know of the others.
        let is_reached = quorum <= SILENCE_MAX;
        let attached: Vec<(NodeId, u64)> = self
            .core
            .table
            .read(|table| table.attached_nodes().collect());
        let contacts = lock(&self.core.contacts);
        let gone = attached.into_iter().filter(|(node, boot)| {
            if *node == self.core.me {
                return *boot < self.core.boot;
            }
            let silence = acked.get(node).map_or(leading, |acked| leading.min(*acked));
            let restarted = contacts
                .get(node)
                .is_some_and(|contact| contact.boot > *boot);
            restarted || (is_reached && silence > SILENCE_MAX)
        });
        gone.collect()
    }
}
