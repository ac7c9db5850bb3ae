//! Where the peers are.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use evermind_lock::command::NodeId;

/// `host:port` of every peer, shared and changeable. Names are resolved at each dial, so that a
/// peer that moved behind its name is found again.
#[derive(Debug, Clone, Default)]
pub struct AddressBook {
    entries: Arc<RwLock<BTreeMap<NodeId, String>>>,
}

impl AddressBook {
    /// A book with these entries.
    pub fn new(entries: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        Self {
            entries: Arc::new(RwLock::new(entries.into_iter().collect())),
        }
    }

    /// Where `node` is dialed from now on. Standing connections stay as they are.
    pub fn set(&self, node: NodeId, address: impl Into<String>) {
        self.entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, address.into());
    }

    /// Where `node` is, if that is known.
    pub fn get(&self, node: NodeId) -> Option<String> {
        self.entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .cloned()
    }

    /// Everyone in it.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect()
    }
}
