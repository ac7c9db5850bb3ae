//! Many leases that end at the same moment, and what others notice of it.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::http::Connection;
use crate::systems::{API_KEY, Evermind};

/// Connections that take the leases.
const FILLERS: u32 = 64;
/// Leases a second that are taken at least, or they end before the last is there.
const FILL_PER_SECOND: u32 = 9_000;
/// Others: 500 cycles a second from 16 clients.
const CLIENTS: u32 = 16;
const CYCLE_EVERY: Duration = Duration::from_millis(32);
/// Looked at from a little before the end.
const BEFORE: Duration = Duration::from_millis(200);
const AFTER: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Entries that are no ends: a tick each second, and what is under way at a look.
const ASIDE: u64 = 40;

/// One measurement.
pub(super) struct Ended {
    /// Of one acquire or release of the others.
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// From the common end until the leader no longer writes entries for it.
    pub(super) backlog_s: f64,
    pub(super) elections: f64,
}

/// What the others share; all run on one thread.
#[derive(Default)]
struct Board {
    is_over: Cell<bool>,
    operations: Cell<u64>,
    took_ms: RefCell<Vec<(Instant, f64)>>,
}

/// Takes `many` leases with one end, and works beside them when it comes.
pub(super) async fn expiry(mut cluster: Evermind, many: u32) -> Result<Ended> {
    let fill = Duration::from_secs(u64::from(many / FILL_PER_SECOND) + 8);
    let end = Instant::now() + fill;
    take(cluster.leader_address(), many, end).await?;
    ensure!(
        Instant::now() + Duration::from_secs(2) < end,
        "the leases ended before the last was taken\nhint: --many with fewer"
    );
    let (term, _) = cluster.progress().await?;
    let board = Rc::new(Board::default());
    let mut others = JoinSet::new();
    for number in 0..CLIENTS {
        let connection = Connection::open(cluster.leader_address(), API_KEY).await?;
        others.spawn_local(work(connection, number, Rc::clone(&board)));
    }
    sleep_until((end - BEFORE).into()).await;
    let mut looks = Vec::new();
    while Instant::now() < end + AFTER {
        let before = board.operations.get();
        if let Ok((_, applied)) = cluster.progress().await {
            // What is neither the others' nor a tick ends leases.
            looks.push((Instant::now(), applied.saturating_sub(before)));
        }
        sleep(LOOK_EVERY).await;
    }
    board.is_over.set(true);
    while let Some(worked) = others.join_next().await {
        worked.context("a client")??;
    }
    cluster.find_leader().await?;
    let (term_after, _) = cluster.progress().await?;
    let last = looks.last().map_or(0, |(_, entries)| *entries);
    let quiet = looks.iter().find(|(_, entries)| entries + ASIDE >= last);
    let backlog = quiet.map_or(AFTER, |(at, _)| at.saturating_duration_since(end));
    let took = board.took_ms.borrow();
    let mut took: Vec<f64> = took
        .iter()
        .filter(|(at, _)| *at >= end - BEFORE)
        .map(|(_, ms)| *ms)
        .collect();
    took.sort_by(f64::total_cmp);
    let max_ms = *took.last().context("the other clients did nothing")?;
    Ok(Ended {
        p99_ms: took[took.len() * 99 / 100],
        max_ms,
        backlog_s: backlog.as_secs_f64(),
        elections: f64::from(u32::try_from(term_after - term)?),
    })
}

/// Takes the leases, each so long that it ends at `end`.
async fn take(target: &str, many: u32, end: Instant) -> Result<()> {
    let mut fillers = JoinSet::new();
    for filler in 0..FILLERS {
        let mut connection = Connection::open(target, API_KEY).await?;
        fillers.spawn_local(async move {
            let mut body = String::new();
            for lease in (filler..many).step_by(FILLERS as usize) {
                let left_ms = end.saturating_duration_since(Instant::now()).as_millis();
                body.clear();
                write!(
                    body,
                    r#"{{"key":"mass-{lease}","uuid":"u","lease":{left_ms},"retryAttempts":0}}"#
                )?;
                connection.post("/lock/acquire", body.as_bytes()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(filled) = fillers.join_next().await {
        filled.context("a client")?.context("taking the leases")?;
    }
    Ok(())
}

async fn work(mut connection: Connection, number: u32, board: Rc<Board>) -> Result<()> {
    // Spread over the time of one cycle.
    sleep(CYCLE_EVERY * number / CLIENTS).await;
    let mut next = Instant::now();
    for turn in 0_u64.. {
        if board.is_over.get() {
            break;
        }
        let key = format!("other-{number}-{}", turn % 100);
        let acquire = format!(r#"{{"key":"{key}","uuid":"u","lease":60000,"retryAttempts":0}}"#);
        let release = format!(r#"{{"key":"{key}","uuid":"u"}}"#);
        for (path, body) in [("/lock/acquire", acquire), ("/lock/release", release)] {
            let asked = Instant::now();
            connection.post(path, body.as_bytes()).await?;
            let ms = asked.elapsed().as_secs_f64() * 1e3;
            board.took_ms.borrow_mut().push((asked, ms));
            board.operations.set(board.operations.get() + 1);
        }
        next += CYCLE_EVERY;
        sleep_until(next.into()).await;
    }
    Ok(())
}
