//! An acquire under way, and what becomes of it when its caller goes.

use std::sync::Arc;
use std::time::Duration;

use evermind_lock::command::{Acquire, Action, Attachment, OpId, Resume};
use evermind_lock::names::{Holder, Resource};
use evermind_lock::outcome::{Decision, HeldReason, Outcome, Refusal};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::core::Core;
use super::pending::{Answer, Answered};
use super::{LEADER_PATIENCE, UNKNOWN_AFTER, no_leader};
use crate::api::NodeError;

/// An operation whose decision somebody waits for.
pub(crate) struct Operation {
    core: Arc<Core>,
    id: OpId,
    answered: Answered,
    leader_by: Instant,
    ends: Instant,
}

impl Operation {
    /// Opens and sends it. `window` is how long it may stand in line.
    pub(crate) fn start(
        core: &Arc<Core>,
        action: Action,
        window: Duration,
        attached: impl FnOnce(OpId) -> Option<Attachment>,
    ) -> Result<Self, NodeError> {
        let now = Instant::now();
        let ends = now + window + UNKNOWN_AFTER;
        let (caller, answered) = oneshot::channel();
        let id = core.submit(action, Some(ends), Some(caller), attached)?;
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
    since: Instant,
}

impl Asked {
    /// This node stood still, or was cut off, for longer than a place is kept: it was taken for dead,
    /// and its callers with it. This caller is still there, so it takes a place again for the rest of
    /// its window, which comes along. `None`: what was decided is something else, or its window is
    /// over.
    fn resume(&self, decided: &Answer, waited: Duration) -> Option<(Resume, Duration)> {
        let window = Duration::from_millis(self.acquire.window_ms);
        let rest = window.checked_sub(waited).filter(|rest| !rest.is_zero())?;
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
            // The end of the wait was in a snapshot, and what it was charged with it: no more than
            // polling would have cost until now.
            Err(NodeError::Unknown) => {
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
        let mut acquisition = Self {
            stage: Stage::Over,
            resource,
            holder: acquire.holder.clone(),
            asked: (acquire.window_ms > 0).then(|| Asked {
                acquire: acquire.clone(),
                since: Instant::now(),
            }),
        };
        let window = Duration::from_millis(acquire.window_ms);
        acquisition.stage = match acquisition.open(core, Action::Acquire(acquire), window) {
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
    ) -> Result<Operation, NodeError> {
        let attachment = |operation| {
            Some(Attachment {
                operation,
                resource: self.resource.clone(),
                holder: self.holder.clone(),
            })
        };
        Operation::start(core, action, window, attachment)
    }

    /// Goes on with a wait whose place is gone: see [`Asked::resume`].
    fn resume(&self, core: &Arc<Core>, decided: &Answer) -> Option<Operation> {
        let asked = self.asked.as_ref()?;
        let (resume, rest) = asked.resume(decided, asked.since.elapsed())?;
        // A node that stops leaves it at what was decided.
        self.open(core, Action::Resume(resume), rest).ok()
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
    use evermind_lock::command::KeyId;
    use evermind_lock::names::Key;

    use super::*;

    #[test]
    fn a_wait_whose_end_nobody_saw_goes_on_for_the_rest_of_its_window() {
        let acquire = Acquire {
            caller: KeyId(1),
            key: Key::new("k").unwrap(),
            holder: Holder::new("h").unwrap(),
            lease_ms: 1_000,
            retry_attempts: 20,
            window_ms: 10_000,
            fifo: false,
            idempotency: None,
        };
        let asked = Asked {
            acquire: acquire.clone(),
            since: Instant::now(),
        };
        let unseen = Err(NodeError::Unknown);
        let (resume, rest) = asked.resume(&unseen, Duration::from_secs(4)).unwrap();
        assert_eq!(rest, Duration::from_secs(6));
        assert_eq!((resume.waited_ms, resume.attempts), (4_000, 9));
        assert_eq!(resume.acquire, acquire);
        let over = Duration::from_millis(acquire.window_ms);
        assert!(asked.resume(&unseen, over).is_none());
        let stopping = Err(NodeError::Stopping);
        assert!(asked.resume(&stopping, Duration::ZERO).is_none());
    }
}
