//! What is over: past its end, detached or cut off. It is gone for every command and every look,
//! whether or not an entry has removed it.

use super::{Entry, LockTable, State};
use crate::command::{KeyId, OpId};
use crate::grant::Grant;
use crate::limits::DETACHED_MS;
use crate::names::{Holder, Key, Resource};
use crate::outcome::{Event, HeldReason};
use crate::queue::Attached;
use crate::record::Lock;

impl State {
    /// Whether a request still waits: its node was not taken for dead since, and its API key is not
    /// refused.
    fn is_connected(&self, attached: &Attached) -> bool {
        let session = self.sessions.get(&attached.operation.node);
        session.is_some_and(|session| session.detachments == attached.generation)
            && !self.meta.cut_off.contains_key(&attached.caller)
    }

    /// Whether a detached request has lost its place, although its wait goes on for the sake of others:
    /// its node was started anew, or has not come back for it in time.
    pub(super) fn is_gone(&self, detached: &Attached) -> bool {
        let OpId { node, boot, .. } = detached.operation;
        let session = self.sessions.get(&node);
        session.is_none_or(|session| {
            let place_ends_ms = session.detached_ms.saturating_add(DETACHED_MS);
            boot < session.boot || place_ends_ms < self.meta.now_ms
        })
    }

    /// The grant of a lock, unless it is over.
    pub(super) fn grant_of<'a>(&self, lock: &'a Lock) -> Option<&'a Grant> {
        let grant = lock.grants.current();
        grant.filter(|grant| !grant.is_over(self.meta.now_ms))
    }
}

impl LockTable {
    /// Before a command looks at a resource under a holder's name: ends what is over there of the
    /// holder's own wait and of the grant, and hands over what nothing holds.
    pub(super) fn catch_up(&mut self, entry: &mut Entry<'_>, resource: &Resource, holder: &Holder) {
        if !self.is_behind() {
            return;
        }
        if let Some(place) = self.waiter(resource, holder).map(|waiter| waiter.place) {
            self.catch_up_wait(entry, resource, place);
        }
        self.catch_up_grant(entry, resource);
    }

    /// The same, for a caller's key.
    pub(super) fn catch_up_for(
        &mut self,
        entry: &mut Entry<'_>,
        caller: KeyId,
        key: &Key,
        holder: &Holder,
    ) {
        if !self.is_behind() {
            return;
        }
        if let Some(resource) = self.resource_of(caller, key) {
            self.catch_up(entry, &resource, holder);
        }
    }

    /// What a caller means by a key; `None` if its API key is unknown.
    pub(super) fn resource_of(&self, caller: KeyId, key: &Key) -> Option<Resource> {
        let licence = self.index.accounts.licence_of(caller)?;
        Some(Resource {
            identity: self.state.licences.get(&licence)?.identity.clone(),
            key: key.clone(),
        })
    }

    /// Before a command looks at one attachment.
    pub(super) fn catch_up_attachment(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        operation: OpId,
    ) {
        if !self.is_behind() {
            return;
        }
        let ties = &self.index.ties;
        let wait = ties.get(operation).or_else(|| ties.detached(operation));
        if let Some((resource, place)) = wait.cloned() {
            self.catch_up_wait(entry, &resource, place);
        }
        self.catch_up_grant(entry, resource);
    }

    fn catch_up_grant(&mut self, entry: &mut Entry<'_>, resource: &Resource) {
        let Some(lock) = self.state.locks.get(resource) else {
            return;
        };
        match lock.grants.current() {
            Some(grant) if grant.is_over(self.now_ms()) => {
                let token = grant.fencing_token;
                self.end_grant(entry, resource, token);
            }
            Some(_) => {}
            None => {
                self.hand_over(entry, resource, None);
            }
        }
    }

    /// Whether the wait at this place can be granted as it is: nothing of it is over.
    pub(super) fn is_whole(&self, resource: &Resource, place: u64) -> bool {
        let lock = self.state.locks.get(resource);
        let Some(waiter) = lock.and_then(|lock| lock.queue.at(place)) else {
            return false;
        };
        let cut_offs = &self.state.meta.cut_off;
        let is_apart = |attached: &Attached| !self.state.is_connected(attached);
        let is_cut_off = |attached: &Attached| cut_offs.contains_key(&attached.caller);
        waiter.ends_ms() >= self.now_ms()
            && !(self.index.ties.has_over() && waiter.attached.iter().any(is_apart))
            && (cut_offs.is_empty() || !waiter.callers().any(is_cut_off))
    }

    /// Ends what is over of one wait, and the wait itself if that is over, each as at its end however
    /// late this is.
    pub(super) fn catch_up_wait(&mut self, entry: &mut Entry<'_>, resource: &Resource, place: u64) {
        entry.spend();
        if self.index.ties.has_over() {
            self.catch_up_detached(entry, resource, place);
        }
        if self.end_if_past(entry, resource, place) {
            return;
        }
        if !self.state.meta.cut_off.is_empty() {
            self.catch_up_cut_off(entry, resource, place);
            self.end_if_past(entry, resource, place);
        }
    }

    /// Ends a wait whose window or place is past, by what came first; not if its API key was refused
    /// before that. `true` if it is gone.
    fn end_if_past(&mut self, entry: &mut Entry<'_>, resource: &Resource, place: u64) -> bool {
        let lock = self.state.locks.get(resource);
        let Some(waiter) = lock.and_then(|lock| lock.queue.at(place)) else {
            return true;
        };
        let cut_offs = &self.state.meta.cut_off;
        let cut_ms = waiter
            .callers()
            .filter_map(|a| cut_offs.get(&a.caller))
            .map(|cut_off| cut_off.at_ms)
            .min();
        let window_ms = waiter.ends_ms();
        let place_ms = waiter.place_ends_ms.unwrap_or(u64::MAX);
        let first_ms = window_ms.min(place_ms);
        if first_ms >= self.now_ms() || cut_ms.is_some_and(|cut_ms| cut_ms <= first_ms) {
            return false;
        }
        if window_ms <= place_ms {
            self.refuse_wait(entry, resource, place, HeldReason::WindowPassed);
        } else {
            self.drop_place(entry, resource, place);
        }
        true
    }

    /// Detaches the callers whose nodes were taken for dead, or were started anew.
    fn catch_up_detached(&mut self, entry: &mut Entry<'_>, resource: &Resource, place: u64) {
        let lock = self.state.locks.get(resource);
        let Some(waiter) = lock.and_then(|lock| lock.queue.at(place)) else {
            return;
        };
        let mut apart = Vec::new();
        for attached in &waiter.attached {
            let OpId { node, boot, .. } = attached.operation;
            let Some(session) = self.state.sessions.get(&node) else {
                continue;
            };
            if session.detachments != attached.generation {
                // Only a node that still runs can come back for its callers.
                let may_return = boot == session.boot;
                apart.push((attached.operation, may_return, session.detached_ms));
            }
        }
        // In the order in which they were detached: the place is kept from the last on.
        apart.sort_by_key(|(operation, _, at_ms)| (*at_ms, *operation));
        for (operation, may_return, at_ms) in apart {
            entry.spend();
            let ends_ms = at_ms.saturating_add(DETACHED_MS);
            let displaced = self.detach(operation, may_return, ends_ms);
            if let Some(displaced) = displaced {
                self.end_displaced(entry, resource, place, displaced.operation);
            }
            entry.events.push(Event::Detached { operation });
        }
    }

    /// Tells a detached acquire that there is no way back to its wait, which goes on without it.
    fn end_displaced(
        &mut self,
        entry: &mut Entry<'_>,
        resource: &Resource,
        place: u64,
        operation: OpId,
    ) {
        let lock = self.state.locks.get(resource);
        let waiter = lock.and_then(|lock| lock.queue.at(place));
        let attempts = waiter.map_or(1, |waiter| waiter.attempts(self.now_ms()));
        let outcome = self.held(resource, HeldReason::Detached, attempts);
        entry.answer(Event::WaitEnded {
            operation,
            resource: resource.clone(),
            outcome,
        });
    }
}
