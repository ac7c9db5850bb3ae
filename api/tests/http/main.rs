//! The HTTP edge over real sockets, in front of a node that answers from a script.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod admin;
mod bad_bodies;
mod bad_headers;
mod cors;
mod docs;
mod documented;
mod fake;
mod hang_up;
mod keys;
mod looking;
mod outcomes;
mod patience;
mod raw_http;
mod server;
mod shutdown;
