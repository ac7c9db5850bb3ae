//! HTTP/1.1 from the bytes up, blocking: small enough to send what no decent client would.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a server sent back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Just before the request's first byte was sent.
    pub invoked: Instant,
    /// Just after the answer's last byte was read.
    pub returned: Instant,
}

impl Answer {
    /// A header by its name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The entry of the log that this answer came of.
    pub fn log_index(&self) -> Option<u64> {
        self.header("evermind-log-index")
            .and_then(|v| v.parse().ok())
    }

    /// A whole number of the body.
    #[track_caller]
    pub fn number(&self, field: &str) -> u64 {
        self.json()[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no number `{field}` in {self}"))
    }

    /// A text of the body.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        let body = self.json();
        let text = body[field].as_str();
        text.unwrap_or_else(|| panic!("no text `{field}` in {self}"))
            .to_owned()
    }

    /// The failure's `code`, or nothing.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn token(&self) -> u64 {
        self.number("fencingToken")
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:?} {}",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.body)
        )
    }
}

/// A request that is at least framed as one should be.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// A POST with no `Content-Type` yet.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: Some(body.into()),
            ..Self::new("POST", path)
        }
    }

    /// A POST of JSON.
    pub fn json(path: impl Into<String>, body: &Value) -> Self {
        Self::post(path, body.to_string()).with("Content-Type", "application/json")
    }

    /// JSON by another method.
    pub fn json_by(method: &'static str, path: impl Into<String>, body: &Value) -> Self {
        Self {
            method,
            ..Self::json(path, body)
        }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn bearer(self, api_key: &str) -> Self {
        self.with("Authorization", format!("Bearer {api_key}"))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// One TCP connection to a server.
#[derive(Debug)]
pub struct Connection {
    pub(crate) stream: TcpStream,
    /// Read from the socket, and not yet part of an answer.
    unread: Vec<u8>,
    invoked: Instant,
}

/// On loopback a connection is made at once, or the process that listens is stopped.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A socket that takes nothing for so long belongs to a process that is stopped.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_WITHIN))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            invoked: Instant::now(),
        })
    }

    /// Sends bytes, whatever they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.invoked = Instant::now();
        self.stream.write_all(bytes)
    }

    /// The next final answer; interim ones (100 Continue) are passed over.
    pub fn receive(&mut self, deadline: Instant) -> io::Result<Answer> {
        loop {
            let answer = self.receive_any(deadline)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    /// Sends one request and waits for its answer.
    pub fn call(&mut self, request: &Request, within: Duration) -> io::Result<Answer> {
        let deadline = Instant::now() + within;
        self.send(&request.bytes())?;
        self.receive(deadline)
    }

    /// Whether the server closes this connection by the deadline, whatever it says before that.
    pub fn closes_by(&mut self, deadline: Instant) -> bool {
        loop {
            match self.fill(deadline) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if is_timeout(&e) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Whether the server closes this connection by the deadline and says nothing more.
    pub fn is_over_by(&mut self, deadline: Instant) -> bool {
        self.closes_by(deadline) && self.unread.is_empty()
    }

    fn receive_any(&mut self, deadline: Instant) -> io::Result<Answer> {
        let head_bytes = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break self.take(end + 4);
            }
            self.fill_some(deadline)?;
        };
        let head = String::from_utf8_lossy(&head_bytes).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .ok_or_else(|| invalid(format!("not a status line: {status_line:?}")))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
            invoked: self.invoked,
            returned: self.invoked,
        };
        answer.body = self.receive_body(&answer, deadline)?;
        answer.returned = Instant::now();
        Ok(answer)
    }

    fn receive_body(&mut self, answer: &Answer, deadline: Instant) -> io::Result<Vec<u8>> {
        if answer.status < 200 || answer.status == 204 || answer.status == 304 {
            return Ok(Vec::new());
        }
        if let Some(length) = answer.header("content-length") {
            let length = length
                .parse()
                .map_err(|_| invalid(format!("length {length:?}")))?;
            while self.unread.len() < length {
                self.fill_some(deadline)?;
            }
            return Ok(self.take(length));
        }
        if answer
            .header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
        {
            return self.receive_chunks(deadline);
        }
        while self.fill(deadline)? > 0 {}
        Ok(std::mem::take(&mut self.unread))
    }

    fn receive_chunks(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.unread, b"\r\n") {
                    break end;
                }
                self.fill_some(deadline)?;
            };
            let line = String::from_utf8_lossy(&self.take(end + 2))
                .trim()
                .to_owned();
            let length = usize::from_str_radix(&line, 16)
                .map_err(|_| invalid(format!("chunk length {line:?}")))?;
            while self.unread.len() < length + 2 {
                self.fill_some(deadline)?;
            }
            body.extend(self.take(length));
            self.take(2);
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest)
    }

    fn fill_some(&mut self, deadline: Instant) -> io::Result<()> {
        match self.fill(deadline)? {
            0 => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "closed before the answer's end",
            )),
            _ => Ok(()),
        }
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 8192];
        let length = self.stream.read(&mut chunk)?;
        self.unread.extend_from_slice(&chunk[..length]);
        Ok(length)
    }
}

/// Whether the time was up, as opposed to the connection being gone.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}
