//! One line for each request, whichever way it ends.

use std::time::Instant;

use http::{HeaderValue, Method, Request, StatusCode, Uri};

use crate::seldom::Seldom;

/// While a majority is away, every request would be a line.
static UNAVAILABLE: Seldom = Seldom::new();
static UNKNOWN: Seldom = Seldom::new();
static FAILED: Seldom = Seldom::new();

/// A request in work, for the log. Never its headers, its query or its body: keys are secrets.
pub(crate) struct RequestLog {
    method: Method,
    uri: Uri,
    id: HeaderValue,
    started: Instant,
    /// How it was answered; `None` if the caller was gone before.
    status: Option<StatusCode>,
}

impl RequestLog {
    pub(crate) fn new<B>(request: &Request<B>, id: HeaderValue) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            id,
            started: Instant::now(),
            status: None,
        }
    }

    /// The request's id, which is text.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Writes the line.
    pub(crate) fn answered(mut self, status: StatusCode) -> HeaderValue {
        self.status = Some(status);
        self.id.clone()
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let (method, path, request_id) = (&self.method, self.uri.path(), self.id());
        match self.status {
            // A node that is not ready says why by itself, when that changes.
            Some(status) if status.is_server_error() && path != "/readyz" => {
                let seldom = match status {
                    StatusCode::SERVICE_UNAVAILABLE => &UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT => &UNKNOWN,
                    _ => &FAILED,
                };
                let Some(times) = seldom.due() else { return };
                let status = status.as_u16();
                tracing::warn!(%method, path, status, times, elapsed = ?self.started.elapsed(), request_id, "failed; the same is written once a minute");
            }
            Some(status) => {
                let status = status.as_u16();
                tracing::debug!(%method, path, status, elapsed = ?self.started.elapsed(), request_id, "answered");
            }
            None => {
                tracing::debug!(%method, path, elapsed = ?self.started.elapsed(), request_id, "the caller is gone");
            }
        }
    }
}
