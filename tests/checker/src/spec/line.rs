//! Standing in line.

use evermind_lock::command::{Attachment, KeyId, LicenceId, OpId};
use evermind_lock::names::{Holder, IdempotencyKey, Resource};
use evermind_lock::outcome::{CutOff, Event, HeldReason, Limit, Outcome, Refusal};

use super::holding::{Asked, Terms};
use super::numbers::{ATTACHMENTS_PER_WAITER_MAX, DETACHED_MS, IDEMPOTENCY_KEYS_PER_WAITER_MAX};
use super::once::{Endpoint, Name, NamedState};
use super::{Kind, Model, Subject, no};

/// One HTTP request that waits, or waited on a node that is taken for dead.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) operation: OpId,
    pub(super) caller: KeyId,
    pub(super) since_ms: u64,
    /// How often its server's callers had been detached.
    pub(super) generation: u64,
    pub(super) idempotency: Option<IdempotencyKey>,
}

/// One uuid in line.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) holder: Holder,
    /// Which licence admitted it.
    pub(super) licence: LicenceId,
    pub(super) joined_ms: u64,
    pub(super) terms: Terms,
    /// Retries that were made under earlier terms.
    pub(super) polled: u32,
    /// Retries that were paid for before.
    pub(super) credit: u32,
    pub(super) attached: Vec<Request>,
    pub(super) detached: Vec<Request>,
    pub(super) place_ends_ms: Option<u64>,
    pub(super) names: Vec<IdempotencyKey>,
}

impl Wait {
    pub(super) fn new(asked: &Asked, terms: Terms, now_ms: u64, generation: u64) -> Self {
        Self {
            holder: asked.holder.clone(),
            licence: asked.caller.licence,
            joined_ms: now_ms.saturating_sub(asked.waited_ms),
            terms,
            polled: 0,
            credit: asked.credit.saturating_sub(1),
            attached: vec![asked.request(now_ms, generation)],
            detached: Vec::new(),
            place_ends_ms: None,
            names: asked.idempotency.iter().cloned().collect(),
        }
    }

    pub(super) fn request(&self, operation: OpId) -> Option<&Request> {
        let mut all = self.everyone();
        all.find(|request| request.operation == operation)
    }

    /// All who may still want to know.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Request> {
        self.attached.iter().chain(&self.detached)
    }

    pub(super) fn ends_ms(&self) -> u64 {
        self.joined_ms + self.terms.window_ms
    }

    /// `1 + min(retryAttempts, ceil(wait x retryAttempts / window))`, and nothing is taken back.
    pub(super) fn attempts(&self, now_ms: u64) -> u32 {
        let retries = u64::from(self.terms.retry_attempts);
        let waited_ms = now_ms - self.joined_ms;
        let polls = match self.terms.window_ms {
            0 => 0,
            window_ms => (waited_ms * retries).div_ceil(window_ms).min(retries),
        };
        let polls = u32::try_from(polls).expect("no more than retryAttempts");
        1 + polls.max(self.polled)
    }

    fn attempts_given_up(&self) -> u32 {
        1 + self.terms.retry_attempts.max(self.polled)
    }
}

impl Model {
    pub(super) fn join(&mut self, resource: &Resource, wait: Wait) {
        self.places += 1;
        let place = self.places;
        *self.waits_of.entry(resource.identity.clone()).or_default() += 1;
        for request in wait.everyone() {
            let at = (resource.clone(), place);
            self.requests.insert(request.operation, at);
        }
        let standing = (resource.clone(), wait.holder.clone());
        self.standing.insert(standing, place);
        let due = (Kind::Window, wait.ends_ms(), place);
        self.agenda.insert(due, Subject::Lock(resource.clone()));
        let line = self.lines.entry(resource.clone()).or_default();
        line.insert(place, wait);
        self.set_ready(resource, place, true);
    }

    pub(super) fn leave(&mut self, resource: &Resource, place: u64) -> Option<Wait> {
        let line = self.lines.get_mut(resource)?;
        let wait = line.remove(&place)?;
        if line.is_empty() {
            self.lines.remove(resource);
        }
        if let Some(waits) = self.waits_of.get_mut(&resource.identity) {
            *waits -= 1;
        }
        for request in wait.everyone() {
            self.forget_request(request);
        }
        self.standing
            .remove(&(resource.clone(), wait.holder.clone()));
        self.set_ready(resource, place, false);
        self.agenda.remove(&(Kind::Window, wait.ends_ms(), place));
        if let Some(ends_ms) = wait.place_ends_ms {
            self.agenda.remove(&(Kind::Place, ends_ms, place));
        }
        Some(wait)
    }

    fn forget_request(&mut self, request: &Request) {
        let operation = request.operation;
        self.requests.remove(&operation);
        self.tell_no_more(request);
    }

    /// It is attached no longer, so it need not be detached.
    fn tell_no_more(&mut self, request: &Request) {
        let OpId {
            node,
            boot,
            sequence,
        } = request.operation;
        if let Some(server) = self.servers.get_mut(&node) {
            let told = (request.generation, boot, sequence);
            server.detached_to_tell.remove(&told);
        }
    }

    fn set_ready(&mut self, resource: &Resource, place: u64, is_ready: bool) {
        let ready = self.ready.entry(resource.clone()).or_default();
        if is_ready {
            ready.insert(place);
        } else {
            ready.remove(&place);
        }
        if ready.is_empty() {
            self.ready.remove(resource);
        }
        self.follow(resource);
    }

    fn wait_mut(&mut self, resource: &Resource, place: u64) -> Option<&mut Wait> {
        self.lines.get_mut(resource)?.get_mut(&place)
    }

    /// The place of a uuid.
    pub(super) fn place_of(&self, resource: &Resource, holder: &Holder) -> Option<u64> {
        let standing = (resource.clone(), holder.clone());
        self.standing.get(&standing).copied()
    }

    /// One more request of a uuid that is in line.
    pub(super) fn attach(&mut self, resource: &Resource, place: u64, asked: &Asked) -> Outcome {
        let now_ms = self.now_ms;
        let free = !self.grants.contains_key(resource);
        let lease_limit = self.lease_limit(resource);
        let Some(wait) = self.wait_mut(resource, place) else {
            return Outcome::Stale;
        };
        let new_name = asked
            .idempotency
            .as_ref()
            .filter(|name| !wait.names.contains(name));
        let limit = if wait.attached.len() >= ATTACHMENTS_PER_WAITER_MAX {
            Some(Limit::AttachmentsPerWaiter)
        } else if new_name.is_some() && wait.names.len() >= IDEMPOTENCY_KEYS_PER_WAITER_MAX {
            Some(Limit::IdempotencyKeys)
        } else {
            lease_limit.filter(|_| free)
        };
        if let Some(limit) = limit {
            return no(Refusal::LimitReached(limit));
        }
        if let Some(mut terms) = asked.terms {
            terms.window_ms = terms.window_ms.saturating_sub(asked.waited_ms);
            if terms.window_ms == 0 && !free {
                return self.refuse_to_wait(resource, asked, terms);
            }
            // An old request leaves a newer one's wait as it is; otherwise the wait is from now on as
            // its newest request wants it.
            if !asked.is_resumed {
                let before_ms = wait.ends_ms();
                wait.polled = wait.attempts(now_ms) - 1;
                wait.terms = Terms {
                    window_ms: now_ms - wait.joined_ms + terms.window_ms,
                    fifo: wait.terms.fifo,
                    ..terms
                };
                let after_ms = wait.ends_ms();
                self.agenda.remove(&(Kind::Window, before_ms, place));
                let due = (Kind::Window, after_ms, place);
                self.agenda.insert(due, Subject::Lock(resource.clone()));
            }
        }
        let new_name = new_name.cloned();
        if let Some(wait) = self.wait_mut(resource, place) {
            wait.names.extend(new_name);
        }
        let generation = self.generation(asked.operation);
        self.attach_request(resource, place, asked.request(now_ms, generation));
        if free {
            // For whoever comes back it is free since now.
            self.free_since_ms.remove(resource);
            if let Some(granted) = self.hand_over(resource, Some(asked.operation)) {
                return Outcome::Granted(granted);
            }
        }
        Outcome::Queued
    }

    pub(super) fn generation(&self, operation: OpId) -> u64 {
        let server = self.servers.get(&operation.node);
        server.map_or(0, |server| server.detachments)
    }

    fn attach_request(&mut self, resource: &Resource, place: u64, request: Request) {
        let at = (resource.clone(), place);
        self.requests.insert(request.operation, at);
        let Some(wait) = self.wait_mut(resource, place) else {
            return;
        };
        wait.detached
            .retain(|other| other.operation != request.operation);
        wait.attached.push(request);
        if let Some(ends_ms) = wait.place_ends_ms.take() {
            self.agenda.remove(&(Kind::Place, ends_ms, place));
        }
        self.set_ready(resource, place, true);
    }

    /// A wait without anyone attached keeps its place for some time.
    fn keep_place(&mut self, resource: &Resource, place: u64, ends_ms: u64) {
        let Some(wait) = self.wait_mut(resource, place) else {
            return;
        };
        if wait.attached.is_empty() && wait.place_ends_ms.is_none() {
            wait.place_ends_ms = Some(ends_ms);
            let due = (Kind::Place, ends_ms, place);
            self.agenda.insert(due, Subject::Lock(resource.clone()));
            self.set_ready(resource, place, false);
        }
    }

    /// `false` if it was not attached.
    pub(super) fn detach(&mut self, operation: OpId, may_return: bool, ends_ms: u64) -> bool {
        let Some((resource, place)) = self.requests.get(&operation).cloned() else {
            return false;
        };
        let Some(wait) = self.wait_mut(&resource, place) else {
            return false;
        };
        let mut attached = wait.attached.iter();
        let Some(at) = attached.position(|request| request.operation == operation) else {
            return false;
        };
        let request = wait.attached.remove(at);
        let told = request.clone();
        let mut displaced = None;
        if may_return {
            wait.detached.push(request);
            if wait.detached.len() > ATTACHMENTS_PER_WAITER_MAX {
                displaced = Some(wait.detached.remove(0).operation);
            }
        } else {
            self.requests.remove(&operation);
        }
        self.tell_no_more(&told);
        self.keep_place(&resource, place, ends_ms);
        if let Some(displaced) = displaced {
            self.requests.remove(&displaced);
            self.end_displaced(displaced, &resource, place);
        }
        true
    }

    /// A detached request that there is no room for any more: its wait goes on without it.
    fn end_displaced(&mut self, operation: OpId, resource: &Resource, place: u64) {
        let line = self.lines.get(resource);
        let wait = line.and_then(|line| line.get(&place));
        let attempts = wait.map_or(1, |wait| wait.attempts(self.now_ms));
        let refusal = self.held(resource, HeldReason::Detached, attempts);
        self.answer(Event::WaitEnded {
            operation,
            resource: resource.clone(),
            outcome: no(refusal),
        });
    }

    /// Its caller hung up.
    pub(super) fn abandon(&mut self, attachment: &Attachment) -> Outcome {
        let operation = attachment.operation;
        self.forestall(operation);
        self.catch_up_request(&attachment.resource, operation);
        if self.detach(operation, false, self.now_ms + DETACHED_MS) {
            return Outcome::Done;
        }
        if let Some(place) = self.detached_from(attachment) {
            if let Some(wait) = self.wait_mut(&attachment.resource, place) {
                wait.detached.retain(|other| other.operation != operation);
            }
            self.requests.remove(&operation);
            return Outcome::Done;
        }
        self.give_back(&attachment.resource, operation);
        Outcome::Done
    }

    fn detached_from(&self, attachment: &Attachment) -> Option<u64> {
        let (resource, place) = self.requests.get(&attachment.operation)?;
        (*resource == attachment.resource).then_some(*place)
    }

    /// Its caller is still there.
    pub(super) fn reattach(&mut self, attachment: &Attachment) -> Outcome {
        let resource = &attachment.resource;
        self.catch_up_request(resource, attachment.operation);
        let free = !self.grants.contains_key(resource);
        let no_room = free && self.lease_limit(resource).is_some();
        let Some(place) = self.detached_from(attachment) else {
            return Outcome::Done;
        };
        let Some(wait) = self.wait_mut(resource, place) else {
            return Outcome::Done;
        };
        let mut detached = wait.detached.iter();
        let request = detached.find(|request| request.operation == attachment.operation);
        let Some(mut request) = request.cloned() else {
            return Outcome::Done;
        };
        if wait.attached.len() < ATTACHMENTS_PER_WAITER_MAX && !no_room {
            request.generation = self.generation(request.operation);
            self.attach_request(resource, place, request);
            if free {
                self.free_since_ms.remove(resource);
                self.hand_over(resource, None);
            }
        }
        Outcome::Done
    }

    pub(super) fn tell(&mut self, request: &Request, resource: &Resource, outcome: &Outcome) {
        self.answer(Event::WaitEnded {
            operation: request.operation,
            resource: resource.clone(),
            outcome: outcome.clone(),
        });
    }

    /// Ends a wait, and tells everyone.
    pub(super) fn end_wait(&mut self, resource: &Resource, place: u64, reason: HeldReason) {
        let Some(wait) = self.leave(resource, place) else {
            return;
        };
        let attempts = match reason {
            HeldReason::WindowPassed => wait.attempts_given_up(),
            _ => wait.attempts(self.now_ms),
        };
        self.charge_rest(&wait, attempts);
        let refusal = self.held(resource, reason, attempts);
        let outcome = no(refusal.clone());
        let due_ms = match reason {
            HeldReason::WindowPassed => self.now_ms.min(wait.ends_ms() + 1),
            _ => self.now_ms,
        };
        for request in wait.everyone() {
            self.due_ms.insert(request.operation, due_ms);
            self.tell(request, resource, &outcome);
        }
        self.settle(resource, &wait, &NamedState::Refused(refusal));
    }

    /// Nobody came back in time.
    pub(super) fn end_place(&mut self, resource: &Resource, place: u64) {
        let Some(wait) = self.leave(resource, place) else {
            return;
        };
        let ended_ms = wait.place_ends_ms.unwrap_or(self.now_ms);
        let attempts = wait.attempts(ended_ms);
        self.charge_rest(&wait, attempts);
        let outcome = no(self.held(resource, HeldReason::Detached, attempts));
        for request in &wait.detached {
            self.tell(request, resource, &outcome);
        }
        self.forget_names(resource, &wait);
    }

    /// A request's API key is refused since `at_ms`. The wait ends with its last request.
    pub(super) fn cut_off(&mut self, operation: OpId, at_ms: u64, reason: CutOff) {
        let Some((resource, place)) = self.requests.get(&operation).cloned() else {
            return;
        };
        let line = self.lines.get(&resource);
        let wait = line.and_then(|line| line.get(&place));
        if let Some(request) = wait.and_then(|wait| wait.request(operation)).cloned() {
            self.forget_request(&request);
        }
        let Some(wait) = self.wait_mut(&resource, place) else {
            return;
        };
        let attempts = wait.attempts(at_ms);
        wait.attached.retain(|other| other.operation != operation);
        wait.detached.retain(|other| other.operation != operation);
        let is_over = wait.everyone().next().is_none();
        self.due_ms.insert(operation, at_ms);
        self.answer(Event::WaitEnded {
            operation,
            resource: resource.clone(),
            outcome: no(Refusal::CutOff { reason, attempts }),
        });
        if !is_over {
            self.keep_place(&resource, place, at_ms + DETACHED_MS);
        } else if let Some(wait) = self.leave(&resource, place) {
            self.charge_rest(&wait, attempts);
            self.forget_names(&resource, &wait);
        }
    }

    /// A wait pays one attempt when it begins and the rest when it ends.
    pub(super) fn charge_rest(&mut self, wait: &Wait, attempts: u32) {
        self.charge(wait.licence, (attempts - 1).saturating_sub(wait.credit));
    }

    /// All that were named and waited have their answer.
    pub(super) fn settle(&mut self, resource: &Resource, wait: &Wait, state: &NamedState) {
        for key in &wait.names {
            self.settle_name(&acquire_name(resource, key), state.clone());
        }
    }

    fn forget_names(&mut self, resource: &Resource, wait: &Wait) {
        for key in &wait.names {
            self.forget_name(&acquire_name(resource, key));
        }
    }
}

pub(super) fn acquire_name(resource: &Resource, key: &IdempotencyKey) -> Name {
    Name {
        identity: resource.identity.clone(),
        endpoint: Endpoint::Acquire,
        key: key.clone(),
    }
}
