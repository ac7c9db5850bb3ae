//! The state-machine shell: openraft's view of the lease table, its checkpoints, its snapshots.
//!
//! The table in memory is what answers. On disk are a checkpoint (what changed is written about
//! once a second, so that a start has little to apply again) and a snapshot (what a log without
//! its beginning starts from, and what is sent to those who are too far behind). Neither ever
//! covers an entry that is not on this node's disk in another form: in its log, or in a snapshot
//! that a leader sent. That is how a log which has lost synced entries is noticed at the start.

mod checkpoint;
mod hash_key;
mod live;
mod meta;
mod observer;
mod offload;
mod open;
mod record;
mod recover;
mod shell;
mod snapshot;
mod table;

pub use checkpoint::{Checkpointer, Checkpoints, Step};
pub use live::MachineHandle;
pub use meta::StateMeta;
pub use observer::{Applied, Nobody, Observer, Progress};
pub use open::{LogExtent, MachineOptions, OpenError};
pub use shell::{Machine, SnapshotBuilder, Snapshots};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use snapshot::fuzzing;
pub use snapshot::{Origin, SNAPSHOT_BYTES_MAX, SnapshotError, SnapshotFile, SnapshotReceiver};
pub use table::{Batch, MemoryTables, Scan, SledTables, TableEngine, TableError, TableStore};
