//! W5 while they serve: what live nodes showed of their tables, against the specification at the
//! entry that they had applied. A table as a restart would read it from disk says nothing of the one
//! that answers.

use std::collections::BTreeMap;

use evermind_lock::command::{KeyId, LicenceId, NodeId};

use super::broken;
use crate::committed::Committed;
use crate::spec::Model;
use crate::verdict::{Check, Verdict};

/// One held lock, as a node shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLock {
    /// The grant's fencing token.
    pub token: u64,
    /// What is left of the lease, in cluster ms from the newest applied entry.
    pub expires_in_ms: u64,
    /// How many can be granted after it.
    pub waiting: u64,
    /// Whether the holder asked for fifo.
    pub fifo: bool,
}

/// What a running node showed of its own table: an unconfirmed read, made between two looks at how
/// much it has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveView {
    /// Which node.
    pub node: NodeId,
    /// The newest entry that it had applied before.
    pub from: u64,
    /// The same afterwards.
    pub until: u64,
    /// Whose locks are shown: those of this API key's identity.
    pub caller: KeyId,
    /// Every lock that was held, by its key.
    pub held: BTreeMap<String, LiveLock>,
    /// Where there are more than are shown at once: the last key that is.
    pub through: Option<String>,
    /// What each licence was charged in its current period, where that was asked.
    pub used: Option<BTreeMap<LicenceId, u64>>,
}

impl LiveView {
    /// The API key that nodes are configured with: the first that is ever made.
    pub const FIRST_KEY: KeyId = KeyId(1);

    /// A licence by its public number.
    pub const fn licence(number: u64) -> LicenceId {
        LicenceId(number)
    }
}

/// A view, and why it did not fit where it was last tried.
struct Open<'a> {
    view: &'a LiveView,
    differs: String,
}

/// Goes through the log once more; each view must be what the specification has at one of the
/// entries that it may be of.
pub(super) fn check(committed: &Committed, live: &[LiveView], verdict: &mut Verdict) {
    verdict.live_views += live.len() as u64;
    let mut coming: Vec<&LiveView> = live.iter().collect();
    coming.sort_by_key(|view| view.from);
    let mut coming = coming.into_iter().peekable();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut model = committed.model();
    let first = committed.first_index();
    // A node that has applied nothing says 0, as one does that has applied the entry 0.
    let mut step = |model: &Model, index: u64, verdict: &mut Verdict| {
        while let Some(view) = coming.next_if(|view| view.from <= index) {
            let differs = String::new();
            open.push(Open { view, differs });
        }
        open.retain_mut(|open| match difference(open.view, model) {
            None => false,
            Some(differs) if open.view.until <= index => {
                unlike(open.view, &differs, verdict);
                false
            }
            Some(differs) => {
                open.differs = differs;
                true
            }
        });
    };
    if first > 0 {
        step(&model, 0, verdict);
    }
    for entry in committed.iter() {
        model.apply(entry.at, entry.command);
        step(&model, entry.at.log_index, verdict);
    }
    for open in open {
        unlike(open.view, &open.differs, verdict);
    }
    for view in coming {
        unlike(view, "the committed log ends before", verdict);
    }
}

fn unlike(view: &LiveView, differs: &str, verdict: &mut Verdict) {
    let entries = if view.from == view.until {
        format!("entry {}", view.from)
    } else {
        format!("some entry from {} to {}", view.from, view.until)
    };
    let what = format!(
        "node {} served another table than the specification has at {entries}: {differs}",
        view.node
    );
    broken(verdict, Check::W5, what);
}

/// How a view is not what the model has; `None` where it is.
fn difference(view: &LiveView, model: &Model) -> Option<String> {
    let identity = match model.identity_of(view.caller) {
        Ok(identity) => identity,
        Err(refusal) => return Some(format!("its API key is refused: {refusal:?}")),
    };
    let held = model.held_locks();
    let is_shown = |key: &str| view.through.as_deref().is_none_or(|last| key <= last);
    let own = held
        .iter()
        .filter(|(lock, _)| lock.identity == identity && is_shown(lock.key.as_str()));
    let own: BTreeMap<&str, LiveLock> = own
        .map(|(resource, lock)| {
            let lock = LiveLock {
                token: lock.token,
                expires_in_ms: lock.expires_ms.saturating_sub(model.now_ms()),
                waiting: lock.waiting,
                fifo: lock.fifo,
            };
            (resource.key.as_str(), lock)
        })
        .collect();
    let shown = view.held.keys().map(String::as_str);
    let mut keys = shown.chain(own.keys().copied());
    let differs = keys.find(|key| view.held.get(*key) != own.get(key));
    if let Some(key) = differs {
        let (theirs, ours) = (view.held.get(key), own.get(key));
        return Some(format!("'{key}' is {theirs:?}, not {ours:?}"));
    }
    let used = view.used.as_ref()?;
    let counted = model.used();
    (*used != counted).then(|| format!("charged {used:?}, not {counted:?}"))
}
