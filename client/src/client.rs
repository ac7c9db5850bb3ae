//! The client.

mod accounts;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::error::{Error, Problem};
use crate::exchange::{Call, Exchange, Failure, Reply};
use crate::messages::{Acquire, Answer, ClusterInfo, Extended, Grant, LockInfo, LocksPage};
use crate::retry::{Course, Setback};

/// A client of one cluster under one API key, one admin token, or none. Keeps connections open
/// between calls.
pub struct Client {
    endpoints: Vec<Endpoint>,
    /// Where the next call goes: an endpoint that failed is left behind.
    current: AtomicUsize,
    exchange: Exchange,
}

impl Client {
    /// A client for these endpoints (`http://host:port`) that uses locks. Connects with the first
    /// call.
    pub fn new<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        api_key: &str,
    ) -> Result<Self, Error> {
        Self::with(endpoints, Some(bearer(api_key).ok_or(Error::ApiKey)?))
    }

    /// A client without an API key: it makes and deletes API keys with a licence key, and asks
    /// whether nodes are ready.
    pub fn without_key<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        Self::with(endpoints, None)
    }

    /// A client under the admin token: it issues licences, looks at them, takes them back.
    pub fn admin<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        admin_token: &str,
    ) -> Result<Self, Error> {
        Self::with(
            endpoints,
            Some(bearer(admin_token).ok_or(Error::AdminToken)?),
        )
    }

    fn with<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, Error> {
        let endpoints: Vec<Endpoint> = endpoints
            .into_iter()
            .map(|text| text.as_ref().parse())
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::NoEndpoint);
        }
        Ok(Self {
            endpoints,
            current: AtomicUsize::new(0),
            exchange: Exchange::new(authorization),
        })
    }

    /// Waits at most this long for an answer beyond the waiting window, then goes to another node
    /// with the same request. The default is 12 s, which outlasts the server's own bound.
    #[must_use]
    pub fn with_answer_grace(mut self, grace: Duration) -> Self {
        self.exchange.answer_grace = grace;
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
        match self.exchange.send(endpoint, &Call::get(path)).await? {
            Ok(reply) => Ok(reply),
            Err(failure) => Err(failure.of(endpoint)),
        }
    }

    async fn look<T: DeserializeOwned>(&self, path: String) -> Result<Answer<T>, Error> {
        answer(self.call(&Call::get(path)).await?)
    }

    async fn operation<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        window: Duration,
    ) -> Result<Answer<T>, Error> {
        let idempotency_key = HeaderValue::from_str(&Uuid::now_v7().to_string())
            .expect("a uuid is hexadecimal digits and dashes");
        let call = Call {
            window,
            idempotency_key: Some(idempotency_key),
            ..Call::new(Method::POST, path).body(body)
        };
        answer(self.call(&call).await?)
    }

    /// Sends a call until a node answers it, round the endpoints. One that makes something is sent
    /// again only if nothing was done.
    async fn call(&self, call: &Call) -> Result<Reply, Error> {
        let mut course = Course::new(Moment::now(), call.window);
        loop {
            let index = self.current.load(Ordering::Relaxed);
            let endpoint = &self.endpoints[index % self.endpoints.len()];
            let sent = Moment::now();
            let outcome = self.exchange.send(endpoint, call).await?;
            if let Some(what) = call.makes
                && let Some(why) = doubt(&outcome)
            {
                return Err(Error::MayBeMade {
                    what,
                    endpoint: endpoint.to_string(),
                    why,
                });
            }
            let setback = match &outcome {
                // A node without a leader says nothing about the next node's: only 429, which is
                // about the caller, is told how long to stay away.
                Ok(reply) if reply.status == 429 => Setback::Later(reply.retry_after),
                Ok(reply) if matches!(reply.status, 503 | 504) => Setback::Later(None),
                Err(Failure::NotConnected(_) | Failure::Broken(_)) => Setback::Broken,
                Err(Failure::TimedOut) => Setback::Later(None),
                Ok(_) => return outcome.map_err(|failure| failure.of(endpoint)),
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
}

/// Why nobody can say whether the call was carried out, if so.
fn doubt(outcome: &Result<Reply, Failure>) -> Option<String> {
    match outcome {
        Ok(reply) if reply.leaves_doubt() => {
            Some(Problem::read(reply.status, None, &reply.body).message)
        }
        Ok(_) | Err(Failure::NotConnected(_)) => None,
        Err(failure) => Some(failure.why()),
    }
}

fn bearer(secret: &str) -> Option<HeaderValue> {
    let text = (!secret.is_empty()).then(|| format!("Bearer {secret}"))?;
    let mut authorization = HeaderValue::from_str(&text).ok()?;
    authorization.set_sensitive(true);
    Some(authorization)
}

fn refused(reply: &Reply) -> Error {
    let problem = Problem::read(reply.status, reply.retry_after, &reply.body);
    Error::Refused(Box::new(problem))
}

fn answer<T: DeserializeOwned>(reply: Reply) -> Result<Answer<T>, Error> {
    if !matches!(reply.status, 200 | 201) {
        return Err(refused(&reply));
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
