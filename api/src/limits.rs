//! What a stranger may hold on to, and for how long.

use std::num::NonZeroU32;
use std::time::Duration;

/// Bytes in a request body.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an oversized body that are read and thrown away, so that its sender reads the answer
/// rather than a reset. Beyond this the connection is simply closed behind the answer.
pub(crate) const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes in a request's head: request line and headers.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes that are read at once: a head of the largest size and the start of its body.
pub(crate) const READ_BUFFER_BYTES_MAX: usize = HEAD_BYTES_MAX + 1024;
/// Header lines in a request.
pub(crate) const HEADERS_MAX: usize = 100;
/// Bytes in an API key, a licence key or an admin token.
pub(crate) const API_KEY_BYTES_MAX: usize = 256;
/// Bytes in an `X-Request-Id`, and characters in an `Idempotency-Key`.
pub(crate) const NAME_HEADER_BYTES_MAX: usize = 128;
/// Bytes that a caller may send ahead of the answer to a request that has been in work for
/// [`AHEAD_PATIENCE`].
pub(crate) const AHEAD_BYTES_MAX: usize = 16 * 1024;
/// See [`AHEAD_BYTES_MAX`]. Behind what is not read, a caller's hang-up cannot be seen.
pub(crate) const AHEAD_PATIENCE: Duration = Duration::from_millis(500);
/// How fast an answer must be read at least, once [`Limits::write_timeout`] is over.
pub(crate) const READ_BYTES_PER_SECOND_MIN: u32 = 16 * 1024;

/// The limits on connections and requests. [`Limits::default`] is for production; tests shorten
/// the times.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once, besides [`crate::HEALTH_CONNECTIONS_MAX`] for the health paths alone.
    /// One more takes the place of one that has shown no valid key; where there is none, it is
    /// answered 503 and closed: a client that hears "no" at once can go to another node, one that
    /// hangs in the backlog cannot.
    pub connections_max: usize,
    /// From a request's first byte (or from the connection's start) to the end of its headers.
    pub head_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// Between an answer and the next request's first byte.
    pub idle_timeout: Duration,
    /// The same, for a connection on which no valid key was shown yet.
    pub keyless_idle_timeout: Duration,
    /// How long an answer may be slowed down by a reader that does not read. After that it must have
    /// been read at 16 KiB a second all the while.
    pub write_timeout: Duration,
    /// How long a request that just began goes on after its caller closed its side. A caller that
    /// half-closes cannot be told from one that is gone; a prompt answer serves the first, and the
    /// second must not stay in line: a request older than this ends at once.
    pub half_close_grace: Duration,
    /// Added to a request's waiting window: then the answer is 504 (503 for a read), whatever the
    /// node does. A second more than the node's own bound, so that the node answers first.
    pub answer_margin: Duration,
    /// Requests a second that the API keys of each licence may send to this node, and as many at once;
    /// extend and release have an allowance of their own, ten times that. `None`: as many as come.
    pub licence_requests_per_second: Option<NonZeroU32>,
    /// The same for each address on the routes that take a licence key, and for wrong
    /// admin tokens.
    pub address_requests_per_second: NonZeroU32,
    /// After shutdown began: how long open requests may take before their connections are closed.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            keyless_idle_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            half_close_grace: Duration::from_millis(100),
            answer_margin: Duration::from_secs(11),
            licence_requests_per_second: None,
            address_requests_per_second: NonZeroU32::new(20).expect("20 is not 0"),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
