//! Each invariant holds of what is in order, and breaks when it should.

use evermind_raft::api::{ClusterStatus, Role};
use evermind_sim::invariants::{self, Look};

/// What a node says of itself.
fn node(id: u64, leads: bool, term: u64, applied_index: u64) -> (u64, u64, ClusterStatus) {
    let status = ClusterStatus {
        id,
        role: if leads { Role::Leader } else { Role::Follower },
        leader: leads.then_some(id),
        term,
        members: Vec::new(),
        applied_index,
        global_prefix: String::new(),
    };
    (id, 1, status)
}

fn look(seconds: u64, nodes: Vec<(u64, u64, ClusterStatus)>) -> Look {
    Look {
        now_us: seconds * 1_000_000,
        nodes,
        healed_us: None,
    }
}

/// So long after everything was mended.
fn healed(seconds: u64, mut look: Look) -> Look {
    look.healed_us = Some(seconds * 1_000_000);
    look
}

/// Which invariant breaks first, if one does.
fn broken_by(looks: &[Look]) -> Option<&'static str> {
    let mut all = invariants::all();
    let mut broken = None;
    for look in looks {
        for invariant in &mut all {
            if broken.is_none() && invariant.look(look).is_err() {
                broken = Some(invariant.name());
            }
        }
    }
    broken
}

#[test]
fn a_cluster_in_order_breaks_none() {
    let looks = [
        look(1, vec![node(1, true, 1, 5), node(2, false, 1, 4)]),
        look(2, vec![node(1, true, 1, 9), node(2, false, 2, 4)]),
        // An old leader that has not heard of the new one: of another term.
        look(3, vec![node(1, true, 1, 9), node(2, true, 2, 9)]),
        healed(
            30,
            look(40, vec![node(1, false, 2, 9), node(2, true, 2, 9)]),
        ),
        healed(
            50,
            look(60, vec![node(1, false, 2, 12), node(2, true, 2, 12)]),
        ),
    ];
    assert_eq!(broken_by(&looks), None);
}

#[test]
fn two_leaders_of_one_term_are_seen_even_one_after_the_other() {
    let at_once = [look(1, vec![node(1, true, 2, 0), node(2, true, 2, 0)])];
    assert_eq!(broken_by(&at_once), Some("one leader a term"));
    let in_turn = [
        look(1, vec![node(1, true, 2, 0)]),
        look(2, vec![node(2, true, 3, 0)]),
        look(3, vec![node(3, true, 2, 0)]),
    ];
    assert_eq!(broken_by(&in_turn), Some("one leader a term"));
}

#[test]
fn what_a_process_has_applied_does_not_go_back() {
    let back = |process| {
        let mut later = node(1, false, 1, 8);
        later.1 = process;
        [look(1, vec![node(1, false, 1, 9)]), look(2, vec![later])]
    };
    assert_eq!(broken_by(&back(1)), Some("applied entries stay"));
    // Another process begins with what its disk has.
    assert_eq!(broken_by(&back(2)), None);
}

#[test]
fn long_after_the_heal_nobody_may_lack_what_was_applied_before() {
    let lagging = |lags: u64| {
        let at = |seconds: u64, behind: u64| {
            let nodes = vec![node(1, true, 1, 100), node(2, false, 1, 100 - behind)];
            healed(seconds, look(30 + seconds, nodes))
        };
        [
            at(1, lags),
            at(10, lags),
            at(19, lags),
            at(21, lags),
            at(24, lags),
        ]
    };
    assert_eq!(broken_by(&lagging(1)), Some("applied entries stay"));
    assert_eq!(broken_by(&lagging(0)), None);
}

#[test]
fn terms_do_not_race() {
    let raced = [look(1, vec![node(1, false, 14, 0)])];
    assert_eq!(broken_by(&raced), Some("terms are bounded"));
    let busy = [look(1, vec![node(1, false, 13, 0)])];
    assert_eq!(broken_by(&busy), None);
}

#[test]
fn elections_are_over_some_time_after_the_heal() {
    let at = |seconds, term| healed(seconds, look(30 + seconds, vec![node(1, false, term, 0)]));
    assert_eq!(
        broken_by(&[at(1, 3), at(14, 5), at(16, 5), at(25, 5)]),
        None
    );
    assert_eq!(
        broken_by(&[at(16, 5), at(25, 6)]),
        Some("terms are bounded")
    );
}
