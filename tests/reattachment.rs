//! Shows that a place in line belongs to the uuid and not to a socket: a client that comes back
//! within 3 s keeps its place, and a wait may outlive any number of connections.

use std::time::{Duration, Instant};

use crate::harness::http::is_timeout;
use crate::harness::waiter::{Waiter, minute_long};
use crate::harness::{TestCluster, until};

#[test]
fn who_comes_back_elsewhere_keeps_the_place() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let first = Waiter::join(&cluster.client(2), "k", "first", 1);
    let second = Waiter::join(&cluster.client(1), "k", "second", 2);

    first.hang_up();
    let waiting = |waiting| {
        until(&format!("{waiting} wait"), Duration::from_secs(5), || {
            (cluster.client(1).waiting("k") == Some(waiting)).then_some(())
        });
    };
    waiting(1);
    let back = Waiter::send(&cluster.client(3), &minute_long("k", "first"));
    // No second place was given.
    waiting(2);

    assert_eq!(cluster.client(1).release("k", "holder").status, 200);
    let first = back.answer();
    assert_eq!(first.status, 200, "{first}");
    assert_eq!(cluster.client(1).release("k", "first").status, 200);
    let second = second.answer();
    assert_eq!(second.status, 200, "{second}");
    assert!(first.token() < second.token(), "the place was lost");
}

#[test]
fn a_second_request_under_the_uuid_outlives_the_first() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let first = Waiter::join(&cluster.client(1), "k", "w", 1);
    let second = Waiter::send(&cluster.client(2), &minute_long("k", "w"));
    cluster.client(2).settle();
    // Detaches the first request's number only.
    first.hang_up();
    cluster.client(1).settle();
    let released = cluster.client(3).release("k", "holder");
    let granted = second.answer();
    assert_eq!(granted.status, 200, "{granted}");
    assert_eq!(granted.log_index(), released.log_index());
    // The first request's hang-up must not release what the second was granted.
    cluster.client(1).settle();
    assert_eq!(
        cluster.client(1).get("/v1/locks/k").token(),
        granted.token()
    );
}

#[test]
fn two_requests_under_one_uuid_are_one_grant() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let first = Waiter::join(&cluster.client(1), "k", "w", 1).in_background();
    let second = Waiter::send(&cluster.client(2), &minute_long("k", "w"));
    cluster.client(2).settle();
    assert_eq!(cluster.client(3).waiting("k"), Some(1));
    assert_eq!(cluster.client(3).release("k", "holder").status, 200);
    let (first, second) = (first.join().unwrap(), second.answer());
    assert_eq!(
        (first.status, second.status),
        (200, 200),
        "{first} {second}"
    );
    assert_eq!(first.token(), second.token());
    assert!(
        first.number("waited") >= second.number("waited"),
        "each counts its own wait"
    );
}

/// Slices as the SDK makes them, only shorter: proxies cut idle requests.
#[test]
fn a_wait_outlives_its_sockets() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let began = Instant::now();
    let mut patient = Waiter::join(&cluster.client(1), "k", "patient", 1);
    let rival = Waiter::join(&cluster.client(2), "k", "rival", 2);
    // Five slices of 1 s: longer than the 3 s for which a lost place is kept.
    for slice in 1..=5 {
        let unanswered = patient
            .try_answer(Duration::from_secs(1))
            .expect_err("still held");
        assert!(is_timeout(&unanswered), "slice {slice}: {unanswered}");
        patient.hang_up();
        patient = Waiter::send(&cluster.client(slice % 3 + 1), &minute_long("k", "patient"));
    }
    cluster.client(3).settle();
    assert!(began.elapsed() > Duration::from_secs(4));
    assert_eq!(cluster.client(1).waiting("k"), Some(2));

    assert_eq!(cluster.client(1).release("k", "holder").status, 200);
    let granted = patient.answer();
    assert_eq!(granted.status, 200, "{granted}");
    // What it costs counts from the first joining, what it may rely on from its own request.
    let attempts = granted.number("lockAcquisitionAttempts");
    assert!(
        attempts >= 9,
        "4 s are eight polls of 500 ms and the first: {granted}"
    );
    assert!(granted.number("waited") < 4000, "{granted}");
    assert_eq!(cluster.client(2).release("k", "patient").status, 200);
    assert!(rival.answer().token() > granted.token());
}
