//! The HTTP edge: the lock API of one node, over [`evermind_raft::node::Node`].
//!
//! [`App`] turns one request into one answer; [`serve()`] puts it behind a listener with limits on
//! everything a stranger can hold on to. The way of a lock request: API key, content type, body
//! (size, then syntax), fields, node, answer. What fails first is what the caller is told.
//!
//! Absent by design: sled, and openraft's types.

mod app;
mod auth;
mod body;
mod fields;
mod handed_over;
mod limits;
mod lock_routes;
mod locks;
mod look_routes;
mod problem;
mod query;
mod refusals;
mod replies;
mod requests;
mod serve;
mod watch;
mod window;
mod wire;

pub use app::App;
pub use limits::Limits;
pub use locks::{Locks, PendingAcquire};
pub use serve::serve;
