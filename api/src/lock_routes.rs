//! `POST /lock/acquire`, `/lock/extend`, `/lock/release`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use evermind_lock::command::Idempotency;
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::names::Holder;
#[cfg(evermind_mutants)]
use evermind_lock::outcome::Granted;
use evermind_lock::outcome::{Decision, Outcome};
use evermind_raft::api::{AcquireRequest, Caller, ExtendRequest, NodeError, ReleaseRequest};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use uuid::Uuid;

use crate::app::{Edge, id_in};
use crate::auth::Allowance;
use crate::fields::Fields;
use crate::handed_over::{AfterWait, HandedOver};
use crate::locks::{Locks, PendingAcquire};
use crate::problem::{Asked, Code, Operation, Problem};
use crate::replies::{
    AcquiredReply, Config, ExtendedReply, LOG_INDEX, ReleasedReply, json_bytes, ok,
};
use crate::requests::{AcquireBody, ExtendBody, ReleaseBody, idempotency};
use crate::{auth, body, window};

/// The three, for who has found out already which one a request asks for.
pub(crate) trait LockRoutes: Send + Sync {
    /// Answers it.
    ///
    /// # Panics
    /// If it asks for none of them.
    fn answer(
        self: Arc<Self>,
        operation: Operation,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
}

impl<L: Locks> LockRoutes for Edge<L> {
    fn answer(
        self: Arc<Self>,
        operation: Operation,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        match operation {
            Operation::Acquire => Box::pin(acquire(State(self), request)),
            Operation::Extend => Box::pin(extend(State(self), request)),
            Operation::Release => Box::pin(release(State(self), request)),
            Operation::Other => unreachable!("the router has all others"),
        }
    }
}

pub(crate) async fn acquire<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut asked = Asked::new(Operation::Acquire);
    match try_acquire(&edge, &head, body, &mut asked).await {
        Ok(response) => response,
        Err(problem) => problem.answer(&asked, id_in(&head.headers)),
    }
}

async fn try_acquire<L: Locks>(
    edge: &Edge<L>,
    head: &Parts,
    body: Body,
    asked: &mut Asked,
) -> Result<Response<Body>, Problem> {
    let (caller, bytes) = open(edge, head, body, Allowance::Asking).await?;
    let (wanted, idempotency) = read_acquire(&bytes, &head.headers, asked)?;
    let holder = wanted.uuid.unwrap_or_else(made_uuid);
    let mut config = Config {
        key: wanted.key.clone(),
        lease: wanted.lease_ms,
        retry_attempts: wanted.retry_attempts,
        retry_delay: wanted.retry_delay_ms,
        retry_jitter: wanted.retry_jitter_ms,
        uuid: holder.clone(),
        fifo: wanted.fifo,
    };
    asked.config = Some(config.clone());
    let caller = caller?;
    let _under_way = edge.shares.begin(caller.licence)?;
    let window_ms = window::draw(
        wanted.retry_attempts,
        wanted.retry_delay_ms,
        wanted.retry_jitter_ms,
    );
    #[cfg(evermind_mutants)]
    let wanted_lease_ms = wanted.lease_ms;
    let request = AcquireRequest {
        key: wanted.key,
        holder,
        lease_ms: wanted.lease_ms,
        retry_attempts: wanted.retry_attempts,
        window_ms,
        fifo: wanted.fifo,
        idempotency,
    };
    let mut pending = edge.backend.acquire(&caller, request);
    let bound = edge.limits.answer_margin + Duration::from_millis(window_ms);
    // An inability drops `pending`: a grant that was made and not told is given back.
    let Decision { log_index, outcome } = within(bound, pending.decision()).await?;
    match outcome {
        Outcome::Granted(granted) => {
            #[cfg(evermind_mutants)]
            let granted = told_whole(granted, wanted_lease_ms);
            config.uuid = granted.holder;
            let reply = AcquiredReply {
                acquired: true,
                lock_acquisition_attempts: granted.attempts,
                config,
                message: None,
                fencing_token: granted.fencing_token,
                expires_in: granted.expires_in_ms,
                waited: granted.waited_ms,
            };
            let bytes = json_bytes(&reply);
            if granted.waited_ms == 0 {
                let body = Body::new(HandedOver::new(bytes, pending));
                return Ok(decided(log_index, ok(body)));
            }
            let mut response = decided(log_index, ok(Body::from(bytes)));
            response.extensions_mut().insert(AfterWait::new(pending));
            Ok(response)
        }
        other => {
            let problem = unmet(log_index, other);
            if !problem.is_unknown() {
                // The wait is over and there is no grant: nothing is left to give up.
                pending.handed_over();
            }
            Err(problem)
        }
    }
}

#[cfg(evermind_mutants)]
fn told_whole(granted: Granted, lease_ms: u64) -> Granted {
    Granted {
        expires_in_ms: if mutant::is(Mutant::LeaseToldWhole) {
            lease_ms
        } else {
            granted.expires_in_ms
        },
        ..granted
    }
}

fn read_acquire(
    bytes: &[u8],
    headers: &HeaderMap,
    asked: &mut Asked,
) -> Result<(AcquireBody, Option<Idempotency>), Problem> {
    let fields = Fields::parse(bytes, &AcquireBody::FIELDS)?;
    asked.soft_fail = fields.soft_fail()?;
    let wanted = AcquireBody::read(&fields)?;
    let idempotency = idempotency(headers, || wanted.fingerprint())?;
    Ok((wanted, idempotency))
}

pub(crate) async fn extend<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut asked = Asked::new(Operation::Extend);
    match try_extend(&edge, &head, body, &mut asked).await {
        Ok(response) => response,
        Err(problem) => problem.answer(&asked, id_in(&head.headers)),
    }
}

async fn try_extend<L: Locks>(
    edge: &Edge<L>,
    head: &Parts,
    body: Body,
    asked: &mut Asked,
) -> Result<Response<Body>, Problem> {
    let (caller, bytes) = open(edge, head, body, Allowance::Holding).await?;
    let request = read_extend(&bytes, &head.headers, asked)?;
    let caller = caller?;
    let extending = edge.backend.extend(&caller, request);
    let Decision { log_index, outcome } = within(edge.limits.answer_margin, extending).await?;
    match outcome {
        Outcome::Extended {
            fencing_token,
            expires_in_ms,
        } => {
            let reply = ExtendedReply {
                extended: true,
                message: None,
                expires_in: expires_in_ms,
                fencing_token,
            };
            Ok(decided(log_index, ok(Body::from(json_bytes(&reply)))))
        }
        other => Err(unmet(log_index, other)),
    }
}

fn read_extend(
    bytes: &[u8],
    headers: &HeaderMap,
    asked: &mut Asked,
) -> Result<ExtendRequest, Problem> {
    let fields = Fields::parse(bytes, &ExtendBody::FIELDS)?;
    asked.soft_fail = fields.soft_fail()?;
    let wanted = ExtendBody::read(&fields)?;
    Ok(ExtendRequest {
        idempotency: idempotency(headers, || wanted.fingerprint())?,
        key: wanted.key,
        holder: wanted.uuid,
        extend_by_ms: wanted.extend_by_ms,
    })
}

pub(crate) async fn release<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut asked = Asked::new(Operation::Release);
    match try_release(&edge, &head, body, &mut asked).await {
        Ok(response) => response,
        Err(problem) => problem.answer(&asked, id_in(&head.headers)),
    }
}

async fn try_release<L: Locks>(
    edge: &Edge<L>,
    head: &Parts,
    body: Body,
    asked: &mut Asked,
) -> Result<Response<Body>, Problem> {
    let (caller, bytes) = open(edge, head, body, Allowance::Holding).await?;
    let request = read_release(&bytes, &head.headers, asked)?;
    let caller = caller?;
    let releasing = edge.backend.release(&caller, request);
    let Decision { log_index, outcome } = within(edge.limits.answer_margin, releasing).await?;
    match outcome {
        Outcome::Released => {
            let reply = ReleasedReply {
                released: true,
                message: None,
            };
            Ok(decided(log_index, ok(Body::from(json_bytes(&reply)))))
        }
        other => Err(unmet(log_index, other)),
    }
}

fn read_release(
    bytes: &[u8],
    headers: &HeaderMap,
    asked: &mut Asked,
) -> Result<ReleaseRequest, Problem> {
    let fields = Fields::parse(bytes, &ReleaseBody::FIELDS)?;
    asked.soft_fail = fields.soft_fail()?;
    let wanted = ReleaseBody::read(&fields)?;
    Ok(ReleaseRequest {
        idempotency: idempotency(headers, || wanted.fingerprint())?,
        key: wanted.key,
        holder: wanted.uuid,
    })
}

/// Whose request it is, and its body. A bad key is told before the body is read; a node that
/// cannot say whose key it is, and an inactive licence, after, because those can be softened.
async fn open<L: Locks>(
    edge: &Edge<L>,
    head: &Parts,
    body: Body,
    allowance: Allowance,
) -> Result<(Result<Caller, Problem>, Bytes), Problem> {
    let caller = auth::caller(edge, head, allowance).await?;
    let bytes = body::read(&head.headers, body, edge.limits.body_timeout).await?;
    Ok((caller, bytes))
}

/// The node bounds its own answers; this bound is for a node that fails to.
pub(crate) async fn within<T>(
    bound: Duration,
    answer: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, Problem> {
    let answer = tokio::time::timeout(bound, answer).await;
    answer
        .unwrap_or(Err(NodeError::Unknown))
        .map_err(Problem::from)
}

/// What an outcome other than the one hoped for means to the caller.
pub(crate) fn unmet(log_index: u64, outcome: Outcome) -> Problem {
    if let Outcome::Refused(refusal) = outcome {
        return Problem::from(refusal).decided_at(log_index);
    }
    // No node answers so. Nothing may be claimed on the strength of it.
    tracing::error!(
        ?outcome,
        log_index,
        "the node's answer does not fit the request"
    );
    Problem::new(Code::OutcomeUnknown, NodeError::Unknown.to_string())
}

/// What was taken back or deleted leaves no body.
pub(crate) fn gone(decision: Decision) -> Result<Response<Body>, Problem> {
    match decision.outcome {
        Outcome::Done => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(decided(decision.log_index, response))
        }
        other => Err(unmet(decision.log_index, other)),
    }
}

pub(crate) fn decided(log_index: u64, mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(LOG_INDEX, HeaderValue::from(log_index));
    response
}

fn made_uuid() -> Holder {
    Holder::uuid(Uuid::now_v7().into_bytes())
}
