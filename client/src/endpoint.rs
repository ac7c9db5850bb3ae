//! Where a node answers.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;

use crate::error::Error;

/// A node's address, as `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Authority);

impl Endpoint {
    /// `host:port`, with the port written out.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.0.host(), self.0.port_u16().unwrap_or(80))
    }

    /// The address of a path on this node. `path` starts with `/` and is already encoded.
    pub(crate) fn uri(&self, path: &str) -> Result<Uri, Error> {
        Uri::builder()
            .scheme("http")
            .authority(self.0.clone())
            .path_and_query(path)
            .build()
            .map_err(|error| Error::Request(error.to_string()))
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Endpoint {
            text: text.to_owned(),
            why: why.to_owned(),
        };
        let text = text.trim();
        if text.starts_with("https://") {
            return Err(refuse(
                "TLS is not spoken here yet: use http:// on a private network, or a local proxy that adds TLS",
            ));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(refuse("an endpoint is written http://host:port"));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(refuse(
                "an endpoint is written http://host:port, with nothing after it",
            ));
        }
        let authority =
            Authority::from_str(authority).map_err(|error| refuse(&error.to_string()))?;
        if authority.host().is_empty() {
            return Err(refuse("the host is missing"));
        }
        let has_port = authority.as_str().len() > authority.host().len();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(refuse("the port is a number from 1 to 65535"));
        }
        Ok(Self(authority))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn takes_http_and_nothing_else() {
        for (text, expected) in [
            ("http://127.0.0.1:7601", Some("127.0.0.1:7601")),
            ("http://localhost:7601/", Some("localhost:7601")),
            ("http://[::1]:7601", Some("[::1]:7601")),
            ("http://locks", Some("locks:80")),
            ("https://locks", None),
            ("127.0.0.1:7601", None),
            ("http://", None),
            ("http://a/b", None),
            ("http://user@a", None),
            ("http://a:99999999", None),
            ("http://a:", None),
            ("http://a:0", None),
        ] {
            let parsed = text.parse::<Endpoint>().ok().map(|e| e.host_and_port());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn says_what_to_do_about_tls() {
        let error = "https://locks".parse::<Endpoint>().unwrap_err();
        assert!(error.to_string().contains("use http://"), "{error}");
    }
}
