//! How long nobody is granted anything when the leader is killed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use evermind_client::{Acquire, Client, Wait};
use tokio::task::JoinSet;

use crate::load::LEASE_MS;
use crate::systems::{API_KEY, Evermind, System as _};

const CLIENTS: usize = 16;
/// Work before the kill.
const WARM_UP: Duration = Duration::from_secs(1);
const GRANT_WITHIN: Duration = Duration::from_secs(30);

/// What the clients share; they run on one thread.
#[derive(Default)]
struct Board {
    killed: Cell<Option<Instant>>,
    /// The first grant of what was asked for after the kill.
    granted: Cell<Option<Instant>>,
}

/// Kills the leader with -9 under 16 clients that know every node, and tells how long it is from
/// there to the first grant of a lock that was asked for after it.
pub(super) async fn first_grant(mut cluster: Evermind) -> Result<Duration> {
    let board = Rc::new(Board::default());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let urls = cluster.urls();
        let client = Client::new(urls.split(','), API_KEY)?;
        clients.spawn_local(work(client, number, Rc::clone(&board)));
    }
    tokio::time::sleep(WARM_UP).await;
    let leader = cluster.leader();
    let killed = Instant::now();
    board.killed.set(Some(killed));
    cluster.kill(leader);
    let granted = async {
        loop {
            if let Some(granted) = board.granted.get() {
                return granted;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let granted = tokio::time::timeout(GRANT_WITHIN, granted).await;
    let granted = granted.context("nothing was granted within 30 s of the kill")?;
    Ok(granted - killed)
}

async fn work(client: Client, number: usize, board: Rc<Board>) {
    for turn in 0_u64.. {
        let key = format!("failover-{number}-{turn}");
        let asked = Instant::now();
        let acquire = Acquire {
            key: key.clone(),
            lease_ms: LEASE_MS,
            wait: Wait::lasting(Duration::ZERO),
            uuid: None,
            fifo: false,
        };
        // A client goes round the nodes for longer than any failover takes.
        let Ok(grant) = client.acquire(&acquire).await else {
            continue;
        };
        let after = board.killed.get().is_some_and(|killed| asked >= killed);
        if after && board.granted.get().is_none() {
            board.granted.set(Some(Instant::now()));
        }
        let _ = client.release(&key, &grant.value.config.uuid).await;
    }
}
