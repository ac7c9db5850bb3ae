//! Records what every client of a cluster asked and was told, and checks whether a lock server may
//! have answered so: from outside, and against the committed log.

pub mod history;
