//! Shows what becomes of the callers of a node that reaches its leader while the leader does not
//! reach it: they keep nobody waiting, and what they gave up is given back.

use std::time::{Duration, Instant};

use crate::harness::relay::Relay;
use crate::harness::waiter::{Waiter, minute_long};
use crate::harness::{TestCluster, until};

const SOON: Duration = Duration::from_secs(15);
/// The one that the others reach through a relay. It never leads.
const BEHIND: u64 = 3;

fn start() -> (TestCluster, Relay) {
    let cluster = TestCluster::prepare();
    let inner = format!("127.0.0.1:{}", cluster.spare_port(0));
    let relay = Relay::start(cluster.peer_address(BEHIND), inner.parse().unwrap());
    cluster.node(1).start();
    cluster.node(2).start();
    cluster.await_ready();
    cluster.node(BEHIND).start_with("--peer-listen", &inner);
    cluster.await_ready();
    assert_ne!(cluster.leader(), BEHIND);
    (cluster, relay)
}

fn await_cut_off(cluster: &TestCluster) {
    until("it serves no longer", SOON, || {
        (cluster.client(BEHIND).get("/readyz").status != 200).then_some(())
    });
}

#[test]
fn a_wait_at_a_node_that_is_not_reached_is_passed_over_and_goes_on_when_it_is() {
    let (cluster, relay) = start();
    let leader = cluster.client(cluster.leader());
    leader.take("k", "holder", 60_000);
    let cut_off = Waiter::join(&cluster.client(BEHIND), "k", "cut-off", 1).in_background();
    let next = Waiter::join(&leader, "k", "next", 2);
    relay.cut();
    until("its caller is passed over", SOON, || {
        (leader.waiting("k") == Some(1)).then_some(())
    });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(leader.waiting("k"), Some(1), "it took its place again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(leader.release("k", "holder").status, 200);
    let next = next.answer();
    assert_eq!(next.status, 200, "{next}");

    relay.mend();
    until("it waits again", SOON, || {
        (leader.waiting("k") == Some(1)).then_some(())
    });
    assert_eq!(leader.release("k", "next").status, 200);
    let granted = cut_off.join().unwrap();
    assert_eq!(granted.status, 200, "{granted}");
}

#[test]
fn a_hang_up_at_a_node_that_is_not_reached_gives_back_what_it_was_granted() {
    let (cluster, relay) = start();
    let leader = cluster.client(cluster.leader());
    leader.take("k", "holder", 60_000);
    let in_line = Waiter::join(&cluster.client(BEHIND), "k", "cut-off", 1);
    let next = Waiter::join(&leader, "k", "next", 2);
    relay.cut();
    // It is granted the one and the other, and learns of neither.
    assert_eq!(leader.release("k", "holder").status, 200);
    let new = Waiter::send(&cluster.client(BEHIND), &minute_long("new", "cut-off"));
    until("both are granted", SOON, || {
        let is_held = leader.get("/v1/locks/new").status == 200;
        (is_held && leader.waiting("k") == Some(1)).then_some(())
    });
    await_cut_off(&cluster);
    assert_eq!(leader.get("/v1/locks/new").status, 200);
    in_line.hang_up();
    new.hang_up();
    let next = next.answer();
    assert_eq!(next.status, 200, "{next}");
    let waited = next.number("waited");
    assert!(waited < 30_000, "it had to wait for the lease: {next}");
    until("it is given back", SOON, || {
        (leader.get("/v1/locks/new").status == 404).then_some(())
    });
    relay.mend();
    cluster.await_ready();
}
