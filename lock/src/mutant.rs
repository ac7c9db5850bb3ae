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
//! no early expiry, `W3` the specification replayed, `W4` once, `W5` equal replicas. Where nothing is
//! wrong, `T1` answered in time, `T2` and `T3` ends and grants told in time, `T5` hang-ups passed on.
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
//! | `read-joins-round` | two reads at one node, and a write answered elsewhere between them | L |
//! | `grant-not-told` | every eighth wait that is granted | T1 T2 T3 |
//! | `tenth-refused` | every tenth operation | T1 |
//! | `forwarded-dropped` | every tenth operation at a follower | T1 |
//! | `snapshot-settles-nothing` | a node is sent a snapshot while callers wait there | T1 |
//! | `hang-up-not-passed-on` | a waiting caller hangs up | T5 |
//! | `untold-grant-kept` | a caller hangs up just as it is granted | W3 W4 |
//! | `ends-late` | a lease or a window ends while little is asked | T1 T2 T3 |
//! | `pre-vote-granted` | a node does not hear its leader, and is heard | a term without a reason |
//! | `never-reattached` | a node stands still for between 1.6 and 2.6 s while callers wait there | T3 |
//! | `all-below-answered` | two operations of one node come to the log in another order than they were sent | W4 |
//! | `lease-told-whole` | an acquire comes again while its lease runs | M W3 |
//! | `look-from-here` | a look at a follower that lags | L |
//! | `window-one-short` | any wait | W0 W4 |
//! | `not-owner-as-not-found` | an extend or a release with a uuid that does not hold the held lock | W3 |
//! | `connection-ends-unsaid` | a request on a connection that had fifty | T1 |
//! | `name-without-body` | an idempotency key comes with another request | W4 |

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Stands in every program that has these bugs, and in no other.
pub static MARK: &str = "this evermind was built with seeded bugs";

/// Position in [`Mutant::ALL`], from 1; 0 is none.
static PICKED: AtomicU8 = AtomicU8::new(0);

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident = $name:literal: $about:literal;)*) => {
        /// A seeded bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        impl Mutant {
            /// Every one.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)*];

            fn described(self) -> (&'static str, &'static str) {
                match self {
                    $(Mutant::$mutant => ($name, $about),)*
                }
            }
        }
    };
}

mutants! {
    /// In `lock`, at the grant.
    EarlyExpiry = "early-expiry": "a lease ends after nine tenths of what its holder was told";
    /// In `storage`, where the log is written.
    LostFsync = "lost-fsync": "what the log wrote is said to be on disk, and was not synced";
    /// In `lock`, where a table is restored.
    TokenResetOnRestart = "token-reset-on-restart": "the next token is guessed from the leases that live, so ended ones' tokens return";
    /// In `lock`, at the extend.
    DoubleExtendOnRetry = "double-extend-on-retry": "an extend that is repeated under its idempotency key extends again";
    /// In `lock`, where operations are admitted.
    ZombieAcquire = "zombie-acquire": "a duplicate of an acquire that was decided is taken for a new one";
    /// In `lock`, at the hand-over.
    GrantToDeadWaiter = "grant-to-dead-waiter": "the lock is handed to the first in line although its callers are gone";
    /// In `raft`, at linearizable reads.
    StaleRead = "stale-read": "a linearizable read answers from what this node happens to have applied";
    /// In `lock`, at the hand-over.
    FifoBypass = "fifo-bypass": "the lock is handed to the last in line";
    /// In `lock`, at the release.
    ReleaseOfAnothersLock = "release-of-anothers-lock": "a release does not look at whose lock it is";
    /// In `lock`, at the acquire.
    UsageCountedTwice = "usage-counted-twice": "an acquire that is repeated under its idempotency key is charged again";
    /// In `storage`, where votes are kept.
    VoteNotPersisted = "vote-not-persisted": "a vote is kept in memory only";
    /// In `storage`, where batches are written.
    AckBeforeSync = "ack-before-sync": "a batch is acknowledged before it is written and synced";
    /// In `raft`, where a term's clock starts.
    ClockJumpsOnFailover = "clock-jumps-on-failover": "a new leader's clock starts at its machine's time since boot";
    /// In `lock`, where a table is restored.
    IdempotencyForgottenBySnapshot = "idempotency-forgotten-by-snapshot": "a restored table has no answers of named operations";
    /// In `lock`, where a line is restored.
    WaiterLostOverSnapshot = "waiter-lost-over-snapshot": "a restored line does not know who in it can be granted";
    /// In `lock`, where a hang-up is taken note of.
    HangUpEndsRetriedGrant = "hang-up-ends-retried-grant": "a hang-up gives back what its uuid holds, whichever request was told of it";
    /// In `lock`, at the hand-over.
    HandOffGrantsTwo = "hand-off-grants-two": "the second in line is told of the grant as well";
    /// In `lock`, at the extend.
    ExtensionNotKept = "extension-not-kept": "an extend does not mark its lock as changed, so a checkpoint has the old end";
    /// In `storage`, where the log is read back.
    DamagedTailCut = "damaged-tail-cut": "whatever cannot be read at the log's end is taken for a torn write";
    /// In `raft`, where a leader is asked for a read.
    DeposedLeaderRead = "deposed-leader-read": "a leader answers reads without asking whether it still leads";
    /// In `lock`, at the extend.
    OverLeaseExtended = "over-lease-extended": "a lease that is over is extended as long as no entry has ended it";
    /// In `lock`, at the hand-over.
    GrantToOverWait = "grant-to-over-wait": "the lock is handed to a wait that is over and not yet ended";
    /// In `raft`, at linearizable reads.
    ReadJoinsRound = "read-joins-round": "a read that is asked for while a confirmation is under way is answered by it";
    /// In `raft`, where waits are answered.
    GrantNotTold = "grant-not-told": "one granted wait in eight is never told";
    /// In `raft`, where operations begin.
    TenthRefused = "tenth-refused": "every tenth operation is refused as if there were no leader";
    /// In `raft`, where forwarded commands arrive.
    ForwardedDropped = "forwarded-dropped": "every tenth forwarded command is accepted and not proposed";
    /// In `raft`, where a snapshot was installed.
    SnapshotSettlesNothing = "snapshot-settles-nothing": "waits whose end was in a snapshot are not looked at";
    /// In `raft`, where an acquire is given up.
    HangUpNotPassedOn = "hang-up-not-passed-on": "a waiting caller's hang-up is not told to the cluster";
    /// In `lock`, where a hang-up is taken note of.
    UntoldGrantKept = "untold-grant-kept": "a grant whose caller hung up is not given back";
    /// In `raft`, where the next end is noted.
    EndsLate = "ends-late": "leases and waits end 700 ms late";
    /// In `raft`, where peers ask before an election.
    PreVoteGranted = "pre-vote-granted": "a pre-vote is always granted";
    /// In `raft`, where a node was taken for dead.
    NeverReattached = "never-reattached": "a node that is back leaves its callers detached";
    /// In `raft`, where commands are sent.
    AllBelowAnswered = "all-below-answered": "every command says that all before it is answered";
    /// In `api`, at the acquire's answer.
    LeaseToldWhole = "lease-told-whole": "an acquire is told its whole lease, whatever is left of it";
    /// In `api`, at looks.
    LookFromHere = "look-from-here": "a look without `consistency` answers from this node's state";
    /// In `api`, where the window is drawn.
    WindowOneShort = "window-one-short": "a wait is one try shorter than was asked for";
    /// In `api`, where refusals are told.
    NotOwnerAsNotFound = "not-owner-as-not-found": "a stranger's extend or release is told that the lock is free";
    /// In `api`, at a connection.
    ConnectionEndsUnsaid = "connection-ends-unsaid": "a connection is closed after fifty requests without saying so";
    /// In `api`, where a request is named.
    NameWithoutBody = "name-without-body": "an idempotency key counts whatever the request asks for";
}

impl Mutant {
    /// What it is picked by.
    pub fn name(self) -> &'static str {
        self.described().0
    }

    /// One line on what is wrong.
    pub fn about(self) -> &'static str {
        self.described().1
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
    let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
    names.join(", ")
}

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Self, UnknownMutant> {
        let mut all = Self::ALL.iter().copied();
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

/// Whether this process has this bug, and it is the turn of one in so many.
pub fn is_turn(mutant: Mutant, one_in: u64) -> bool {
    static TURNS: AtomicU64 = AtomicU64::new(0);
    is(mutant) && TURNS.fetch_add(1, Ordering::Relaxed) % one_in == one_in - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_bug_and_its_place_is_its_number() {
        for (place, mutant) in Mutant::ALL.iter().copied().enumerate() {
            assert_eq!(mutant as usize, place);
            assert_eq!(mutant.name().parse(), Ok(mutant));
        }
        assert!("early".parse::<Mutant>().is_err());
    }
}
