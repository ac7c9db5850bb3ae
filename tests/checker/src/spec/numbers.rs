//! The contract's numbers, as docs/limits.md has them, written again: the model must not be wrong
//! together with the server.

/// 24 h.
pub(super) const LEASE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// 10 min.
pub(super) const WINDOW_MS_MAX: u64 = 10 * 60 * 1_000;
pub(super) const RETRY_ATTEMPTS_MAX: u32 = 1_000;
/// How long a place whose callers are gone is kept.
pub(super) const DETACHED_MS: u64 = 3_000;
/// How long the answer under an `Idempotency-Key` is kept.
pub(super) const IDEMPOTENCY_MS: u64 = 60_000;
pub(super) const IDEMPOTENCY_KEYS_MAX: usize = 1 << 20;
pub(super) const IDEMPOTENCY_KEYS_PER_WAITER_MAX: usize = 4;
pub(super) const ATTACHMENTS_PER_WAITER_MAX: usize = 16;
/// Open requests of one node.
pub(super) const OPEN_OPERATIONS_MAX: u64 = 65_536;
pub(super) const WAITERS_PER_RESOURCE_MAX: usize = 10_000;
pub(super) const WAITERS_PER_IDENTITY_MAX: usize = 131_072;
pub(super) const LOCKS_PER_IDENTITY_MAX: usize = 2_097_152;
pub(super) const LOCKS_MAX: usize = 4_194_304;
pub(super) const LICENCES_MAX: usize = 16_384;
pub(super) const API_KEYS_MAX: usize = 65_536;
pub(super) const API_KEYS_PER_LICENCE_MAX: usize = 1_024;
/// Of attempts in a period.
pub(super) const ALLOWANCE_MAX: u64 = (1 << 53) - 1;
pub(super) const MEMBERS_MAX: usize = 1_024;
/// How far one operation may raise what is recorded of its node.
pub(super) const SESSION_STEP_MAX: u64 = 1 << 32;
/// Deleted API keys that a licence remembers.
pub(super) const DELETED_KEYS_REMEMBERED: usize = 16;
