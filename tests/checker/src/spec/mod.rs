//! SPEC.md section 2 as a program: what each entry must come to, from the entries alone.
//!
//! Written from the specification and not from the server, whose table it shares no code with: the
//! two agree because both are right, or one of them is wrong. Plain maps; each entry costs the
//! logarithm of what is there.

mod accounts;
mod calendar;
mod holding;
mod keeping;
mod line;
mod numbers;
mod once;
mod over;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use evermind_lock::command::{Action, Command, KeyHash, KeyId, LicenceId, NodeId, OpId};
use evermind_lock::names::{Holder, IdentityId, Resource};
use evermind_lock::outcome::{CutOff, Decision, Event, Limit, Outcome, Refusal};
use evermind_lock::table::EntryContext;

use accounts::{Key, Licence};
use holding::Grant;
use line::Wait;
use numbers::MEMBERS_MAX;
use once::{Name, Named, Server};
use over::{Follows, Pieces};

pub use views::{HeldLock, LineView};

/// What an entry came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was decided; blank and membership entries decide nothing.
    pub decision: Option<Decision>,
    /// What this did to waits, in order.
    pub events: Vec<Event>,
    /// Whether the decision repeats one that was made before: of the operation, or of its
    /// `Idempotency-Key`.
    pub repeated: bool,
    /// Of requests that waited: when what this tells them was due, in cluster ms.
    pub due_ms: BTreeMap<OpId, u64>,
    /// How much was over before this entry, and not ended.
    pub overdue: u64,
}

/// What is over ends in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Window,
    /// A lease on what somebody waits for.
    Contended,
    Place,
    Lease,
    Name,
}

/// Of which kind, when, and its number: a token, a place, a name's number.
type Due = (Kind, u64, u64);

#[derive(Debug, Clone)]
enum Subject {
    Lock(Resource),
    Name(Name),
}

/// The whole state that SPEC.md speaks of.
#[derive(Debug, Default)]
pub struct Model {
    now_ms: u64,
    wall_ms: u64,
    /// How many were given out so far, each of which is the number of the last.
    tokens: u64,
    places: u64,
    numbers: u64,
    grants: BTreeMap<Resource, Grant>,
    lines: BTreeMap<Resource, BTreeMap<u64, Wait>>,
    /// The place of each uuid in line.
    standing: BTreeMap<(Resource, Holder), u64>,
    /// Those in line that can be granted.
    ready: BTreeMap<Resource, BTreeSet<u64>>,
    agenda: BTreeMap<Due, Subject>,
    /// Where each lease is in the agenda, and at which place each free lock's line begins.
    follows: BTreeMap<Resource, Follows>,
    /// Free locks that somebody waits for, by the place of the first.
    to_grant: BTreeMap<u64, Resource>,
    /// Since when an API key is refused, and why, while requests with it wait.
    cut_off: BTreeMap<KeyId, (u64, CutOff)>,
    pieces: Pieces,
    /// What is left of the entry's piece.
    left: u32,
    /// Which wait each request is attached to or detached from.
    requests: BTreeMap<OpId, (Resource, u64)>,
    servers: BTreeMap<NodeId, Server>,
    names: BTreeMap<Name, Named>,
    keys: BTreeMap<KeyId, Key>,
    hashes: BTreeMap<KeyHash, KeyId>,
    licences: BTreeMap<LicenceId, Licence>,
    /// Every API key ever made has a number of its own.
    keys_made: u64,
    deleted: BTreeSet<KeyHash>,
    /// The dates that are to come, of licences not revoked.
    dates: BTreeSet<(u64, LicenceId)>,
    /// Leases and waits of each identity.
    leases_of: BTreeMap<IdentityId, usize>,
    waits_of: BTreeMap<IdentityId, usize>,
    members: BTreeMap<NodeId, u128>,
    events: Vec<Event>,
    /// Since when a lock is free that somebody waits for.
    free_since_ms: BTreeMap<Resource, u64>,
    due_ms: BTreeMap<OpId, u64>,
    repeated: bool,
    log_index: u64,
}

impl Model {
    /// Nothing is held, at cluster time 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry.
    pub fn apply(&mut self, at: EntryContext, command: Option<Command>) -> Step {
        let Some(command) = command else {
            // Blank and membership entries carry neither a time nor a command.
            return Step {
                decision: None,
                events: Vec::new(),
                repeated: false,
                due_ms: BTreeMap::new(),
                overdue: 0,
            };
        };
        self.log_index = at.log_index;
        self.repeated = false;
        if let Some(stamp) = at.stamp.filter(|stamp| stamp.term == at.term) {
            self.now_ms = self.now_ms.max(stamp.cluster_ms);
            self.wall_ms = self.wall_ms.max(stamp.wall_ms);
        }
        let overdue = self.overdue();
        let is_expire = matches!(command.action, Action::Expire);
        let piece = self.pieces.of(is_expire);
        self.left = piece;
        self.end_dated_licences();
        self.end_over();
        if !is_expire {
            self.left = piece;
        }
        let decision = self.decide(command);
        self.end_over();
        Step {
            decision: Some(decision),
            events: std::mem::take(&mut self.events),
            repeated: self.repeated,
            due_ms: std::mem::take(&mut self.due_ms),
            overdue,
        }
    }

    fn decide(&mut self, command: Command) -> Decision {
        let log_index = self.log_index;
        if let Some(operation) = command.operation
            && let Some(known) = self.admit(operation)
        {
            return known;
        }
        let id = command.operation.map(|operation| operation.id);
        let outcome = self.act(id, command.action);
        let decision = Decision { log_index, outcome };
        if let Some(id) = id {
            self.remember_operation(id, decision.clone());
        }
        decision
    }

    fn act(&mut self, operation: Option<OpId>, action: Action) -> Outcome {
        match (action, operation) {
            (Action::Acquire(acquire), Some(operation)) => self.acquire(operation, &acquire),
            (Action::Resume(resume), Some(operation)) => self.resume(operation, &resume),
            (Action::Extend(extend), Some(_)) => self.extend(&extend),
            (Action::Release(release), Some(_)) => self.release(&release),
            // What has no name could take effect twice.
            (
                Action::Acquire(_) | Action::Resume(_) | Action::Extend(_) | Action::Release(_),
                None,
            ) => Outcome::Stale,
            (Action::Abandon(attachment), _) => self.abandon(&attachment),
            (Action::Reattach(attachment), _) => self.reattach(&attachment),
            (Action::DetachNode { node, boot }, _) => {
                self.detach_node(node, boot);
                Outcome::Done
            }
            (Action::Expire | Action::Found { .. }, _) => Outcome::Done,
            (Action::RecordMember(member), _) => self.record_member(member.node, member.disk),
            (Action::AddApiKey { hash, identity }, _) => self.add_configured_key(hash, identity),
            (Action::CreateLicence(create), _) => self.create_licence(create),
            (Action::RevokeLicence(licence), _) => self.revoke(licence),
            (Action::CreateApiKey { licence, hash }, _) => self.create_key(&licence, hash),
            (Action::DeleteApiKey { licence, hash }, _) => self.delete_key(&licence, hash),
            (Action::DeleteApiKeyById { licence, key }, _) => self.delete_key_by_id(licence, key),
        }
    }

    fn record_member(&mut self, node: NodeId, disk: u128) -> Outcome {
        if !self.members.contains_key(&node) && self.members.len() >= MEMBERS_MAX {
            return no(Refusal::LimitReached(Limit::Members));
        }
        self.members.entry(node).or_insert(disk);
        Outcome::Done
    }
}

fn no(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}
