//! A server on a free port of the loopback, and a caller that writes its own bytes.

use std::net::SocketAddr;
use std::time::Duration;

use evermind_api::{Access, AdminToken, App, Limits, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::documented;
use crate::fake::{API_KEY, Answer, Fake};

/// The smallest acquire, 11 bytes.
pub(crate) const BODY: &str = r#"{"key":"k"}"#;

/// Opens the admin routes.
pub(crate) const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Fake,
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::with(answer, Limits::default()).await
    }

    pub(crate) async fn with(answer: Answer, limits: Limits) -> Self {
        Self::open_to(&[], answer, limits).await
    }

    /// A server that pages of these origins may call.
    pub(crate) async fn open_to(origins: &[&str], answer: Answer, limits: Limits) -> Self {
        let fake = Fake::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // What a caller does not read is soon more than the kernel keeps, and the kernel says so of every
        // few bytes.
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, 4 * 1024).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, wanted) = oneshot::channel();
        let access = Access {
            admin: Some(AdminToken::new(ADMIN_TOKEN).unwrap()),
            origins: origins.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let app = App::new(fake.clone(), limits, access);
        let serving = tokio::spawn(serve(listener, app, async move {
            let _ = wanted.await;
        }));
        Self {
            address,
            fake,
            shutdown: Some(shutdown),
            serving,
        }
    }

    pub(crate) fn begin_shutdown(&mut self) {
        let _ = self.shutdown.take().unwrap().send(());
    }

    /// Until `serve` has returned.
    pub(crate) async fn ended(self) {
        within(self.serving).await.unwrap();
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A caller of which the kernel keeps little that it does not read.
    pub(crate) async fn connect_with_small_buffer(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Writes the bytes, and reads until the server closes.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        read_to_close(&mut stream).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.post_with(path, &right_headers(), body).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        headers: &[String],
        body: impl AsRef<[u8]>,
    ) -> Reply {
        let reply = Reply::parse(&self.raw(post(path, headers, body)).await);
        documented::check("POST", path, &reply);
        reply
    }

    /// A request of any method, with or without a body, that asks for its connection to be closed.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        bearer: &str,
        body: Option<&str>,
    ) -> Reply {
        let (media, body) = match body {
            Some(body) => ("content-type: application/json\r\n", body),
            None => ("", ""),
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\nauthorization: Bearer {bearer}\r\n{media}content-length: {length}\r\n\r\n{body}"
        );
        let reply = Reply::parse(&self.raw(request).await);
        documented::check(method, path, &reply);
        reply
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {API_KEY}\r\nconnection: close\r\n\r\n"
        );
        let reply = Reply::parse(&self.raw(head).await);
        documented::check("GET", path, &reply);
        reply
    }
}

/// Times short enough to be waited for.
pub(crate) fn short() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(500),
        body_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// The head of an acquire, with these lines besides.
pub(crate) fn head(lines: &str) -> String {
    format!(
        "POST /lock/acquire HTTP/1.1\r\nauthorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n{lines}\r\n\r\n"
    )
}

pub(crate) fn right_headers() -> Vec<String> {
    vec![
        format!("authorization: Bearer {API_KEY}"),
        "content-type: application/json".into(),
    ]
}

/// A whole request, which asks for its connection to be closed.
pub(crate) fn post(path: &str, headers: &[String], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let lines = headers
        .iter()
        .map(|line| format!("{line}\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{lines}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What came until the end, whether the end was in order or a reset.
pub(crate) async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// Reads one answer from a connection that stays open.
pub(crate) async fn read_one(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let reply = Reply::parse(&bytes);
            let length: usize = reply.header("content-length").unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return reply;
            }
        }
        assert_ne!(
            within(stream.read_buf(&mut bytes)).await.unwrap(),
            0,
            "closed before the answer"
        );
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .expect("nothing happened for 10 s")
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self {
            status,
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}
