//! Clocks that jump, and clocks that run fast or slow (libfaketime).

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use evermind_checker::history::{Ask, Told};
use evermind_harness::cluster::NODES;
use evermind_harness::until;

use crate::caller::Operation;
use crate::cluster::{Cluster, others};
use crate::scene::Scene;
use crate::setup::RATES;

const HOUR_S: i64 = 3_600;
const MILLION: u128 = 1_000_000;
/// Nobody may have asked for anything while only two were up: then the third may be elected.
const LEADS_WITHIN: Duration = Duration::from_mins(2);
/// The client that measures leases is numbered apart from those of the load.
const PROBE: u64 = 1_200;

/// What a node's clocks say from now on, in libfaketime's words.
pub(crate) fn set(cluster: &Cluster, id: u64, says: &str) {
    let path = cluster.dir().join(format!("clock-{id}"));
    let new = path.with_extension("new");
    // A node that reads it in between must not find half of it.
    fs::write(&new, format!("{says}\n")).expect("a file for a clock");
    fs::rename(&new, &path).expect("a file for a clock");
}

/// The wall clock of each node jumps an hour ahead, an hour back, and to and fro.
pub(crate) fn wall(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        scene.work();
        for (at, offset) in [HOUR_S, -HOUR_S].into_iter().enumerate() {
            // Not all by the same, and the leader among them.
            for id in NODES {
                let signed = if (at as u64 + id).is_multiple_of(2) {
                    offset
                } else {
                    -offset
                };
                set(cluster, id, &format!("{signed:+}s"));
                scene.inject();
            }
            scene.spell(1_500);
            // Whoever starts now says so in its log, with the date that it believes.
            let victim = scene.any_node();
            cluster.kill(victim);
            cluster.restart(victim);
            let off_s = date_off_s(cluster, victim);
            scene.effect(
                "logs dated an hour off",
                u64::from((3_500..3_700).contains(&off_s)),
            );
        }
        let strobing = Instant::now() + Duration::from_secs(3);
        let mut ahead = true;
        while Instant::now() < strobing {
            for id in NODES {
                set(cluster, id, if ahead { "+3600s" } else { "-3600s" });
            }
            scene.inject();
            ahead = !ahead;
            scene.spell(100);
        }
        for id in NODES {
            set(cluster, id, "+0s");
        }
    }
}

/// By how much the newest line of a node's log is dated off from the truth, in seconds.
fn date_off_s(cluster: &Cluster, id: u64) -> u64 {
    let text = cluster.node(id).log_text();
    let stamps = text.lines().rev().filter_map(unix_seconds);
    let Some(stamp) = stamps.into_iter().next() else {
        return 0;
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("after 1970").as_secs().abs_diff(stamp)
}

/// The date at the head of a line, as in 2026-11-24T20:01:17.775870Z.
fn unix_seconds(line: &str) -> Option<u64> {
    let (stamp, _) = line.split_once('Z')?;
    let (date, time) = stamp.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
        let parts = text
            .split(by)
            .map(|part| part.split('.').next()?.parse().ok());
        parts.collect()
    };
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let ([year, month, day], [hour, minute, second]) = (&date[..], &time[..]) else {
        return None;
    };
    // Days from 1970 to a civil date, by years that begin in March.
    let (year, month) = if *month <= 2 {
        (year - 1, month + 9)
    } else {
        (*year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some((days - 719_469) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// One node's every clock runs 10% fast, another's 10% slow, and each leads in turn. The bound: no
/// lease ends earlier than its length divided by 1.1, by true time.
pub(crate) fn rate(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    let leaders = [
        (RATES[0].0, "leases seen 10% short under a fast leader"),
        (RATES[1].0, "leases seen 10% long under a slow leader"),
    ];
    while scene.goes_on() {
        for (skewed, name) in leaders {
            scene.work();
            until("the node whose clock is off leads", LEADS_WITHIN, || {
                let leader = cluster.leader();
                if leader == skewed {
                    return Some(());
                }
                let third = others(skewed).into_iter().find(|id| *id != leader);
                let third = third.expect("three nodes");
                let term = cluster.term();
                cluster.kill(third);
                // Without the third, what is committed meanwhile the skewed one has, and the third
                // has not: of these two only the skewed one can be elected.
                scene.spell(500);
                cluster.kill(leader);
                cluster.launch(third);
                scene.await_term_above(term, &[skewed, third]);
                cluster.restart(leader);
                None
            });
            scene.inject();
            for _ in 0..3 {
                let term = cluster.term();
                let (lease_ms, lasted) = lease_by_true_time(scene);
                let still_leads = cluster.leader() == skewed && cluster.term() == term;
                let lasted = lasted.as_micros() * MILLION / u128::from(lease_ms * 1_000);
                scene.require(lasted >= MILLION * 10 / 11, || {
                    format!("a lease of {lease_ms} ms ended after {lasted} millionths of it")
                });
                let seen = if skewed == RATES[0].0 {
                    lasted < MILLION * 97 / 100
                } else {
                    lasted > MILLION * 107 / 100
                };
                scene.effect(name, u64::from(still_leads && seen));
            }
        }
    }
}

/// How long a lock was its holder's at most, by the machine's own clock: from before it asked until
/// the next holder's grant was read.
fn lease_by_true_time(scene: &Scene<'_>) -> (u64, Duration) {
    let lease_ms = 4_000;
    let key = format!("rate-{}", scene.load.timeline.now().0);
    let (first, second) = (format!("first-{key}"), format!("second-{key}"));
    let mut caller = scene.caller(PROBE, scene.any_node());
    let asked = Instant::now();
    let taken = caller.once(&Operation::take(&key, &first, lease_ms, 0));
    let next = caller.once(&Operation::take(&key, &second, 1_000, 10_000));
    let ended = Instant::now();
    let granted = |told: &Told| matches!(told, Told::Granted { .. });
    scene.require(granted(&taken) && granted(&next), || {
        format!("{key}: {taken:?}, then {next:?}")
    });
    caller.once(&Operation::of(&key, &second, Ask::Release));
    (lease_ms, ended.duration_since(asked))
}

#[cfg(test)]
mod tests {
    use super::unix_seconds;

    #[test]
    fn the_date_of_a_log_line_is_read() {
        assert_eq!(unix_seconds("1970-01-01T00:00:01.5Z INFO x"), Some(1));
        assert_eq!(
            unix_seconds("2026-11-24T19:01:19.787448Z  WARN y"),
            Some(1_795_546_879)
        );
        assert_eq!(unix_seconds("error: no date"), None);
    }
}
