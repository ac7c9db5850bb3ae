//! What is over, and ends in pieces: docs/time.md.

use std::collections::BTreeSet;

use evermind_lock::command::{KeyId, NodeId, OpId};
use evermind_lock::names::{Holder, Key, Resource};
use evermind_lock::outcome::{Event, HeldReason};

use super::line::Request;
use super::numbers::DETACHED_MS;
use super::{Kind, Model, Subject};

/// What one entry ends, grants and detaches at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pieces {
    of_expire: u32,
    of_command: u32,
}

impl Default for Pieces {
    fn default() -> Self {
        Self {
            of_expire: 1_000,
            of_command: 16,
        }
    }
}

impl Pieces {
    pub(super) fn of(self, is_expire: bool) -> u32 {
        if is_expire {
            self.of_expire
        } else {
            self.of_command
        }
    }
}

/// Where a lock is in the agenda, or in the list of those to grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    Lease((Kind, u64, u64)),
    ToGrant(u64),
}

impl Model {
    /// The same model with other pieces.
    #[must_use]
    pub fn in_pieces(mut self, of_expire: u32, of_command: u32) -> Self {
        self.pieces = Pieces {
            of_expire,
            of_command,
        };
        self
    }

    pub(super) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// A caller that is answered counts as eleven more.
    pub(super) fn answer(&mut self, event: Event) {
        self.left = self.left.saturating_sub(11);
        self.events.push(event);
    }

    /// Puts a lock where it belongs, after its grant or the first of its line has changed.
    pub(super) fn follow(&mut self, resource: &Resource) {
        let first = self.ready.get(resource).and_then(BTreeSet::first);
        let now = match (self.grants.get(resource), first) {
            (Some(grant), first) => {
                let kind = first.map_or(Kind::Lease, |_| Kind::Contended);
                Some(Follows::Lease((kind, grant.expires_ms, grant.token)))
            }
            (None, Some(first)) => Some(Follows::ToGrant(*first)),
            (None, None) => None,
        };
        let before = match now {
            Some(now) => self.follows.insert(resource.clone(), now),
            None => self.follows.remove(resource),
        };
        if before == now {
            return;
        }
        match before {
            Some(Follows::Lease(due)) => drop(self.agenda.remove(&due)),
            Some(Follows::ToGrant(place)) => drop(self.to_grant.remove(&place)),
            None => {}
        }
        match now {
            Some(Follows::Lease(due)) => {
                self.agenda.insert(due, Subject::Lock(resource.clone()));
            }
            Some(Follows::ToGrant(place)) => drop(self.to_grant.insert(place, resource.clone())),
            None => {}
        }
    }

    /// The first of a kind, if it is over.
    fn due(&self, kind: Kind) -> Option<(u64, Subject)> {
        let first = (kind, 0, 0)..=(kind, u64::MAX, u64::MAX);
        let ((_, end_ms, number), subject) = self.agenda.range(first).next()?;
        (*end_ms < self.now_ms).then(|| (*number, subject.clone()))
    }

    /// How much is over and not yet ended, or free and not yet granted.
    pub(super) fn overdue(&self) -> u64 {
        let kinds = [Kind::Window, Kind::Contended, Kind::Place, Kind::Lease];
        let over = kinds.into_iter().map(|kind| {
            let until = (kind, 0, 0)..(kind, self.now_ms, 0);
            self.agenda.range(until).count()
        });
        let waits = self.cut_off.len() + self.to_grant.len();
        (over.sum::<usize>() + waits) as u64
    }

    /// Whether something is over and not yet ended, or free and not yet granted.
    pub fn is_behind(&self) -> bool {
        let kinds = [
            Kind::Window,
            Kind::Contended,
            Kind::Place,
            Kind::Lease,
            Kind::Name,
        ];
        !self.to_grant.is_empty()
            || !self.cut_off.is_empty()
            || self.first_detached().is_some()
            || kinds.iter().any(|kind| self.due(*kind).is_some())
    }

    /// The wait of the first request whose server was taken for dead since, and that does not know.
    fn first_detached(&self) -> Option<(Resource, u64)> {
        self.servers.iter().find_map(|(node, server)| {
            let (_, boot, sequence) = *server.detached_to_tell.first()?;
            let operation = OpId {
                node: *node,
                boot,
                sequence,
            };
            self.requests.get(&operation).cloned()
        })
    }

    pub(super) fn end_over(&mut self) {
        while self.left > 0 {
            let grant = self.to_grant.first_key_value().map(|(_, r)| r.clone());
            if let Some(resource) = grant {
                self.hand_over(&resource, None);
            } else if let Some((place, Subject::Lock(resource))) = self.due(Kind::Window) {
                self.catch_up_wait(&resource, place);
            } else if let Some((_, Subject::Lock(resource))) = self.due(Kind::Contended) {
                self.end_grant(&resource);
            } else if let Some((resource, place)) = self.first_detached() {
                self.catch_up_wait(&resource, place);
            } else if let Some((key, _)) = self.cut_off.first_key_value() {
                let key = *key;
                match self.first_wait_of(key) {
                    Some((resource, place)) => self.catch_up_wait(&resource, place),
                    None => drop(self.cut_off.remove(&key)),
                }
            } else if let Some((place, Subject::Lock(resource))) = self.due(Kind::Place) {
                self.catch_up_wait(&resource, place);
            } else if let Some((_, Subject::Lock(resource))) = self.due(Kind::Lease) {
                self.end_grant(&resource);
            } else if let Some((_, Subject::Name(name))) = self.due(Kind::Name) {
                self.spend();
                self.forget_name(&name);
            } else {
                return;
            }
        }
    }

    /// A request that waits with this API key.
    pub(super) fn first_wait_of(&self, key: KeyId) -> Option<(Resource, u64)> {
        let its_own = |(operation, (resource, place)): (&OpId, &(Resource, u64))| {
            let wait = self.lines.get(resource)?.get(place)?;
            let request = wait.request(*operation)?;
            (request.caller == key).then(|| (resource.clone(), *place))
        };
        self.requests.iter().find_map(its_own)
    }

    /// Before a command looks at a lock under a holder's name.
    pub(super) fn catch_up(&mut self, resource: &Resource, holder: &Holder) {
        if !self.is_behind() {
            return;
        }
        if let Some(place) = self.place_of(resource, holder) {
            self.catch_up_wait(resource, place);
        }
        self.catch_up_grant(resource);
    }

    pub(super) fn catch_up_for(&mut self, caller: KeyId, key: &Key, holder: &Holder) {
        let Some(known) = self.keys.get(&caller) else {
            return;
        };
        let Some(licence) = self.licences.get(&known.licence) else {
            return;
        };
        let resource = Resource {
            identity: licence.identity.clone(),
            key: key.clone(),
        };
        self.catch_up(&resource, holder);
    }

    pub(super) fn catch_up_request(&mut self, resource: &Resource, operation: OpId) {
        if !self.is_behind() {
            return;
        }
        if let Some((waits_for, place)) = self.requests.get(&operation).cloned() {
            self.catch_up_wait(&waits_for, place);
        }
        self.catch_up_grant(resource);
    }

    fn catch_up_grant(&mut self, resource: &Resource) {
        match self.grants.get(resource) {
            Some(grant) if grant.expires_ms < self.now_ms => self.end_grant(resource),
            Some(_) => {}
            None => drop(self.hand_over(resource, None)),
        }
    }

    /// Whether a detached request lost its place, although its wait goes on.
    pub(super) fn is_gone(&self, detached: &Request) -> bool {
        let OpId { node, boot, .. } = detached.operation;
        let server = self.servers.get(&node);
        server.is_none_or(|s| s.boot > boot || self.now_ms > s.detached_ms + DETACHED_MS)
    }

    /// Whether a request still waits.
    fn is_connected(&self, request: &Request) -> bool {
        let server = self.servers.get(&request.operation.node);
        server.is_some_and(|server| server.detachments == request.generation)
            && !self.cut_off.contains_key(&request.caller)
    }

    /// How many have somebody attached.
    pub(super) fn waiting(&self, resource: &Resource) -> u64 {
        let ready = self.ready.get(resource);
        ready.map_or(0, |ready| ready.len() as u64)
    }

    /// Whether a wait can be granted as it is.
    pub(super) fn is_whole(&self, resource: &Resource, place: u64) -> bool {
        let line = self.lines.get(resource);
        let Some(wait) = line.and_then(|line| line.get(&place)) else {
            return false;
        };
        let cut_off = |request: &Request| self.cut_off.contains_key(&request.caller);
        wait.ends_ms() >= self.now_ms
            && wait.attached.iter().all(|r| self.is_connected(r))
            && !wait.everyone().any(cut_off)
    }

    /// Ends what is over of one wait, each as at its end.
    pub(super) fn catch_up_wait(&mut self, resource: &Resource, place: u64) {
        self.spend();
        self.tell_detached(resource, place);
        if !self.end_if_past(resource, place) {
            self.tell_cut_off(resource, place);
            self.end_if_past(resource, place);
        }
    }

    fn tell_detached(&mut self, resource: &Resource, place: u64) {
        let line = self.lines.get(resource);
        let Some(wait) = line.and_then(|line| line.get(&place)) else {
            return;
        };
        let mut apart = Vec::new();
        for request in &wait.attached {
            let server = &self.servers[&request.operation.node];
            if server.detachments != request.generation {
                let may_return = request.operation.boot == server.boot;
                apart.push((request.operation, may_return, server.detached_ms));
            }
        }
        apart.sort_by_key(|(operation, _, at_ms)| (*at_ms, *operation));
        for (operation, may_return, at_ms) in apart {
            self.spend();
            self.detach(operation, may_return, at_ms + DETACHED_MS);
            self.events.push(Event::Detached { operation });
        }
    }

    /// `true` if the wait is gone.
    fn end_if_past(&mut self, resource: &Resource, place: u64) -> bool {
        let line = self.lines.get(resource);
        let Some(wait) = line.and_then(|line| line.get(&place)) else {
            return true;
        };
        let refused = |request: &Request| self.cut_off.get(&request.caller).map(|at| at.0);
        let refused_ms = wait.everyone().filter_map(refused).min();
        let place_ms = wait.place_ends_ms.unwrap_or(u64::MAX);
        let window_ms = wait.ends_ms();
        let first_ms = place_ms.min(window_ms);
        if first_ms >= self.now_ms || refused_ms.is_some_and(|ms| ms <= first_ms) {
            return false;
        }
        if window_ms <= place_ms {
            self.end_wait(resource, place, HeldReason::WindowPassed);
        } else {
            self.end_place(resource, place);
        }
        true
    }

    fn tell_cut_off(&mut self, resource: &Resource, place: u64) {
        let line = self.lines.get(resource);
        let Some(wait) = line.and_then(|line| line.get(&place)) else {
            return;
        };
        let mut refused = Vec::new();
        for request in wait.everyone() {
            if let Some((at_ms, reason)) = self.cut_off.get(&request.caller) {
                refused.push((*at_ms, request.caller, request.operation, *reason));
            }
        }
        refused.sort_by_key(|(at_ms, caller, operation, _)| (*at_ms, *caller, *operation));
        for (at_ms, _, operation, reason) in refused {
            self.spend();
            self.cut_off(operation, at_ms, reason);
        }
    }

    /// A server was taken for dead: all of its requests are detached since now.
    pub(super) fn detach_node(&mut self, node: NodeId, boot: u64) {
        let its_own = |operation: &OpId| operation.node == node;
        let Some(server) = self.servers.get(&node) else {
            return;
        };
        let generation = server.detachments;
        let stands = |request: &Request| request.generation == generation;
        let mut requests = self.requests.iter().filter(|(id, _)| its_own(id));
        let attached = requests.any(|(operation, (resource, place))| {
            let wait = self.lines.get(resource).and_then(|line| line.get(place));
            let mut attached = wait.into_iter().flat_map(|wait| &wait.attached);
            attached.any(|request| request.operation == *operation && stands(request))
        });
        if boot >= server.boot && attached {
            self.detach_all(node);
        }
    }

    /// From now on all that a server has attached counts as detached.
    pub(super) fn detach_all(&mut self, node: NodeId) {
        let now_ms = self.now_ms;
        let mut to_tell = Vec::new();
        for (operation, (resource, place)) in &self.requests {
            let wait = self.lines.get(resource).and_then(|line| line.get(place));
            let mut attached = wait.into_iter().flat_map(|wait| &wait.attached);
            if operation.node == node
                && let Some(request) = attached.find(|r| r.operation == *operation)
            {
                to_tell.push((request.generation, operation.boot, operation.sequence));
            }
        }
        if let Some(server) = self.servers.get_mut(&node) {
            server.detachments += 1;
            server.detached_ms = now_ms;
            server.detached_to_tell.extend(to_tell);
        }
    }
}
