//! What every client of a story asked and was told, for the rules that need nothing else.
//!
//! All clients are threads of this process, so one monotonic clock orders everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use evermind_checker::history::{Ask, Record, Told, Way};
use evermind_checker::history::{Moment, Recorder};
use evermind_checker::{ClockBound, check_direct};
use serde_json::Value;

use super::http::Answer;

/// A history that is being made.
#[derive(Debug)]
pub struct History {
    began: Instant,
    recorder: Recorder,
    clients: AtomicU64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            recorder: Recorder::default(),
            clients: AtomicU64::new(0),
        }
    }
}

impl History {
    /// A number for a client that has none yet.
    pub fn new_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    pub fn record(&self, record: Record) {
        self.recorder.record(record);
    }

    /// Records an answered acquire of a client that asks only once. Its answer repeats what was
    /// asked; which node gave it is not noted.
    pub fn acquired(&self, answer: &Answer) {
        let config = &answer.json()["config"];
        let text = |field: &str| config[field].as_str().unwrap_or_default().to_owned();
        let ask = acquire(config);
        let told = told(&ask, answer);
        self.record(Record {
            client: self.new_client(),
            node: 0,
            key: text("key"),
            uuid: text("uuid"),
            idempotency: None,
            ask,
            invoked: self.moment(answer.invoked),
            returned: self.moment(answer.returned),
            told,
            log_index: answer.log_index(),
            way: Way::default(),
        });
    }

    pub fn records(&self) -> Vec<Record> {
        self.recorder.with(|history| history.records.clone())
    }

    /// An instant on the history's clock.
    pub fn moment(&self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.began).as_nanos();
        Moment(u64::try_from(since).expect("a story is shorter than 500 years"))
    }

    /// When the first grant was read of those that were asked for after `moment`.
    pub fn first_grant_asked_after(&self, instant: Instant) -> Option<Instant> {
        let after = self.moment(instant);
        let first = self.recorder.with(|history| {
            let new = history.records.iter().filter(|r| r.invoked >= after);
            new.filter(|r| matches!(r.told, Told::Granted { .. }))
                .map(|r| r.returned.0)
                .min()
        });
        first.map(|ns| self.began + Duration::from_nanos(ns))
    }

    /// Checks every black-box rule, and panics with each violation. Every node is a process of this
    /// machine, so that their clocks are of one rate.
    #[track_caller]
    pub fn assert_safe(&self) {
        self.recorder
            .with(|history| check_direct(history, ClockBound::EXACT, None))
            .assert_clean();
    }
}

/// What a body of `POST /lock/acquire` asks for, SPEC.md's defaults where it says nothing.
pub fn acquire(body: &Value) -> Ask {
    let number = |field: &str, default| body[field].as_u64().unwrap_or(default);
    Ask::Acquire {
        lease_ms: number("lease", 10_000),
        retry_attempts: u32::try_from(number("retryAttempts", 10)).unwrap_or(u32::MAX),
        retry_delay_ms: number("retryDelay", 500),
        fifo: body["fifo"].as_bool().unwrap_or_default(),
    }
}

/// What an answer tells whoever asked so.
pub fn told(ask: &Ask, answer: &Answer) -> Told {
    Told::of(ask, answer.status, &answer.json())
}
