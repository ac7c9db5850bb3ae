//! Which pages in browsers may call (the CORS protocol of <https://fetch.spec.whatwg.org>).
//!
//! No cookies are taken here, so an origin gives a page no rights: it still needs a key. What this
//! lets through is that a browser shows the page the answer.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
    ORIGIN, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Deserialize;

const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, x-request-id");
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "evermind-log-index, retry-after, x-request-id, ratelimit, ratelimit-policy",
);
/// In seconds. Chromium remembers a preflight no longer than this.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Where a page comes from, as browsers write it: `scheme://host[:port]`, in lower case and without
/// the scheme's own port. Or `*`, which is every page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(HeaderValue);

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOrigin(String);

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no origin; it is a scheme, a host, and a port if it is not the usual one, and nothing \
             behind them, as in https://app.example or http://localhost:3000; or * for every page",
            self.0
        )
    }
}

impl std::error::Error for BadOrigin {}

impl Origin {
    fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = || BadOrigin(text.to_owned());
        let written = if text == "*" {
            text.to_owned()
        } else {
            written(text).ok_or_else(bad)?
        };
        HeaderValue::try_from(written).map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for Origin {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        text.parse()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Made of text.
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// The origin as browsers write it.
fn written(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let mut letters = scheme.bytes();
    let is_scheme = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"+-.".contains(&letter));
    if !is_scheme {
        return None;
    }
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        (format!("[{address}]"), port)
    } else {
        let (host, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
        let is_host = !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        (is_host.then(|| host.to_owned())?, port)
    };
    if port.is_empty() {
        return Some(format!("{scheme}://{host}"));
    }
    let digits = port.strip_prefix(':')?;
    let port: u16 = digits.parse().ok()?;
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && port > 0;
    is_plain.then(|| match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    })
}

/// The origins that may call.
pub(crate) struct Cors(Vec<Origin>);

impl Cors {
    /// `None` where no page may call.
    pub(crate) fn new(origins: Vec<Origin>) -> Option<Self> {
        (!origins.is_empty()).then_some(Self(origins))
    }

    /// What is to be said to the page that sent this request.
    pub(crate) fn visit(&self, request: &Request<Body>) -> Visit {
        // What the operator does is not done from pages.
        if request.uri().path().starts_with("/admin/") {
            return Visit::default();
        }
        let any = self.0.iter().find(|origin| origin.is_any());
        let headers = request.headers();
        let mut origins = headers.get_all(ORIGIN).iter();
        let allowed = match (origins.next(), origins.next()) {
            (Some(origin), None) => {
                let same = || self.0.iter().find(|known| known.0 == *origin);
                any.or_else(same).map(|known| known.0.clone())
            }
            _ => None,
        };
        Visit {
            varies: any.is_none(),
            asks_first: request.method() == Method::OPTIONS
                && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
            allowed,
        }
    }
}

/// A request as CORS sees it.
#[derive(Default)]
pub(crate) struct Visit {
    /// The value of `Access-Control-Allow-Origin`.
    allowed: Option<HeaderValue>,
    /// Whether other origins are told otherwise.
    varies: bool,
    /// Whether it is a preflight.
    asks_first: bool,
}

impl Visit {
    /// The answer, with what the browser wants to know.
    pub(crate) fn answer(self, mut response: Response<Body>) -> Response<Body> {
        if let Some(origin) = self.allowed {
            // No route has OPTIONS of its own, so the router has refused it, with the methods that
            // the path does have. It knows nothing of paths that lead nowhere: those stay 404.
            let methods = response.headers().get(ALLOW).filter(|_| self.asks_first);
            if let Some(methods) = methods.cloned() {
                response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                let headers = response.headers_mut();
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
                headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            } else {
                let headers = response.headers_mut();
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
            }
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        if self.varies {
            let headers = response.headers_mut();
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        response
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for (text, written) in [
            ("*", "*"),
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:80", "https://app.example:80"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_an_example() {
        for wrong in [
            "",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?q",
            "https://*.example",
            "https://user@app.example",
            "https://app.example:0",
            "https://app.example:",
            "https://app.example:+1",
            "https://app.example:65536",
            "https://a b",
            "https://é.example",
            "https://[::1",
            "1https://app.example",
            "**",
        ] {
            let why = wrong.parse::<Origin>().unwrap_err().to_string();
            assert!(why.contains("as in https://app.example"), "{wrong}: {why}");
        }
    }
}
