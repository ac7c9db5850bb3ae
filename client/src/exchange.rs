//! One try of one call.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use uuid::Uuid;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::error::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers are small but for pages of locks: 1000 keys of 512 bytes, escaped, and their numbers.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One call, whatever it is, as often as it is sent.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Bytes>,
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

    /// Gives it a new name of its own, under which it is carried out once.
    pub(crate) fn named(mut self) -> Self {
        let name = HeaderValue::from_str(&Uuid::now_v7().to_string())
            .expect("a uuid is hexadecimal digits and dashes");
        self.idempotency_key = Some(name);
        self
    }
}

/// What a node answered, or a proxy before it.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// Where a redirect leads.
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) endpoint: String,
    pub(crate) sent: Moment,
    pub(crate) received: Moment,
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
        }
    }

    /// Sends a call once, and waits at most `limit` for its answer. The outer error is one that no
    /// repetition can cure.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        limit: Duration,
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
                location: location(&head.headers),
                body: body.to_bytes(),
                endpoint: endpoint.to_string(),
                sent,
                received: Moment::now(),
            })
        };
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

fn location(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(LOCATION)?.to_str().ok()?.to_owned())
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
