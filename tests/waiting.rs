//! Shows that waiting is event-driven and bills as polling would: hand-off in one log entry, by a
//! release or an expiry, and the ways in which a wait ends without the lock.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::waiter::Waiter;
use crate::harness::{TestCluster, until};

#[test]
fn a_release_hands_over_in_one_log_entry() {
    let cluster = TestCluster::start();
    let held = cluster.client(1).take("k", "holder", 60_000);
    let mut line = Vec::new();
    for place in 1..=6 {
        let client = cluster.client(place % 3 + 1);
        line.push(Waiter::join(&client, "k", &format!("w-{place}"), place).in_background());
    }

    let mut holder = "holder".to_owned();
    let mut token = held.token();
    for (place, waiter) in (1_u64..).zip(line) {
        let released = cluster.client(place % 3 + 1).release("k", &holder);
        assert_eq!(released.status, 200, "{released}");
        let granted = waiter.join().unwrap();
        assert_eq!(granted.status, 200, "{granted}");
        // The claim: not soon after, but in the same entry.
        assert_eq!(granted.log_index(), released.log_index(), "{granted}");
        assert!(granted.log_index().is_some());
        assert!(granted.token() > token);
        token = granted.token();
        assert_eq!(
            granted.number("expiresIn"),
            60_000,
            "the lease starts at the grant"
        );

        // What polling every 500 ms would have made of it (window: 120 x 500 ms).
        let waited = granted.number("waited");
        let attempts = 1 + 120.min((waited * 120).div_ceil(60_000));
        assert_eq!(
            granted.number("lockAcquisitionAttempts"),
            attempts,
            "{granted}"
        );
        holder = format!("w-{place}");
    }
    assert_eq!(cluster.client(1).release("k", &holder).status, 200);
    assert_eq!(cluster.client(1).get("/v1/locks/k").status, 404);
}

#[test]
fn an_expiry_hands_over_when_the_lease_has_run_out() {
    let cluster = TestCluster::start();
    let held = cluster.client(1).take("k", "holder", 800);
    let body = json!({"key": "k", "uuid": "w", "lease": 60_000, "retryAttempts": 20});
    let granted = Waiter::send(&cluster.client(2), &body).answer();
    assert_eq!(granted.status, 200, "{granted}");
    assert!(granted.token() > held.token());
    let after = granted.returned.duration_since(held.invoked);
    assert!(
        after >= Duration::from_millis(799),
        "a lease ended early, after {after:?}"
    );
    assert!(
        after < Duration::from_millis(2800),
        "handed over late, after {after:?}"
    );
    assert!(granted.number("waited") <= 800, "{granted}");
    assert_eq!(cluster.client(3).extend("k", "holder", 1000).status, 409);
}

#[test]
fn a_window_that_passes_is_423_with_every_attempt_counted() {
    let cluster = TestCluster::start();
    let token = cluster.client(1).take("k", "holder", 60_000).token();
    for id in [1, 2, 3] {
        let body = json!({
            "key": "k", "uuid": format!("w-{id}"), "retryAttempts": 3, "retryDelay": 150,
        });
        let answer = cluster.client(id).acquire(&body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (423, "lock_held"),
            "{answer}"
        );
        let took = answer.returned.duration_since(answer.invoked);
        assert!(
            took >= Duration::from_millis(449),
            "gave up early, after {took:?}"
        );
        assert!(
            took < Duration::from_secs(3),
            "gave up late, after {took:?}"
        );
        let body = answer.json();
        assert_eq!(body["lockAcquisitionAttempts"], 4);
        assert_eq!(body["holder"]["fencingToken"], token);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(cluster.client(id).waiting("k"), Some(0), "it left the line");
    }
}

#[test]
fn jitter_is_drawn_once_and_lengthens_the_window() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let body = json!({"key": "k", "retryAttempts": 2, "retryDelay": 100, "retryJitter": 300});
    let answer = cluster.client(1).acquire(&body);
    assert_eq!(answer.status, 423, "{answer}");
    let took = answer.returned.duration_since(answer.invoked);
    assert!(
        took >= Duration::from_millis(199) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(answer.number("lockAcquisitionAttempts"), 3);
}

#[test]
fn a_release_of_a_waiting_uuid_ends_its_wait() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let waiter = Waiter::join(&cluster.client(2), "k", "w", 1);
    let released = cluster.client(3).release("k", "w");
    assert_eq!(released.status, 200, "{released}");
    assert_eq!(released.json()["released"], true);
    let ended = waiter.answer();
    assert_eq!(
        (ended.status, ended.code().as_str()),
        (423, "lock_held"),
        "{ended}"
    );
    assert!(
        ended.text("message").contains("release"),
        "it says why: {ended}"
    );
    assert_eq!(ended.log_index(), released.log_index(), "one entry ends it");
    assert_eq!(cluster.client(1).waiting("k"), Some(0));
    assert_eq!(cluster.client(1).release("k", "holder").status, 200);
    assert_eq!(
        cluster.client(1).get("/v1/locks/k").status,
        404,
        "nobody was stranded or granted"
    );
}

#[test]
fn who_hangs_up_is_passed_over_and_leaves_the_line() {
    let cluster = TestCluster::start();
    let holder = cluster.client(1);
    holder.take("k", "holder", 60_000);
    let gone = Waiter::join(&cluster.client(2), "k", "gone", 1);
    let stays = Waiter::join(&cluster.client(3), "k", "stays", 2);

    gone.hang_up();
    let hung_up = Instant::now();
    // Passed over: whether the hang-up or the release reached the log first, the lock must end up
    // with the one who is still there, and at once.
    let released = holder.release("k", "holder");
    assert_eq!(released.status, 200);
    let granted = stays.answer();
    assert_eq!(granted.status, 200, "{granted}");
    let took = granted.returned.duration_since(released.invoked);
    assert!(
        took < Duration::from_secs(3),
        "not stuck behind the one who left: {took:?}"
    );

    until("nobody stands in line", Duration::from_millis(4500), || {
        (cluster.client(1).waiting("k") == Some(0)).then_some(())
    });
    assert!(hung_up.elapsed() < Duration::from_secs(6));
    assert_eq!(cluster.client(3).release("k", "stays").status, 200);
    assert_eq!(
        cluster.client(1).get("/v1/locks/k").status,
        404,
        "the one who left holds nothing"
    );
}

#[test]
fn a_place_that_nobody_comes_back_to_is_dropped_after_three_seconds() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let gone = Waiter::join(&cluster.client(2), "k", "gone", 1);
    let stays = Waiter::join(&cluster.client(3), "k", "stays", 2);
    gone.hang_up();
    let waiting = |waiting| {
        until(&format!("{waiting} wait"), Duration::from_secs(5), || {
            (cluster.client(1).waiting("k") == Some(waiting)).then_some(())
        });
    };
    waiting(1);
    let seen_gone = Instant::now();
    // Cluster time is not faster than real time, and with a lease alive at most a second behind.
    until("the place is dropped", Duration::from_secs(6), || {
        (seen_gone.elapsed() > Duration::from_millis(4500)).then_some(())
    });
    let back = Waiter::join(&cluster.client(2), "k", "gone", 2);
    assert_eq!(cluster.client(1).release("k", "holder").status, 200);
    let stays = stays.answer();
    assert_eq!(stays.status, 200, "{stays}");
    assert_eq!(cluster.client(1).release("k", "stays").status, 200);
    assert!(
        back.answer().token() > stays.token(),
        "who comes back too late stands at the end"
    );
}

#[test]
fn waiters_with_and_without_fifo_share_one_line_and_all_are_served() {
    let cluster = TestCluster::start();
    cluster.client(1).take("k", "holder", 60_000);
    let mut line = Vec::new();
    for place in 1..=8_u64 {
        let body = json!({
            "key": "k", "uuid": format!("w-{place}"), "lease": 300, "fifo": place % 2 == 0,
            "retryAttempts": 60, "retryDelay": 500,
        });
        line.push(Waiter::send(&cluster.client(place % 3 + 1), &body).in_background());
    }
    until("all stand in line", Duration::from_secs(10), || {
        (cluster.client(1).waiting("k") == Some(8)).then_some(())
    });
    assert_eq!(cluster.client(1).release("k", "holder").status, 200);
    // Nobody releases: each lease runs out, and the next is served.
    let mut tokens: Vec<u64> = line
        .into_iter()
        .map(|w| w.join().unwrap().token())
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 8, "each was granted once");
}
