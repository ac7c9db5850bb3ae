//! Entries that tell themselves apart.

use std::sync::Arc;

use evermind_lock::command::{Action, Command, Stamp};
use evermind_storage::types::{Entry, LogId, Proposal};
use openraft::EntryPayload;

/// An entry of about `bytes` bytes.
pub fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = if bytes == 0 {
        EntryPayload::Blank
    } else {
        EntryPayload::Normal(Proposal {
            stamp: Stamp {
                cluster_ms: index,
                term,
                wall_ms: 1_700_000_000_000 + index,
            },
            command: Arc::new(Command {
                operation: None,
                action: Action::Found {
                    global_prefix: "x".repeat(bytes),
                },
            }),
        })
    };
    Entry {
        log_id: LogId::new_term_index(term, index),
        payload,
    }
}
