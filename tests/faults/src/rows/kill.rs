//! `kill -9`, one or all, again and again.

use evermind_harness::cluster::NODES;

use crate::cluster::others;
use crate::scene::Scene;

/// The load alone.
pub(crate) fn nothing(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        scene.inject();
    }
    scene.effect("requests answered", scene.load.answered());
}

pub(crate) fn leader(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        let leader = scene.cluster.leader();
        let term = scene.cluster.term();
        scene.cluster.kill(leader);
        scene.inject();
        scene.await_term_above(term, &others(leader));
        scene.cluster.restart(leader);
    }
}

pub(crate) fn follower(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        let followers = scene.cluster.followers();
        let victim = followers[usize::from(scene.below(2) == 1)];
        kill(scene, victim);
        scene.spell(500);
        scene.cluster.restart(victim);
    }
}

pub(crate) fn all(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        let term = scene.cluster.term();
        for id in NODES {
            kill(scene, id);
        }
        for id in NODES {
            scene.cluster.launch(id);
        }
        scene.cluster.await_ready();
        scene.await_term_above(term, &NODES);
    }
}

/// Every 3 s whichever it is; also two at once, where the first is not back.
pub(crate) fn twenty(scene: &Scene<'_>) {
    for _ in 0..20 {
        let victim = scene.any_node();
        kill(scene, victim);
        scene.spell(500 + scene.below(1000));
        scene.cluster.launch(victim);
        scene.spell(1000 + scene.below(1000));
    }
}

/// Kills a node that runs, and sees that its process is gone.
pub(crate) fn kill(scene: &Scene<'_>, id: u64) {
    let pid = scene.cluster.node(id).pid();
    scene.cluster.kill(id);
    scene.inject();
    scene.effect(
        "processes gone",
        u64::from(evermind_harness::process::has_ended(pid)),
    );
}
