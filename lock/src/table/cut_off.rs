//! Waits whose API key is taken no longer.

use super::{Entry, LockTable, refused};
use crate::command::{KeyId, LicenceId, OpId};
use crate::idempotency::{Endpoint, IdempotencyId};
use crate::limits::DETACHED_MS;
use crate::names::Resource;
use crate::outcome::{CutOff, Event, Refusal};

impl LockTable {
    pub(super) fn cut_off_licence(&mut self, entry: &mut Entry<'_>, licence: LicenceId) {
        let keys = self.index.accounts.keys_of.get(&licence);
        for key in keys.cloned().unwrap_or_default() {
            self.cut_off(entry, key, CutOff::LicenceInactive);
        }
    }

    /// Ends every wait of an API key. Costs as much as it has requests waiting.
    pub(super) fn cut_off(&mut self, entry: &mut Entry<'_>, key: KeyId, reason: CutOff) {
        let op = |number| OpId {
            node: number,
            boot: number,
            sequence: number,
        };
        let all = (key, op(0))..=(key, op(u64::MAX));
        let callers = &self.index.accounts.callers;
        let waits: Vec<_> = callers
            .range(all)
            .map(|((_, operation), (resource, place))| (*operation, resource.clone(), *place))
            .collect();
        for (operation, resource, place) in waits {
            self.cut_off_one(entry, (key, operation), &resource, place, reason);
        }
    }

    /// Ends one request's wait; the wait itself ends with its last request.
    fn cut_off_one(
        &mut self,
        entry: &mut Entry<'_>,
        caller: (KeyId, OpId),
        resource: &Resource,
        place: u64,
        reason: CutOff,
    ) {
        let operation = caller.1;
        self.index.accounts.callers.remove(&caller);
        self.index.attached.remove(&operation);
        let now_ms = self.now_ms();
        let ends_ms = now_ms.saturating_add(DETACHED_MS);
        let (mut attempts, mut is_over, mut detached) = (1, false, false);
        self.change_lock(resource, |lock| {
            lock.queue.change(place, |waiter| {
                attempts = waiter.attempts(now_ms);
                waiter.attached.retain(|a| a.operation != operation);
                waiter.detached.retain(|a| a.operation != operation);
                is_over = waiter.callers().next().is_none();
                detached = waiter.attached.is_empty() && waiter.place_ends_ms.is_none();
                if detached {
                    waiter.place_ends_ms = Some(ends_ms);
                }
            });
        });
        if detached {
            let places = &mut self.index.deadlines.places;
            places.insert((ends_ms, place), resource.clone());
        }
        let refusal = Refusal::CutOff { reason, attempts };
        entry.events.push(Event::WaitEnded {
            operation,
            resource: resource.clone(),
            outcome: refused(refusal),
        });
        if !is_over {
            return;
        }
        let Some(waiter) = self.leave(resource, place) else {
            return;
        };
        self.charge_rest(&waiter, attempts);
        // What was named with a key that is gone starts anew under another.
        for key in waiter.records {
            self.forget(&IdempotencyId {
                identity: resource.identity.clone(),
                endpoint: Endpoint::Acquire,
                key,
            });
        }
    }
}
