//! What every client asked and was told.
//!
//! One monotonic clock orders everything: every client of a real cluster is a thread or task of the
//! process that records; in a simulation it is the simulator's own time.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A moment on the history's one clock, in nanoseconds since the history began.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// `POST /lock/acquire`.
    Acquire {
        /// How long the grant shall last.
        lease_ms: u64,
        /// Tries after the first.
        retry_attempts: u32,
        /// Between two tries; the window is `retry_attempts` times this (no jitter is recorded).
        retry_delay_ms: u64,
        /// Whether the order of the line is promised.
        fifo: bool,
    },
    /// `POST /lock/extend`.
    Extend {
        /// Added to the present expiry.
        extend_by_ms: u64,
    },
    /// `POST /lock/release`.
    Release,
    /// `GET /v1/locks/{key}`, linearizable.
    Look,
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// An acquire was granted.
    Granted {
        /// The grant's fencing token.
        token: u64,
        /// What is left of the lease, counted by the cluster's clock at the answering entry.
        expires_in_ms: u64,
        /// From the request's first entry to the grant, by the cluster's clock.
        waited_ms: u64,
        /// What it cost.
        attempts: u32,
    },
    /// An extension was made.
    Extended {
        /// The grant's fencing token.
        token: u64,
        /// What is left of the lease.
        expires_in_ms: u64,
    },
    /// A release was made.
    Released,
    /// A look found the lock held.
    Held {
        /// The grant's fencing token.
        token: u64,
        /// What is left of the lease.
        expires_in_ms: u64,
        /// How many can be granted after it.
        waiting: u64,
        /// Whether the holder asked for order.
        #[serde(default)]
        fifo: bool,
    },
    /// A look found the lock free.
    Free,
    /// The request was refused, by an entry or before any.
    Refused {
        /// The HTTP status.
        status: u16,
        /// SPEC.md section 3's code.
        code: String,
        /// What an acquire cost.
        attempts: u32,
    },
    /// No answer, or one that says so (504). The effect may have happened, or may yet.
    Unknown,
}

impl Told {
    /// What an HTTP answer of this status and body tells whoever asked so.
    pub fn of(ask: &Ask, status: u16, body: &Value) -> Self {
        let number = |field: &str| body[field].as_u64().unwrap_or_default();
        let attempts = u32::try_from(number("lockAcquisitionAttempts")).unwrap_or(u32::MAX);
        match (status, ask) {
            (200, Ask::Acquire { .. }) => Self::Granted {
                token: number("fencingToken"),
                expires_in_ms: number("expiresIn"),
                waited_ms: number("waited"),
                attempts,
            },
            (200, Ask::Extend { .. }) => Self::Extended {
                token: number("fencingToken"),
                expires_in_ms: number("expiresIn"),
            },
            (200, Ask::Release) => Self::Released,
            (200, Ask::Look) => Self::Held {
                token: number("fencingToken"),
                expires_in_ms: number("expiresIn"),
                waiting: number("waiting"),
                fifo: body["fifo"].as_bool().unwrap_or_default(),
            },
            (404, Ask::Look) => Self::Free,
            (504, _) => Self::Unknown,
            _ => Self::Refused {
                status,
                code: body["code"].as_str().unwrap_or_default().to_owned(),
                attempts,
            },
        }
    }
}

/// Why a request has no answer that says what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lost {
    /// The caller waited no longer, or threw the answer away.
    HungUp,
    /// There was no connection, or it ended before the answer.
    Closed,
    /// The answer says so (504).
    Said,
}

/// How a request went over the network, as far as it was noted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Why it has no answer.
    pub lost: Option<Lost>,
    /// When its connection was opened.
    pub connected: Moment,
}

/// One HTTP request and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which client: its requests that are retries of one another follow one another.
    pub client: u64,
    /// The node that was asked.
    pub node: u64,
    /// The lock.
    pub key: String,
    /// The caller's name for the acquisition. Recorded workloads use one for one acquisition only.
    pub uuid: String,
    /// The header `Idempotency-Key`. Requests with equal ones are one operation.
    pub idempotency: Option<String>,
    /// What was asked.
    pub ask: Ask,
    /// Just before the request was sent.
    pub invoked: Moment,
    /// When the answer had been read, or the caller gave up.
    pub returned: Moment,
    /// What was told.
    pub told: Told,
    /// `Evermind-Log-Index` of the answer: the entry it came of.
    pub log_index: Option<u64>,
    /// How it went over the network.
    #[serde(default)]
    pub way: Way,
}

impl Record {
    /// How long it may wait for a lock, in ms.
    pub fn window_ms(&self) -> u64 {
        match self.ask {
            Ask::Acquire {
                retry_attempts,
                retry_delay_ms,
                ..
            } => u64::from(retry_attempts) * retry_delay_ms,
            _ => 0,
        }
    }
}

/// A write to a store that is fenced by token, as the store saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The lock that guards the store.
    pub key: String,
    /// The writer's acquisition.
    pub uuid: String,
    /// The token that came with the write.
    pub token: u64,
    /// When the store decided.
    pub at: Moment,
    /// Whether it was taken.
    pub accepted: bool,
}

/// Everything that was recorded, in no order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The requests.
    pub records: Vec<Record>,
    /// The writes to fenced stores.
    pub writes: Vec<Write>,
}

/// Where clients record, from any thread.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<History>);

impl Recorder {
    /// Adds a request.
    pub fn record(&self, record: Record) {
        self.with(|history| history.records.push(record));
    }

    /// Adds a write.
    pub fn write(&self, write: Write) {
        self.with(|history| history.writes.push(write));
    }

    /// What is recorded so far.
    pub fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
