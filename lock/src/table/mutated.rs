//! What the seeded bugs in the table need beside their one line in its rules.

use super::{Entry, LockTable, State};
use crate::command::{Extend, OpId};
use crate::grant::Grant;
use crate::mutant::{self, Mutant};
use crate::names::Resource;
use crate::outcome::{Event, Granted, Outcome};
use crate::queue::Queue;

/// Who is handed the lock: `first` is the first that can be.
pub(super) fn place(queue: &Queue, first: u64) -> u64 {
    let place = if mutant::is(Mutant::GrantToDeadWaiter) {
        queue.iter().next().map(|waiter| waiter.place)
    } else if mutant::is(Mutant::FifoBypass) {
        let alive = queue.iter().filter(|waiter| !waiter.attached.is_empty());
        alive.last().map(|waiter| waiter.place)
    } else {
        None
    };
    place.unwrap_or(first)
}

/// A grant whose holder is told `lease_ms`. Never so short that it is due at once.
pub(super) fn shortened(mut grant: Grant, lease_ms: u64) -> Grant {
    if mutant::is(Mutant::EarlyExpiry) {
        grant.expires_at_ms -= lease_ms / 10;
    }
    grant
}

/// The next token, as if it followed from the leases that live.
pub(super) fn guessed_token(state: &State) -> u64 {
    let grants = state.locks.iter();
    let tokens = grants.filter_map(|(_, lock)| Some(lock.grants.current()?.fencing_token));
    1 + tokens.max().unwrap_or(0)
}

impl LockTable {
    /// Whether a duplicate of this operation, which is an acquire, goes through. One that waits is
    /// left alone: its wait would count it twice.
    pub(super) fn is_zombie(&self, operation: OpId) -> bool {
        mutant::is(Mutant::ZombieAcquire) && self.index.ties.get(operation).is_none()
    }

    /// Extends a lease that is over and not yet ended.
    pub(super) fn extend_over(&mut self, extend: &Extend) -> Option<Outcome> {
        let resource = self.resource_of(extend.caller, &extend.key)?;
        let grant = self.state.locks.get(&resource)?.grants.of(&extend.holder)?;
        if !grant.is_over(self.now_ms()) {
            return None;
        }
        // The new end counts from now, as for a lease that still stands.
        let late_ms = self.now_ms() - grant.expires_at_ms;
        let anew_ms = late_ms + extend.extend_by_ms;
        let extended = self.extend_anew(&resource, &extend.holder, anew_ms);
        let (fencing_token, expires_in_ms) = extended.ok()?;
        Some(Outcome::Extended {
            fencing_token,
            expires_in_ms,
        })
    }

    /// Whether nothing has marked this lock as changed since the last checkpoint.
    pub(super) fn is_unmarked(&self, resource: &Resource) -> bool {
        !self.touched.has_lock(resource)
    }

    /// Who holds a resource, by token.
    pub(super) fn current_token(&self, resource: &Resource) -> Option<u64> {
        let lock = self.state.locks.get(resource)?;
        Some(lock.grants.current()?.fencing_token)
    }

    /// Tells the first of those that stay in line of the grant that is about to be made.
    pub(super) fn wake_second(&self, entry: &mut Entry<'_>, resource: &Resource) {
        let lock = self.state.locks.get(resource);
        let Some(second) = lock.and_then(|lock| lock.queue.at(lock.queue.first_attached()?)) else {
            return;
        };
        for attached in &second.attached {
            entry.events.push(Event::WaitEnded {
                operation: attached.operation,
                resource: resource.clone(),
                outcome: Outcome::Granted(Granted {
                    holder: second.holder.clone(),
                    fencing_token: self.state.meta.next_token,
                    expires_in_ms: second.lease_ms,
                    waited_ms: self.now_ms() - attached.since_ms,
                    attempts: second.attempts(self.now_ms()),
                }),
            });
        }
    }
}
