//! What the model holds, for comparing.

use std::collections::BTreeMap;

use evermind_lock::command::LicenceId;
use evermind_lock::command::NodeId;
use evermind_lock::names::{Holder, Resource};
use evermind_lock::outcome::Refusal;

use super::Model;

/// A held lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock<'a> {
    /// Who holds it.
    pub holder: &'a Holder,
    /// The grant's fencing token.
    pub token: u64,
    /// When the lease ends, in cluster ms.
    pub expires_ms: u64,
    /// What its acquire cost.
    pub attempts: u32,
}

/// A held lock and its line, as [`evermind_lock::view::LockView`] shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineView {
    /// The grant's fencing token.
    pub token: u64,
    /// When the lease ends, in cluster ms.
    pub expires_ms: u64,
    /// How many can be granted after it.
    pub waiting: u64,
    /// Whether the holder asked for fifo.
    pub fifo: bool,
}

impl Model {
    /// Cluster time.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The newest start of a node that sent anything.
    pub fn boot_of(&self, node: NodeId) -> Option<u64> {
        self.servers.get(&node).map(|server| server.boot)
    }

    /// The highest fencing token given out.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Who holds a lock.
    pub fn holder(&self, resource: &Resource) -> Option<HeldLock<'_>> {
        let grant = self.grants.get(resource);
        let grant = grant.filter(|grant| grant.expires_ms >= self.now_ms);
        grant.map(|grant| HeldLock {
            holder: &grant.holder,
            token: grant.token,
            expires_ms: grant.expires_ms,
            attempts: grant.attempts,
        })
    }

    /// A held lock and its line; `None` if it is free.
    pub fn line(&self, resource: &Resource) -> Option<LineView> {
        let grant = self.grants.get(resource)?;
        if grant.expires_ms < self.now_ms {
            return None;
        }
        Some(LineView {
            token: grant.token,
            expires_ms: grant.expires_ms,
            waiting: self.waiting(resource),
            fifo: grant.fifo,
        })
    }

    /// Every held lock.
    pub fn held_locks(&self) -> BTreeMap<Resource, LineView> {
        let view = |resource: &Resource| Some((resource.clone(), self.line(resource)?));
        self.grants.keys().filter_map(view).collect()
    }

    /// How many stand in line, detached ones included.
    pub fn waits(&self) -> usize {
        self.standing.len()
    }

    /// How many named operations are remembered.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// What each licence was charged in its current period.
    pub fn used(&self) -> BTreeMap<LicenceId, u64> {
        let used = self.licences.iter();
        used.map(|(id, licence)| (*id, licence.used_at(self.wall_ms)))
            .collect()
    }

    /// What each licence was charged in all periods together.
    pub fn used_ever(&self) -> BTreeMap<LicenceId, u64> {
        let used = self.licences.iter();
        used.map(|(id, licence)| (*id, licence.used_ever)).collect()
    }

    /// Whether an API key is taken, and of whose locks.
    pub fn identity_of(
        &self,
        key: evermind_lock::command::KeyId,
    ) -> Result<evermind_lock::names::IdentityId, Refusal> {
        self.caller(key).map(|caller| caller.identity)
    }
}
