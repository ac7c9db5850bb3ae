//! Seeded bugs: what the proofs must catch, so as to be believed when they find nothing.
//!
//! Here only under `--cfg evermind_mutants`, and then in no build without debug assertions. One such
//! build holds them all; [`pick`] chooses one, or none, for the whole process. Nothing here reads a
//! variable: whoever runs a proof does, and picks. Each bug is one that somebody could have written,
//! in one place (`mutant::is` finds them), with everything around it left as it is.
//!
//! The checks are those of the checker: `M` mutual exclusion as holders believe it, `F1` one token
//! for one uuid, `F2` tokens in real-time order, `Q` the order of the line, `L` linearizable reads,
//! `X` a fenced store; against the committed log, `W0` nothing lost, `W1` real-time order, `W2`
//! no early expiry, `W3` the specification replayed, `W4` once, `W5` equal replicas.
//!
//! | bug | shows once | caught by |
//! | --- | --- | --- |
//! | `early-expiry` | a lease runs out while somebody waits or comes | M W2 W3 |
//! | `lost-fsync` | a majority loses power within moments of an answer | W0 F1, a refused start |
//! | `token-reset-on-restart` | the newest grant has ended when a node restarts; then a grant | F1 F2 W3 W5 |
//! | `double-extend-on-retry` | an extend comes again under its idempotency key | W3 W4 |
//! | `zombie-acquire` | the leader changes, or is slow, under an acquire that is sent again; best with a release in between | W3 W4 |
//! | `grant-to-dead-waiter` | a node with a waiting caller falls silent for over a second, or restarts, and the lock comes free with others in line | W3 Q |
//! | `stale-read` | a read by a follower that lags | L W1 |
//! | `fifo-bypass` | two wait | Q W3 |
//! | `release-of-anothers-lock` | a release with a uuid that does not hold the held lock | M W3 |
//! | `usage-counted-twice` | an acquire comes again under its idempotency key after its grant | W3 by the usage |
//! | `vote-not-persisted` | a node restarts between two elections of one term, or all lose power | W0 W5, a panic |
//! | `ack-before-sync` | the power goes between an answer and its sync, on a majority | W0 W5, a refused start |
//! | `clock-jumps-on-failover` | a leader is elected whose machine has been up for longer than cluster time has run, while leases live | M W2 |
//! | `idempotency-forgotten-by-snapshot` | an operation comes again under its key, a node having restarted or installed a snapshot | W3 W4 W5 |
//! | `waiter-lost-over-snapshot` | a node restarts, or installs a snapshot, while somebody waits; then the lock comes free | W3 W5 |
//! | `hang-up-ends-retried-grant` | a caller hangs up while its acquire is on its way, and comes again under the same uuid | M W3 |
//! | `hand-off-grants-two` | a lock comes free with two in line | M F1 W3 |
//! | `extension-not-kept` | a node restarts, a checkpoint having been written since an extend and before the lease's next change | M W3 W5 |
//! | `damaged-tail-cut` | a bit flips, or a sector is lost, in the newest segment of a stopped node | W0 W5, a refused start |
//! | `deposed-leader-read` | a read through a leader that was cut off less than 1.5 s ago, another having been elected | L W1 |
//! | `over-lease-extended` | a lease is extended while an entry has not yet ended it | M W2 W3 |
//! | `grant-to-over-wait` | a lock comes free while the first of its queue is over and not yet ended | W3 |

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Stands in every program that has these bugs, and in no other.
pub static MARK: &str = "this evermind was built with seeded bugs";

/// Position in [`Mutant::ALL`], from 1; 0 is none.
static PICKED: AtomicU8 = AtomicU8::new(0);

/// A seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// In `lock`, at the grant.
    EarlyExpiry,
    /// In `storage`, where the log is written.
    LostFsync,
    /// In `lock`, where a table is restored.
    TokenResetOnRestart,
    /// In `lock`, at the extend.
    DoubleExtendOnRetry,
    /// In `lock`, where operations are admitted.
    ZombieAcquire,
    /// In `lock`, at the hand-over.
    GrantToDeadWaiter,
    /// In `raft`, at linearizable reads.
    StaleRead,
    /// In `lock`, at the hand-over.
    FifoBypass,
    /// In `lock`, at the release.
    ReleaseOfAnothersLock,
    /// In `lock`, at the acquire.
    UsageCountedTwice,
    /// In `storage`, where votes are kept.
    VoteNotPersisted,
    /// In `storage`, where batches are written.
    AckBeforeSync,
    /// In `raft`, where a term's clock starts.
    ClockJumpsOnFailover,
    /// In `lock`, where a table is restored.
    IdempotencyForgottenBySnapshot,
    /// In `lock`, where a line is restored.
    WaiterLostOverSnapshot,
    /// In `lock`, where a hang-up is taken note of.
    HangUpEndsRetriedGrant,
    /// In `lock`, at the hand-over.
    HandOffGrantsTwo,
    /// In `lock`, at the extend.
    ExtensionNotKept,
    /// In `storage`, where the log is read back.
    DamagedTailCut,
    /// In `raft`, where a leader is asked for a read.
    DeposedLeaderRead,
    /// In `lock`, at the extend.
    OverLeaseExtended,
    /// In `lock`, at the hand-over.
    GrantToOverWait,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 22] = [
        Mutant::EarlyExpiry,
        Mutant::LostFsync,
        Mutant::TokenResetOnRestart,
        Mutant::DoubleExtendOnRetry,
        Mutant::ZombieAcquire,
        Mutant::GrantToDeadWaiter,
        Mutant::StaleRead,
        Mutant::FifoBypass,
        Mutant::ReleaseOfAnothersLock,
        Mutant::UsageCountedTwice,
        Mutant::VoteNotPersisted,
        Mutant::AckBeforeSync,
        Mutant::ClockJumpsOnFailover,
        Mutant::IdempotencyForgottenBySnapshot,
        Mutant::WaiterLostOverSnapshot,
        Mutant::HangUpEndsRetriedGrant,
        Mutant::HandOffGrantsTwo,
        Mutant::ExtensionNotKept,
        Mutant::DamagedTailCut,
        Mutant::DeposedLeaderRead,
        Mutant::OverLeaseExtended,
        Mutant::GrantToOverWait,
    ];

    /// What it is picked by.
    pub fn name(self) -> &'static str {
        self.described().0
    }

    /// One line on what is wrong.
    pub fn about(self) -> &'static str {
        self.described().1
    }

    fn described(self) -> (&'static str, &'static str) {
        match self {
            Mutant::EarlyExpiry => (
                "early-expiry",
                "a lease ends after nine tenths of what its holder was told",
            ),
            Mutant::LostFsync => (
                "lost-fsync",
                "what the log wrote is said to be on disk, and was not synced",
            ),
            Mutant::TokenResetOnRestart => (
                "token-reset-on-restart",
                "the next token is guessed from the leases that live, so ended ones' tokens return",
            ),
            Mutant::DoubleExtendOnRetry => (
                "double-extend-on-retry",
                "an extend that is repeated under its idempotency key extends again",
            ),
            Mutant::ZombieAcquire => (
                "zombie-acquire",
                "a duplicate of an acquire that was decided is taken for a new one",
            ),
            Mutant::GrantToDeadWaiter => (
                "grant-to-dead-waiter",
                "the lock is handed to the first in line although its callers are gone",
            ),
            Mutant::StaleRead => (
                "stale-read",
                "a linearizable read answers from what this node happens to have applied",
            ),
            Mutant::FifoBypass => ("fifo-bypass", "the lock is handed to the last in line"),
            Mutant::ReleaseOfAnothersLock => (
                "release-of-anothers-lock",
                "a release does not look at whose lock it is",
            ),
            Mutant::UsageCountedTwice => (
                "usage-counted-twice",
                "an acquire that is repeated under its idempotency key is charged again",
            ),
            Mutant::VoteNotPersisted => ("vote-not-persisted", "a vote is kept in memory only"),
            Mutant::AckBeforeSync => (
                "ack-before-sync",
                "a batch is acknowledged before it is written and synced",
            ),
            Mutant::ClockJumpsOnFailover => (
                "clock-jumps-on-failover",
                "a new leader's clock starts at its machine's time since boot",
            ),
            Mutant::IdempotencyForgottenBySnapshot => (
                "idempotency-forgotten-by-snapshot",
                "a restored table has no answers of named operations",
            ),
            Mutant::WaiterLostOverSnapshot => (
                "waiter-lost-over-snapshot",
                "a restored line does not know who in it can be granted",
            ),
            Mutant::HangUpEndsRetriedGrant => (
                "hang-up-ends-retried-grant",
                "a hang-up gives back what its uuid holds, whichever request was told of it",
            ),
            Mutant::HandOffGrantsTwo => (
                "hand-off-grants-two",
                "the second in line is told of the grant as well",
            ),
            Mutant::ExtensionNotKept => (
                "extension-not-kept",
                "an extend does not mark its lock as changed, so a checkpoint has the old end",
            ),
            Mutant::DamagedTailCut => (
                "damaged-tail-cut",
                "whatever cannot be read at the log's end is taken for a torn write",
            ),
            Mutant::DeposedLeaderRead => (
                "deposed-leader-read",
                "a leader answers reads without asking whether it still leads",
            ),
            Mutant::OverLeaseExtended => (
                "over-lease-extended",
                "a lease that is over is extended as long as no entry has ended it",
            ),
            Mutant::GrantToOverWait => (
                "grant-to-over-wait",
                "the lock is handed to a wait that is over and not yet ended",
            ),
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No such bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no seeded bug {name:?}; there are: {known}", known = names())]
pub struct UnknownMutant {
    name: String,
}

fn names() -> String {
    Mutant::ALL.map(Mutant::name).join(", ")
}

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Self, UnknownMutant> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|mutant| mutant.name() == name);
        found.ok_or_else(|| UnknownMutant {
            name: name.to_owned(),
        })
    }
}

/// From here on this process has this bug, or none.
pub fn pick(mutant: Option<Mutant>) {
    PICKED.store(
        mutant.map_or(0, |mutant| mutant as u8 + 1),
        Ordering::SeqCst,
    );
}

/// The bug that this process has.
pub fn picked() -> Option<Mutant> {
    let place = PICKED.load(Ordering::SeqCst).checked_sub(1)?;
    Mutant::ALL.get(usize::from(place)).copied()
}

/// Whether this process has this bug.
pub fn is(mutant: Mutant) -> bool {
    black_box(MARK);
    PICKED.load(Ordering::Relaxed) == mutant as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_bug_and_its_place_is_its_number() {
        for (place, mutant) in Mutant::ALL.into_iter().enumerate() {
            assert_eq!(mutant as usize, place);
            assert_eq!(mutant.name().parse(), Ok(mutant));
        }
        assert!("early".parse::<Mutant>().is_err());
    }
}
