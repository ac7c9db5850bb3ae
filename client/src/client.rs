//! The client.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::error::{Error, Problem};
use crate::messages::{Acquire, Answer, ClusterInfo, Extended, Grant, LockInfo, LocksPage};
use crate::retry::{Course, Setback};

/// A server answers within the waiting window and 10 s; a bit more is for the way there and back.
const ANSWER_GRACE: Duration = Duration::from_secs(12);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers are small but for pages of locks: 1000 keys of 512 bytes, escaped, and their numbers.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A client of one cluster under one API key. Keeps connections open between calls.
pub struct Client {
    endpoints: Vec<Endpoint>,
    /// Where the next call goes: an endpoint that failed is left behind.
    current: AtomicUsize,
    authorization: HeaderValue,
    http: HttpClient<HttpConnector, Full<Bytes>>,
    answer_grace: Duration,
}

/// One call, whatever it is, as often as it is sent.
struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    /// How long it may stand in line.
    window: Duration,
}

struct Reply {
    status: u16,
    retry_after: Option<Duration>,
    body: Bytes,
    endpoint: String,
    sent: Moment,
    received: Moment,
}

enum Failure {
    Broken(String),
    TimedOut,
}

impl Client {
    /// A client for these endpoints (`http://host:port`). Connects with the first call.
    pub fn new<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        api_key: &str,
    ) -> Result<Self, Error> {
        let endpoints: Vec<Endpoint> = endpoints
            .into_iter()
            .map(|text| text.as_ref().parse())
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::NoEndpoint);
        }
        if api_key.is_empty() {
            return Err(Error::ApiKey);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {api_key}")).map_err(|_| Error::ApiKey)?;
        authorization.set_sensitive(true);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        let current = AtomicUsize::new(0);
        Ok(Self {
            endpoints,
            current,
            authorization,
            http,
            answer_grace: ANSWER_GRACE,
        })
    }

    /// Waits at most this long for an answer beyond the waiting window, then goes to another node
    /// with the same request. The default is 12 s, which outlasts the server's own bound.
    #[must_use]
    pub fn with_answer_grace(mut self, grace: Duration) -> Self {
        self.answer_grace = grace;
        self
    }

    /// Where this client goes.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Takes a lock, or stands in line for it. The answer's deadline says how long it may be
    /// relied on. Still held after the wait: [`crate::Code::LockHeld`].
    pub async fn acquire(&self, request: &Acquire) -> Result<Answer<Grant>, Error> {
        let mut request = request.clone();
        request
            .uuid
            .get_or_insert_with(|| Uuid::now_v7().to_string());
        let body = serde_json::to_vec(&request).map_err(|e| Error::Request(e.to_string()))?;
        self.operation("/lock/acquire", body, request.wait.window_max())
            .await
    }

    /// Moves the end of a lease by `extend_by_ms` (1 to 86,400,000).
    pub async fn extend(
        &self,
        key: &str,
        uuid: &str,
        extend_by_ms: u64,
    ) -> Result<Answer<Extended>, Error> {
        let body = json!({ "key": key, "uuid": uuid, "extendBy": extend_by_ms });
        self.operation(
            "/lock/extend",
            body.to_string().into_bytes(),
            Duration::ZERO,
        )
        .await
    }

    /// Gives a lock, or a place in line, back. The value is the server's whole answer.
    pub async fn release(&self, key: &str, uuid: &str) -> Result<Answer<serde_json::Value>, Error> {
        let body = json!({ "key": key, "uuid": uuid });
        self.operation(
            "/lock/release",
            body.to_string().into_bytes(),
            Duration::ZERO,
        )
        .await
    }

    /// A held lock; free is [`crate::Code::LockNotFound`]. `stale` answers from the node's own
    /// state, however old.
    pub async fn show(&self, key: &str, stale: bool) -> Result<Answer<LockInfo>, Error> {
        let consistency = if stale { "?consistency=stale" } else { "" };
        self.look(format!("/v1/locks/{}{consistency}", encode(key)))
            .await
    }

    /// One page of the locks whose keys start with `prefix`.
    pub async fn list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: Option<u32>,
        stale: bool,
    ) -> Result<Answer<LocksPage>, Error> {
        let mut query = Vec::new();
        if !prefix.is_empty() {
            query.push(format!("prefix={}", encode(prefix)));
        }
        query.extend(cursor.map(|cursor| format!("cursor={}", encode(cursor))));
        query.extend(limit.map(|limit| format!("limit={limit}")));
        if stale {
            query.push("consistency=stale".to_owned());
        }
        let mark = if query.is_empty() { "" } else { "?" };
        self.look(format!("/v1/locks{mark}{}", query.join("&")))
            .await
    }

    /// What one node knows of the cluster: asked once, of this endpoint alone.
    pub async fn cluster(&self, endpoint: &Endpoint) -> Result<Answer<ClusterInfo>, Error> {
        answer(self.ask(endpoint, "/v1/cluster").await?)
    }

    /// Whether one node knows a leader and has applied what was committed when it started. Asked
    /// once, of this endpoint alone.
    pub async fn is_ready(&self, endpoint: &Endpoint) -> Result<bool, Error> {
        Ok(self.ask(endpoint, "/readyz").await?.status == 200)
    }

    async fn ask(&self, endpoint: &Endpoint, path: &str) -> Result<Reply, Error> {
        let call = Call::get(path.to_owned());
        match self.send(endpoint, &call, None).await? {
            Ok(reply) => Ok(reply),
            Err(failure) => Err(failure.of(endpoint)),
        }
    }

    async fn look<T: DeserializeOwned>(&self, path: String) -> Result<Answer<T>, Error> {
        answer(self.call(&Call::get(path), None).await?)
    }

    async fn operation<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        window: Duration,
    ) -> Result<Answer<T>, Error> {
        let path = path.to_owned();
        let call = Call {
            method: Method::POST,
            path,
            body: Some(body.into()),
            window,
        };
        let idempotency_key = HeaderValue::from_str(&Uuid::now_v7().to_string())
            .expect("a uuid is hexadecimal digits and dashes");
        answer(self.call(&call, Some(&idempotency_key)).await?)
    }

    /// Sends a call until a node answers it, round the endpoints.
    async fn call(&self, call: &Call, idempotency: Option<&HeaderValue>) -> Result<Reply, Error> {
        let mut course = Course::new(Moment::now(), call.window);
        loop {
            let index = self.current.load(Ordering::Relaxed);
            let endpoint = &self.endpoints[index % self.endpoints.len()];
            let sent = Moment::now();
            let outcome = self.send(endpoint, call, idempotency).await?;
            let setback = match &outcome {
                // A node without a leader says nothing about the next node's: only 429, which is
                // about the caller, is told how long to stay away.
                Ok(reply) if reply.status == 429 => Setback::Later(reply.retry_after),
                Ok(reply) if matches!(reply.status, 503 | 504) => Setback::Later(None),
                Ok(_) => return outcome.map_err(|failure| failure.of(endpoint)),
                Err(Failure::Broken(_)) => Setback::Broken,
                Err(Failure::TimedOut) => Setback::Later(None),
            };
            // Whoever saw the failure first moves everyone on, once.
            let _ = self.current.compare_exchange(
                index,
                index.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            let random = getrandom::u64().map_err(|error| Error::Request(error.to_string()))?;
            match course.pause(sent, Moment::now(), &setback, random) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return outcome.map_err(|failure| failure.of(endpoint)),
            }
        }
    }

    /// Sends a call once. The outer error is one that no repetition can cure.
    async fn send(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        idempotency: Option<&HeaderValue>,
    ) -> Result<Result<Reply, Failure>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(endpoint.uri(&call.path)?)
            .header(AUTHORIZATION, self.authorization.clone());
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| Error::Request(error.to_string()))?;
        let sent = Moment::now();
        let exchange = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| chain(error.as_ref()))?.to_bytes();
            Ok(Reply {
                status: head.status.as_u16(),
                retry_after: retry_after(&head.headers),
                body,
                endpoint: endpoint.to_string(),
                sent,
                received: Moment::now(),
            })
        };
        let limit = call.window.saturating_add(self.answer_grace);
        Ok(match tokio::time::timeout(limit, exchange).await {
            Ok(outcome) => outcome.map_err(Failure::Broken),
            Err(_) => Err(Failure::TimedOut),
        })
    }
}

impl Call {
    fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            window: Duration::ZERO,
        }
    }
}

impl Failure {
    fn of(self, endpoint: &Endpoint) -> Error {
        let why = match self {
            Failure::Broken(why) => why,
            Failure::TimedOut => "no answer in time".to_owned(),
        };
        Error::Unreachable {
            endpoint: endpoint.to_string(),
            why,
        }
    }
}

fn answer<T: DeserializeOwned>(reply: Reply) -> Result<Answer<T>, Error> {
    if reply.status != 200 {
        let problem = Problem::read(reply.status, reply.retry_after, &reply.body);
        return Err(Error::Refused(Box::new(problem)));
    }
    let value = serde_json::from_slice(&reply.body).map_err(|error| Error::NotUnderstood {
        endpoint: reply.endpoint,
        status: reply.status,
        why: error.to_string(),
    })?;
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    Ok(Answer {
        value,
        body,
        sent: reply.sent,
        received: reply.received,
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with its causes: hyper's own text alone says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
