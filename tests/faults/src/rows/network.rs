//! Partitions, loss and delay between the nodes.

use std::time::Duration;

use evermind_checker::history::Told;
use evermind_harness::cluster::NODES;

use crate::caller::Operation;
use crate::cluster::others;
use crate::lan::Lan;
use crate::link::Sum;
use crate::scene::Scene;

/// A partition lasts longer than it takes to elect another leader, and than the short leases.
const CUT_MS: u64 = 3_000;
const CALM_MS: u64 = 2_000;
/// The client that asks a node which is cut off is numbered apart from those of the load.
const PROBE: u64 = 1_500;
/// How long it waits for an answer: less than the cut lasts.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How far a term may rise for one fault: a leader lost, one elected, and as many that were outvoted.
/// Without pre-vote a node alone would add three each second.
const TERMS_PER_FAULT: u64 = 5;

fn lan<'a>(scene: &'a Scene<'_>) -> &'a Lan {
    scene.cluster.lan.as_ref().expect("the row has a network")
}

/// What happened to packets while `part` ran.
fn packets(scene: &Scene<'_>, part: impl FnOnce()) -> Sum {
    let before = lan(scene).sum();
    part();
    let after = lan(scene).sum();
    Sum {
        passed: after.passed - before.passed,
        dropped: after.dropped - before.dropped,
        delayed: after.delayed - before.delayed,
        reset: after.reset - before.reset,
    }
}

/// Cuts again and again, by a rule that is given the leader; each cut drops packets, and each time
/// the cluster heals.
fn cuts(scene: &Scene<'_>, cut: impl Fn(&Scene<'_>, u64)) {
    let first = scene.cluster.term();
    while scene.goes_on() {
        scene.work();
        let leader = scene.cluster.leader();
        let sum = packets(scene, || cut(scene, leader));
        scene.effect("packets dropped", sum.dropped);
        lan(scene).heal();
        scene.spell(CALM_MS);
    }
    bound_terms(scene, first);
}

fn bound_terms(scene: &Scene<'_>, first: u64) {
    let grown = scene.cluster.term().saturating_sub(first);
    let bound = TERMS_PER_FAULT * scene.injected();
    scene.note(format!("terms grew by {grown}"));
    scene.require(grown <= bound, || {
        format!("terms grew by {grown} over {} faults", scene.injected())
    });
}

/// How many acquires `node` granted that began and ended since the moment given.
fn grants_of(scene: &Scene<'_>, node: u64, since: evermind_checker::history::Moment) -> u64 {
    scene.load.recorder.with(|history| {
        let of = history.records.iter().rev().filter(|record| {
            record.node == node
                && record.invoked >= since
                && matches!(record.told, Told::Granted { .. })
        });
        of.count() as u64
    })
}

/// Requests that were under way when the cut came may still be answered from what came before it.
const UNDER_WAY_MS: u64 = 100;

/// The leader alone on one side: that side grants nothing.
pub(crate) fn isolate(scene: &Scene<'_>) {
    cuts(scene, |scene, leader| {
        let term = scene.cluster.term();
        for other in others(leader) {
            for link in lan(scene).both(leader, other) {
                link.cut();
            }
        }
        scene.inject();
        cut_off(scene, leader, term);
    });
}

/// The others elect one of themselves, and the leader that was cut off grants nothing meanwhile that
/// is asked of it.
fn cut_off(scene: &Scene<'_>, leader: u64, term: u64) {
    scene.spell(UNDER_WAY_MS);
    let alone = scene.load.timeline.now();
    scene.await_term_above(term, &others(leader));
    scene.spell(CUT_MS);
    let grants = grants_of(scene, leader, alone);
    scene.require(grants == 0, || {
        format!("node {leader}, which was cut off, granted {grants}")
    });
    // One that asked it for sure, and was told within the time of the cut what it was told.
    let key = format!("cut-off-{}", scene.load.timeline.now().0);
    let mut caller = scene.caller(PROBE, leader);
    let told = caller.hang_up_after(&Operation::take(&key, &key, 1_000, 0), PROBE_WITHIN);
    let granted = matches!(told, Told::Granted { .. });
    scene.require(!granted, || {
        format!("node {leader}, which was cut off, told a caller {told:?}")
    });
    scene.effect("callers not granted by a node cut off", u64::from(!granted));
}

/// Each node hears one other and is heard by the third: no two of them can talk.
pub(crate) fn ring(scene: &Scene<'_>) {
    cuts(scene, |scene, _| {
        for (from, to) in [(1, 2), (2, 3), (3, 1)] {
            lan(scene).link(from, to).cut();
        }
        scene.inject();
        scene.spell(CUT_MS);
    });
}

/// The leader and one follower cannot talk; the third hears both.
pub(crate) fn bridge(scene: &Scene<'_>) {
    cuts(scene, |scene, leader| {
        let apart = others(leader)[usize::from(scene.below(2) == 1)];
        for link in lan(scene).both(leader, apart) {
            link.cut();
        }
        scene.inject();
        scene.spell(CUT_MS);
        // Two of three can always talk: somebody serves.
        scene.work();
    });
}

/// Nothing reaches the leader, and what it sends arrives.
pub(crate) fn one_way_in(scene: &Scene<'_>) {
    cuts(scene, |scene, leader| {
        let term = scene.cluster.term();
        for other in others(leader) {
            lan(scene).link(other, leader).cut();
        }
        scene.inject();
        cut_off(scene, leader, term);
    });
}

/// Nothing that the leader sends arrives, and it hears everything.
pub(crate) fn one_way_out(scene: &Scene<'_>) {
    cuts(scene, |scene, leader| {
        let term = scene.cluster.term();
        for other in others(leader) {
            lan(scene).link(leader, other).cut();
        }
        scene.inject();
        cut_off(scene, leader, term);
    });
}

/// A link of the leader's that comes and goes, several times a second.
pub(crate) fn flapping(scene: &Scene<'_>) {
    cuts(scene, |scene, leader| {
        let other = others(leader)[usize::from(scene.below(2) == 1)];
        for _ in 0..10 {
            for link in lan(scene).both(leader, other) {
                link.cut();
            }
            scene.inject();
            scene.spell(150 + scene.below(200));
            lan(scene).heal();
            scene.spell(50 + scene.below(200));
        }
    });
}

/// 5, 20 and 50% of all packets between nodes are lost, one share after the other.
pub(crate) fn loss(scene: &Scene<'_>) {
    while scene.goes_on() {
        for (percent, name) in [
            (5, "packets lost of 5%"),
            (20, "packets lost of 20%"),
            (50, "packets lost of 50%"),
        ] {
            let sum = packets(scene, || {
                for link in lan(scene).all() {
                    link.lose(percent);
                }
                scene.inject();
                scene.spell(4_000);
            });
            scene.effect(name, sum.dropped);
        }
        lan(scene).heal();
        scene.work();
    }
}

/// Each packet takes longer than the longest election timeout (350 ms).
pub(crate) fn delay(scene: &Scene<'_>) {
    while scene.goes_on() {
        let sum = packets(scene, || {
            for link in lan(scene).all() {
                link.delay(Duration::from_millis(500));
            }
            scene.inject();
            scene.spell(5_000);
        });
        scene.effect("packets delayed", sum.delayed);
        lan(scene).heal();
        scene.work();
    }
}

/// Every connection of the leader's is reset; and a node comes back whose peers still hold
/// connections to the process that it was.
pub(crate) fn resets(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        let leader = scene.cluster.leader();
        let sum = packets(scene, || {
            for other in others(leader) {
                for link in lan(scene).both(leader, other) {
                    link.refuse();
                }
            }
            scene.inject();
            scene.spell(500);
        });
        scene.effect("connections answered with a reset", sum.reset);
        lan(scene).heal();
        scene.work();

        let victim = scene.any_node();
        let sum = packets(scene, || {
            for other in others(victim) {
                for link in lan(scene).both(victim, other) {
                    link.cut();
                }
            }
            // Its end of each connection goes without a word to the other end.
            scene.cluster.kill(victim);
            scene.inject();
            scene.cluster.launch(victim);
            scene.spell(1_000);
        });
        scene.effect("packets into half-open connections", sum.dropped);
        lan(scene).heal();
        scene.cluster.await_ready();
    }
    let alive = NODES.iter().filter(|id| scene.cluster.view(**id).is_some());
    scene.require(alive.count() == NODES.len(), || {
        "a node is silent".to_owned()
    });
}
