//! Shows that SIGTERM is polite: leadership is handed over, open requests end well, the process
//! is gone within 10 s with status 0, and clients that follow the contract see no failure.

use std::time::{Duration, Instant};

use crate::harness::history::History;
use crate::harness::load::under_load;
use crate::harness::waiter::{Waiter, minute_long};
use crate::harness::{TestCluster, until};

const EXIT_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_rolling_restart_under_load_fails_no_operation() {
    let cluster = TestCluster::start();
    let history = History::default();
    let (exits, report) = under_load(&cluster, 8, &history, |load| {
        // The leader comes last of all, and twice: each handover counts.
        let mut order = cluster.followers();
        order.push(cluster.leader());
        order.push(0);
        let mut exits = Vec::new();
        for id in order {
            let cycles = load.cycles();
            until("the load runs", Duration::from_secs(20), || {
                (load.cycles() > cycles + 100).then_some(())
            });
            let id = if id == 0 { cluster.leader() } else { id };
            let asked = Instant::now();
            let status = cluster.terminate(id, EXIT_WITHIN);
            let status = status.unwrap_or_else(|| panic!("node {id} runs 10 s after SIGTERM"));
            assert!(status.success(), "node {id} ended with {status}");
            exits.push((id, asked.elapsed()));
            cluster.restart(id);
        }
        exits
    });
    println!("SIGTERM to exit: {exits:?}");
    println!(
        "{} cycles at {:.0}/s, {} moves",
        report.cycles,
        report.cycles_per_second(),
        report.moves
    );
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    history.assert_safe();
}

/// The longest stall that a handover costs, against an election's timeout after a kill.
#[test]
fn a_leader_that_is_asked_to_stop_hands_over_first() {
    let cluster = TestCluster::start();
    let leader = cluster.leader();
    let before = cluster.status(leader).expect("it runs")["term"]
        .as_u64()
        .expect("a term");
    let status = cluster
        .terminate(leader, EXIT_WITHIN)
        .expect("it ends in time");
    assert!(status.success(), "{status}");
    let new = cluster.leader();
    assert_ne!(new, leader);
    let after = cluster.status(new).expect("it runs")["term"]
        .as_u64()
        .expect("a term");
    assert_eq!(after, before + 1, "one handover, no contested election");
    assert_eq!(cluster.client(new).take("k", "u", 1000).status, 200);
}

/// A wait at a node that stops ends without an answer that would be a lie, and goes on elsewhere.
#[test]
fn a_waiter_of_a_stopping_node_goes_on_elsewhere() {
    let cluster = TestCluster::start();
    let stopping = cluster.followers()[0];
    let stays = cluster.leader();
    cluster.client(stays).take("k", "holder", 60_000);
    let mut waiter = Waiter::join(&cluster.client(stopping), "k", "w", 1);
    let rival = Waiter::join(&cluster.client(stays), "k", "rival", 2);
    cluster
        .node(stopping)
        .signal(nix::sys::signal::Signal::SIGTERM);
    if let Ok(answer) = waiter.try_answer(EXIT_WITHIN) {
        assert_eq!(answer.status, 503, "{answer}");
    }
    let back = Waiter::send(&cluster.client(stays), &minute_long("k", "w"));
    let status = cluster
        .node(stopping)
        .exit(EXIT_WITHIN)
        .expect("it ends in time");
    assert!(status.success(), "{status}");
    cluster.client(stays).settle();
    assert_eq!(cluster.client(stays).release("k", "holder").status, 200);
    let granted = back.answer();
    assert_eq!(granted.status, 200, "{granted}");
    assert_eq!(cluster.client(stays).release("k", "w").status, 200);
    assert!(
        rival.answer().token() > granted.token(),
        "the place was lost"
    );
}
