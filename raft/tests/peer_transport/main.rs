//! The peer transport over loopback, with nodes that only note what they are asked.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod appends;
mod calls;
mod forged;
mod forwards;
mod garbage;
mod handshakes;
mod silence;
mod snapshots;
mod support;
