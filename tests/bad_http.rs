//! Shows VERIFY.md 4, HTTP: what is not a request is refused or hung up on, in time, and the
//! server goes on answering.

mod table;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::TestCluster;
use crate::harness::http::{Connection, Request};

use table::{BODY, Closed, Expect, acquire};

/// DESIGN.md 7: header 5 s, body 10 s; the rest is for a busy machine.
const HEADER_WITHIN: Duration = Duration::from_secs(5 + 4);
const BODY_WITHIN: Duration = Duration::from_secs(10 + 4);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Sends bytes and takes what comes. Where the answer must be the last, one more is none.
fn exchange(address: SocketAddr, bytes: &[u8], expected: Expect) -> Result<u16, Closed> {
    let mut connection = Connection::open(address).expect("the node listens");
    let deadline = Instant::now() + ANSWER_WITHIN;
    // A server that answers before it has read everything may close under the sender.
    let _ = connection.send(bytes);
    match connection.receive(deadline) {
        Ok(_) if matches!(expected, Expect::LastOf(_)) && !connection.is_over_by(deadline) => {
            Err(Closed::No)
        }
        Ok(answer) => Ok(answer.status),
        Err(e) if crate::harness::http::is_timeout(&e) => Err(Closed::No),
        Err(_) => Err(Closed::Yes),
    }
}

#[test]
fn what_is_not_a_request_is_refused_or_hung_up_on() {
    let cluster = TestCluster::start();
    let node = cluster.node(1);
    let mut wrong = Vec::new();
    for (what, bytes, expected) in table::rows(&cluster.api_key) {
        let got = exchange(node.http, &bytes, expected);
        if !expected.is_met(got) {
            wrong.push(format!("{what}: {expected:?}, but {got:?}"));
        }
        let alive = cluster.client(1).send(&Request::get("/livez")).status;
        assert_eq!(alive, 200, "after {what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!node.log_text().contains("panicked"), "{}", node.log_text());
}

const SLOW_HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nX-Slow: ";

/// Bytes that stop coming; the server waits for its stated time and no longer.
#[test]
fn whoever_stalls_is_hung_up_on() {
    let cluster = TestCluster::start();
    let node = cluster.node(2);
    let expecting = format!(
        "Host: a\r\nContent-Length: {}\r\nExpect: 100-continue\r\n",
        BODY.len()
    );
    let slow_body = format!("Host: a\r\nContent-Length: {}\r\n", BODY.len());
    let stalls = [
        ("nothing after connecting", Vec::new(), HEADER_WITHIN),
        ("half a request line", b"GET /liv".to_vec(), HEADER_WITHIN),
        (
            "half a header",
            b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A".to_vec(),
            HEADER_WITHIN,
        ),
        (
            "expect, then nothing",
            acquire(&cluster.api_key, &expecting, ""),
            BODY_WITHIN,
        ),
        (
            "half a body",
            acquire(&cluster.api_key, &slow_body, r#"{"key":"k","#),
            BODY_WITHIN,
        ),
    ];
    thread::scope(|scope| {
        for (what, bytes, within) in stalls {
            scope.spawn(move || {
                let mut connection = Connection::open(node.http).expect("the node listens");
                connection.send(&bytes).expect("the node reads");
                let deadline = Instant::now() + within;
                assert!(
                    connection.closes_by(deadline),
                    "{what}: still open after {within:?}"
                );
            });
        }
        scope.spawn(|| drip(node.http, SLOW_HEAD, b'x', HEADER_WITHIN));
        let head = acquire(
            &cluster.api_key,
            "Host: a\r\nContent-Length: 60000\r\n",
            "{",
        );
        scope.spawn(move || drip(node.http, &head, b' ', BODY_WITHIN));
    });
    assert_eq!(cluster.client(2).take("k", "u", 1000).status, 200);
}

/// One byte at a time, for ever: a stall that keeps every read busy.
fn drip(address: SocketAddr, head: &[u8], byte: u8, within: Duration) {
    let mut connection = Connection::open(address).expect("the node listens");
    connection.send(head).expect("the node reads");
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        // Waits for 200 ms, and notices a close meanwhile.
        let gone = connection.closes_by(Instant::now() + Duration::from_millis(200));
        if gone || connection.send(&[byte]).is_err() {
            return;
        }
    }
    panic!("whoever drips is still served after {within:?}");
}

/// Many who connect and say nothing must not keep an honest caller out.
#[test]
fn a_crowd_of_silent_connections_leaves_room_for_the_honest() {
    let cluster = TestCluster::start();
    let address = cluster.node(1).http;
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(Connection::open(address).expect("the node listens"));
    }
    for n in 0..20 {
        let taken = cluster.client(1).take(&format!("k-{n}"), "u", 10_000);
        let took = taken.returned.duration_since(taken.invoked);
        assert!(
            took < Duration::from_secs(1),
            "an honest caller waited {took:?}"
        );
    }
    let deadline = Instant::now() + HEADER_WITHIN;
    for mut silent in crowd {
        assert!(
            silent.closes_by(deadline),
            "a silent connection is still open"
        );
    }
}

/// Peers prove the cluster secret before anything of theirs is read.
#[test]
fn the_peer_port_tells_a_stranger_nothing() {
    let cluster = TestCluster::start();
    let view = cluster.status(1).expect("it runs");
    let peer: SocketAddr = view["members"][0]["peer"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let request = Request::get("/v1/cluster").bearer(&cluster.api_key).bytes();
    let strangers: [(&str, Vec<u8>); 4] = [
        ("an API key", request),
        ("a length of 2^32 - 1", vec![0xFF; 64]),
        ("noise", (0..=255).cycle().take(4096).collect()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in strangers {
        let mut connection = Connection::open(peer).expect("the node listens");
        let _ = connection.send(&bytes);
        let closes = connection.closes_by(Instant::now() + Duration::from_secs(15));
        assert!(closes, "{what}: still open after 15 s");
    }
    assert_eq!(cluster.client(1).take("k", "u", 1000).status, 200);
    assert_eq!(cluster.running(), [1, 2, 3]);
}
