//! One direction between two nodes, and what it does to packets.

use std::collections::VecDeque;
use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::reset;

/// As many packets as a link holds back; a network has a bound too.
const HELD_MAX: usize = 4096;

/// What happens to a packet now.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It arrives.
    Pass,
    /// Its sender gets this instead: the connection is reset.
    Refuse(Vec<u8>),
}

/// How many packets met which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) passed: u64,
    pub(crate) dropped: u64,
    pub(crate) delayed: u64,
    pub(crate) reset: u64,
}

impl iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            passed: sum.passed + part.passed,
            dropped: sum.dropped + part.dropped,
            delayed: sum.delayed + part.delayed,
            reset: sum.reset + part.reset,
        })
    }
}

/// Passes everything, until told otherwise.
#[derive(Debug)]
pub(crate) struct Link {
    cut: AtomicBool,
    resets: AtomicBool,
    loss_percent: AtomicU64,
    delay_ms: AtomicU64,
    passed: AtomicU64,
    dropped: AtomicU64,
    delayed: AtomicU64,
    reset: AtomicU64,
    held: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    dice: Mutex<Random>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            cut: AtomicBool::default(),
            resets: AtomicBool::default(),
            loss_percent: AtomicU64::default(),
            delay_ms: AtomicU64::default(),
            passed: AtomicU64::default(),
            dropped: AtomicU64::default(),
            delayed: AtomicU64::default(),
            reset: AtomicU64::default(),
            held: Mutex::default(),
            dice: Mutex::new(Random::new(7)),
        }
    }
}

impl Link {
    /// Drops everything.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Loses this share of the packets.
    pub(crate) fn lose(&self, percent: u64) {
        self.loss_percent.store(percent, Ordering::Relaxed);
    }

    /// Each packet arrives so much later.
    pub(crate) fn delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Answers each packet with a reset of its connection.
    pub(crate) fn refuse(&self) {
        self.resets.store(true, Ordering::Relaxed);
    }

    /// Passes everything again.
    pub(crate) fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
        self.resets.store(false, Ordering::Relaxed);
        self.lose(0);
        self.delay(Duration::ZERO);
    }

    pub(crate) fn sum(&self) -> Sum {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Sum {
            passed: read(&self.passed),
            dropped: read(&self.dropped),
            delayed: read(&self.delayed),
            reset: read(&self.reset),
        }
    }

    /// Decides; nothing where the packet is lost, or held back for [`Link::due`].
    pub(crate) fn meet(&self, packet: &[u8]) -> Option<Fate> {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        if self.resets.load(Ordering::Relaxed)
            && let Some(reset) = reset::of(packet)
        {
            add(&self.reset);
            return Some(Fate::Refuse(reset));
        }
        let percent = self.loss_percent.load(Ordering::Relaxed);
        let lost = percent > 0 && guard(&self.dice).percent(percent);
        if lost || self.cut.load(Ordering::Relaxed) {
            add(&self.dropped);
            return None;
        }
        let delay = self.delay_ms.load(Ordering::Relaxed);
        let mut held = guard(&self.held);
        // Behind what is held, so that healing a delay does not turn the order around.
        if delay > 0 || !held.is_empty() {
            if held.len() < HELD_MAX {
                add(&self.delayed);
                held.push_back((
                    Instant::now() + Duration::from_millis(delay),
                    packet.to_vec(),
                ));
            } else {
                add(&self.dropped);
            }
            return None;
        }
        add(&self.passed);
        Some(Fate::Pass)
    }

    /// What has been held back for long enough.
    pub(crate) fn due(&self) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let mut held = guard(&self.held);
        let mut due = Vec::new();
        while held.front().is_some_and(|(at, _)| *at <= now) {
            due.extend(held.pop_front().map(|(_, packet)| packet));
        }
        due
    }
}

fn guard<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_passes_until_it_is_cut_and_again_when_healed() {
        let link = Link::default();
        assert!(matches!(link.meet(b"one"), Some(Fate::Pass)));
        link.cut();
        assert!(link.meet(b"two").is_none());
        link.heal();
        assert!(matches!(link.meet(b"three"), Some(Fate::Pass)));
        let sum = link.sum();
        assert_eq!((sum.passed, sum.dropped), (2, 1));
    }

    #[test]
    fn what_follows_a_delayed_packet_stays_behind_it() {
        let link = Link::default();
        link.delay(Duration::from_hours(1));
        assert!(link.meet(b"first").is_none());
        assert!(link.due().is_empty());
        link.heal();
        assert!(link.meet(b"second").is_none(), "held behind the first");
        assert_eq!(link.sum().delayed, 2);
    }

    #[test]
    fn a_share_of_packets_is_lost() {
        let link = Link::default();
        link.lose(20);
        let lost = (0..1000).filter(|_| link.meet(b"x").is_none()).count();
        assert!((100..300).contains(&lost), "{lost} of 1000");
    }
}
