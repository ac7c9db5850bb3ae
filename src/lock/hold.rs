//! How long a lock may still be relied on, and when to extend it.

use std::time::Duration;

use evermind_client::{Answer, Extended, Grant, Moment};

use super::watch::Term;

/// For SIGTERM to work before SIGKILL does.
const TERM_GRACE_MAX: Duration = Duration::from_secs(5);
/// For SIGKILL to work before the deadline.
const KILL_GRACE_MAX: Duration = Duration::from_millis(250);

/// One grant as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    lease: Duration,
    /// Until when the grant may be relied on.
    deadline: Moment,
    /// What the newest answer said was left, and when it came.
    left: Duration,
    received: Moment,
}

impl Hold {
    pub(super) fn new(lease: Duration, grant: &Answer<Grant>) -> Self {
        let left = Duration::from_millis(grant.value.expires_in_ms);
        Self {
            lease,
            deadline: grant.deadline(),
            left,
            received: grant.received,
        }
    }

    pub(super) fn extended(&mut self, answer: &Answer<Extended>) {
        self.deadline = answer.deadline();
        self.left = Duration::from_millis(answer.value.expires_in_ms);
        self.received = answer.received;
    }

    /// When only two thirds of the lease are left to rely on: two more tries fit before it ends.
    /// After a long wait this is at once, because the drift of the whole wait is taken off the
    /// deadline; the extension's answer counts from its own request, and gives that back.
    pub(super) fn extend_at(&self) -> Moment {
        self.deadline.minus(self.lease * 2 / 3)
    }

    /// What to add now so that at most one lease is left: the time used since the last extension.
    /// Counted from the answer's arrival, which is after the cluster counted: never too much.
    pub(super) fn extend_by_ms(&self, now: Moment) -> u64 {
        let left = self.left.saturating_sub(now.since(self.received));
        crate::duration::as_ms(self.lease.saturating_sub(left)).max(1)
    }

    /// When to ask the command to end, if the lease has not been extended.
    pub(super) fn term_at(&self) -> Moment {
        self.deadline.minus(self.term_grace())
    }

    /// When to end the command.
    pub(super) fn kill_at(&self) -> Moment {
        self.deadline.minus(KILL_GRACE_MAX.min(self.lease / 20))
    }

    /// Both, for the watch.
    pub(super) fn term(&self) -> Term {
        Term::new(self.term_at(), self.kill_at())
    }

    /// How long the command has to end by itself.
    pub(super) fn term_grace(&self) -> Duration {
        TERM_GRACE_MAX.min(self.lease / 4)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn hold(start: Moment, lease_ms: u64, left_ms: u64) -> Hold {
        let left = ms(left_ms);
        let deadline = evermind_client::deadline(start, Duration::ZERO, left);
        Hold {
            lease: ms(lease_ms),
            deadline,
            left,
            received: start.plus(ms(20)),
        }
    }

    #[test]
    fn a_fresh_lease_is_extended_after_a_third_by_what_was_used() {
        let start = Moment::now();
        let hold = hold(start, 9_000, 9_000);
        assert_eq!(hold.extend_at(), start.plus(ms(2_910)));
        assert_eq!(hold.extend_by_ms(hold.received.plus(ms(3_000))), 3_000);
        // Nothing used: the API's least, so that the answer tells what is left.
        assert_eq!(hold.extend_by_ms(hold.received), 1);
    }

    #[test]
    fn a_lease_that_came_late_is_extended_at_once() {
        let start = Moment::now();
        let hold = hold(start, 9_000, 2_000);
        assert!(hold.extend_at() <= hold.received);
        assert_eq!(hold.extend_by_ms(hold.received), 7_000);
    }

    #[test]
    fn a_long_wait_is_followed_by_an_extension() {
        let sent = Moment::now();
        let (waited, left) = (ms(600_000), ms(5_000));
        let received = sent.plus(waited);
        let deadline = evermind_client::deadline(sent, waited, left);
        let hold = Hold {
            lease: left,
            deadline,
            left,
            received,
        };
        // 1% of the wait is more than the lease.
        assert!(hold.deadline < received && hold.extend_at() < received);
        assert_eq!(hold.extend_by_ms(received), 1);
    }

    #[test]
    fn never_more_than_one_lease_is_added() {
        let start = Moment::now();
        let hold = hold(start, 9_000, 9_000);
        assert_eq!(hold.extend_by_ms(start.plus(ms(60_000))), 9_000);
    }

    #[test]
    fn the_command_is_asked_then_killed_before_the_deadline() {
        let start = Moment::now();
        for lease in [1_000, 10_000, 600_000] {
            let hold = hold(start, lease, lease);
            let deadline = start.plus(ms(lease - lease / 100));
            assert_eq!(hold.deadline, deadline);
            assert!(hold.extend_at() < hold.term_at());
            assert!(hold.term_at() < hold.kill_at() && hold.kill_at() < deadline);
            assert!(deadline.since(hold.kill_at()) >= ms(50));
        }
    }
}
