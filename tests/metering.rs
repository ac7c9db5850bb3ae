//! Shows that what a licence is charged is what its callers were answered, whatever is killed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::cluster::NODES;
use crate::harness::http::{Answer, Connection, Request};
use crate::harness::{TestCluster, until};

const CLIENTS: u64 = 8;
const KILLS: u64 = 10;
/// No operation is asked for longer than this before the story gives up.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);

/// What the clients were answered.
#[derive(Default)]
struct Answers {
    stop: AtomicBool,
    operations: AtomicU64,
    attempts: AtomicU64,
    /// Operations that had to be sent again.
    repeated: AtomicU64,
    unexpected: Mutex<Vec<String>>,
}

#[test]
fn usage_is_the_sum_of_what_was_answered_while_the_leader_is_killed_ten_times() {
    let cluster = TestCluster::start();
    let licence = cluster.licence("metered", &json!({}));
    let api_key = cluster.make_key(1, &licence);
    let answers = Answers::default();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (cluster, api_key, answers) = (&cluster, &api_key, &answers);
            scope.spawn(move || work(cluster, api_key, client, answers));
        }
        let _stop = StopAtEnd(&answers.stop);
        for _ in 0..KILLS {
            let before = answers.operations.load(Ordering::Relaxed);
            until("the clients are answered", Duration::from_mins(1), || {
                (answers.operations.load(Ordering::Relaxed) > before + 50).then_some(())
            });
            let leader = cluster.leader();
            cluster.kill(leader);
            cluster.restart(leader);
        }
    });
    let unexpected = answers.unexpected.into_inner().unwrap();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let repeated = answers.repeated.load(Ordering::Relaxed);
    assert!(repeated >= KILLS, "{repeated} operations were repeated");
    let answered = answers.attempts.load(Ordering::Relaxed);
    println!(
        "{} operations, {repeated} of them repeated, {answered} attempts",
        answers.operations.load(Ordering::Relaxed)
    );
    for node in NODES {
        assert_eq!(cluster.used(node, &licence), answered, "at node {node}");
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Acquires, of every kind, each under an `Idempotency-Key` of its own until it is answered.
fn work(cluster: &TestCluster, api_key: &str, client: u64, answers: &Answers) {
    let mut round = client;
    while !answers.stop.load(Ordering::Relaxed) {
        round += 1;
        let uuid = format!("{client}-{round}");
        // Contended or not; some wait for long, some for a moment, some not at all.
        let (key, retries, delay_ms) = match round % 4 {
            0 => (format!("own-{client}"), 10, 500),
            1 => ("shared-a".to_owned(), 3, 20),
            2 => ("shared-b".to_owned(), 0, 0),
            _ => ("shared-a".to_owned(), 40, 500),
        };
        let body = json!({
            "key": key, "uuid": uuid, "lease": 20_000,
            "retryAttempts": retries, "retryDelay": delay_ms,
        });
        let Some(answer) = once(cluster, api_key, round, "/lock/acquire", &body, answers) else {
            return;
        };
        match answer.status {
            200 | 423 => {}
            _ => answers.unexpected.lock().unwrap().push(answer.to_string()),
        }
        let attempts = answer.number("lockAcquisitionAttempts");
        answers.attempts.fetch_add(attempts, Ordering::Relaxed);
        answers.operations.fetch_add(1, Ordering::Relaxed);
        if answer.status == 200 {
            let body = json!({ "key": key, "uuid": uuid });
            if once(cluster, api_key, round, "/lock/release", &body, answers).is_none() {
                return;
            }
        }
    }
}

/// Asks, round the nodes, until somebody says what came of it.
fn once(
    cluster: &TestCluster,
    api_key: &str,
    first: u64,
    path: &str,
    body: &Value,
    answers: &Answers,
) -> Option<Answer> {
    let name = uuid::Uuid::now_v7().to_string();
    let request = Request::json(path, body)
        .bearer(api_key)
        .with("Idempotency-Key", name);
    let give_up = Instant::now() + ANSWERED_WITHIN;
    let mut trouble = String::new();
    for (tries, node) in (first..).map(|number| number % 3 + 1).enumerate() {
        if Instant::now() >= give_up {
            break;
        }
        let sent = Connection::open(cluster.node(node).http)
            .and_then(|mut connection| connection.call(&request, Duration::from_secs(40)));
        match sent {
            Ok(answer) if !matches!(answer.status, 429 | 503 | 504) => {
                answers
                    .repeated
                    .fetch_add(u64::from(tries > 0), Ordering::Relaxed);
                return Some(answer);
            }
            Ok(answer) => trouble = answer.to_string(),
            Err(error) => trouble = error.to_string(),
        }
        thread::sleep(Duration::from_millis(20));
    }
    let text = format!("{path} {body}: not answered: {trouble}");
    answers.unexpected.lock().unwrap().push(text);
    None
}
