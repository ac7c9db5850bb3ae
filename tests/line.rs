//! Shows that strict order survives the leader: 50 `fifo` waiters over three nodes, the leader
//! killed midway, each served once, in the order of their entries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::history::History;
use crate::harness::http::{Answer, Connection};
use crate::harness::waiter::minute_long;
use crate::harness::{Caller, TestCluster, until};

const WAITERS: u64 = 50;
/// The leader dies when this one has been served.
const MIDWAY: u64 = 24;
const KEY: &str = "line";

struct Served {
    place: u64,
    answer: Answer,
}

/// One in line: waits at its node, and at the next one under the same uuid if that dies.
fn wait_in_line(
    cluster: &TestCluster,
    place: u64,
    history: &History,
    returned: &AtomicU64,
    give_up: &AtomicBool,
    served: &Sender<Served>,
) {
    let uuid = uuid_of(place);
    let mut node = place % 3 + 1;
    let mut lost = false;
    while !give_up.load(Ordering::Relaxed) {
        let client = cluster.client(node);
        let request = client
            .request("/lock/acquire", &minute_long(KEY, &uuid))
            .bytes();
        let answer = Connection::open(client.address).and_then(|mut connection| {
            connection.send(&request)?;
            if lost {
                returned.fetch_add(1, Ordering::SeqCst);
                lost = false;
            }
            connection.receive(Instant::now() + Duration::from_secs(90))
        });
        match answer {
            Ok(answer) if !matches!(answer.status, 503 | 504) => {
                history.acquired(&answer);
                let _ = served.send(Served { place, answer });
                return;
            }
            // Try elsewhere. A node that is down refuses at once, so this takes no time.
            _ => {
                lost = true;
                node = node % 3 + 1;
            }
        }
    }
}

fn uuid_of(place: u64) -> String {
    format!("waiter-{place:02}")
}

/// The next one that is served, which must be the one at `place`.
fn expect_served(served: &Receiver<Served>, place: u64) -> Answer {
    let next = served.recv_timeout(Duration::from_secs(30));
    let next = next.unwrap_or_else(|_| panic!("nobody was served, where {place} is next"));
    assert_eq!(next.answer.status, 200, "{}: {}", next.place, next.answer);
    assert_eq!(next.place, place, "served out of order");
    next.answer
}

/// Ends every waiter's loop, also where the story panics.
struct GiveUp<'a>(&'a TestCluster, &'a AtomicBool);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        if thread::panicking() {
            // Their sockets close with the nodes.
            for id in [1, 2, 3] {
                self.0.kill(id);
            }
        }
    }
}

#[test]
fn fifty_in_line_are_served_in_order_over_a_failover() {
    let cluster = TestCluster::start();
    let history = History::default();
    let (sender, served) = channel();
    let (returned, give_up) = (AtomicU64::new(0), AtomicBool::new(false));
    let holder = cluster.client(1).take(KEY, "holder", 600_000);
    let tokens = thread::scope(|scope| {
        let _guard = GiveUp(&cluster, &give_up);
        for place in 1..=WAITERS {
            let (sender, cluster, history) = (sender.clone(), &cluster, &history);
            let (returned, give_up) = (&returned, &give_up);
            scope.spawn(move || {
                wait_in_line(cluster, place, history, returned, give_up, &sender);
            });
            // The order of entries is known because nobody joins before the one ahead has.
            until(
                &format!("{place} stand in line"),
                Duration::from_secs(20),
                || (cluster.client(1).waiting(KEY) == Some(place)).then_some(()),
            );
        }

        let mut releaser = Caller::new(&cluster, 1, &history);
        releaser.release(KEY, "holder").expect("released");
        let mut tokens = vec![holder.token()];
        for place in 1..=WAITERS {
            tokens.push(expect_served(&served, place).token());
            if place == MIDWAY {
                kill_the_leader(&cluster, &returned);
            }
            releaser.release(KEY, &uuid_of(place)).expect("released");
        }
        tokens
    });
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    drop(sender);
    assert!(served.try_recv().is_err(), "somebody was served twice");
    history.assert_safe();
    let left = cluster
        .client(cluster.leader())
        .get(&format!("/v1/locks/{KEY}"));
    assert_eq!(left.status, 404, "the line is empty: {left}");
}

/// Kills the leader, and returns when every waiter that it served stands in line elsewhere.
fn kill_the_leader(cluster: &TestCluster, returned: &AtomicU64) {
    let leader = cluster.leader();
    let stranded = (MIDWAY + 1..=WAITERS)
        .filter(|place| place % 3 + 1 == leader)
        .count();
    cluster.kill(leader);
    let killed = Instant::now();
    until("the stranded are back", Duration::from_secs(10), || {
        (returned.load(Ordering::SeqCst) >= stranded as u64).then_some(())
    });
    assert!(
        killed.elapsed() < Duration::from_secs(3),
        "a place is kept for 3 s"
    );
    let leader = cluster.leader();
    for id in cluster.running() {
        cluster.client(id).settle();
    }
    // One holds the lock; everyone behind it is there to be granted.
    until("all stand in line again", Duration::from_secs(5), || {
        (cluster.client(leader).waiting(KEY) == Some(WAITERS - MIDWAY)).then_some(())
    });
}
