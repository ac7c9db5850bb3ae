//! The client.

mod accounts;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::error::{Error, Problem};
use crate::exchange::{Call, Exchange, Reply};
use crate::flight::Flight;
use crate::messages::{Acquire, Answer, ClusterInfo, Extended, Grant, LockInfo, LocksPage};
use crate::verdict::{Verdict, judge};
use crate::waiting::Waiting;

/// A server answers within the waiting window and 10 s; a bit more is for the way there and back.
const ANSWER_GRACE: Duration = Duration::from_secs(12);
/// A node that is well answers what needs no wait in a hundredth of this. A tenth of the default
/// lease, so that an extension gets past two frozen nodes in time.
const HEDGE_AFTER: Duration = Duration::from_secs(1);
/// Releasing twice harms nothing, and another waits for it.
const HEDGE_RELEASE_AFTER: Duration = Duration::from_millis(500);
const RELEASE: &str = "/lock/release";

/// A client of one cluster under one API key, one admin token, or none. Keeps connections open
/// between calls.
pub struct Client {
    endpoints: Vec<Endpoint>,
    /// Where the next call goes first: to the endpoint that answered last. An endpoint that failed is
    /// left behind.
    pub(crate) current: AtomicUsize,
    pub(crate) exchange: Arc<Exchange>,
    /// What a request may take beyond its wait.
    pub(crate) answer_grace: Duration,
    /// What keeps the newest call from being answered.
    trouble: Mutex<Option<String>>,
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
        // Anywhere, so that many clients with one list do not all go to its first node.
        let random = getrandom::u64().map_err(|error| Error::Request(error.to_string()))?;
        let start = usize::try_from(random % endpoints.len() as u64).unwrap_or(0);
        Ok(Self {
            endpoints,
            current: AtomicUsize::new(start),
            exchange: Arc::new(Exchange::new(authorization)),
            answer_grace: ANSWER_GRACE,
            trouble: Mutex::new(None),
        })
    }

    /// Waits at most this long for an answer beyond the waiting window, then takes the request for
    /// lost. The default is 12 s, which outlasts the server's own bound. Another node is asked too
    /// after half of this, or after 1 s (a release: 0.5 s) if that is less.
    #[must_use]
    pub fn with_answer_grace(mut self, grace: Duration) -> Self {
        self.answer_grace = grace;
        self
    }

    /// Goes to the first endpoint first. Without this a client starts at a random one.
    #[must_use]
    pub fn in_order(self) -> Self {
        self.current.store(0, Ordering::Relaxed);
        self
    }

    /// What has kept the call under way from being answered so far, for people.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
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
        let (waiting, call) = Waiting::new(request, Moment::now())?;
        answer(self.fly(call, Some(waiting)).await?)
    }

    /// Moves the end of a lease by `extend_by_ms` (1 to 86,400,000).
    pub async fn extend(
        &self,
        key: &str,
        uuid: &str,
        extend_by_ms: u64,
    ) -> Result<Answer<Extended>, Error> {
        let body = json!({ "key": key, "uuid": uuid, "extendBy": extend_by_ms });
        self.operation("/lock/extend", body.to_string()).await
    }

    /// Gives a lock, or a place in line, back. The value is the server's whole answer.
    pub async fn release(&self, key: &str, uuid: &str) -> Result<Answer<serde_json::Value>, Error> {
        let body = json!({ "key": key, "uuid": uuid });
        self.operation(RELEASE, body.to_string()).await
    }

    /// A held lock; free is [`crate::Code::LockNotFound`]. `stale` answers from the node's own
    /// state, however old.
    pub async fn show(&self, key: &str, stale: bool) -> Result<Answer<LockInfo>, Error> {
        let consistency = if stale { "&consistency=stale" } else { "" };
        self.look(format!("/v1/locks?key={}{consistency}", encode(key)))
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
        match self.ask(endpoint, "/readyz").await {
            Ok(reply) => Ok(reply.status == 200),
            Err(Error::Refused(_) | Error::Unavailable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, endpoint: &Endpoint, path: &str) -> Result<Reply, Error> {
        let call = Call::get(path);
        let asked = self.exchange.send(endpoint, &call, self.answer_grace);
        match judge(asked.await?, endpoint) {
            Verdict::Answer(reply) => Ok(reply),
            Verdict::Hopeless(error) => Err(error),
            Verdict::Setback(setback) => Err(setback.error),
        }
    }

    async fn look<T: DeserializeOwned>(&self, path: String) -> Result<Answer<T>, Error> {
        answer(self.call(Call::get(path)).await?)
    }

    async fn operation<T: DeserializeOwned>(
        &self,
        path: &str,
        body: String,
    ) -> Result<Answer<T>, Error> {
        let call = Call::new(Method::POST, path).body(body).named();
        answer(self.call(call).await?)
    }

    /// Sends a call until a node answers it, round the endpoints. One that makes something is sent
    /// again only if nothing was done.
    async fn call(&self, call: Call) -> Result<Reply, Error> {
        self.fly(call, None).await
    }

    async fn fly(&self, call: Call, waiting: Option<Waiting>) -> Result<Reply, Error> {
        self.tell(None);
        if call.makes.is_some() && self.endpoints.len() > 1 {
            // It goes to one node only: let that be one that answers.
            Flight::new(self, Call::get("/livez"), None)
                .answer()
                .await?;
        }
        Flight::new(self, call, waiting).answer().await
    }

    pub(crate) fn endpoint(&self, index: usize) -> &Endpoint {
        &self.endpoints[index % self.endpoints.len()]
    }

    /// How long a node may be silent before the next one is asked too.
    pub(crate) fn hedge_after(&self, call: &Call) -> Duration {
        let usual = if call.path == RELEASE {
            HEDGE_RELEASE_AFTER
        } else {
            HEDGE_AFTER
        };
        usual.min(self.answer_grace / 2)
    }

    /// The next call goes to this endpoint first.
    pub(crate) fn answered(&self, endpoint: usize) {
        self.current.store(endpoint, Ordering::Relaxed);
        self.tell(None);
    }

    /// Whoever saw the failure first moves everyone on, once.
    pub(crate) fn leave(&self, endpoint: usize) {
        let next = (endpoint + 1) % self.endpoints.len();
        let _ = self
            .current
            .compare_exchange(endpoint, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, error: Option<&Error>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = error.map(Error::to_string);
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
