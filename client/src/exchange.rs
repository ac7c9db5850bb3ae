//! One try of one call.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, SERVER};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// A server answers within the waiting window and 10 s; a bit more is for the way there and back.
const ANSWER_GRACE: Duration = Duration::from_secs(12);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers are small but for pages of locks: 1000 keys of 512 bytes, escaped, and their numbers.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One call, whatever it is, as often as it is sent.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Bytes>,
    /// How long it may stand in line.
    pub(crate) window: Duration,
    /// Under which the server knows a repeated call again.
    pub(crate) idempotency_key: Option<HeaderValue>,
    /// What the call makes, if two of the same make two.
    pub(crate) makes: Option<&'static str>,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: None,
            window: Duration::ZERO,
            idempotency_key: None,
            makes: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// What a node answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
    pub(crate) endpoint: String,
    pub(crate) sent: Moment,
    pub(crate) received: Moment,
    /// Said by an Evermind node, as opposed to a proxy before it.
    by_a_node: bool,
}

impl Reply {
    /// Whether the call may have been carried out although this answer does not say so. A node's 503
    /// says that nothing was done; a proxy's may come of a connection that it lost.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match self.status {
            503 => !self.by_a_node,
            status => status >= 500,
        }
    }
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// No connection was made: nothing was sent.
    NotConnected(String),
    /// The connection broke after that.
    Broken(String),
    TimedOut,
}

impl Failure {
    pub(crate) fn why(&self) -> String {
        match self {
            Failure::NotConnected(why) | Failure::Broken(why) => why.clone(),
            Failure::TimedOut => "no answer in time".to_owned(),
        }
    }

    pub(crate) fn of(&self, endpoint: &Endpoint) -> Error {
        Error::Unreachable {
            endpoint: endpoint.to_string(),
            why: self.why(),
        }
    }
}

/// Sends calls, under one bearer. Keeps connections open.
pub(crate) struct Exchange {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    authorization: Option<HeaderValue>,
    /// How long to wait for an answer beyond the waiting window.
    pub(crate) answer_grace: Duration,
}

impl Exchange {
    pub(crate) fn new(authorization: Option<HeaderValue>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self {
            http,
            authorization,
            answer_grace: ANSWER_GRACE,
        }
    }

    /// Sends a call once. The outer error is one that no repetition can cure.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        call: &Call,
    ) -> Result<Result<Reply, Failure>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(endpoint.uri(&call.path)?);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| Error::Request(error.to_string()))?;
        let sent = Moment::now();
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| {
                let why = chain(&error);
                if error.is_connect() {
                    Failure::NotConnected(why)
                } else {
                    Failure::Broken(why)
                }
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Failure::Broken(chain(error.as_ref())))?;
            Ok(Reply {
                status: head.status.as_u16(),
                retry_after: retry_after(&head.headers),
                body: body.to_bytes(),
                endpoint: endpoint.to_string(),
                sent,
                received: Moment::now(),
                by_a_node: (head.headers.get(SERVER)).is_some_and(|server| server == "evermind"),
            })
        };
        let limit = call.window.saturating_add(self.answer_grace);
        Ok(match tokio::time::timeout(limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::TimedOut),
        })
    }
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
