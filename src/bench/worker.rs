//! One client of the benchmark.

use std::cell::RefCell;
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Workload;
use super::http1::Connection;
use super::tally::{Op, Tally};

/// After a failure, so that a cluster that is down is not also stormed.
const PAUSE: Duration = Duration::from_millis(10);
/// No answer for longer than this is a failure: a wait of 5 s and the server's own 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(16);
const LEASE_MS: u64 = 10_000;

/// What all clients have in common.
pub(super) struct Plan {
    /// `host:port`
    pub(super) targets: Vec<String>,
    pub(super) api_key: String,
    pub(super) workload: Workload,
    pub(super) clients: u64,
    pub(super) keys: u64,
    /// Tells this run's uuids from every other's.
    pub(super) run: u64,
    pub(super) spread: bool,
    pub(super) duration: Duration,
}

/// One client.
pub(super) struct Worker {
    number: u64,
    plan: Rc<Plan>,
    tally: Rc<RefCell<Tally>>,
    connection: Option<Connection>,
    /// Which of the targets is next.
    target: usize,
    cycles: u64,
    key: u64,
    uuid: u64,
    body: Vec<u8>,
}

impl Worker {
    pub(super) fn new(number: u64, plan: Rc<Plan>, tally: Rc<RefCell<Tally>>) -> Self {
        let spread = if plan.spread { number } else { 0 };
        let target = usize::try_from(spread).unwrap_or(0);
        let body = Vec::with_capacity(256);
        Self {
            number,
            plan,
            tally,
            connection: None,
            target,
            cycles: 0,
            key: 0,
            uuid: 0,
            body,
        }
    }

    /// Connects, and takes the locks that `extend` extends, before anything is measured.
    pub(super) async fn prepare(mut self) -> Self {
        if self.plan.workload == Workload::Extend {
            let until = Instant::now() + self.plan.duration;
            for turn in 0..self.own_keys() {
                self.choose(turn);
                while !self.act(Op::Acquire).await && Instant::now() < until {}
            }
        } else {
            self.connect().await;
        }
        self
    }

    /// Works until `end`.
    pub(super) async fn run(mut self, end: Instant) {
        while Instant::now() < end && !self.is_done() {
            self.choose(self.cycles);
            let start = Instant::now();
            let done = match self.plan.workload {
                Workload::Hold => self.act(Op::Acquire).await,
                Workload::Extend => self.act(Op::Extend).await,
                _ => self.act(Op::Acquire).await && self.act(Op::Release).await,
            };
            // What `hold` did not get it asks for again; its uuid makes that harmless.
            if done || self.plan.workload != Workload::Hold {
                self.cycles += 1;
            }
            if done {
                self.tally.borrow_mut().cycle(start.elapsed());
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Only `hold` comes to an end of its own.
    fn is_done(&self) -> bool {
        self.plan.workload == Workload::Hold && self.cycles >= self.own_keys()
    }

    /// Which lock, and under which name, this turn is about.
    fn choose(&mut self, turn: u64) {
        match self.plan.workload {
            Workload::Contended | Workload::Fifo => {
                self.key = (self.number + turn) % self.plan.keys;
                self.uuid = turn;
            }
            Workload::Cycle => {
                self.key = self.number + self.plan.clients * (turn % self.own_keys());
                self.uuid = turn;
            }
            Workload::Hold | Workload::Extend => {
                self.key = self.number + self.plan.clients * (turn % self.own_keys());
                self.uuid = self.key;
            }
        }
    }

    /// How many locks are this client's alone. Only what `hold` holds must add up.
    fn own_keys(&self) -> u64 {
        let (keys, clients) = (self.plan.keys, self.plan.clients);
        let more = self.plan.workload == Workload::Hold && self.number < keys % clients;
        (keys / clients).max(1) + u64::from(more)
    }

    /// Whether others may be in line for what this client releases.
    fn has_line(&self) -> bool {
        matches!(self.plan.workload, Workload::Contended | Workload::Fifo)
    }

    /// One operation, once. Whether it was done.
    async fn act(&mut self, op: Op) -> bool {
        if self.connection.is_none() {
            self.connect().await;
        }
        self.write_body(op);
        let has_line = self.has_line();
        let Some(connection) = &mut self.connection else {
            return false;
        };
        if op == Op::Release && has_line {
            self.tally.borrow_mut().releases(self.key, self.number);
        }
        let start = Instant::now();
        let post = connection.post(op.path(), &self.body);
        let failure = match tokio::time::timeout(ANSWER_MAX, post).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                let mut tally = self.tally.borrow_mut();
                tally.done(op, start);
                if op == Op::Acquire && has_line {
                    tally.granted(self.key, self.number, start);
                }
                return true;
            }
            Ok(Ok(answer)) => {
                self.tally
                    .borrow_mut()
                    .failed(&code(answer.status, answer.body));
                return false;
            }
            Ok(Err(error)) => error.kind().to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.tally.borrow_mut().failed(&failure);
        self.connection = None;
        self.target += 1;
        false
    }

    async fn connect(&mut self) {
        let target = &self.plan.targets[self.target % self.plan.targets.len()];
        let open = Connection::open(target, &self.plan.api_key);
        if let Ok(Ok(connection)) = tokio::time::timeout(ANSWER_MAX, open).await {
            self.connection = Some(connection);
        } else {
            self.tally.borrow_mut().failed("cannot connect");
            self.target += 1;
        }
    }

    fn write_body(&mut self, op: Op) {
        self.body.clear();
        let uuid = (self.plan.run, self.number, self.uuid);
        match self.plan.workload {
            // Or a run would find the locks that the last one left to run out.
            Workload::Hold | Workload::Extend => {
                write!(self.body, r#"{{"key":"bench-{:x}-{}""#, uuid.0, self.key)
            }
            _ => write!(self.body, r#"{{"key":"bench-{}""#, self.key),
        }
        .and_then(|()| write!(self.body, r#","uuid":"{:x}-{}-{}""#, uuid.0, uuid.1, uuid.2))
        .and_then(|()| match (op, self.plan.workload) {
            (Op::Release, _) => write!(self.body, "}}"),
            (Op::Extend, _) => write!(self.body, r#","extendBy":1}}"#),
            (Op::Acquire, Workload::Cycle) => {
                write!(self.body, r#","lease":{LEASE_MS},"retryAttempts":0}}"#)
            }
            (Op::Acquire, Workload::Hold | Workload::Extend) => {
                // It lasts for the taking, the measuring, and a minute.
                let lease = self.plan.duration * 2 + Duration::from_mins(1);
                let lease = crate::duration::as_ms(lease).min(86_000_000);
                write!(self.body, r#","lease":{lease},"retryAttempts":0}}"#)
            }
            (Op::Acquire, workload) => {
                let fifo = workload == Workload::Fifo;
                write!(self.body, r#","lease":{LEASE_MS},"fifo":{fifo}}}"#)
            }
        })
        .expect("writing to memory cannot fail");
    }
}

/// The failure's code, without parsing what is not looked at.
fn code(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
    }
    serde_json::from_slice::<Problem>(body)
        .map_or_else(|_| format!("HTTP status {status}"), |problem| problem.code)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn worker(workload: Workload, number: u64, clients: u64, keys: u64) -> Worker {
        let plan = Plan {
            targets: vec!["127.0.0.1:1".into()],
            api_key: "k".into(),
            workload,
            clients,
            keys,
            run: 10,
            spread: false,
            duration: Duration::from_secs(1),
        };
        Worker::new(
            number,
            Rc::new(plan),
            Rc::new(RefCell::new(Tally::new().unwrap())),
        )
    }

    #[test]
    fn cycles_keep_out_of_each_others_way() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..3 {
            let mut worker = worker(Workload::Cycle, number, 3, 9);
            for turn in 0..3 {
                worker.choose(turn);
                assert!(seen.insert(worker.key), "{}", worker.key);
            }
        }
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn hold_takes_every_lock_once() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..3 {
            let mut worker = worker(Workload::Hold, number, 3, 8);
            while !worker.is_done() {
                worker.choose(worker.cycles);
                worker.cycles += 1;
                assert!(seen.insert(worker.key), "{}", worker.key);
            }
        }
        assert_eq!(seen.len(), 8);
        assert_eq!(seen.last(), Some(&7));
    }

    #[test]
    fn bodies_are_json() {
        for workload in [
            Workload::Cycle,
            Workload::Contended,
            Workload::Fifo,
            Workload::Hold,
            Workload::Extend,
        ] {
            let mut worker = worker(workload, 1, 2, 4);
            for op in [Op::Acquire, Op::Extend, Op::Release] {
                worker.choose(1);
                worker.write_body(op);
                let body: serde_json::Value = serde_json::from_slice(&worker.body).unwrap();
                assert!(body["key"].as_str().unwrap().starts_with("bench-"));
                assert_eq!(
                    body["fifo"] == true,
                    workload == Workload::Fifo && op == Op::Acquire
                );
            }
        }
    }
}
