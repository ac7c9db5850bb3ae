//! A node that follows a script.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What a node answers: status and body, or nothing at all.
pub(crate) type Answers = fn(path: &str, body: &Value) -> Option<(u16, Value)>;

/// A node on a thread, and the requests it got.
pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<(String, Value)>>>,
    /// When the first request came, in ms since 1970.
    pub(crate) first_ms: Arc<Mutex<Option<u128>>>,
}

impl Node {
    pub(crate) fn new(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let first_ms = Arc::new(Mutex::new(None));
        let (log, first) = (Arc::clone(&seen), Arc::clone(&first_ms));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                first.lock().unwrap().get_or_insert_with(now_ms);
                let log = Arc::clone(&log);
                std::thread::spawn(move || converse(stream.unwrap(), answers, &log));
            }
        });
        Self {
            url,
            seen,
            first_ms,
        }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|(path, _)| path.trim_start_matches("/lock/").to_owned())
            .collect()
    }
}

fn now_ms() -> u128 {
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap().as_millis()
}

fn converse(stream: TcpStream, answers: Answers, log: &Mutex<Vec<(String, Value)>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .ok()
            .filter(|length| *length > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = answers(&path, &body);
        log.lock().unwrap().push((path, body));
        let Some((status, answer)) = answer else {
            // Silence, until the other side gives up.
            let _ = stream.read_line(&mut String::new());
            return None;
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream
            .get_mut()
            .write_all((head + &answer).as_bytes())
            .ok()?;
    }
}

pub(crate) fn granted(body: &Value) -> (u16, Value) {
    let config = json!({ "uuid": body["uuid"] });
    let lease = &body["lease"];
    (
        200,
        json!({ "fencingToken": 42, "expiresIn": lease, "waited": 0,
        "lockAcquisitionAttempts": 1, "config": config }),
    )
}

#[allow(clippy::unnecessary_wraps, reason = "others are silent at times")]
pub(crate) fn obliging(path: &str, body: &Value) -> Option<(u16, Value)> {
    Some(match path {
        "/lock/acquire" => granted(body),
        "/lock/extend" => (200, json!({ "fencingToken": 42, "expiresIn": 1000 })),
        _ => (200, json!({ "released": true })),
    })
}
