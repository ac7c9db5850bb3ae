//! What a node keeps: the log, the lease table, snapshots; openraft's storage traits over them.
//!
//! Absent by design: HTTP and the network.

pub mod codec;
pub mod data_dir;
pub mod disk;
pub mod entry;
pub mod log;
pub mod machine;
pub mod runner;
pub mod types;
