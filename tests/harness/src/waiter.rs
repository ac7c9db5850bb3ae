//! A request that waits in line, on a thread of its own, so that a story can go on.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::http::{Answer, Connection, Request};
use super::until::until;

/// An acquire that was sent and is not answered yet.
#[derive(Debug)]
pub struct Waiter {
    connection: Connection,
    within: Duration,
}

impl Waiter {
    /// Sends the acquire. Returns when the bytes are with the kernel, not when it stands in line.
    #[track_caller]
    pub fn send(client: &Client, body: &Value) -> Self {
        Self::send_request(client, &client.request("/lock/acquire", body))
    }

    #[track_caller]
    fn send_request(client: &Client, request: &Request) -> Self {
        let mut connection = Connection::open(client.address).expect("the node listens");
        connection.send(&request.bytes()).expect("the node reads");
        Self {
            connection,
            within: Duration::from_mins(1),
        }
    }

    /// Sends an acquire that waits for up to a minute, and returns when it stands in line as the
    /// `place`th.
    #[track_caller]
    pub fn join(client: &Client, key: &str, uuid: &str, place: u64) -> Self {
        Self::send(client, &minute_long(key, uuid)).standing(client, key, place)
    }

    /// As [`Waiter::join`], with an `Idempotency-Key`.
    #[track_caller]
    pub fn join_once(client: &Client, key: &str, uuid: &str, once: &str, place: u64) -> Self {
        let request = client.request("/lock/acquire", &minute_long(key, uuid));
        let request = request.with("Idempotency-Key", once);
        Self::send_request(client, &request).standing(client, key, place)
    }

    #[track_caller]
    fn standing(self, client: &Client, key: &str, place: u64) -> Self {
        until(
            &format!("it stands in line for {key}"),
            Duration::from_secs(10),
            || (client.waiting(key) == Some(place)).then_some(()),
        );
        self
    }

    /// Hangs up.
    pub fn hang_up(self) {
        drop(self);
    }

    /// The answer, whenever it comes.
    #[track_caller]
    pub fn answer(mut self) -> Answer {
        let deadline = Instant::now() + self.within;
        self.connection
            .receive(deadline)
            .expect("a wait is answered")
    }

    /// The answer, if it comes in this time.
    pub fn try_answer(&mut self, within: Duration) -> io::Result<Answer> {
        self.connection.receive(Instant::now() + within)
    }

    /// Goes on waiting on another thread.
    pub fn in_background(self) -> JoinHandle<Answer> {
        thread::spawn(move || self.answer())
    }
}

/// An acquire in strict order that waits for up to a minute, and then holds for one.
pub fn minute_long(key: &str, uuid: &str) -> Value {
    json!({
        "key": key, "uuid": uuid, "lease": 60_000, "fifo": true,
        "retryAttempts": 120, "retryDelay": 500,
    })
}
