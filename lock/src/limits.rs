//! Every bound of the rules, in one place. Each holds for the whole cluster, because each is
//! checked by `apply`.

/// Bytes in an identity id.
pub const IDENTITY_BYTES_MAX: usize = 64;
/// Bytes in a key.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes in a holder's uuid or an idempotency key.
pub const HOLDER_BYTES_MAX: usize = 128;
/// The longest lease, and the most that may be left after an extend: 24 h.
pub const LEASE_MS_MAX: u64 = 86_400_000;
/// The longest waiting window: 10 min.
pub const WINDOW_MS_MAX: u64 = 600_000;
/// Retries of one acquire.
pub const RETRY_ATTEMPTS_MAX: u32 = 1000;
/// How long a detached waiter keeps its place.
pub const DETACHED_MS: u64 = 3_000;
/// How long an idempotency key is kept after its answer.
pub const IDEMPOTENCY_MS: u64 = 60_000;
/// Idempotency keys kept in all.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1_048_576;
/// Operations of one node that may be open: above its `answered_below`.
pub const OPEN_OPERATIONS_MAX: u64 = 65_536;
/// Waiters in line for one resource.
pub const WAITERS_PER_RESOURCE_MAX: usize = 10_000;
/// Waiters of one identity.
pub const WAITERS_PER_IDENTITY_MAX: usize = 131_072;
/// Locks held by one identity.
pub const LOCKS_PER_IDENTITY_MAX: usize = 2_097_152;
/// Locks held in all: what a node's memory is sized for.
pub const LOCKS_MAX: usize = 4_194_304;
/// HTTP requests attached to one wait.
pub const ATTACHMENTS_PER_WAITER_MAX: usize = 16;
/// Idempotency keys that one wait settles. Keeps the record of a full queue below 16 MiB.
pub const IDEMPOTENCY_KEYS_PER_WAITER_MAX: usize = 4;
/// Bytes in a licence's name.
pub const LICENCE_NAME_BYTES_MAX: usize = 128;
/// Licences, revoked ones included: their usage is kept. A built-in one finds room
/// beyond it.
pub const LICENCES_MAX: usize = 16_384;
/// API keys in all. Those of the built-in licence, at most [`API_KEYS_PER_LICENCE_MAX`], find room
/// beyond it.
pub const API_KEYS_MAX: usize = 65_536;
/// API keys of one licence.
pub const API_KEYS_PER_LICENCE_MAX: usize = 1_024;
/// Deleted keys that a licence remembers, so that deleting one again is no failure. A built-in one
/// remembers [`API_KEYS_PER_LICENCE_MAX`], as configuration may go on naming them.
pub const DELETED_KEYS_REMEMBERED: usize = 16;
/// Periods in which anything was charged that a licence remembers: two years of months.
pub const PAST_PERIODS_MAX: usize = 24;
/// The most attempts a licence may allow: every JSON reader holds such a number exactly.
pub const ALLOWANCE_MAX: u64 = (1 << 53) - 1;
/// A key's last use is noted when the one noted is older than this, in wall-clock ms.
pub const LAST_USE_EVERY_MS: u64 = 60_000;
/// Members ever seen: ids are never used again.
pub const MEMBERS_MAX: usize = 1_024;
/// How far one operation may raise what is recorded of its node: its boot, and below which sequence
/// it has answered everything. No node gets there in one step, and without a bound one forged
/// operation would make every later one of that node count as old, for ever.
pub const SESSION_STEP_MAX: u64 = 1 << 32;
/// Fencing tokens stay below this, so that every JSON reader holds them exactly.
pub const FENCING_TOKEN_MAX: u64 = (1 << 53) - 1;
/// Leases, waits, places and records that one [`crate::command::Action::Expire`] ends, grants and
/// detachments included: some milliseconds of work, which no other command waits for longer.
pub const PIECE_OF_EXPIRE_MAX: u32 = 1_000;
/// As so many of these counts each caller that is answered because its wait ends: the answer costs its
/// node, and the machine of its caller, far more than the end costs the table. With 3, the 20,000 waits
/// of a deleted key raised other callers' p99 to 100 ms on two processors; with this it stays below 50 ms,
/// and the last of them is answered after 2.3 s.
pub const ANSWER_COST: u32 = 11;
/// The same for every other command, before it and after it: enough that a table with little due is
/// never behind, and so little that a batch of commands costs no more than a piece.
pub const PIECE_OF_COMMAND_MAX: u32 = 16;
