//! A client as the contract describes one: it goes on at another node when its own is gone.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::TestCluster;
use super::history::{Ask, History, Record, Told, Way, acquire, told};
use super::http::{Answer, Connection, Request};

/// SPEC.md 5: network failure, 429, 503 and 504 are tried again for at most this long.
const GIVES_UP_AFTER: Duration = Duration::from_secs(30);
/// Between two tries; short, because a closed connection says at once that a node is gone.
const PAUSE: Duration = Duration::from_millis(20);

/// Why an operation failed although the contract's retries were made.
#[derive(Debug, Clone)]
pub struct Failed(pub String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client of the whole cluster, on one kept-alive connection.
#[derive(Debug)]
pub struct Caller<'a> {
    addresses: Vec<SocketAddr>,
    at: usize,
    connection: Option<Connection>,
    api_key: String,
    history: &'a History,
    number: u64,
    /// One HTTP request is given up after this long: its window + 10 s is the contract's bound.
    pub answer_within: Duration,
    /// How often it had to go on elsewhere.
    pub moves: u64,
}

impl<'a> Caller<'a> {
    /// A client that begins at one node.
    pub fn new(cluster: &TestCluster, node: u64, history: &'a History) -> Self {
        let at = usize::try_from(node - 1).expect("small");
        Self {
            addresses: cluster.addresses(),
            at,
            connection: None,
            api_key: cluster.api_key.clone(),
            history,
            number: history.new_client(),
            answer_within: Duration::from_secs(30),
            moves: 0,
        }
    }

    /// Acquires under `uuid`; the answer is 200 or 423.
    pub fn acquire(&mut self, key: &str, uuid: &str, more: &Value) -> Result<Answer, Failed> {
        let mut body = json!({"key": key, "uuid": uuid});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let (answer, _) = self.call("/lock/acquire", &acquire(&body), key, uuid, &body)?;
        match answer.status {
            200 | 423 => Ok(answer),
            _ => Err(Failed(format!("acquire {key} {uuid}: {answer}"))),
        }
    }

    /// Releases. Where an earlier try may have done it, finding it done is well.
    pub fn release(&mut self, key: &str, uuid: &str) -> Result<Answer, Failed> {
        let body = json!({"key": key, "uuid": uuid});
        let (answer, tries) = self.call("/lock/release", &Ask::Release, key, uuid, &body)?;
        match answer.status {
            200 => Ok(answer),
            404 | 409 if tries > 1 => Ok(answer),
            _ => Err(Failed(format!(
                "release {key} {uuid} (try {tries}): {answer}"
            ))),
        }
    }

    /// Asks until there is an answer that is not to be asked again; also says how often it asked.
    fn call(
        &mut self,
        path: &str,
        ask: &Ask,
        key: &str,
        uuid: &str,
        body: &Value,
    ) -> Result<(Answer, u32), Failed> {
        let give_up = Instant::now() + GIVES_UP_AFTER;
        let request = Request::json(path, body).bearer(&self.api_key);
        let mut tries = 0;
        loop {
            tries += 1;
            let invoked = Instant::now();
            let node = self.at as u64 + 1;
            let answered = self.once(&request);
            let (told, log_index) = match &answered {
                Ok(answer) => (told(ask, answer), answer.log_index()),
                Err(_) => (Told::Unknown, None),
            };
            self.history.record(Record {
                client: self.number,
                node,
                key: key.to_owned(),
                uuid: uuid.to_owned(),
                idempotency: None,
                ask: ask.clone(),
                invoked: self.history.moment(invoked),
                returned: self.history.moment(Instant::now()),
                told,
                log_index,
                way: Way::default(),
            });
            let trouble = match answered {
                Ok(answer) if !matches!(answer.status, 429 | 503 | 504) => {
                    return Ok((answer, tries));
                }
                Ok(answer) => answer.to_string(),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= give_up {
                return Err(Failed(format!(
                    "{ask:?} {key} {uuid} after {tries} tries: {trouble}"
                )));
            }
            self.move_on();
            thread::sleep(PAUSE);
        }
    }

    fn once(&mut self, request: &Request) -> std::io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.addresses[self.at])?,
        };
        let answer = connection.call(request, self.answer_within)?;
        let closing = answer
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if !closing {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn move_on(&mut self) {
        self.connection = None;
        self.at = (self.at + 1) % self.addresses.len();
        self.moves += 1;
    }
}
