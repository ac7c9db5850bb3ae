//! Whole clusters in one process, one thread and one seed.
//!
//! The nodes are the real ones: HTTP edge, consensus, peer transport with its frames, write-ahead
//! log. What they stand on is not: [`net`] carries their bytes, [`disk`] keeps their files, [`host`]
//! moves their clocks. [`chaos`] breaks all of it, [`clients`] work meanwhile and record what they
//! are told, [`invariants`] look on, and the checker judges the whole. One seed decides everything,
//! so a failure is replayed by its seed.
//!
//! A machine computes in no time: time passes between the steps of its tasks only, by whole
//! milliseconds of its own clock.

pub mod chaos;
pub mod clients;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod fast;
pub mod host;
pub mod invariants;
pub mod live;
pub mod net;
pub mod node;
pub mod office;
pub mod run;
pub mod spells;
pub mod trace;
pub mod verdict;
pub mod world;
