//! What an outcome means for the call.

use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::{Code, Error, Problem};
use crate::exchange::{Failure, Reply};

/// What came of one try.
pub(crate) enum Verdict {
    /// It answers the call.
    Answer(Reply),
    /// Nothing that this endpoint or another would answer otherwise.
    Hopeless(Error),
    /// Another endpoint, or the same one later, may answer.
    Setback(Setback),
}

/// A try that came to nothing, as far as trying again is concerned.
pub(crate) struct Setback {
    pub(crate) error: Error,
    /// How much the error tells: the highest of several setbacks is reported.
    pub(crate) weight: u8,
    /// How long the server asked this caller to stay away.
    pub(crate) stay_away: Duration,
    /// The call may have been carried out.
    pub(crate) in_doubt: bool,
    /// The connection was cut on its way: an idle limit, or a node that ended.
    pub(crate) cut: bool,
    /// No answer within the bound.
    pub(crate) timed_out: bool,
}

/// Judges what a try brought.
pub(crate) fn judge(outcome: Result<Reply, Failure>, endpoint: &Endpoint) -> Verdict {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(failure) => return Verdict::Setback(unanswered(&failure, endpoint)),
    };
    if let 301 | 302 | 303 | 307 | 308 = reply.status {
        return Verdict::Hopeless(Error::Redirected {
            endpoint: reply.endpoint,
            status: reply.status,
            location: reply.location.unwrap_or_default(),
        });
    }
    if !matches!(reply.status, 408 | 429 | 500..=599) {
        return Verdict::Answer(reply);
    }
    let problem = Problem::read(reply.status, reply.retry_after, &reply.body);
    let setback = Setback {
        error: Error::Refused(Box::new(problem.clone())),
        weight: 4,
        stay_away: Duration::ZERO,
        in_doubt: false,
        cut: false,
        timed_out: false,
    };
    Verdict::Setback(match (reply.status, problem.is_ours()) {
        // About the caller, whichever node it asks; a node without a leader says nothing about the
        // next one's.
        (429, _) => Setback {
            stay_away: reply.retry_after.unwrap_or_default(),
            ..setback
        },
        (503, true) if problem.code == Code::NoLeader => setback,
        (408 | 503, true) => setback,
        (504, true) => Setback {
            weight: 5,
            in_doubt: true,
            ..setback
        },
        // The node's own fault, which it would only repeat.
        (_, true) => return Verdict::Answer(reply),
        // Of a proxy that does not reach its node, or not long enough.
        (status, false) => Setback {
            error: Error::Unavailable {
                endpoint: reply.endpoint,
                status,
            },
            weight: 3,
            in_doubt: true,
            cut: true,
            ..setback
        },
    })
}

fn unanswered(failure: &Failure, endpoint: &Endpoint) -> Setback {
    let (weight, cut, timed_out) = match failure {
        Failure::NotConnected(_) => (0, false, false),
        Failure::Broken(_) => (1, true, false),
        Failure::TimedOut => (2, false, true),
    };
    Setback {
        error: failure.of(endpoint),
        weight,
        stay_away: Duration::ZERO,
        in_doubt: weight > 0,
        cut,
        timed_out,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::clock::Moment;

    fn verdict(status: u16, body: &'static str) -> Verdict {
        let endpoint = "http://a:1".parse().unwrap();
        let reply = Reply {
            status,
            retry_after: None,
            location: None,
            body: body.into(),
            endpoint: "http://a:1".to_owned(),
            sent: Moment::now(),
            received: Moment::now(),
        };
        judge(Ok(reply), &endpoint)
    }

    #[test]
    fn a_proxys_failure_is_one_of_its_endpoint_alone() {
        for status in [408, 500, 502, 503, 504, 520, 527, 529] {
            for body in ["<html>", "", "{}", r#"{"message":"no upstream"}"#] {
                let Verdict::Setback(setback) = verdict(status, body) else {
                    panic!("{status} {body}");
                };
                assert!(setback.in_doubt && setback.cut, "{status} {body}");
                let text = setback.error.to_string();
                assert!(text.contains(&status.to_string()), "{text}");
            }
        }
    }

    #[test]
    fn a_nodes_own_word_counts() {
        let no_leader = r#"{"code":"no_leader","message":"none"}"#;
        let Verdict::Setback(setback) = verdict(503, no_leader) else {
            panic!("the next node may have a leader");
        };
        assert!(!setback.in_doubt);
        assert_eq!(setback.error.code(), Some(&Code::NoLeader));
        let internal = r#"{"code":"internal","message":"a fault"}"#;
        assert!(matches!(verdict(500, internal), Verdict::Answer(_)));
        assert!(matches!(
            verdict(409, r#"{"code":"not_owner"}"#),
            Verdict::Answer(_)
        ));
    }

    #[test]
    fn a_redirect_is_named() {
        for status in [301, 302, 307, 308] {
            assert!(matches!(
                verdict(status, ""),
                Verdict::Hopeless(Error::Redirected { .. })
            ));
        }
    }
}
