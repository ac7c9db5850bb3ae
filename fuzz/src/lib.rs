//! What an attacker or a broken disk can send, tried at random: one module for each target, each
//! with a `run` that takes one input and panics where a promise is broken.

#![forbid(unsafe_code)]

mod damage;
mod entries;
pub mod lock_table;
pub mod log_records;
mod memory;
pub mod peer_frames;
pub mod request_bodies;
mod runtime;
pub mod snapshots;
