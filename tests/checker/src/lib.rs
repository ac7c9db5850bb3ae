//! Records what every client of a cluster asked and was told, and checks whether a lock server may
//! have answered so: from outside, and against the committed log.

pub mod clocks;
pub mod committed;
pub mod direct;
pub mod grants;
pub mod health;
pub mod history;
#[cfg(test)]
mod script;
pub mod search;
#[cfg(test)]
mod simulated;
pub mod spec;
pub mod stored;
pub mod verdict;
pub mod witness;

pub use clocks::{ClockBound, Spell};
pub use direct::{EntryIndex, check_direct, check_line_by_time};
pub use health::{Health, Healthy};
pub use search::{WindowOptions, search};
pub use verdict::{Check, Verdict, Violation};
