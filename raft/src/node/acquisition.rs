//! An acquire under way, and what becomes of it when its caller goes.

use std::sync::Arc;
use std::time::Duration;

use evermind_lock::command::{Acquire, Action, Attachment, OpId, Resume};
use evermind_lock::limits::IDEMPOTENCY_MS;
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::names::{Holder, Resource};
use evermind_lock::outcome::{Decision, HeldReason, Outcome, Refusal};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::core::Core;
use super::pending::{Answer, Answered};
use super::{LEADER_PATIENCE, UNKNOWN_AFTER, no_leader};
use crate::api::NodeError;

/// The log knows a repeated request by its idempotency key for 60 s after the first was decided. So a
/// request that has one is sent and resumed for less than that after it came, with 10 s for the way
/// into the log. Later, its repetition on another node may have been decided and forgotten, and it
/// would take effect a second time.
const NAMED_SENT_WITHIN: Duration = Duration::from_millis(IDEMPOTENCY_MS - 10_000);

/// An operation whose decision somebody waits for.
pub(crate) struct Operation {
    core: Arc<Core>,
    id: OpId,
    answered: Answered,
    leader_by: Instant,
    ends: Instant,
}

impl Operation {
    /// Opens it, and sends it until it is answered, or for `sent_within`. `window` is how long it may
    /// stand in line.
    pub(crate) fn start(
        core: &Arc<Core>,
        action: Action,
        window: Duration,
        sent_within: Option<Duration>,
        attached: impl FnOnce(OpId) -> Option<Attachment>,
    ) -> Result<Self, NodeError> {
        #[cfg(evermind_mutants)]
        if mutant::is_turn(Mutant::TenthRefused, 10) {
            return Err(no_leader());
        }
        let now = Instant::now();
        let ends = now + window + UNKNOWN_AFTER;
        let (caller, answered) = oneshot::channel();
        let expires = sent_within.map_or(ends, |within| ends.min(now + within));
        let id = core.submit(action, Some(expires), Some(caller), attached)?;
        Ok(Self {
            core: Arc::clone(core),
            id,
            answered,
            leader_by: now + LEADER_PATIENCE,
            ends,
        })
    }

    /// Its decision, or at its end why there is none. Cancel-safe.
    pub(crate) async fn decision(&mut self) -> Result<Decision, NodeError> {
        if let Ok(answer) = timeout_at(self.leader_by, &mut self.answered).await {
            return answer.map_err(|_| NodeError::Unknown)?;
        }
        // In one step: between asking and giving up, the dispatcher could propose it.
        let given_up = self
            .core
            .pending()
            .give_up_unless_proposed(self.id.sequence);
        if given_up {
            self.answered.close();
            return self.answered.try_recv().unwrap_or(Err(no_leader()));
        }
        if let Ok(answer) = timeout_at(self.ends, &mut self.answered).await {
            return answer.map_err(|_| NodeError::Unknown)?;
        }
        self.give_up().unwrap_or(Err(NodeError::Unknown))
    }

    /// Its caller waits no longer. What was decided just before that, if anything was: it is not
    /// lost in the channel.
    fn give_up(&mut self) -> Option<Result<Decision, NodeError>> {
        let attachment = self.core.pending().give_up(self.id.sequence);
        #[cfg(evermind_mutants)]
        let attachment = attachment.filter(|_| !mutant::is(Mutant::HangUpNotPassedOn));
        if let Some(attachment) = attachment {
            self.core.submit_own(Action::Abandon(attachment));
        }
        // No decision can be sent from here on: it is the sender's to give back.
        self.answered.close();
        self.answered.try_recv().ok()
    }
}

/// An acquire under way. Dropping it before [`Acquisition::handed_over`] gives up: a place in line
/// is detached, a grant that raced is released.
pub struct Acquisition {
    stage: Stage,
    resource: Resource,
    holder: Holder,
    /// What was asked for, if it may stand in line: see [`Asked::resume`].
    asked: Option<Asked>,
}

struct Asked {
    acquire: Acquire,
    /// Since this machine was started: time that it is suspended counts.
    since: Duration,
}

impl Asked {
    /// This node stood still, or was cut off, for longer than a place is kept: it was taken for dead,
    /// and its callers with it. This caller is still there, so it takes a place again for the rest of
    /// its window, which comes along. `None`: what was decided is something else, or its window is
    /// over, or what it asked for might have been done already.
    fn resume(&self, decided: &Answer, waited: Duration) -> Option<(Resume, Duration)> {
        let window = Duration::from_millis(self.acquire.window_ms);
        let rest = window.checked_sub(waited).filter(|rest| !rest.is_zero())?;
        let is_named = self.acquire.idempotency.is_some();
        if is_named && waited >= NAMED_SENT_WITHIN {
            return None;
        }
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let attempts = match decided {
            Ok(Decision {
                outcome:
                    Outcome::Refused(Refusal::LockHeld {
                        reason: HeldReason::Detached,
                        attempts,
                        ..
                    }),
                ..
            }) => *attempts,
            // The end of the wait was in a snapshot. Its idempotency key tells whether it was granted
            // or released there; without one nobody knows, and a wait that its client has ended must
            // not come back. What it was charged is not known either: no more than polling would have
            // cost until now.
            Err(NodeError::Unknown) if is_named => {
                let Acquire {
                    retry_attempts,
                    window_ms,
                    ..
                } = self.acquire;
                let polls = (waited_ms * u64::from(retry_attempts)).div_ceil(window_ms);
                u32::try_from(polls).unwrap_or(retry_attempts) + 1
            }
            _ => return None,
        };
        let resume = Resume {
            acquire: self.acquire.clone(),
            waited_ms,
            attempts,
        };
        Some((resume, rest))
    }
}

enum Stage {
    Refused(NodeError),
    Open(Operation),
    /// Granted, and nobody has been told.
    Granted(Arc<Core>, OpId),
    Over,
}

impl Acquisition {
    pub(crate) fn start(core: &Arc<Core>, acquire: Acquire, resource: Resource) -> Self {
        let since = core.clocks.since_boot();
        let mut acquisition = Self {
            stage: Stage::Over,
            resource,
            holder: acquire.holder.clone(),
            asked: (acquire.window_ms > 0).then(|| Asked {
                acquire: acquire.clone(),
                since,
            }),
        };
        let window = Duration::from_millis(acquire.window_ms);
        let is_named = acquire.idempotency.is_some();
        let sent_within = is_named.then_some(NAMED_SENT_WITHIN);
        let opened = acquisition.open(core, Action::Acquire(acquire), window, sent_within);
        acquisition.stage = match opened {
            Ok(operation) => Stage::Open(operation),
            Err(error) => Stage::Refused(error),
        };
        acquisition
    }

    fn open(
        &self,
        core: &Arc<Core>,
        action: Action,
        window: Duration,
        sent_within: Option<Duration>,
    ) -> Result<Operation, NodeError> {
        let attachment = |operation| {
            Some(Attachment {
                operation,
                resource: self.resource.clone(),
                holder: self.holder.clone(),
            })
        };
        Operation::start(core, action, window, sent_within, attachment)
    }

    /// Goes on with a wait whose place is gone: see [`Asked::resume`].
    fn resume(&self, core: &Arc<Core>, decided: &Answer) -> Option<Operation> {
        let asked = self.asked.as_ref()?;
        let waited = core.clocks.since_boot().saturating_sub(asked.since);
        let (resume, rest) = asked.resume(decided, waited)?;
        let is_named = resume.acquire.idempotency.is_some();
        let sent_within = is_named.then(|| NAMED_SENT_WITHIN.saturating_sub(waited));
        // A node that stops leaves it at what was decided.
        self.open(core, Action::Resume(resume), rest, sent_within)
            .ok()
    }

    /// Granted or refused; for a wait, when it ends. Cancel-safe; to be called to its end once.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s without anyone to propose to, [`NodeError::Unknown`] 10 s
    /// after the waiting window.
    pub async fn decision(&mut self) -> Result<Decision, NodeError> {
        let decided = loop {
            let operation = match &mut self.stage {
                Stage::Open(operation) => operation,
                Stage::Refused(error) => return Err(error.clone()),
                Stage::Granted(..) | Stage::Over => return Err(NodeError::Unknown),
            };
            let decided = operation.decision().await;
            let core = Arc::clone(&operation.core);
            match self.resume(&core, &decided) {
                Some(again) => self.stage = Stage::Open(again),
                None => break decided,
            }
        };
        let granted = match &decided {
            Ok(Decision {
                outcome: Outcome::Granted(granted),
                ..
            }) => {
                // A repeated request may have been answered with its first holder's name.
                self.holder = granted.holder.clone();
                true
            }
            _ => false,
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if let (true, Stage::Open(operation)) = (granted, stage) {
            self.stage = Stage::Granted(operation.core, operation.id);
        }
        decided
    }

    /// The answer is on its way to the caller's socket: the grant is the caller's now.
    pub fn handed_over(mut self) {
        self.stage = Stage::Over;
    }
}

impl Drop for Acquisition {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Refused(_) | Stage::Over => {}
            Stage::Open(mut operation) => {
                let granted = matches!(
                    operation.give_up(),
                    Some(Ok(Decision {
                        outcome: Outcome::Granted(_),
                        ..
                    }))
                );
                if granted {
                    self.abandon(&operation.core, operation.id);
                }
            }
            Stage::Granted(core, operation) => self.abandon(&core, operation),
        }
    }
}

impl Acquisition {
    /// Gives a grant back that nobody was told of.
    fn abandon(&self, core: &Core, operation: OpId) {
        core.submit_own(Action::Abandon(Attachment {
            operation,
            resource: self.resource.clone(),
            holder: self.holder.clone(),
        }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use evermind_lock::command::{Idempotency, KeyId};
    use evermind_lock::names::{IdempotencyKey, Key};

    use super::*;

    const WINDOW: Duration = Duration::from_mins(2);

    fn asked(named: bool) -> Asked {
        let idempotency = named.then(|| Idempotency {
            key: IdempotencyKey::new("n").unwrap(),
            fingerprint: [0; 16],
        });
        let acquire = Acquire {
            caller: KeyId(1),
            key: Key::new("k").unwrap(),
            holder: Holder::new("h").unwrap(),
            lease_ms: 1_000,
            retry_attempts: 240,
            window_ms: 120_000,
            fifo: false,
            idempotency,
        };
        let since = Duration::ZERO;
        Asked { acquire, since }
    }

    fn detached() -> Decision {
        Decision {
            log_index: 7,
            outcome: Outcome::Refused(Refusal::LockHeld {
                reason: HeldReason::Detached,
                attempts: 8,
                current: None,
            }),
        }
    }

    #[test]
    fn a_wait_whose_place_was_dropped_goes_on_for_the_rest_of_its_window() {
        let waited = Duration::from_secs(100);
        let (resume, rest) = asked(false).resume(&Ok(detached()), waited).unwrap();
        assert_eq!(rest, Duration::from_secs(20));
        assert_eq!((resume.waited_ms, resume.attempts), (100_000, 8));
        assert_eq!(resume.acquire, asked(false).acquire);
        assert!(asked(false).resume(&Ok(detached()), WINDOW).is_none());
        let stopping = Err(NodeError::Stopping);
        assert!(asked(false).resume(&stopping, Duration::ZERO).is_none());
    }

    #[test]
    fn a_wait_whose_end_nobody_saw_goes_on_only_if_its_name_tells_whether_it_was_ended() {
        let unseen = Err(NodeError::Unknown);
        let waited = Duration::from_secs(4);
        let (resume, rest) = asked(true).resume(&unseen, waited).unwrap();
        assert_eq!(rest, Duration::from_secs(116));
        assert_eq!((resume.waited_ms, resume.attempts), (4_000, 9));
        // It may have been released, and the client told so.
        assert!(asked(false).resume(&unseen, waited).is_none());
    }

    #[test]
    fn a_named_wait_does_not_go_on_when_its_repetition_may_be_forgotten() {
        let before = NAMED_SENT_WITHIN.saturating_sub(Duration::from_millis(1));
        for decided in [Ok(detached()), Err(NodeError::Unknown)] {
            assert!(asked(true).resume(&decided, before).is_some());
            assert!(asked(true).resume(&decided, NAMED_SENT_WITHIN).is_none());
        }
    }
}
