//! The rules of Evermind's locks: a pure, deterministic state machine.
//!
//! Absent by design, and proved absent in CI: I/O, clocks, async, randomness, openraft, sled.
//! The same log gives the same table on every node, whatever the node.

pub mod command;
pub mod limits;
pub mod names;
pub mod outcome;
pub mod view;
