//! One client of the whole cluster: every request that it sends is recorded, with what came of it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use evermind_checker::history::{Ask, Lost, Record, Told, Way};
use evermind_harness::history::told;
use evermind_harness::http::{Connection, Request};
use serde_json::json;

use crate::cluster::Cluster;
use crate::load::Load;

/// SPEC.md 5: network failure, 429, 503 and 504 are tried again for at most this long.
const GIVES_UP_AFTER: Duration = Duration::from_secs(30);
/// Between two tries; short, because a closed connection says at once that a node is gone.
const PAUSE: Duration = Duration::from_millis(20);
/// What a client grants an answer beyond its waiting window before it goes on elsewhere. Shorter
/// than the server's 10 s: more answers stay unknown, which is what the checker is for.
const PATIENCE: Duration = Duration::from_secs(4);

/// One operation: everything that a retry repeats.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) key: String,
    pub(crate) uuid: String,
    pub(crate) ask: Ask,
    pub(crate) idempotency: Option<String>,
}

impl Operation {
    pub(crate) fn request(&self, api_key: &str) -> Request {
        let (key, uuid) = (&self.key, &self.uuid);
        let request = match self.ask {
            Ask::Acquire {
                lease_ms,
                retry_attempts,
                retry_delay_ms,
                fifo,
            } => Request::json(
                "/lock/acquire",
                &json!({
                    "key": key, "uuid": uuid, "lease": lease_ms, "retryAttempts": retry_attempts,
                    "retryDelay": retry_delay_ms, "fifo": fifo,
                }),
            ),
            Ask::Extend { extend_by_ms } => Request::json(
                "/lock/extend",
                &json!({"key": key, "uuid": uuid, "extendBy": extend_by_ms}),
            ),
            Ask::Release => Request::json("/lock/release", &json!({"key": key, "uuid": uuid})),
            Ask::Look => Request::get(format!("/v1/locks/{key}")),
        };
        let request = request.bearer(api_key);
        match &self.idempotency {
            Some(name) => request.with("Idempotency-Key", name),
            None => request,
        }
    }

    fn answer_within(&self) -> Duration {
        match self.ask {
            Ask::Acquire {
                retry_attempts,
                retry_delay_ms,
                ..
            } => PATIENCE + Duration::from_millis(u64::from(retry_attempts) * retry_delay_ms),
            _ => PATIENCE,
        }
    }
}

impl Operation {
    /// Takes `key` for `lease_ms` as `uuid`, in line if need be for up to `window_ms`.
    pub(crate) fn take(key: &str, uuid: &str, lease_ms: u64, window_ms: u64) -> Self {
        let ask = Ask::Acquire {
            lease_ms,
            retry_attempts: u32::try_from(window_ms / 100).expect("a window of minutes"),
            retry_delay_ms: 100,
            fifo: true,
        };
        Self::of(key, uuid, ask)
    }

    /// Anything, without an `Idempotency-Key`.
    pub(crate) fn of(key: &str, uuid: &str, ask: Ask) -> Self {
        Self {
            key: key.to_owned(),
            uuid: uuid.to_owned(),
            ask,
            idempotency: None,
        }
    }
}

/// A client, on one kept-alive connection to one node at a time.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) load: &'a Load,
    pub(crate) number: u64,
    addresses: Vec<SocketAddr>,
    api_key: String,
    at: usize,
    /// And when it was opened.
    connection: Option<(Connection, Instant)>,
}

impl<'a> Caller<'a> {
    /// A client that begins at one node.
    pub(crate) fn new(cluster: &Cluster, load: &'a Load, number: u64, node: u64) -> Self {
        Self {
            load,
            number,
            addresses: cluster.addresses(),
            api_key: cluster.api_key.clone(),
            at: usize::try_from(node - 1).expect("nodes are 1, 2 and 3"),
            connection: None,
        }
    }

    /// A client that knows one node only.
    pub(crate) fn at(address: SocketAddr, api_key: String, load: &'a Load, number: u64) -> Self {
        Self {
            load,
            number,
            addresses: vec![address],
            api_key,
            at: 0,
            connection: None,
        }
    }

    /// Asks until there is an answer that is not to be asked again, as the contract has it; `None`
    /// where none came in time.
    pub(crate) fn surely(&mut self, operation: &Operation) -> Option<Told> {
        let give_up = Instant::now() + GIVES_UP_AFTER;
        loop {
            let told = self.once(operation);
            let again = match &told {
                Told::Unknown => true,
                Told::Refused { status, .. } => matches!(status, 429 | 503),
                _ => false,
            };
            if !again {
                return Some(told);
            }
            if self.load.is_over() {
                return None;
            }
            if Instant::now() >= give_up {
                let what = format!("{operation:?}: {told:?} for {GIVES_UP_AFTER:?}");
                self.load.failed(what);
                return None;
            }
            self.load.retry();
            self.move_on();
            thread::sleep(PAUSE);
        }
    }

    /// Asks once.
    pub(crate) fn once(&mut self, operation: &Operation) -> Told {
        self.send(operation, operation.answer_within(), false)
    }

    /// Asks, reads the answer off the socket and loses it: what a proxy that dies does.
    pub(crate) fn lose_answer(&mut self, operation: &Operation) -> Told {
        self.send(operation, operation.answer_within(), true)
    }

    /// Asks, and hangs up after this long without an answer.
    pub(crate) fn hang_up_after(&mut self, operation: &Operation, after: Duration) -> Told {
        self.send(operation, after, false)
    }

    fn send(&mut self, operation: &Operation, within: Duration, lose: bool) -> Told {
        let Some((mut connection, opened)) = self.connected() else {
            // Nothing was sent: nothing is recorded.
            return Told::Unknown;
        };
        let request = operation.request(&self.api_key);
        let invoked = Instant::now();
        let answer = connection.call(&request, within);
        // After the answer's last byte was read.
        let returned = Instant::now();
        let (told, log_index) = match &answer {
            Ok(answer) => (told(&operation.ask, answer), answer.log_index()),
            Err(_) => (Told::Unknown, None),
        };
        let recorded = if lose {
            (Told::Unknown, None)
        } else {
            (told.clone(), log_index)
        };
        let unanswered = match &answer {
            _ if lose => Some(Lost::HungUp),
            Ok(_) => (told == Told::Unknown).then_some(Lost::Said),
            Err(error) if is_patience(error) => Some(Lost::HungUp),
            Err(_) => Some(Lost::Closed),
        };
        self.load.recorder.record(Record {
            client: self.number,
            node: self.node(),
            key: operation.key.clone(),
            uuid: operation.uuid.clone(),
            idempotency: operation.idempotency.clone(),
            ask: operation.ask.clone(),
            invoked: self.load.timeline.at(invoked),
            returned: self.load.timeline.at(returned),
            told: recorded.0,
            log_index: recorded.1,
            way: Way {
                lost: unanswered,
                connected: self.load.timeline.at(opened),
            },
        });
        let closing = answer.as_ref().map_or(true, |answer| {
            let header = answer.header("connection");
            header.is_some_and(|value| value.eq_ignore_ascii_case("close"))
        });
        if !closing && !lose {
            self.connection = Some((connection, opened));
        }
        if told != Told::Unknown {
            self.load.count();
        }
        told
    }

    fn connected(&mut self) -> Option<(Connection, Instant)> {
        self.connection.take().or_else(|| {
            let opened = Instant::now();
            let connection = Connection::open(self.addresses[self.at]).ok()?;
            Some((connection, opened))
        })
    }

    /// The node that the next request goes to.
    pub(crate) fn node(&self) -> u64 {
        self.at as u64 + 1
    }

    /// Goes on at the next node.
    pub(crate) fn move_on(&mut self) {
        self.connection = None;
        self.at = (self.at + 1) % self.addresses.len();
    }
}

/// Whether the caller waited no longer.
fn is_patience(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock
    )
}
