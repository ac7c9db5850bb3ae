//! `GET /v1/locks`, `/v1/locks/{key}`, `/v1/cluster`, `/livez`, `/readyz`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::names::Key;
use evermind_raft::api::{Caller, Consistency, NodeError};
use http::request::Parts;
use http::{Request, Response};

use crate::app::{Edge, id_in};
use crate::auth::{self, Allowance};
use crate::locks::Locks;
use crate::problem::{Asked, Code, Operation, Problem};
use crate::query::{Listing, Looking, cursor_of, key_of, one_lock};
use crate::replies::{ClusterReply, LockReply, LocksReply, json_bytes, ok};

pub(crate) async fn lock<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_lock(&edge, &head).await, &head)
}

async fn try_lock<L: Locks>(edge: &Edge<L>, head: &Parts) -> Result<Response<Body>, Problem> {
    let caller = auth::caller(edge, head, Allowance::Asking).await??;
    let key = key_of(head.uri.path().rsplit('/').next().unwrap_or_default())?;
    let consistency = one_lock(head.uri.query())?;
    #[cfg(evermind_mutants)]
    let consistency = if mutant::is(Mutant::LookFromHere) {
        Consistency::Stale
    } else {
        consistency
    };
    view(edge, &caller, &key, consistency).await
}

async fn view<L: Locks>(
    edge: &Edge<L>,
    caller: &Caller,
    key: &Key,
    consistency: Consistency,
) -> Result<Response<Body>, Problem> {
    let view = within(
        edge.limits.answer_margin,
        edge.backend.lock(caller, key, consistency),
    );
    match view.await?? {
        Some(view) => Ok(ok(Body::from(json_bytes(&LockReply::from(&view))))),
        None => Err(Problem::new(Code::LockNotFound, "the lock is free")),
    }
}

pub(crate) async fn locks<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_locks(&edge, &head).await, &head)
}

async fn try_locks<L: Locks>(edge: &Edge<L>, head: &Parts) -> Result<Response<Body>, Problem> {
    let caller = auth::caller(edge, head, Allowance::Asking).await??;
    let Listing {
        prefix,
        after,
        limit,
        consistency,
    } = match Looking::read(head.uri.query())? {
        Looking::One(key, consistency) => return view(edge, &caller, &key, consistency).await,
        Looking::Listing(listing) => listing,
    };
    let room = edge.pages.take(&caller.identity)?;
    let page = edge
        .backend
        .locks(&caller, &prefix, after.as_ref(), limit, consistency);
    let page = within(edge.limits.answer_margin, page).await??;
    let cursor = page.next_after.as_ref().map(cursor_of);
    let bytes = json_bytes(&LocksReply::new(&page, cursor));
    Ok(ok(Body::from(room.holding(bytes))))
}

pub(crate) async fn cluster<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_cluster(&edge, &head).await, &head)
}

async fn try_cluster<L: Locks>(edge: &Edge<L>, head: &Parts) -> Result<Response<Body>, Problem> {
    auth::caller(edge, head, Allowance::Asking).await??;
    Ok(ok(Body::from(json_bytes(&ClusterReply::from(
        &edge.backend.status(),
    )))))
}

/// The process serves. Says nothing of the cluster: restarting a node does not bring back a
/// majority.
pub(crate) async fn livez() -> Response<Body> {
    ok(Body::from(r#"{"alive":true}"#))
}

pub(crate) async fn readyz<L: Locks>(
    State(edge): State<Arc<Edge<L>>>,
    request: Request<Body>,
) -> Response<Body> {
    if edge.backend.is_ready() {
        return ok(Body::from(r#"{"ready":true}"#));
    }
    Problem::new(
        Code::NoLeader,
        "this node is not ready: it knows no leader, or has not yet applied what was committed when it started",
    )
    .answer(&Asked::new(Operation::Other), id_in(request.headers()))
}

pub(crate) fn answer(result: Result<Response<Body>, Problem>, head: &Parts) -> Response<Body> {
    result.unwrap_or_else(|problem| {
        problem.answer(&Asked::new(Operation::Other), id_in(&head.headers))
    })
}

/// A read that was not answered in time: nothing was proposed, so nothing is unknown.
async fn within<T>(
    bound: Duration,
    answer: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(bound, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Err(_) | Ok(Err(NodeError::Unknown)) => Err(Problem::new(
            Code::NoLeader,
            "the cluster did not answer this read in time",
        )),
        Ok(Err(error)) => Err(error.into()),
    }
}
