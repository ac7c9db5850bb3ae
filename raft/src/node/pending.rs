//! The operations of this node that nobody has answered yet.
//!
//! An operation is answered by this node's own apply, whichever way its entry came to be in the
//! log: so it survives the loss of a leader by being sent again under the same id, and the state
//! machine sees to it that it takes effect once.
//!
//! Invariants:
//! - `answered_below` is at most the sequence of every open operation, so no command that this
//!   node sends ever makes an open one stale.
//! - An acquire that was given up before its first decision is remembered (`forsaken`) until it
//!   can no longer take effect; if it does, what it got is given back.

use std::collections::{BTreeMap, HashMap, VecDeque};

use evermind_lock::command::{Action, Attachment, Command, KeyId, NodeId, OpId, Operation, Resume};
use evermind_lock::limits::OPEN_OPERATIONS_MAX;
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::names::Resource;
use evermind_lock::outcome::{Decision, Event, Outcome};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::route::Route;
use crate::api::NodeError;

/// After this long without a decision an operation is sent again, on the same route. A safety net:
/// what a changed route or a broken connection tells is acted on at once. Doubles at each use.
const RESEND_AFTER: Duration = Duration::from_secs(1);
const RESEND_AFTER_MAX: Duration = Duration::from_secs(8);
/// The same where this node does not serve: it learns of no decision, so it would send all the time.
const GIVE_BACK_AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);

pub(crate) type Answer = Result<Decision, NodeError>;

/// What a caller waits for.
pub(crate) type Answered = oneshot::Receiver<Answer>;

/// An operation without a decision.
struct Open {
    action: Action,
    /// The `answered_below` of its first sending: every later one is at least this.
    answered_below: u64,
    /// By which route it was last sent; `None`: it is to be sent.
    sent: Option<(Route, Instant)>,
    sendings: u32,
    /// Some sending may have been appended, for all we know.
    uncertain: bool,
    /// After this it is sent no more and counts as answered. Never, for what the node itself wants
    /// done: a hang-up that is forgotten leaves a lock with nobody.
    expires: Option<Instant>,
    caller: Option<oneshot::Sender<Answer>>,
    attachment: Option<Attachment>,
}

/// An acquire that stands in line.
struct Wait {
    attachment: Attachment,
    /// With which API key.
    key: KeyId,
    caller: oneshot::Sender<Answer>,
    /// Its decision came of a repeated sending, or a snapshot was installed since: its end may
    /// have passed unseen.
    doubtful: bool,
}

/// See the module's text.
pub(crate) struct Pending {
    node: NodeId,
    boot: u64,
    /// Every operation below this is answered.
    answered_below: u64,
    /// `open[i]` has the sequence `answered_below + i`; `None`: answered.
    open: VecDeque<Option<Open>>,
    /// The node's own commands that there is no room for among these. Each stands for a caller that
    /// was let in, and none is let in meanwhile.
    own: VecDeque<Action>,
    waits: HashMap<u64, Wait>,
    forsaken: BTreeMap<u64, Attachment>,
    /// How many of `waits` are doubtful, at most.
    doubtful: usize,
}

/// What is left to do after entries were applied.
#[derive(Default)]
pub(crate) struct Aftermath {
    /// Grants and places in line that nobody waits for.
    pub(crate) abandon: Vec<Attachment>,
    /// Waits whose attachment was dropped although their callers are here.
    pub(crate) reattach: Vec<Attachment>,
}

impl Pending {
    pub(crate) fn new(node: NodeId, boot: u64) -> Self {
        Self {
            node,
            boot,
            answered_below: 1,
            open: VecDeque::new(),
            own: VecDeque::new(),
            waits: HashMap::new(),
            forsaken: BTreeMap::new(),
            doubtful: 0,
        }
    }

    /// Opens an operation that is sent until `expires`, if ever. `None`: as many are open as may be.
    pub(crate) fn open(
        &mut self,
        action: Action,
        expires: Option<Instant>,
        caller: Option<oneshot::Sender<Answer>>,
    ) -> Option<OpId> {
        let all = self.open.len() + self.waits.len() + self.own.len();
        (OPEN_OPERATIONS_MAX > all as u64).then(|| self.push(action, expires, caller))
    }

    /// Opens an operation that the node itself wants done, however many wait. `None`: it is opened
    /// once there is room.
    pub(crate) fn open_own(&mut self, action: Action) -> Option<OpId> {
        self.own.push_back(action);
        self.open_next_own()
    }

    /// The newest that was opened.
    fn open_next_own(&mut self) -> Option<OpId> {
        let mut newest = None;
        while OPEN_OPERATIONS_MAX > self.open.len() as u64
            && let Some(action) = self.own.pop_front()
        {
            newest = Some(self.push(action, None, None));
        }
        newest
    }

    fn push(
        &mut self,
        action: Action,
        expires: Option<Instant>,
        caller: Option<oneshot::Sender<Answer>>,
    ) -> OpId {
        let id = self.id(self.answered_below + self.open.len() as u64);
        self.open.push_back(Some(Open {
            action,
            answered_below: self.answered_below,
            sent: None,
            sendings: 0,
            uncertain: false,
            expires,
            caller,
            attachment: None,
        }));
        id
    }

    /// Says what an acquire is attached to, once its id is known.
    pub(crate) fn attach(&mut self, attachment: Attachment) {
        let sequence = attachment.operation.sequence;
        if let Some(open) = self.slot(sequence) {
            open.attachment = Some(attachment);
        }
    }

    /// The command to send for an operation, if it is still open and may go by `route`. Marks it as
    /// sent by it.
    pub(crate) fn send(&mut self, sequence: u64, route: Route, now: Instant) -> Option<Command> {
        let answered_below = self.answered_below;
        #[cfg(evermind_mutants)]
        let answered_below = if mutant::is(Mutant::AllBelowAnswered) {
            sequence
        } else {
            answered_below
        };
        let id = self.id(sequence);
        let open = self.slot(sequence)?;
        // A caller's release is not among them: better that the caller is told that nothing was done,
        // and asks another node, than that it waits here for an outcome that this node does not learn.
        let gives_back = matches!(open.action, Action::Abandon(_) | Action::DetachNode { .. });
        if matches!(route, Route::GiveBack { .. }) && !gives_back {
            return None;
        }
        open.sent = Some((route, now));
        open.sendings += 1;
        Some(Command {
            operation: Some(Operation { id, answered_below }),
            action: open.action.clone(),
        })
    }

    /// Whether anything waits for its decision.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether an operation is on its way already.
    pub(crate) fn is_sent(&mut self, sequence: u64) -> bool {
        self.slot(sequence).is_some_and(|open| open.sent.is_some())
    }

    /// A sending certainly did not reach the log.
    pub(crate) fn not_sent(&mut self, sequence: u64) {
        if let Some(open) = self.slot(sequence) {
            open.sent = None;
        }
    }

    /// A sending may have reached the log, or not; it is to be sent again.
    pub(crate) fn lost(&mut self, sequence: u64) {
        if let Some(open) = self.slot(sequence) {
            open.sent = None;
            open.uncertain = true;
        }
    }

    /// Which operations are to be sent now, in order: those never sent, those sent by another
    /// route, and those whose decision is overdue.
    pub(crate) fn due(&mut self, route: Route, now: Instant) -> Vec<u64> {
        let base = self.answered_below;
        let patience_max = match route {
            Route::GiveBack { .. } => GIVE_BACK_AGAIN_AFTER_MAX,
            _ => RESEND_AFTER_MAX,
        };
        let mut due = Vec::new();
        let mut expired = Vec::new();
        for (slot, sequence) in self.open.iter_mut().zip(base..) {
            let Some(open) = slot else { continue };
            if open.expires.is_some_and(|expires| now >= expires) {
                expired.push(sequence);
                continue;
            }
            match open.sent {
                None => due.push(sequence),
                Some((by, at)) => {
                    let patience = RESEND_AFTER * (1 << open.sendings.clamp(1, 7)) / 2;
                    if by != route || now >= at + patience.min(patience_max) {
                        open.uncertain = true;
                        due.push(sequence);
                    }
                }
            }
        }
        for sequence in expired {
            self.give_up(sequence);
        }
        due
    }

    /// Its caller waits no longer, if the operation is open and certainly in no log: then it never
    /// will be. Whether that is so.
    pub(crate) fn give_up_unless_proposed(&mut self, sequence: u64) -> bool {
        let never_proposed = self
            .slot(sequence)
            .is_some_and(|open| open.sent.is_none() && !open.uncertain);
        never_proposed && self.take(sequence).is_some()
    }

    /// Its caller waits no longer. What is to be given back now, if anything.
    pub(crate) fn give_up(&mut self, sequence: u64) -> Option<Attachment> {
        if let Some(wait) = self.waits.remove(&sequence) {
            return Some(wait.attachment);
        }
        let open = self.take(sequence)?;
        if let Some(attachment) = open.attachment
            && (open.sent.is_some() || open.uncertain)
        {
            self.forsaken.insert(sequence, attachment);
        }
        None
    }

    /// An operation of this boot was decided in an entry that this node applied.
    pub(crate) fn decided(&mut self, operation: OpId, decision: &Decision, after: &mut Aftermath) {
        if operation.node != self.node || operation.boot != self.boot {
            return;
        }
        let sequence = operation.sequence;
        if let Some(attachment) = self.forsaken.remove(&sequence) {
            if matches!(decision.outcome, Outcome::Granted(_) | Outcome::Queued) {
                after.abandon.push(attachment);
            }
            return;
        }
        let Some(open) = self.take(sequence) else {
            return;
        };
        // Nothing below what this command carried can take effect any more.
        self.forsaken = self.forsaken.split_off(&open.answered_below);
        let Some(caller) = open.caller else { return };
        if decision.outcome == Outcome::Queued
            && let (
                Some(attachment),
                Action::Acquire(acquire) | Action::Resume(Resume { acquire, .. }),
            ) = (&open.attachment, &open.action)
        {
            let (attachment, key) = (attachment.clone(), acquire.caller);
            if caller.is_closed() {
                after.abandon.push(attachment);
            } else {
                let doubtful = open.sendings > 1;
                self.doubtful += usize::from(doubtful);
                self.waits.insert(
                    sequence,
                    Wait {
                        attachment,
                        key,
                        caller,
                        doubtful,
                    },
                );
            }
            return;
        }
        if let Err(Ok(decision)) = caller.send(Ok(decision.clone()))
            && let (Outcome::Granted(_), Some(attachment)) = (decision.outcome, open.attachment)
        {
            after.abandon.push(attachment);
        }
    }

    /// Something happened to a wait, in an entry that this node applied.
    pub(crate) fn happened(&mut self, log_index: u64, event: &Event, after: &mut Aftermath) {
        match event {
            Event::WaitEnded {
                operation,
                resource,
                outcome,
            } => {
                let decision = Decision {
                    log_index,
                    outcome: outcome.clone(),
                };
                self.wait_ended(*operation, resource, decision, after);
            }
            Event::Detached { operation } => self.detached(*operation, after),
        }
    }

    /// A wait of this boot, on `resource`, ended.
    pub(crate) fn wait_ended(
        &mut self,
        operation: OpId,
        resource: &Resource,
        decision: Decision,
        after: &mut Aftermath,
    ) {
        if operation.node != self.node || operation.boot != self.boot {
            return;
        }
        let sequence = operation.sequence;
        let caller = match self.waits.remove(&sequence) {
            Some(wait) => Some(wait.caller),
            // That it began was in a snapshot, which nobody is told of: its end is the answer.
            None => self.take(sequence).and_then(|open| open.caller),
        };
        let holder = match &decision.outcome {
            Outcome::Granted(granted) => Some(granted.holder.clone()),
            _ => None,
        };
        #[cfg(evermind_mutants)]
        if holder.is_some() && mutant::is_turn(Mutant::GrantNotTold, 8) {
            std::mem::forget(caller);
            return;
        }
        let told = caller.is_some_and(|caller| caller.send(Ok(decision)).is_ok());
        // Granted to nobody: its caller is gone, and word of that has not arrived, or never will.
        if let (false, Some(holder)) = (told, holder) {
            after.abandon.push(Attachment {
                operation,
                resource: resource.clone(),
                holder,
            });
        }
    }

    /// A wait's attachment was dropped because this node was taken for dead.
    pub(crate) fn detached(&mut self, operation: OpId, after: &mut Aftermath) {
        if operation.node == self.node
            && operation.boot == self.boot
            && let Some(wait) = self.waits.get(&operation.sequence)
        {
            after.reattach.push(wait.attachment.clone());
        }
    }

    /// What was given up before its decision, and may have taken effect unseen.
    pub(crate) fn take_forsaken(&mut self) -> Vec<Attachment> {
        std::mem::take(&mut self.forsaken).into_values().collect()
    }

    /// Answers everything with an error: the node stops. No sequence is used again.
    pub(crate) fn fail_all(&mut self) {
        self.answered_below += self.open.len() as u64;
        self.own.clear();
        for open in self.open.drain(..).flatten() {
            if let Some(caller) = open.caller {
                let unknown = open.sent.is_some() || open.uncertain;
                let error = if unknown {
                    NodeError::Unknown
                } else {
                    NodeError::Stopping
                };
                let _ = caller.send(Err(error));
            }
        }
        for (_, wait) in self.waits.drain() {
            let _ = wait.caller.send(Err(NodeError::Unknown));
        }
    }

    fn id(&self, sequence: u64) -> OpId {
        OpId {
            node: self.node,
            boot: self.boot,
            sequence,
        }
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Open> {
        let at = usize::try_from(sequence.checked_sub(self.answered_below)?).ok()?;
        self.open.get_mut(at)?.as_mut()
    }

    /// Takes an operation out: it is answered from here on.
    fn take(&mut self, sequence: u64) -> Option<Open> {
        let at = usize::try_from(sequence.checked_sub(self.answered_below)?).ok()?;
        let open = self.open.get_mut(at)?.take();
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.answered_below += 1;
        }
        // What is opened here is sent as overdue.
        self.open_next_own();
        open
    }
}

mod doubtful;
#[cfg(test)]
mod tests;
