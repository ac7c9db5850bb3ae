//! The client against nodes that follow a script.

mod accounts;
mod silence;

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::error::Code;
use crate::licences::NewLicence;
use crate::messages::Wait;

const GRANTED: &str = r#"{"acquired":true,"lockAcquisitionAttempts":1,"config":{"key":"k","lease":5000,"uuid":"u-1","fifo":false},"message":null,"fencingToken":42,"expiresIn":5000,"waited":1000}"#;

/// What a node does with one request.
enum Step {
    /// Answers.
    Answer(u16, &'static str),
    /// Answers as a proxy does that lost its connection to the node.
    Proxy(u16),
    /// Answers 429 with a time to come again.
    ComeAgain(u64),
    /// Closes the connection without a word.
    Hang,
    /// Never answers.
    Silence,
    /// The same, and not when asked whether it lives either.
    Frozen,
    /// Answers 504 after this long, as a proxy with an idle limit does.
    Cut(Duration),
    /// Answers after this long.
    Late(Duration, &'static str),
    /// Sends its callers elsewhere.
    Redirect(&'static str),
}

/// A request as a node got it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A node on loopback that takes one step for each request.
struct Node {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Node {
    async fn new(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let steps = Arc::new(Mutex::new(steps.into_iter()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                tokio::spawn(converse(stream, Arc::clone(&steps), Arc::clone(&log)));
            }
        });
        Self {
            url,
            seen,
            connections,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn converse(
    stream: TcpStream,
    steps: Arc<Mutex<std::vec::IntoIter<Step>>>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read(&mut stream).await {
        if seen.line.starts_with("GET /livez") {
            // Whether a node answers is asked of one that follows its script when its turn comes.
            if steps
                .lock()
                .unwrap()
                .as_slice()
                .first()
                .is_some_and(|step| matches!(step, Step::Frozen))
            {
                std::future::pending::<()>().await;
            }
            let alive = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(alive).await.unwrap();
            continue;
        }
        log.lock().unwrap().push(seen);
        let step = steps.lock().unwrap().next();
        let (status, more, body) = match step {
            Some(Step::Answer(status, body)) => (status, "server: evermind\r\n".to_owned(), body),
            Some(Step::Proxy(status)) => (status, "server: a-proxy\r\n".to_owned(), "<html>"),
            Some(Step::ComeAgain(seconds)) => (429, format!("retry-after: {seconds}\r\n"), "{}"),
            Some(Step::Silence | Step::Frozen) => std::future::pending().await,
            Some(Step::Cut(after)) => {
                tokio::time::sleep(after).await;
                (504, String::new(), "<html>")
            }
            Some(Step::Late(after, body)) => {
                tokio::time::sleep(after).await;
                (200, String::new(), body)
            }
            Some(Step::Redirect(to)) => (307, format!("location: {to}\r\n"), ""),
            Some(Step::Hang) | None => return,
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\n{more}content-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .await
        .ok()
        .filter(|length| *length > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else {
            break;
        };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut seen = Seen {
        line: line.trim().to_owned(),
        headers,
        body: Value::Null,
    };
    if let Ok(length) = seen.header("content-length").parse() {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        seen.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    }
    Some(seen)
}

fn client(nodes: &[&Node]) -> Client {
    let urls = nodes.iter().map(|node| &node.url);
    Client::new(urls, "evk_test").unwrap().in_order()
}

fn request() -> Acquire {
    let wait = Wait::lasting(Duration::ZERO);
    Acquire {
        key: "k".into(),
        lease_ms: 5000,
        wait,
        uuid: None,
        fifo: false,
    }
}

#[tokio::test]
async fn a_call_is_repeated_elsewhere_under_the_same_names() {
    let hung = Node::new(vec![Step::Hang]).await;
    let leaderless = Node::new(vec![Step::Answer(503, r#"{"code":"no_leader"}"#)]).await;
    let unsure = Node::new(vec![Step::Answer(504, r#"{"code":"outcome_unknown"}"#)]).await;
    let good = Node::new(vec![Step::Answer(200, GRANTED)]).await;
    let nodes = [&hung, &leaderless, &unsure, &good];
    let grant = client(&nodes).acquire(&request()).await.unwrap();
    assert_eq!(grant.value.fencing_token, 42);
    assert_eq!(grant.body, GRANTED);

    let seen: Vec<Seen> = nodes.iter().flat_map(|node| node.seen()).collect();
    assert_eq!(seen.len(), 4);
    let first = &seen[0];
    assert_eq!(first.line, "POST /lock/acquire HTTP/1.1");
    assert_eq!(first.header("authorization"), "Bearer evk_test");
    assert_eq!(first.header("content-type"), "application/json");
    assert!(!first.body["uuid"].as_str().unwrap().is_empty());
    assert!(!first.header("idempotency-key").is_empty());
    for again in &seen[1..] {
        assert_eq!(
            again.header("idempotency-key"),
            first.header("idempotency-key")
        );
        assert_eq!(again.body, first.body);
    }
}

#[tokio::test]
async fn two_calls_are_two_operations_on_one_connection() {
    let node = Node::new(vec![Step::Answer(200, GRANTED), Step::Answer(200, GRANTED)]).await;
    let client = client(&[&node]);
    client.acquire(&request()).await.unwrap();
    client.acquire(&request()).await.unwrap();
    let seen = node.seen();
    assert_ne!(
        seen[0].header("idempotency-key"),
        seen[1].header("idempotency-key")
    );
    assert_ne!(seen[0].body["uuid"], seen[1].body["uuid"]);
    assert_eq!(*node.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn the_deadline_counts_from_before_the_request() {
    let node = Node::new(vec![Step::Hang, Step::Answer(200, GRANTED)]).await;
    let before = Moment::now();
    let grant = client(&[&node]).acquire(&request()).await.unwrap();
    let after = Moment::now();
    assert!(before <= grant.sent && grant.sent <= grant.received && grant.received <= after);
    // waited 1000 + expiresIn 5000, less 1%.
    assert_eq!(
        grant.deadline(),
        grant.sent.plus(Duration::from_millis(5_940))
    );
}

#[tokio::test]
async fn a_refusal_is_final_and_typed() {
    let held = r#"{"acquired":false,"message":"held by another","code":"lock_held","status":423,"requestId":"r-7"}"#;
    let node = Node::new(vec![Step::Answer(423, held)]).await;
    let other = Node::new(vec![]).await;
    let error = client(&[&node, &other])
        .acquire(&request())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&Code::LockHeld));
    assert_eq!(error.to_string(), "held by another");
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_silent_node_is_left_for_the_next() {
    let silent = Node::new(vec![Step::Silence]).await;
    let good = Node::new(vec![Step::Answer(
        200,
        r#"{"released":true,"message":null}"#,
    )])
    .await;
    let client = client(&[&silent, &good]).with_answer_grace(Duration::from_millis(100));
    client.release("k", "u").await.unwrap();
    assert_eq!(
        silent.seen()[0].header("idempotency-key"),
        good.seen()[0].header("idempotency-key")
    );
    // And stays left behind.
    assert_eq!(client.current.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn too_many_requests_waits_as_long_as_it_is_told() {
    let node = Node::new(vec![
        Step::ComeAgain(1),
        Step::Answer(200, r#"{"released":true}"#),
    ])
    .await;
    let start = Moment::now();
    client(&[&node]).release("k", "u").await.unwrap();
    assert!(Moment::now().since(start) >= Duration::from_secs(1));
    // Longer than the client ever tries: it is told at once.
    let node = Node::new(vec![Step::ComeAgain(3600)]).await;
    let error = client(&[&node]).release("k", "u").await.unwrap_err();
    let Error::Refused(problem) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (problem.status, problem.retry_after),
        (429, Some(Duration::from_hours(1)))
    );
}

#[tokio::test]
async fn names_are_encoded_and_pages_asked_for() {
    let lock = r#"{"key":"a/b ü","fencingToken":1,"expiresIn":2,"waiting":3,"fifo":true}"#;
    let page = r#"{"locks":[],"cursor":"c"}"#;
    let node = Node::new(vec![Step::Answer(200, lock), Step::Answer(200, page)]).await;
    let client = client(&[&node]);
    assert_eq!(client.show("a/b ü", true).await.unwrap().value.waiting, 3);
    let page = client
        .list("a&b", Some("x="), Some(5), false)
        .await
        .unwrap();
    assert_eq!(page.value.cursor.as_deref(), Some("c"));
    let lines: Vec<String> = node.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines[0],
        "GET /v1/locks?key=a%2Fb%20%C3%BC&consistency=stale HTTP/1.1"
    );
    assert_eq!(
        lines[1],
        "GET /v1/locks?prefix=a%26b&cursor=x%3D&limit=5 HTTP/1.1"
    );
}

#[tokio::test]
async fn what_is_not_this_api_is_said_to_be_so() {
    let node = Node::new(vec![
        Step::Answer(200, "<html>"),
        Step::Answer(404, "<html>"),
    ])
    .await;
    let client = client(&[&node]);
    assert!(matches!(
        client.show("k", false).await,
        Err(Error::NotUnderstood { status: 200, .. })
    ));
    let error = client.show("k", false).await.unwrap_err();
    assert_eq!(error.code(), Some(&Code::Other("http_404".into())));
}

#[tokio::test]
async fn one_node_is_asked_once() {
    let node = Node::new(vec![Step::Answer(503, "{}"), Step::Answer(200, "{}")]).await;
    let client = client(&[&node]);
    let endpoint = &client.endpoints()[0];
    assert!(!client.is_ready(endpoint).await.unwrap());
    assert!(client.is_ready(endpoint).await.unwrap());
    assert_eq!(node.seen().len(), 2);
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    let none: [&str; 0] = [];
    assert!(matches!(Client::new(none, "k"), Err(Error::NoEndpoint)));
    assert!(matches!(
        Client::new(["http://a:1"], ""),
        Err(Error::ApiKey)
    ));
    assert!(matches!(
        Client::new(["http://a:1"], "a\nb"),
        Err(Error::ApiKey)
    ));
    assert!(matches!(
        Client::new(["https://a:1"], "k"),
        Err(Error::Endpoint { .. })
    ));
}
