//! What is asked and answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Moment, deadline};

/// How long an acquire stands in line, in the words of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// 0 to 1000; 0 never queues.
    pub retry_attempts: u32,
    /// 0 to 60,000 ms for each of them.
    #[serde(rename = "retryDelay")]
    pub retry_delay_ms: u64,
    /// 0 to 60,000 ms more at random for each of them.
    #[serde(rename = "retryJitter")]
    pub retry_jitter_ms: u64,
}

impl Default for Wait {
    /// The server's own defaults: 5 s.
    fn default() -> Self {
        Self {
            retry_attempts: 10,
            retry_delay_ms: 500,
            retry_jitter_ms: 0,
        }
    }
}

impl Wait {
    /// A wait of `window`, never longer: one attempt per 500 ms, and longer steps past 500 s,
    /// because there may be 1000 attempts at most.
    pub fn lasting(window: Duration) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        if window_ms == 0 {
            return Self {
                retry_attempts: 0,
                retry_delay_ms: 0,
                retry_jitter_ms: 0,
            };
        }
        let attempts = (window_ms / 500).clamp(1, 1000);
        Self {
            retry_attempts: u32::try_from(attempts).unwrap_or(1000),
            retry_delay_ms: window_ms / attempts,
            retry_jitter_ms: 0,
        }
    }

    /// The longest that the window may be drawn.
    pub fn window_max(&self) -> Duration {
        let step_ms = self.retry_delay_ms.saturating_add(self.retry_jitter_ms);
        Duration::from_millis(step_ms.saturating_mul(u64::from(self.retry_attempts)))
    }
}

/// What to take.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acquire {
    /// Which lock.
    pub key: String,
    /// How long a grant lasts, in ms; 1 to 86,400,000.
    #[serde(rename = "lease")]
    pub lease_ms: u64,
    /// How long to stand in line.
    #[serde(flatten)]
    pub wait: Wait,
    /// The caller's name for this acquisition. Made here when left out, so that a repeated request
    /// is the same acquisition.
    pub uuid: Option<String>,
    /// Strict order of the line.
    pub fifo: bool,
}

/// An answer as it came, and when.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What it says.
    pub value: T,
    /// The server's text.
    pub body: String,
    /// The moment before the request that was answered was sent.
    pub sent: Moment,
    /// The moment after its answer came.
    pub received: Moment,
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Higher than every earlier grant's.
    pub fencing_token: u64,
    /// Until the lease ends, in ms from the answer's entry.
    #[serde(rename = "expiresIn")]
    pub expires_in_ms: u64,
    /// From the request's first entry to the grant, in ms.
    #[serde(rename = "waited")]
    pub waited_ms: u64,
    /// What polling would have cost.
    pub lock_acquisition_attempts: u32,
    /// The parameters in effect.
    pub config: GrantConfig,
}

/// The parameters of a grant that its holder needs again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GrantConfig {
    /// The right to extend and to release.
    pub uuid: String,
}

impl Answer<Grant> {
    /// Until when the grant may be relied on.
    pub fn deadline(&self) -> Moment {
        let ms = Duration::from_millis;
        deadline(
            self.sent,
            ms(self.value.waited_ms),
            ms(self.value.expires_in_ms),
        )
    }
}

/// A lease that ends later now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extended {
    /// The grant's.
    pub fencing_token: u64,
    /// Until the lease ends, in ms from the answer's entry.
    #[serde(rename = "expiresIn")]
    pub expires_in_ms: u64,
}

impl Answer<Extended> {
    /// Until when the grant may be relied on.
    pub fn deadline(&self) -> Moment {
        deadline(
            self.sent,
            Duration::ZERO,
            Duration::from_millis(self.value.expires_in_ms),
        )
    }
}

/// A held lock as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockInfo {
    /// Which.
    pub key: String,
    /// The grant's.
    pub fencing_token: u64,
    /// Until the lease ends, in ms.
    #[serde(rename = "expiresIn")]
    pub expires_in_ms: u64,
    /// How many stand in line.
    pub waiting: u64,
    /// Whether the holder asked for fifo.
    pub fifo: bool,
}

/// Some of an identity's locks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LocksPage {
    /// The locks, in the order of their keys.
    pub locks: Vec<LockInfo>,
    /// For the next page; `None` at the end.
    pub cursor: Option<String>,
}

/// What a node knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// The node that answered.
    pub id: u64,
    /// `leader`, `follower`, `learner` or `candidate`.
    pub role: String,
    /// The leader it follows.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Every member.
    pub members: Vec<MemberInfo>,
    /// The newest entry it applied.
    pub applied_index: u64,
}

/// One member, as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// `http://host:port`; empty until it is known.
    pub http: String,
    /// `host:port`
    pub peer: String,
    /// Whether it votes.
    pub voter: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_lasts_longer_than_asked() {
        for (asked_ms, attempts, window_ms) in [
            (0, 0, 0),
            (1, 1, 1),
            (499, 1, 499),
            (5_000, 10, 5_000),
            (5_250, 10, 5_250),
            (600_000, 1_000, 600_000),
        ] {
            let wait = Wait::lasting(Duration::from_millis(asked_ms));
            assert_eq!(wait.retry_attempts, attempts, "{asked_ms}");
            assert_eq!(
                wait.window_max(),
                Duration::from_millis(window_ms),
                "{asked_ms}"
            );
        }
    }

    #[test]
    fn an_acquire_is_written_in_the_words_of_the_api() {
        let acquire = Acquire {
            key: "k".into(),
            lease_ms: 5000,
            wait: Wait::default(),
            uuid: Some("u".into()),
            fifo: false,
        };
        assert_eq!(
            serde_json::to_string(&acquire).unwrap(),
            r#"{"key":"k","lease":5000,"retryAttempts":10,"retryDelay":500,"retryJitter":0,"uuid":"u","fifo":false}"#
        );
    }
}
