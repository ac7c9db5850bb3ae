//! What may be seen of the locks.

use serde::{Deserialize, Serialize};

use crate::names::Key;

/// A held lock, as anyone of its identity may see it. Never the holder's uuid: it is the right to
/// release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Which.
    pub key: Key,
    /// The grant's.
    pub fencing_token: u64,
    /// Until its lease ends, in cluster ms from the newest applied entry.
    pub expires_in_ms: u64,
    /// How many stand in line. Who is gone, and whose place is only kept, does not count.
    pub waiting: u64,
    /// Whether the holder asked for fifo.
    pub fifo: bool,
}

/// Some of an identity's locks, in the byte order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocksPage {
    /// The locks.
    pub locks: Vec<LockView>,
    /// Where the next page starts (after this key); `None` at the end.
    pub next_after: Option<Key>,
}
