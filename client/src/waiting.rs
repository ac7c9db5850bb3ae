//! A wait in line: in requests of bounded length, under one uuid.

use std::time::Duration;

use crate::clock::Moment;
use crate::error::Error;
use crate::exchange::Call;
use crate::messages::{Acquire, Wait};

/// The longest waiting window that a server takes.
const WINDOW_MAX: Duration = Duration::from_mins(10);
/// The longest wait that is put together of several windows. A wait keeps 4 idempotency keys: three
/// of them are renewed while the one before has [`RENEW_BEFORE`] to go.
pub const WAIT_MAX: Duration = Duration::from_mins(30);
/// How long before its window ends a wait is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(40);
/// The longest that one request stands in line: proxies cut idle ones.
const SLICE: Duration = Duration::from_secs(25);
/// The shortest, behind a proxy that cuts early.
const SLICE_MIN: Duration = Duration::from_secs(3);
/// A request that was cut after this long had been standing in line, not failing.
pub(crate) const STANDING_MIN: Duration = Duration::from_secs(1);
/// How long after the end of its window a wait may go unanswered before that is trouble.
const OVERDUE: Duration = Duration::from_secs(3);

/// An acquire that may stand in line.
///
/// The server knows all requests of one wait by uuid and `Idempotency-Key`: each is attached to the
/// same place, and each is answered. So one request can take over from another, or stand beside it at
/// another node, and the hang-up of one detaches that one alone. What the wait is granted goes back
/// at a hang-up only where a single request was attached.
pub(crate) struct Waiting {
    acquire: Acquire,
    /// When the caller's patience ends.
    until: Moment,
    /// When the window ends that the server was asked for last.
    window_ends: Moment,
    slice: Duration,
}

impl Waiting {
    /// What to send for an acquire, and how long it may take.
    pub(crate) fn new(acquire: Acquire, now: Moment) -> Result<(Self, Call), Error> {
        let window = acquire.wait.window_max();
        let mut waiting = Self {
            acquire,
            until: now.plus(window),
            window_ends: now.plus(window),
            slice: SLICE,
        };
        let in_parts = waiting.acquire.wait.retry_jitter_ms == 0
            && (WINDOW_MAX < window && window <= WAIT_MAX);
        let call = if in_parts {
            waiting.renewed(now)?
        } else {
            // As it was asked for: what is wrong with it is the server's to say.
            waiting.call()?
        };
        Ok((waiting, call))
    }

    /// Whether there is a wish to wait at all.
    pub(crate) fn is_patient(&self) -> bool {
        self.acquire.wait.window_max() > Duration::ZERO
    }

    /// Whether silence at `now` is what a wait looks like.
    pub(crate) fn stands(&self, now: Moment) -> bool {
        self.is_patient() && now <= self.window_ends.plus(OVERDUE)
    }

    /// The next part of a wait whose window is about to end, or should have. The server takes it for
    /// the same wait, with a later end, at the same place.
    pub(crate) fn renew(&mut self, now: Moment) -> Result<Option<Call>, Error> {
        let more = self.until > self.window_ends
            && now.plus(RENEW_BEFORE) >= self.window_ends
            && now < self.until;
        let overdue = self.is_patient() && now > self.window_ends.plus(OVERDUE);
        if !more && !overdue {
            return Ok(None);
        }
        self.renewed(now).map(Some)
    }

    /// A wait that the server ended before the caller's patience did.
    pub(crate) fn again(&mut self, now: Moment) -> Result<Option<Call>, Error> {
        let early = self.until > self.window_ends && now.plus(STANDING_MIN) < self.until;
        if !early || now.plus(RENEW_BEFORE) < self.window_ends {
            return Ok(None);
        }
        self.renewed(now).map(Some)
    }

    fn renewed(&mut self, now: Moment) -> Result<Call, Error> {
        let window = self.until.since(now).min(WINDOW_MAX);
        self.window_ends = now.plus(window);
        let call = {
            let part = Acquire {
                wait: Wait::lasting(window),
                ..self.acquire.clone()
            };
            call_of(&part)?
        };
        Ok(call)
    }

    fn call(&self) -> Result<Call, Error> {
        call_of(&self.acquire)
    }

    /// How long one request may stand, with `grace` for the answer.
    pub(crate) fn limit(&self, now: Moment, grace: Duration) -> Duration {
        let whole = self.window_ends.since(now).saturating_add(grace);
        if whole <= self.slice {
            whole
        } else {
            self.slice
        }
    }

    /// When, after the newest request, the next one takes over. Where there are several endpoints two
    /// requests stand at any moment: a node that is frozen or switched off says nothing, and the place
    /// must not be lost to the wait for it.
    pub(crate) fn relief(&self, endpoints: usize) -> Duration {
        if endpoints > 1 {
            self.slice * 23 / 50
        } else {
            self.slice * 24 / 25
        }
    }

    /// A request was cut after it had stood for `stood`: the next ones stand for less.
    pub(crate) fn was_cut(&mut self, stood: Duration) {
        let shorter = (self.slice / 2).min(stood * 3 / 4);
        self.slice = shorter.max(SLICE_MIN);
    }
}

fn call_of(acquire: &Acquire) -> Result<Call, Error> {
    let body = serde_json::to_vec(acquire).map_err(|error| Error::Request(error.to_string()))?;
    Ok(Call::new(http::Method::POST, "/lock/acquire")
        .body(body)
        .named())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::Value;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn waiting(window: Duration, now: Moment) -> (Waiting, Call) {
        let acquire = Acquire {
            key: "k".into(),
            lease_ms: 1_000,
            wait: Wait::lasting(window),
            uuid: Some("u".into()),
            fifo: true,
        };
        Waiting::new(acquire, now).unwrap()
    }

    fn window_ms(call: &Call) -> u64 {
        let body: Value = serde_json::from_slice(call.body.as_ref().unwrap()).unwrap();
        assert_eq!(body["uuid"], "u");
        body["retryAttempts"].as_u64().unwrap() * body["retryDelay"].as_u64().unwrap()
    }

    #[test]
    fn a_short_wait_is_one_call() {
        let start = Moment::now();
        let (mut wait, call) = waiting(s(600), start);
        assert_eq!(window_ms(&call), 600_000);
        assert!(wait.renew(start.plus(s(599))).unwrap().is_none());
        assert!(wait.again(start.plus(s(600))).unwrap().is_none());
        assert!(!waiting(s(0), start).0.is_patient());
    }

    #[test]
    fn a_long_wait_is_renewed_before_its_window_ends() {
        let start = Moment::now();
        let (mut wait, first) = waiting(s(1_800), start);
        assert_eq!(window_ms(&first), 600_000);
        let mut calls = vec![first];
        for second in 0..1_800 {
            let now = start.plus(s(second));
            assert!(wait.stands(now));
            calls.extend(wait.renew(now).unwrap());
        }
        let windows: Vec<u64> = calls.iter().map(window_ms).collect();
        assert_eq!(windows, [600_000, 600_000, 600_000, 120_000]);
        let names = calls.iter().map(|call| call.idempotency_key.clone());
        let names: std::collections::HashSet<_> = names.collect();
        assert_eq!(names.len(), 4, "each with terms and a name of its own");
    }

    #[test]
    fn a_wait_that_nobody_ended_is_asked_about_once_more() {
        let start = Moment::now();
        let (mut wait, _) = waiting(s(60), start);
        let late = start.plus(s(64));
        assert!(!wait.stands(late));
        let last = wait.renew(late).unwrap().unwrap();
        assert_eq!(window_ms(&last), 0);
    }

    #[test]
    fn requests_get_shorter_behind_a_proxy_that_cuts() {
        let now = Moment::now();
        let (mut wait, _) = waiting(s(300), now);
        assert_eq!(wait.limit(now, s(12)), s(25));
        assert!(wait.relief(1) < s(25) && wait.relief(1) >= s(23));
        assert!(wait.relief(3) * 2 < s(25));
        wait.was_cut(s(10));
        assert_eq!(wait.limit(now, s(12)), s(15) / 2);
        for _ in 0..5 {
            wait.was_cut(s(1));
        }
        assert_eq!(wait.limit(now, s(12)), SLICE_MIN);
        assert!(wait.relief(1) < SLICE_MIN && wait.relief(2) * 2 < SLICE_MIN);
    }
}
