//! What the parts of a node share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermind_lock::command::{Action, Attachment, Command, NodeId, OpId, Stamp};
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::outcome::{Decision, Event, Outcome};
use evermind_lock::table::{AttachmentState, LockTable};
use evermind_storage::machine::{Applied, MachineHandle, Observer, Progress};
use evermind_storage::types::Proposal;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::clock::{Clocks, TermClock};
use super::following::Following;
use super::pending::{Aftermath, Answer, Pending};
use super::route::Route;
use super::wall::WallClock;
use crate::api::NodeError;
use crate::complaints::Complaints;

/// Locks, and goes on with what is there if a holder panicked: a panic ends the process anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a peer said of itself when it was last met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) disk: u128,
    pub(crate) http: String,
    pub(crate) boot: u64,
}

/// What the parts of a node share, from before consensus starts.
pub(crate) struct Core {
    pub(crate) me: NodeId,
    pub(crate) boot: u64,
    pub(crate) clocks: Arc<dyn Clocks>,
    pub(crate) table: MachineHandle,
    pending: Mutex<Pending>,
    /// Sequences to send.
    outbox: mpsc::UnboundedSender<u64>,
    /// Forwarded commands that consensus did not take. Bounded by what peers have in flight.
    refused: mpsc::UnboundedSender<Command>,
    pub(crate) route: watch::Sender<Route>,
    /// What the leader sends here.
    pub(crate) following: Following,
    /// What its log is told of, at most once a minute each.
    pub(crate) complaints: Complaints,
    /// The clock of the term in which this node leads.
    clock: Mutex<Option<TermClock>>,
    wall: Mutex<WallClock>,
    /// Newest applied entry.
    pub(crate) applied: watch::Sender<u64>,
    applied_ms: AtomicU64,
    next_deadline_ms: AtomicU64,
    /// Before which deadline the steward sleeps no longer.
    pub(crate) steward_until_ms: AtomicU64,
    pub(crate) steward: Notify,
    pub(crate) contacts: Mutex<BTreeMap<NodeId, Contact>>,
    pub(crate) met: Notify,
    /// The leader hands its office over: its lease counts no longer.
    pub(crate) hands_over: Notify,
    stopped: watch::Sender<Option<String>>,
    pub(crate) stopping: AtomicBool,
}

/// What the dispatcher reads.
pub(crate) struct Inbox {
    /// Operations of this node to send.
    pub(crate) sequences: mpsc::UnboundedReceiver<u64>,
    /// Commands of other nodes to propose again.
    pub(crate) again: mpsc::UnboundedReceiver<Command>,
}

/// No deadline at all.
const NEVER: u64 = u64::MAX;

impl Core {
    /// The second part is what the dispatcher reads.
    pub(crate) fn new(
        me: NodeId,
        boot: u64,
        clocks: Arc<dyn Clocks>,
        table: MachineHandle,
    ) -> (Arc<Self>, Inbox) {
        // Unbounded in type only: each message stands for an open operation, and those are bounded.
        let (outbox, sequences) = mpsc::unbounded_channel();
        let (refused, again) = mpsc::unbounded_channel();
        let core = Self {
            me,
            boot,
            clocks,
            pending: Mutex::new(Pending::new(me, boot)),
            outbox,
            refused,
            route: watch::Sender::new(Route::None),
            following: Following::default(),
            complaints: Complaints::default(),
            clock: Mutex::new(None),
            wall: Mutex::default(),
            applied: watch::Sender::new(
                table
                    .progress()
                    .last_applied
                    .map_or(0, |log_id| log_id.index),
            ),
            applied_ms: AtomicU64::new(table.read(LockTable::now_ms)),
            next_deadline_ms: AtomicU64::new(
                table.read(LockTable::next_deadline_ms).unwrap_or(NEVER),
            ),
            table,
            steward_until_ms: AtomicU64::new(NEVER),
            steward: Notify::new(),
            contacts: Mutex::new(BTreeMap::new()),
            met: Notify::new(),
            hands_over: Notify::new(),
            stopped: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
        };
        (Arc::new(core), Inbox { sequences, again })
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    pub(crate) fn route(&self) -> Route {
        *self.route.borrow()
    }

    /// Opens an operation and has it sent; its decision comes by `caller`. `expires`: after this
    /// it is no longer sent.
    pub(crate) fn submit(
        &self,
        action: Action,
        expires: Option<Instant>,
        caller: Option<oneshot::Sender<Answer>>,
        attached: impl FnOnce(OpId) -> Option<Attachment>,
    ) -> Result<OpId, NodeError> {
        let mut pending = self.pending();
        // Under the lock that stopping takes too: nothing is opened behind it.
        if self.stopping.load(Ordering::Acquire) {
            return Err(NodeError::Stopping);
        }
        let id = pending
            .open(action, expires, caller)
            .ok_or(NodeError::Busy)?;
        if let Some(attachment) = attached(id) {
            pending.attach(attachment);
        }
        drop(pending);
        // The dispatcher ends with the process only.
        let _ = self.outbox.send(id.sequence);
        Ok(id)
    }

    /// Has a command of the node's own carried out, some time, at most once.
    pub(crate) fn submit_own(&self, action: Action) {
        let mut pending = self.pending();
        if self.stopping.load(Ordering::Acquire) {
            drop(pending);
            if self.complaints.may(self.me, "stops with hang-ups") {
                tracing::warn!(
                    "the node stops, and does not pass every hang-up on: a wait ends with its window, a grant with its lease"
                );
            }
            return;
        }
        let opened = pending.open_own(action);
        drop(pending);
        if let Some(id) = opened {
            // The dispatcher ends with the process only.
            let _ = self.outbox.send(id.sequence);
        } else if self.complaints.may(self.me, "full of open operations") {
            tracing::warn!(
                "as many operations are open as may be: hang-ups are passed on once some are decided"
            );
        }
    }

    /// Cluster time and wall time for an entry of `term`; `None` if this node's clock is not of
    /// that term. The one place where entries get their time.
    pub(crate) fn stamp(&self, term: u64) -> Option<Stamp> {
        let mut clock = lock(&self.clock);
        let clock = clock.as_mut().filter(|clock| clock.term == term)?;
        let applied_ms = self.applied_ms();
        let since_boot = self.clocks.since_boot();
        Some(Stamp {
            cluster_ms: clock.read_ms(applied_ms, since_boot),
            term,
            wall_ms: self.wall_ms_at(since_boot),
        })
    }

    /// What is applied from here on was made just now, where its date is newer.
    pub(crate) fn caught_up(&self) {
        let wall_ms = self.table.read(LockTable::wall_ms);
        lock(&self.wall).caught_up(wall_ms);
    }

    /// The wall clock, in ms since 1970, as far as it can be believed.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.wall_ms_at(self.clocks.since_boot())
    }

    fn wall_ms_at(&self, since_boot: Duration) -> u64 {
        lock(&self.wall).read(self.clocks.wall_ms(), since_boot)
    }

    /// A command with its time, for an entry of `term`.
    pub(crate) fn stamped(&self, term: u64, command: Command) -> Option<Proposal> {
        self.stamp(term).map(|stamp| Proposal {
            stamp,
            command: Arc::new(command),
        })
    }

    /// Consensus did not take a command of this node: it is sent again.
    pub(crate) fn not_taken(&self, sequence: u64) {
        self.pending().not_sent(sequence);
    }

    /// Consensus did not take a command of another node, which was told that it is queued: it is
    /// proposed again for as long as this node leads.
    pub(crate) fn forwarded_not_taken(&self, command: Command) {
        // The dispatcher ends with the process only.
        let _ = self.refused.send(command);
    }

    /// From here on this node leads in `term`, or in none.
    pub(crate) fn anchor_clock(&self, term: Option<u64>) {
        let mut clock = lock(&self.clock);
        match term {
            Some(term) if clock.as_ref().is_some_and(|clock| clock.term == term) => {}
            Some(term) => {
                let applied_ms = self.applied_ms();
                *clock = Some(TermClock::anchor(
                    term,
                    applied_ms,
                    self.clocks.since_boot(),
                ));
            }
            None => *clock = None,
        }
    }

    pub(crate) fn applied_ms(&self) -> u64 {
        self.applied_ms.load(Ordering::Acquire)
    }

    pub(crate) fn next_deadline_ms(&self) -> u64 {
        self.next_deadline_ms.load(Ordering::SeqCst)
    }

    /// Stops the node, with why; the first reason stands.
    pub(crate) fn stop(&self, why: String) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                tracing::error!(%why, "the node stops");
                *stopped = Some(why);
            }
            first
        });
    }

    pub(crate) async fn stopped(&self) -> String {
        let mut stopped = self.stopped.subscribe();
        let why = stopped.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    fn progressed(&self, progress: &Progress) {
        lock(&self.wall).applied(progress.wall_ms, self.clocks.since_boot());
        // Time first: whoever sees the index must not read an older time.
        self.applied_ms.store(progress.now_ms, Ordering::Release);
        let deadline = progress.next_deadline_ms.unwrap_or(NEVER);
        #[cfg(evermind_mutants)]
        let deadline = if mutant::is(Mutant::EndsLate) {
            deadline.saturating_add(700)
        } else {
            deadline
        };
        // Sequentially consistent, as the steward's side is: one of the two sees the other's store.
        self.next_deadline_ms.store(deadline, Ordering::SeqCst);
        let applied = progress.last_applied.map_or(0, |log_id| log_id.index);
        self.applied.send_replace(applied);
        if deadline < self.steward_until_ms.load(Ordering::SeqCst) {
            self.steward.notify_one();
        }
    }

    fn finish(&self, after: Aftermath) {
        for attachment in after.abandon {
            self.submit_own(Action::Abandon(attachment));
        }
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::NeverReattached) {
            return;
        }
        for attachment in after.reattach {
            self.submit_own(Action::Reattach(attachment));
        }
    }

    /// Gives back what was given up before its decision, if it took effect; it takes none from here
    /// on.
    pub(crate) fn abandon_forsaken(&self) {
        let forsaken = self.pending().take_forsaken();
        for attachment in forsaken {
            self.submit_own(Action::Abandon(attachment));
        }
    }

    /// Settles the waits whose end may have passed unseen, by what the table says now.
    fn settle_doubtful(&self) {
        let doubtful = self.pending().take_doubtful();
        for (attachment, key) in doubtful {
            let (state, allowed) = self.table.read(|table| {
                let state = table.attachment(
                    attachment.operation,
                    &attachment.resource,
                    &attachment.holder,
                );
                (state, table.check_key(key))
            });
            let answer = match state {
                AttachmentState::Waiting => continue,
                AttachmentState::Detached => {
                    self.submit_own(Action::Reattach(attachment));
                    continue;
                }
                // Cut off, whoever holds the lock under its uuid now. If it was granted before its key
                // went, nobody is told of it: then it is given back.
                _ if allowed.is_err() => {
                    self.submit_own(Action::Abandon(attachment.clone()));
                    Ok(Decision {
                        log_index: *self.applied.borrow(),
                        outcome: allowed.map_or_else(Outcome::Refused, |()| Outcome::Stale),
                    })
                }
                AttachmentState::Holds(granted) => Ok(Decision {
                    log_index: *self.applied.borrow(),
                    outcome: Outcome::Granted(granted),
                }),
                // Its place was dropped, or it was released, or it was granted and the lease has ended:
                // its acquisition goes on where its idempotency key tells which.
                AttachmentState::Gone => Err(NodeError::Unknown),
            };
            self.pending().settle(attachment.operation.sequence, answer);
        }
    }
}

/// Answers callers as their entries are applied.
impl Observer for Core {
    fn applied(&self, batch: &[Applied], events: &[(u64, Event)], progress: Progress) {
        self.progressed(&progress);
        let mut after = Aftermath::default();
        let mut pending = self.pending();
        // In the order of the log, and whom an entry gives a lock to before who asked for the
        // entry: others wait for what the new holder does next.
        let mut events = events.iter().peekable();
        for applied in batch {
            while let Some((log_index, event)) =
                events.next_if(|(log_index, _)| *log_index <= applied.log_index)
            {
                pending.happened(*log_index, event, &mut after);
            }
            if let Some(operation) = applied.operation {
                pending.decided(operation, &applied.decision, &mut after);
            }
        }
        for (log_index, event) in events {
            pending.happened(*log_index, event, &mut after);
        }
        let doubtful = pending.has_doubtful();
        drop(pending);
        self.finish(after);
        if doubtful {
            self.settle_doubtful();
        }
    }

    fn replaced(&self, progress: Progress) {
        self.progressed(&progress);
        #[cfg(evermind_mutants)]
        if mutant::is(Mutant::SnapshotSettlesNothing) {
            return;
        }
        self.pending().doubt_all();
        self.settle_doubtful();
        self.abandon_forsaken();
    }
}
