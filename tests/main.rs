//! Evermind from outside: stories told against real `evermind serve` processes.
//!
//! Each story is a test of its own, with a cluster of its own, and waits on conditions with a
//! deadline. One that fails prints the end of each node's log, keeps data and logs, and says which
//! command runs it again. `.config/nextest.toml` says how many clusters run at once.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

use evermind_harness as harness;

mod accounts;
mod alone;
#[cfg(target_os = "linux")]
mod another_user;
mod bad_callers;
mod bad_http;
mod bad_json;
mod bench_command;
mod contract;
mod crash;
mod cut_off;
mod dev;
mod failover;
mod followers;
#[cfg(target_os = "linux")]
mod gone_callers;
mod idempotency;
mod idle;
mod keys_command;
mod line;
mod lock_command;
mod lock_run;
mod metering;
mod reattachment;
mod refusals;
mod rolling;
mod scripted;
mod silent_nodes;
mod soak;
mod terminal;
mod unreachable;
mod waiting;
