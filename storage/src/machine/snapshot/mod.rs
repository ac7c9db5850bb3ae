//! Snapshots: the whole table at one entry, in a file.

mod file;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
mod receiver;
mod store;

pub use file::SnapshotFile;
pub use format::SnapshotError;
pub use receiver::{SNAPSHOT_BYTES_MAX, SnapshotReceiver};
pub use store::Origin;
pub(super) use store::{Found, SnapshotStore};
