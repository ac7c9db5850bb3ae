//! Once means once: operations and named operations.

use std::collections::{BTreeMap, BTreeSet};

use evermind_lock::command::{Idempotency, OpId, Operation};
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Resource};
use evermind_lock::outcome::{Decision, Limit, Outcome, Refusal};

use super::accounts::Caller;
use super::numbers::{
    IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_MS, MEMBERS_MAX, OPEN_OPERATIONS_MAX, SESSION_STEP_MAX,
};
use super::{Kind, Model, Subject, no};

/// What one server said in its newest boot.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) boot: u64,
    answered_below: u64,
    said: BTreeMap<u64, Decision>,
    /// How often its callers were detached, all at once, and when last.
    pub(super) detachments: u64,
    pub(super) detached_ms: u64,
    /// Those of them whose waits do not know yet: by the number of detachments before, boot and
    /// sequence.
    pub(super) detached_to_tell: BTreeSet<(u64, u64, u64)>,
}

/// The scope of an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) identity: IdentityId,
    pub(super) endpoint: Endpoint,
    pub(super) key: IdempotencyKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Acquire,
    Extend,
    Release,
}

#[derive(Debug, Clone)]
pub(super) struct Named {
    fingerprint: [u8; 16],
    number: u64,
    pub(super) state: NamedState,
    /// When it is forgotten; an open one is not.
    until_ms: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum NamedState {
    /// In line, under the uuid that it first came with.
    Open(Resource, Holder),
    Granted {
        resource: Resource,
        holder: Holder,
        token: u64,
        attempts: u32,
    },
    Extended {
        resource: Resource,
        token: u64,
    },
    Released,
    Refused(Refusal),
    /// Given back by a hang-up before anyone was told: paid for.
    Paid(u32),
}

/// A name that is free to be given a meaning.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) name: Name,
    fingerprint: [u8; 16],
    /// What was paid for under it before.
    pub(super) credit: u32,
}

/// What a name means now.
pub(super) enum Meaning {
    Unnamed,
    Fresh(Fresh),
    Known(NamedState),
}

impl Model {
    /// What a server is told of an operation that may not take effect (again).
    pub(super) fn admit(&mut self, operation: Operation) -> Option<Decision> {
        let log_index = self.log_index;
        let told = |outcome| Some(Decision { log_index, outcome });
        let OpId {
            node,
            boot,
            sequence,
        } = operation.id;
        // A server comes up to a step further than it was known to be; what claims more is not its own.
        let (known_boot, known_answered) = match self.servers.get(&node) {
            Some(server) if server.boot == boot => (boot, server.answered_below),
            Some(server) => (server.boot, 0),
            None => (0, 0),
        };
        if boot > known_boot.saturating_add(SESSION_STEP_MAX)
            || operation.answered_below > known_answered.saturating_add(SESSION_STEP_MAX)
            || operation.answered_below > sequence
        {
            return told(Outcome::Stale);
        }
        match self.servers.get(&node).map(|server| server.boot) {
            Some(newest) if boot < newest => return told(Outcome::Stale),
            Some(newest) if boot == newest => {}
            None if self.servers.len() >= MEMBERS_MAX => {
                return told(no(Refusal::LimitReached(Limit::Members)));
            }
            Some(_) => {
                // A server that starts anew has lost its sockets.
                self.detach_all(node);
                let server = self.servers.get_mut(&node)?;
                server.boot = boot;
                server.answered_below = 1;
                server.said = BTreeMap::new();
            }
            None => {
                let server = Server {
                    boot,
                    answered_below: 1,
                    said: BTreeMap::new(),
                    detachments: 0,
                    detached_ms: 0,
                    detached_to_tell: BTreeSet::new(),
                };
                self.servers.insert(node, server);
            }
        }
        let server = self.servers.get_mut(&node)?;
        if operation.answered_below > server.answered_below {
            server.answered_below = operation.answered_below;
            server.said = server.said.split_off(&server.answered_below);
        }
        if sequence < server.answered_below {
            return told(Outcome::Stale);
        }
        if let Some(known) = server.said.get(&sequence) {
            self.repeated = true;
            return Some(known.clone());
        }
        if sequence - server.answered_below >= OPEN_OPERATIONS_MAX {
            return told(no(Refusal::LimitReached(Limit::OpenOperations)));
        }
        None
    }

    pub(super) fn remember_operation(&mut self, id: OpId, decision: Decision) {
        if let Some(server) = self.servers.get_mut(&id.node) {
            server.said.insert(id.sequence, decision);
        }
    }

    /// An acquire that was given up takes no effect when it comes late.
    pub(super) fn forestall(&mut self, id: OpId) {
        let log_index = self.log_index;
        let server = self.servers.get_mut(&id.node);
        if let Some(server) = server.filter(|server| server.boot == id.boot)
            && id.sequence >= server.answered_below
            && id.sequence - server.answered_below < OPEN_OPERATIONS_MAX
        {
            let outcome = Outcome::Stale;
            let late = Decision { log_index, outcome };
            server.said.entry(id.sequence).or_insert(late);
        }
    }

    pub(super) fn meaning(
        &mut self,
        caller: &Caller,
        endpoint: Endpoint,
        idempotency: Option<&Idempotency>,
    ) -> Result<Meaning, Refusal> {
        let Some(idempotency) = idempotency else {
            return Ok(Meaning::Unnamed);
        };
        let name = Name {
            identity: caller.identity.clone(),
            endpoint,
            key: idempotency.key.clone(),
        };
        let fresh = |name, credit| {
            Meaning::Fresh(Fresh {
                name,
                fingerprint: idempotency.fingerprint,
                credit,
            })
        };
        let known = self.names.get(&name);
        match known.filter(|known| known.until_ms.is_none_or(|ms| ms >= self.now_ms)) {
            Some(known) if known.fingerprint != idempotency.fingerprint => {
                Err(Refusal::IdempotencyMismatch)
            }
            Some(known) => match known.state {
                NamedState::Paid(attempts) => Ok(fresh(name, attempts)),
                ref state => {
                    let state = state.clone();
                    self.repeated = true;
                    Ok(Meaning::Known(state))
                }
            },
            None if self.names.len() >= IDEMPOTENCY_KEYS_MAX => {
                Err(Refusal::LimitReached(Limit::IdempotencyKeys))
            }
            None => Ok(fresh(name, 0)),
        }
    }

    /// Gives a name its meaning; an open one has no end yet.
    pub(super) fn name(&mut self, fresh: &Fresh, state: NamedState) {
        if matches!(&state, NamedState::Refused(refusal) if is_no_answer(refusal)) {
            return;
        }
        self.forget_name(&fresh.name);
        self.numbers += 1;
        let open = matches!(state, NamedState::Open(..));
        let named = Named {
            fingerprint: fresh.fingerprint,
            number: self.numbers,
            state,
            until_ms: None,
        };
        self.names.insert(fresh.name.clone(), named);
        if !open {
            self.end_later(&fresh.name);
        }
    }

    /// Kept from now on for as long as SPEC.md says.
    fn end_later(&mut self, name: &Name) {
        let until_ms = self.now_ms + IDEMPOTENCY_MS;
        if let Some(named) = self.names.get_mut(name) {
            if let Some(before_ms) = named.until_ms.replace(until_ms) {
                self.agenda.remove(&(Kind::Name, before_ms, named.number));
            }
            let due = (Kind::Name, until_ms, named.number);
            self.agenda.insert(due, Subject::Name(name.clone()));
        }
    }

    pub(super) fn forget_name(&mut self, name: &Name) {
        if let Some(named) = self.names.remove(name)
            && let Some(until_ms) = named.until_ms
        {
            self.agenda.remove(&(Kind::Name, until_ms, named.number));
        }
    }

    /// The wait that an open name stands for is over.
    pub(super) fn settle_name(&mut self, name: &Name, state: NamedState) {
        if let Some(named) = self.names.get_mut(name)
            && matches!(named.state, NamedState::Open(..))
        {
            named.state = state;
            self.end_later(name);
        }
    }

    /// The grant with this token went back before anyone was told.
    pub(super) fn credit_name(&mut self, name: &Name, ended: u64) {
        if let Some(named) = self.names.get_mut(name)
            && let NamedState::Granted {
                token, attempts, ..
            } = named.state
            && token == ended
        {
            named.state = NamedState::Paid(attempts);
            self.end_later(name);
        }
    }
}

/// Refusals that say that nothing was tried are not kept.
fn is_no_answer(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Unauthorized
            | Refusal::LicenceInactive
            | Refusal::QuotaExceeded { .. }
            | Refusal::LimitReached(_)
            | Refusal::IdempotencyMismatch
    )
}
