//! The state-machine shell: what is kept, what is found again, what is refused.
#![allow(clippy::unwrap_used)]

mod checkpoint;
mod data_dir;
mod open;
mod power;
mod snapshot;
mod suite;
mod support;
