//! The Rust client of Evermind's HTTP API, as the command line uses it.
//!
//! It goes round the endpoints it is given, repeats what failed under one uuid and one
//! `Idempotency-Key`, and measures how long a grant may be relied on. What makes an API key or a
//! licence has no such name, and is repeated only where nothing was done.
//!
//! Absent by design: TLS (terminate it beside the caller) and any state of the cluster's own.

mod client;
mod clock;
mod endpoint;
mod error;
mod exchange;
mod flight;
mod licences;
mod messages;
mod retry;
mod verdict;
mod waiting;

pub use client::Client;
pub use clock::{DRIFT_DIVISOR, Moment, deadline};
pub use endpoint::Endpoint;
pub use error::{Code, Error, Problem};
pub use licences::{
    ApiKeyInfo, LicenceInfo, LicencesPage, NewApiKey, NewLicence, NewLicenceKey, PastUsage,
    UsageInfo,
};
pub use messages::{
    Acquire, Answer, ClusterInfo, Extended, Grant, LockInfo, LocksPage, MemberInfo, Wait,
};
pub use waiting::WAIT_MAX;
