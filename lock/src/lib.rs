//! The rules of Evermind's locks: a pure, deterministic state machine.
//!
//! [`table::LockTable::apply`] takes one log entry and says what came of it; that is the only way
//! in. Absent by design, and proved absent in CI: I/O, clocks, async, randomness, openraft, sled.
//! The same log gives the same table on every node, whatever the node.

pub mod command;
pub mod licence;
pub mod limits;
#[cfg(evermind_mutants)]
pub mod mutant;
pub mod names;
pub mod outcome;
mod part;
pub mod record;
pub mod table;
pub mod view;

mod agenda;
pub mod changes;
mod deadlines;
mod grant;
mod holder;
mod idempotency;
mod queue;
mod session;
pub mod shards;
mod ties;

#[cfg(all(evermind_mutants, not(debug_assertions)))]
compile_error!("seeded bugs are for proofs alone: no build without debug assertions has them");
