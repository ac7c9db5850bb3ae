//! openraft's own suite over the log, on the file system of this machine and on a simulated one.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use evermind_storage::disk::RealDisk;
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::log::{LogOptions, LogStore};
use evermind_storage::runner::{Tasks, Threads};
use evermind_storage::types::{Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, OptionalSend, StorageError};
use tempfile::TempDir;

/// As little of a state machine as the suite needs beside a log.
#[derive(Default, Clone)]
struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Shared with the builder, which is a clone.
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder): (Entry, _) = next?;
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(self.applied, membership);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        _snapshot: (),
    ) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        let current = self.snapshot.lock().unwrap().clone();
        Ok(current.map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct OnRealDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnRealDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        // Segments of a few frames, and a cache that holds hardly anything: every path is taken.
        let options = LogOptions {
            segment_bytes: 8 << 10,
            cache_bytes_max: 100,
            ..LogOptions::default()
        };
        let path = dir.path().join("log");
        let log = LogStore::open(&path, Arc::new(RealDisk), Arc::new(Threads), options).unwrap();
        Ok((dir, log, Machine::default()))
    }
}

struct OnSimDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine> for OnSimDisk {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let (dir, disk) = (Path::new("/data/log"), Arc::new(SimDisk::default()));
        // One thread, as in a simulation, and the sizes of a node but for the segments.
        let options = LogOptions {
            segment_bytes: 1 << 20,
            ..LogOptions::default()
        };
        let log = LogStore::open(dir, disk, Arc::new(Tasks), options).unwrap();
        Ok(((), log, Machine::default()))
    }
}

#[tokio::test]
async fn openraft_suite_passes_on_a_simulated_disk() {
    Suite::test_all(OnSimDisk).await.unwrap();
}

#[tokio::test]
async fn openraft_suite_passes_on_a_real_disk() {
    Suite::test_all(OnRealDisk).await.unwrap();
}
