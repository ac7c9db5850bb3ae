//! The work: each client acquires a key that nobody else wants, releases it, and goes on to the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// As many keys as `evermind bench` goes through.
const KEYS: u64 = 10_000;
/// How long a lock would last if nobody released it: longer than any answer takes.
pub(crate) const LEASE_MS: u64 = 30_000;
/// Connections are open and queues as long as they get before anything is measured.
const SETTLE: Duration = Duration::from_millis(300);
/// After a failure, so that a system that is down is not also stormed.
const PAUSE: Duration = Duration::from_millis(10);
/// An operation still open so long after the end is given up.
const OVERTIME_MAX: Duration = Duration::from_secs(20);
/// Longer answers than a minute are counted as one.
const MICROS_MAX: u64 = 60_000_000;

/// What one cycle is about.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Nobody else's.
    pub(crate) key: String,
    /// Tells this turn's holder from every other.
    pub(crate) owner: String,
}

impl Turn {
    fn choose(&mut self, run: u64, client: u64, clients: u64, number: u64) {
        let own_keys = (KEYS / clients).max(1);
        self.key.clear();
        self.owner.clear();
        let key = client + clients * (number % own_keys);
        write!(self.key, "bench-{key}").expect("writing to a string cannot fail");
        write!(self.owner, "{run}-{client}-{number}").expect("writing to a string cannot fail");
    }
}

/// One client of a system.
pub(crate) trait Client {
    /// Fails also where the lock was not given.
    async fn acquire(&mut self, turn: &Turn) -> Result<()>;
    /// Fails also where there was nothing to release.
    async fn release(&mut self, turn: &Turn) -> Result<()>;
}

/// What was done within the measured time.
pub(crate) struct Done {
    pub(crate) elapsed: Duration,
    pub(crate) cycles: u64,
    /// In microseconds, as `releases`.
    pub(crate) acquires: Histogram<u64>,
    pub(crate) releases: Histogram<u64>,
    /// How often what failed, the time before and after included.
    pub(crate) failures: BTreeMap<String, u64>,
}

/// What the clients share; they run on one thread.
struct Board {
    /// Tells its owners from those of other loops.
    run: u64,
    is_over: Cell<bool>,
    is_measured: Cell<bool>,
    done: RefCell<Done>,
}

impl Board {
    fn record(&self, which: fn(&mut Done) -> &mut Histogram<u64>, start: Instant) {
        if self.is_measured.get() {
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            which(&mut self.done.borrow_mut()).saturating_record(micros);
        }
    }

    fn failed(&self, why: String) {
        *self.done.borrow_mut().failures.entry(why).or_default() += 1;
    }
}

/// Lets the clients work for `duration`, and reads the meter when that begins and when it ends.
pub(crate) async fn closed_loop<C: Client + 'static, M>(
    clients: Vec<C>,
    duration: Duration,
    meter: impl Fn() -> Result<M>,
) -> Result<(Done, M, M)> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let histogram = || Histogram::new_with_bounds(1, MICROS_MAX, 3).context("making a histogram");
    let board = Rc::new(Board {
        run: RUNS.fetch_add(1, Ordering::Relaxed),
        is_over: Cell::new(false),
        is_measured: Cell::new(false),
        done: RefCell::new(Done {
            elapsed: Duration::ZERO,
            cycles: 0,
            acquires: histogram()?,
            releases: histogram()?,
            failures: BTreeMap::new(),
        }),
    });
    let count = clients.len() as u64;
    let mut working = JoinSet::new();
    for (number, client) in (0..).zip(clients) {
        working.spawn_local(work(client, number, count, Rc::clone(&board)));
    }
    tokio::time::sleep(SETTLE).await;
    let before = meter()?;
    let start = Instant::now();
    board.is_measured.set(true);
    tokio::time::sleep(duration).await;
    board.is_measured.set(false);
    let elapsed = start.elapsed();
    let after = meter()?;
    board.is_over.set(true);
    let all = async { while working.join_next().await.is_some() {} };
    if tokio::time::timeout(OVERTIME_MAX, all).await.is_err() {
        working.shutdown().await;
        board.failed(format!("no answer within {OVERTIME_MAX:?}"));
    }
    let Ok(board) = Rc::try_unwrap(board) else {
        bail!("a client of the closed loop is still there");
    };
    let mut done = board.done.into_inner();
    done.elapsed = elapsed;
    Ok((done, before, after))
}

async fn work(mut client: impl Client, number: u64, clients: u64, board: Rc<Board>) {
    let mut turn = Turn::default();
    for cycle in 0.. {
        if board.is_over.get() {
            return;
        }
        turn.choose(board.run, number, clients, cycle);
        if let Err(error) = one_cycle(&mut client, &turn, &board).await {
            board.failed(format!("{error:#}"));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn one_cycle(client: &mut impl Client, turn: &Turn, board: &Board) -> Result<()> {
    let start = Instant::now();
    client.acquire(turn).await.context("acquire")?;
    board.record(|done| &mut done.acquires, start);
    let start = Instant::now();
    client.release(turn).await.context("release")?;
    board.record(|done| &mut done.releases, start);
    if board.is_measured.get() {
        board.done.borrow_mut().cycles += 1;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_clients_want_the_same_key() {
        let mut keys = HashSet::new();
        let mut turn = Turn::default();
        for client in 0..64 {
            for number in 0..KEYS / 64 {
                turn.choose(1, client, 64, number);
                assert!(keys.insert(turn.key.clone()), "{}", turn.key);
            }
        }
    }

    /// Takes a millisecond for each step; every third acquire fails.
    struct Slow(u32);

    impl Client for Slow {
        async fn acquire(&mut self, _: &Turn) -> Result<()> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.0 += 1;
            if self.0.is_multiple_of(3) {
                bail!("no");
            }
            Ok(())
        }

        async fn release(&mut self, _: &Turn) -> Result<()> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }
    }

    #[test]
    fn only_what_was_done_in_time_is_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        let run = closed_loop(
            vec![Slow(0), Slow(1)],
            Duration::from_millis(200),
            || Ok(()),
        );
        let (done, (), ()) = local.block_on(&runtime, run).unwrap();
        assert!(done.cycles > 2 && done.cycles <= 200, "{}", done.cycles);
        assert!(done.acquires.min() >= 1000, "{}", done.acquires.min());
        assert!(done.releases.len().abs_diff(done.cycles) <= 2);
        assert!(done.failures["acquire: no"] >= 2);
    }
}
