//! What the stories are told with: processes, a cluster of them, HTTP from bytes up, clients that
//! follow the contract, and a history that is checked.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]
#![allow(
    missing_docs,
    reason = "most of it says by its name what a story does with it"
)]

pub mod caller;
pub mod client;
pub mod cluster;
pub mod command;
#[cfg(target_os = "linux")]
pub mod gone;
pub mod history;
pub mod http;
pub mod licence;
pub mod load;
pub mod ports;
pub mod process;
pub mod relay;
pub mod terminal;
pub mod until;
pub mod waiter;

pub use caller::Caller;
pub use cluster::TestCluster;
pub use until::until;
