//! Waits whose API key is refused: deleted, or of a licence that was revoked or has expired.

use super::hold::acquire_id;
use super::{Entry, LockTable, refused};
use crate::command::{KeyId, LicenceId, OpId};
use crate::limits::DETACHED_MS;
use crate::names::Resource;
use crate::outcome::{CutOff, Event, Refusal};
use crate::record::{CutOffAt, RecordKey};

impl LockTable {
    /// Notes which licences' dates have come: their waits are over.
    pub(super) fn cut_off_expired(&mut self) {
        let wall_ms = self.wall_ms();
        while let Some((expires_ms, licence)) = self.index.accounts.expiries.first().copied()
            && expires_ms <= wall_ms
        {
            self.index.accounts.expiries.pop_first();
            self.cut_off_licence(licence);
        }
    }

    pub(super) fn cut_off_licence(&mut self, licence: LicenceId) {
        let keys = self.index.accounts.keys_of.get(&licence);
        for key in keys.cloned().unwrap_or_default() {
            self.cut_off(key, CutOff::LicenceInactive);
        }
    }

    /// From now on every wait of an API key is over. Costs the same however many there are; they end
    /// in pieces.
    pub(super) fn cut_off(&mut self, key: KeyId, reason: CutOff) {
        if self.first_wait_of(key).is_none() {
            return;
        }
        let at_ms = self.now_ms();
        let cut_off = CutOffAt { at_ms, reason };
        // The first reason stands: what is over is not over again.
        self.state.meta.cut_off.entry(key).or_insert(cut_off);
        self.touched.insert(RecordKey::Meta);
    }

    fn first_wait_of(&self, key: KeyId) -> Option<(Resource, u64)> {
        let op = |number| OpId {
            node: number,
            boot: number,
            sequence: number,
        };
        let all = (key, op(0))..=(key, op(u64::MAX));
        let (_, wait) = self.index.accounts.callers.range(all).next()?;
        Some(wait.clone())
    }

    /// Ends one wait of an API key that is refused; after the last, forgets the key.
    pub(super) fn end_cut_off(&mut self, entry: &mut Entry<'_>, key: KeyId) {
        if let Some((resource, place)) = self.first_wait_of(key) {
            self.catch_up_wait(entry, &resource, place);
        } else {
            self.state.meta.cut_off.remove(&key);
            self.touched.insert(RecordKey::Meta);
        }
    }

    /// Answers the requests of a wait whose API keys are refused. The wait itself ends with its last
    /// request.
    pub(super) fn catch_up_cut_off(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        place: u64,
    ) {
        let lock = self.state.locks.get(resource);
        let Some(waiter) = lock.and_then(|lock| lock.queue.at(place)) else {
            return;
        };
        let cut_offs = &self.state.meta.cut_off;
        let mut cut_off: Vec<_> = waiter
            .callers()
            .filter_map(|a| Some(((a.caller, a.operation), *cut_offs.get(&a.caller)?)))
            .collect();
        cut_off.sort_by_key(|(caller, cut_off)| (cut_off.at_ms, *caller));
        for (caller, cut_off) in cut_off {
            entry.spend();
            self.cut_off_one(entry, caller, resource, place, cut_off);
        }
    }

    /// Ends one request's wait as at the moment its key was refused.
    fn cut_off_one(
        &mut self,
        entry: &mut Entry<'_>,
        caller: (KeyId, OpId),
        resource: &Resource,
        place: u64,
        cut_off: CutOffAt,
    ) {
        let operation = caller.1;
        let CutOffAt { at_ms, reason } = cut_off;
        self.index.accounts.callers.remove(&caller);
        self.index.ties.remove(operation);
        let ends_ms = at_ms.saturating_add(DETACHED_MS);
        let (mut attempts, mut is_over, mut detached) = (1, false, false);
        self.change_lock(resource, |lock| {
            lock.queue.change(place, |waiter| {
                attempts = waiter.attempts(at_ms);
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
        entry.answer(Event::WaitEnded {
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
        for key in &waiter.records {
            self.forget(&acquire_id(resource, key));
        }
    }
}
