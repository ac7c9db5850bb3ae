//! Where keys lie in the table: drawn once a process, and told to no one.

use std::sync::OnceLock;

use evermind_lock::shards::HashKey;

/// This process's.
///
/// # Panics
/// If the system gives no randomness.
pub(super) fn hash_key() -> HashKey {
    static KEY: OnceLock<HashKey> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = HashKey::default();
        getrandom::fill(&mut key.0).expect("the system gives randomness");
        key
    })
}
