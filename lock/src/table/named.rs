//! Operations with an idempotency key.

use super::licences::Caller;
use super::{LockTable, refused};
use crate::command::{Idempotency, KeyId};
use crate::idempotency::{Answer, Endpoint, IdempotencyId, IdempotencyRecord, IdempotencyState};
use crate::limits::{IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_MS};
use crate::names::{Holder, Resource};
use crate::outcome::{Limit, Outcome, Refusal};
use crate::record::RecordKey;

/// What the table knows of an operation's name.
pub(super) enum Recall {
    /// It has none.
    Unnamed,
    /// Not seen before, and there is room for it.
    New(Named),
    /// An acquire that still waits: on what, and as whom.
    Open(Resource, Holder),
    /// Decided.
    Answered(Answer),
}

/// A record to be made once the operation is decided.
pub(super) struct Named {
    id: IdempotencyId,
    fingerprint: [u8; 16],
    /// Attempts that were paid for when it came before, and nobody was told.
    credit: u32,
}

impl Named {
    pub(super) fn credit(&self) -> u32 {
        self.credit
    }
}

impl LockTable {
    /// Whose operation this is, and what is known of its name.
    pub(super) fn recall(
        &mut self,
        caller: KeyId,
        endpoint: Endpoint,
        idempotency: Option<&Idempotency>,
    ) -> Result<(Caller, Recall), Refusal> {
        let caller = self.caller(caller)?;
        let Some(Idempotency { key, fingerprint }) = idempotency.cloned() else {
            return Ok((caller, Recall::Unnamed));
        };
        let id = IdempotencyId {
            identity: caller.identity.clone(),
            endpoint,
            key,
        };
        let now_ms = self.now_ms();
        let record = self.state.idempotency.get(&id);
        // One that is over is not there, whether or not it was removed.
        let record = record.filter(|r| r.state.until_ms().is_none_or(|ms| ms >= now_ms));
        let recall = match record {
            Some(record) if record.fingerprint != fingerprint => {
                return Err(Refusal::IdempotencyMismatch);
            }
            Some(record) => match record.state.clone() {
                IdempotencyState::Open { resource, holder } => Recall::Open(resource, holder),
                IdempotencyState::Done { answer, .. } => Recall::Answered(answer),
                IdempotencyState::Paid { attempts, .. } => {
                    let credit = attempts;
                    Recall::New(Named {
                        id,
                        fingerprint,
                        credit,
                    })
                }
            },
            None if self.state.idempotency.len() >= IDEMPOTENCY_KEYS_MAX => {
                return Err(Refusal::LimitReached(Limit::IdempotencyKeys));
            }
            None => Recall::New(Named {
                id,
                fingerprint,
                credit: 0,
            }),
        };
        Ok((caller, recall))
    }

    /// Keeps what a named acquire came to.
    pub(super) fn remember_acquire(
        &mut self,
        named: Named,
        resource: Resource,
        holder: Holder,
        outcome: &Outcome,
    ) {
        match outcome {
            Outcome::Queued => {
                self.keep(named, IdempotencyState::Open { resource, holder });
            }
            Outcome::Granted(granted) => {
                let answer = Answer::Granted {
                    resource,
                    holder,
                    fencing_token: granted.fencing_token,
                    attempts: granted.attempts,
                };
                self.remember(named, answer);
            }
            Outcome::Refused(refusal) => self.remember_refusal(named, refusal),
            _ => {}
        }
    }

    /// Keeps a refusal, unless it says that nothing was tried.
    pub(super) fn remember_refusal(&mut self, named: Named, refusal: &Refusal) {
        if !matches!(
            refusal,
            Refusal::Unauthorized
                | Refusal::LicenceInactive
                | Refusal::QuotaExceeded { .. }
                | Refusal::LimitReached(_)
                | Refusal::IdempotencyMismatch
        ) {
            self.remember(named, Answer::Refused(refusal.clone()));
        }
    }

    /// Keeps an answer.
    pub(super) fn remember(&mut self, named: Named, answer: Answer) {
        let until_ms = self.now_ms().saturating_add(IDEMPOTENCY_MS);
        self.keep(named, IdempotencyState::Done { answer, until_ms });
    }

    fn keep(&mut self, named: Named, state: IdempotencyState) {
        // One that was paid for gives way to what came of it now.
        self.forget(&named.id);
        let sequence = self.state.meta.next_record;
        self.state.meta.next_record += 1;
        self.touched.insert(RecordKey::Meta);
        self.touched
            .insert(RecordKey::Idempotency(named.id.clone()));
        if let IdempotencyState::Done { until_ms, .. } = state {
            let deadlines = &mut self.index.deadlines.idempotency;
            deadlines.insert((until_ms, sequence), named.id.clone());
        }
        let record = IdempotencyRecord {
            fingerprint: named.fingerprint,
            sequence,
            state,
        };
        self.state.idempotency.insert(named.id, record);
    }

    /// Gives an open record its answer.
    pub(super) fn settle(&mut self, id: IdempotencyId, answer: Answer) {
        let until_ms = self.now_ms().saturating_add(IDEMPOTENCY_MS);
        let record = self.state.idempotency.get_mut(&id);
        // One that was paid for before is not this wait's: what came of it is kept anew.
        let is_open = |record: &&mut IdempotencyRecord| record.state.until_ms().is_none();
        let Some(record) = record.filter(is_open) else {
            return;
        };
        record.state = IdempotencyState::Done { answer, until_ms };
        let at = (until_ms, record.sequence);
        self.touched.insert(RecordKey::Idempotency(id.clone()));
        self.index.deadlines.idempotency.insert(at, id);
    }

    /// Drops a record.
    pub(super) fn forget(&mut self, id: &IdempotencyId) {
        let Some(record) = self.state.idempotency.remove(id) else {
            return;
        };
        if let Some(until_ms) = record.state.until_ms() {
            let deadlines = &mut self.index.deadlines.idempotency;
            deadlines.remove(&(until_ms, record.sequence));
        }
        self.touched.insert(RecordKey::Idempotency(id.clone()));
    }

    /// A named grant was given back, and nobody was told of it: a retry starts anew, and does not pay
    /// twice. The key may stand for something later by now: then its record stays.
    pub(super) fn give_credit(&mut self, id: &IdempotencyId, token: u64) {
        let now_ms = self.now_ms();
        let Some(record) = self.state.idempotency.get_mut(id) else {
            return;
        };
        let IdempotencyState::Done {
            answer:
                Answer::Granted {
                    fencing_token,
                    attempts,
                    ..
                },
            until_ms: before_ms,
        } = &record.state
        else {
            return;
        };
        if *fencing_token != token {
            return;
        }
        let (attempts, before_ms) = (*attempts, *before_ms);
        let until_ms = now_ms.saturating_add(IDEMPOTENCY_MS);
        record.state = IdempotencyState::Paid { attempts, until_ms };
        let sequence = record.sequence;
        self.touched.insert(RecordKey::Idempotency(id.clone()));
        let deadlines = &mut self.index.deadlines.idempotency;
        deadlines.remove(&(before_ms, sequence));
        deadlines.insert((until_ms, sequence), id.clone());
    }

    /// What is left of the lease with this token, if it lives.
    pub(super) fn left_ms(&self, resource: &Resource, fencing_token: u64) -> Option<u64> {
        let lock = self.state.locks.get(resource)?;
        let grant = lock.grants.with_token(fencing_token)?;
        grant.expires_at_ms.checked_sub(self.now_ms())
    }

    /// What a named extend or release is told when it comes again.
    pub(super) fn replay(&self, answer: Answer) -> Outcome {
        match answer {
            Answer::Extended {
                resource,
                fencing_token,
            } => match self.left_ms(&resource, fencing_token) {
                Some(expires_in_ms) => Outcome::Extended {
                    fencing_token,
                    expires_in_ms,
                },
                None => refused(Refusal::GrantEnded { attempts: 0 }),
            },
            Answer::Released => Outcome::Released,
            Answer::Refused(refusal) => refused(refusal),
            // Kept for acquires alone.
            Answer::Granted { .. } => Outcome::Stale,
        }
    }
}
