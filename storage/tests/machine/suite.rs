//! openraft's own suite over the log and the state machine as a node has them.

use std::sync::Arc;

use evermind_lock::table::Pieces;
use evermind_storage::disk::RealDisk;
use evermind_storage::log::{LogOptions, LogStore};
use evermind_storage::machine::{LogExtent, Machine, MachineOptions, MemoryTables, Nobody};
use evermind_storage::runner::Threads;
use evermind_storage::types::{LogId, TypeConfig};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::watch;

struct Both;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Both {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes: 64 << 10,
            ..LogOptions::default()
        };
        let path = dir.path().join("log");
        let log = LogStore::open(&path, Arc::new(RealDisk), Arc::new(Threads), options).unwrap();
        let snapshot_dir = dir.path().join("snapshot");
        std::fs::create_dir(&snapshot_dir).unwrap();
        // The suite applies entries that it never appended.
        let (_, synced) = watch::channel(Some(LogId::new_term_index(u64::MAX, u64::MAX)));
        let (machine, _checkpointer) = Machine::open(MachineOptions {
            disk: Arc::new(RealDisk),
            runner: Arc::new(Threads),
            tables: Arc::new(MemoryTables::default()),
            table_dir: dir.path().join("table"),
            snapshot_dir,
            log: LogExtent::default(),
            synced,
            observer: Arc::new(Nobody),
            pieces: Pieces::default(),
        })
        .unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openraft_suite_passes_over_log_and_machine() {
    Suite::test_all(Both).await.unwrap();
}
