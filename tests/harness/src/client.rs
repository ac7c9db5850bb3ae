//! One caller of one node, for stories that say which node they talk to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Answer, Connection, Request};

/// Longer than any answer of the stories that use this takes: the contract ends every request at
/// its window + 10 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Talks to one node, on a fresh connection for every request.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub api_key: String,
}

impl Client {
    /// Sends a request as it is.
    pub fn try_send(&self, request: &Request) -> io::Result<Answer> {
        Connection::open(self.address)?.call(request, ANSWER_WITHIN)
    }

    /// Sends a request as it is; panics where no answer comes.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        match self.try_send(request) {
            Ok(answer) => answer,
            Err(e) => panic!("no answer from {} to {request:?}: {e}", self.address),
        }
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&self.request(path, body))
    }

    /// The request that [`Client::post`] sends.
    pub fn request(&self, path: &str, body: &Value) -> Request {
        Request::json(path, body).bearer(&self.api_key)
    }

    #[track_caller]
    pub fn post_once(&self, path: &str, idempotency_key: &str, body: &Value) -> Answer {
        self.send(
            &self
                .request(path, body)
                .with("Idempotency-Key", idempotency_key),
        )
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(&Request::get(path).bearer(&self.api_key))
    }

    #[track_caller]
    pub fn acquire(&self, body: &Value) -> Answer {
        self.post("/lock/acquire", body)
    }

    /// Takes a free lock for `lease_ms`, or panics.
    #[track_caller]
    pub fn take(&self, key: &str, uuid: &str, lease_ms: u64) -> Answer {
        let body = json!({"key": key, "uuid": uuid, "lease": lease_ms, "retryAttempts": 0});
        let answer = self.acquire(&body);
        assert_eq!(answer.status, 200, "taking {key}: {answer}");
        assert_eq!(answer.json()["acquired"], true, "taking {key}: {answer}");
        answer
    }

    #[track_caller]
    pub fn extend(&self, key: &str, uuid: &str, extend_by_ms: u64) -> Answer {
        self.post(
            "/lock/extend",
            &json!({"key": key, "uuid": uuid, "extendBy": extend_by_ms}),
        )
    }

    #[track_caller]
    pub fn release(&self, key: &str, uuid: &str) -> Answer {
        self.post("/lock/release", &json!({"key": key, "uuid": uuid}))
    }

    /// How many stand in line for a held lock; `None` where the lock is free.
    #[track_caller]
    pub fn waiting(&self, key: &str) -> Option<u64> {
        let answer = self.get(&format!("/v1/locks/{key}"));
        (answer.status == 200).then(|| answer.number("waiting"))
    }

    /// Returns when everything sent to this node before has been proposed and applied: a lock of
    /// its own goes the same way, several times over.
    #[track_caller]
    pub fn settle(&self) {
        for round in 0..5 {
            let name = uuid::Uuid::now_v7().to_string();
            let key = format!("settle-{name}-{round}");
            self.take(&key, &name, 10_000);
            let answer = self.release(&key, &name);
            assert_eq!(answer.status, 200, "settling: {answer}");
        }
    }
}
