//! The simulator does what it says of itself: a fault that it only claims to bring proves nothing.
//!
//! A story that fails prints the command that runs it alone.
#![allow(clippy::unwrap_used)]

mod again;
mod clock;
mod dice;
mod disk;
mod host;
mod invariants;
mod net;
mod net_gone;
mod run;
mod trace;
mod verdict;
mod wire;
