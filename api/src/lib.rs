//! The HTTP edge: the lock API of one node, over [`evermind_raft::node::Node`].
//!
//! [`App`] turns one request into one answer; [`serve()`] puts it behind a listener with limits on
//! everything a stranger can hold on to.
//!
//! What fails first is what the caller is told: the head as hyper reads it (400, 431), `Host`
//! (400), path (404) and method (405), API key (401), content type and encoding (415), size (413)
//! and time (408) of the body, its syntax (400), `softFail`; and from there on softened where
//! asked for: the other fields, `Idempotency-Key`, and what the node says.
//!
//! Absent by design: sled, and openraft's types.

mod accounts;
mod admin_routes;
mod app;
mod auth;
mod body;
mod calendar;
mod cors;
mod docs;
mod fields;
mod handed_over;
mod key_routes;
mod licence_replies;
mod limits;
mod listen;
mod lock_routes;
mod locks;
mod look_routes;
#[cfg(test)]
mod openapi;
mod pages;
mod places;
mod problem;
mod public_id;
mod query;
mod rates;
mod refusals;
mod replies;
mod request_log;
mod requests;
mod routes;
mod secrets;
mod seldom;
mod serve;
mod shares;
mod soon;
mod watch;
mod whole_body;
mod window;
mod wire;

pub use accounts::Accounts;
pub use app::{Access, App};
pub use cors::{BadOrigin, Origin};
pub use limits::Limits;
pub use listen::{Listen, Socket};
pub use locks::{Backend, Locks, PendingAcquire};
pub use places::{HEALTH_CONNECTIONS_MAX, LEAVING_MAX};
pub use secrets::{AdminToken, Secret, SecretKind, WeakToken, hash};
pub use serve::serve;
