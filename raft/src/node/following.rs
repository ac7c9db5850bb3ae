//! What a follower learns of its leader from what the leader itself sends: that it can be reached, and
//! how far it is behind.
//!
//! A node that the leader cannot dial may be able to dial the leader. What it is asked would then be
//! granted in the log, and never be answered: it applies nothing. So a leader counts only as long as
//! its own appends and heartbeats arrive here, and this node serves only while it applies what they
//! say is committed.

use std::sync::Mutex;
use std::time::Duration;

use evermind_lock::command::NodeId;
use tokio::time::Instant;

use super::core::lock;

/// What was committed this long ago must be applied: a node that is further behind does not serve.
pub(crate) const LAG_MAX: Duration = Duration::from_secs(3);

/// What an append or a heartbeat says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// Whose it is.
    pub(crate) leader: NodeId,
    /// Of which term.
    pub(crate) term: u64,
    /// What is committed.
    pub(crate) committed: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Following(Mutex<Option<Heard>>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    leader: NodeId,
    term: u64,
    at: Instant,
    /// Committed when it was looked at last, and not applied then.
    target: u64,
    since: Instant,
}

impl Following {
    /// An append or a heartbeat came. One of an earlier term than the last is of a leader that was
    /// deposed and does not know it: consensus refuses it, and it says nothing of the one that leads.
    pub(crate) fn heard(&self, said: Said, applied: u64, now: Instant) {
        let Said {
            leader,
            term,
            committed,
        } = said;
        let mut heard = lock(&self.0);
        if heard.is_some_and(|before| before.term > term) {
            return;
        }
        let is_same = |before: &Heard| (before.leader, before.term) == (leader, term);
        let before = heard.filter(|before| is_same(before) && applied < before.target);
        *heard = Some(match before {
            Some(before) => Heard { at: now, ..before },
            None => Heard {
                leader,
                term,
                at: now,
                target: committed,
                since: now,
            },
        });
    }

    /// For how long the leader of this term was not heard.
    pub(crate) fn silence(&self, leader: NodeId, term: u64, now: Instant) -> Duration {
        let is_it = |heard: &Heard| (heard.leader, heard.term) == (leader, term);
        let heard = lock(&self.0).filter(is_it);
        heard.map_or(Duration::MAX, |heard| now.duration_since(heard.at))
    }

    /// For how long something that is committed has not been applied.
    pub(crate) fn lag(&self, leader: NodeId, applied: u64, now: Instant) -> Duration {
        let heard = lock(&self.0).filter(|heard| heard.leader == leader && applied < heard.target);
        heard.map_or(Duration::ZERO, |heard| now.duration_since(heard.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(leader: NodeId, term: u64, committed: u64) -> Said {
        Said {
            leader,
            term,
            committed,
        }
    }

    #[test]
    fn what_is_applied_within_the_time_is_no_lag_however_much_follows() {
        let following = Following::default();
        let begin = Instant::now();
        for second in 0..10 {
            let now = begin + Duration::from_secs(second);
            // Always something committed that is not applied yet, but never the same for long.
            following.heard(said(1, 1, 10 * (second + 1)), 10 * second, now);
            assert!(following.lag(1, 10 * second, now) <= Duration::from_secs(1));
            assert_eq!(following.lag(1, 10 * (second + 1), now), Duration::ZERO);
        }
    }

    #[test]
    fn what_is_never_applied_counts_from_when_it_was_first_heard_of() {
        let following = Following::default();
        let begin = Instant::now();
        for second in 0..10 {
            let now = begin + Duration::from_secs(second);
            following.heard(said(1, 1, 100 + second), 50, now);
            assert_eq!(following.lag(1, 50, now), Duration::from_secs(second));
            assert_eq!(following.silence(1, 1, now), Duration::ZERO);
        }
        // Another leader says anew what is committed.
        let now = begin + Duration::from_secs(10);
        following.heard(said(2, 2, 200), 50, now);
        assert_eq!(following.lag(2, 50, now), Duration::ZERO);
        assert_eq!(following.silence(1, 1, now), Duration::MAX);
    }

    #[test]
    fn a_deposed_leader_is_not_heard() {
        let following = Following::default();
        let begin = Instant::now();
        let later = begin + Duration::from_secs(2);
        // Node 1 led in term 1, and does not know that node 2 was elected.
        following.heard(said(2, 2, 10), 5, begin);
        following.heard(said(1, 1, 9), 5, later);
        assert_eq!(following.silence(2, 2, later), Duration::from_secs(2));
        assert_eq!(following.lag(2, 5, later), Duration::from_secs(2));
        // Node 1 is elected again: what it sent before does not count for it.
        assert_eq!(following.silence(1, 3, later), Duration::MAX);
        // What was sent in its first term arrives late.
        following.heard(said(1, 3, 10), 10, begin);
        following.heard(said(1, 1, 9), 10, later);
        assert_eq!(following.silence(1, 3, later), Duration::from_secs(2));
    }
}
