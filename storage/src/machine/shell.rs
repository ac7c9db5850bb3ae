//! openraft's state machine over the lease table.

use std::io;
use std::sync::Arc;

use evermind_lock::outcome::Event;
use evermind_lock::table::{EntryContext, Pieces};
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::live::{FrozenState, MachineHandle, Shared};
use super::observer::{Applied, Observer};
use super::offload::offload;
use super::snapshot::{Origin, SnapshotFile, SnapshotReceiver, SnapshotStore};
use crate::entry::LogIdRecord;
use crate::runner::Runner;
use crate::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// Entries that are applied under one hold of the table's lock: few enough that no reader waits a
/// millisecond for them. While a mass ends, their pieces come on top: see `evermind_lock::table::Pieces`.
const BATCH_ENTRIES_MAX: usize = 64;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// The state machine. See the module.
pub struct Machine {
    pub(super) shared: Arc<Shared>,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) pieces: Pieces,
    /// Kept from batch to batch, for their memory.
    pub(super) applied: Vec<Applied>,
    pub(super) events: Vec<(u64, Event)>,
}

impl Machine {
    /// For readers.
    pub fn handle(&self) -> MachineHandle {
        MachineHandle(Arc::clone(&self.shared))
    }

    /// For whoever receives snapshots.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots(Arc::clone(&self.snapshots))
    }

    /// Applies entries, tells the observer, then whoever proposed them.
    fn apply_batch(
        &mut self,
        mut batch: Vec<Result<EntryResponder<TypeConfig>, io::Error>>,
    ) -> io::Result<()> {
        // Copied here, where the log or a follower still needs it: not while readers wait.
        for (entry, _) in batch.iter_mut().flatten() {
            if let EntryPayload::Normal(proposal) = &mut entry.payload {
                Arc::make_mut(&mut proposal.command);
            }
        }
        self.applied.clear();
        self.events.clear();
        let mut responders = Vec::with_capacity(batch.len());
        let mut failure = None;
        let mut raised = Vec::new();
        let mut live = self.shared.write();
        for item in batch {
            let (entry, responder) = match item {
                Ok(item) => item,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let log_id = entry.log_id;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    live.membership = StoredMembership::new(Some(log_id), membership);
                }
                EntryPayload::Normal(proposal) => {
                    let LogIdRecord { term, index } = log_id.into();
                    let at = EntryContext {
                        log_index: index,
                        term,
                        stamp: Some(proposal.stamp),
                    };
                    let command = Arc::unwrap_or_clone(proposal.command);
                    let operation = command.operation.map(|operation| operation.id);
                    let decision = live.table.apply(at, command, &mut raised);
                    self.events
                        .extend(raised.drain(..).map(|event| (index, event)));
                    self.applied.push(Applied {
                        log_index: index,
                        operation,
                        decision,
                    });
                }
            }
            live.last_applied = Some(log_id);
            responders.extend(responder);
        }
        let progress = live.progress();
        drop(live);
        // Before the responders: who hears of an entry finds its outcome known.
        self.observer.applied(&self.applied, &self.events, progress);
        for responder in responders {
            responder.send(());
        }
        failure.map_or(Ok(()), Err)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let live = self.shared.read();
        Ok((live.last_applied, live.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        // What is ready is applied together; the lock is never held over a wait for more.
        let mut batches = entries.ready_chunks(BATCH_ENTRIES_MAX);
        while let Some(batch) = batches.next().await {
            self.apply_batch(batch)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            shared: Arc::clone(&self.shared),
            snapshots: Arc::clone(&self.snapshots),
            runner: Arc::clone(&self.runner),
            state: Some(self.shared.freeze()),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        if snapshot.snapshot_meta() != *meta {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the snapshot covers {}, not {meta}",
                    snapshot.snapshot_meta()
                ),
            ));
        }
        let shared = Arc::clone(&self.shared);
        let snapshots = Arc::clone(&self.snapshots);
        let pieces = self.pieces;
        let progress = offload(&*self.runner, "snapshot-install", move || {
            // Read first: only what makes a table is put in place.
            let table = snapshot.load()?.in_pieces(pieces);
            let upto = snapshot.meta().last_applied();
            let current = snapshots.commit(&snapshot, Origin::Installed)?;
            if current.meta() != snapshot.meta() {
                return Err(io::Error::other(format!(
                    "{} covers more than the snapshot to install",
                    current.path().display()
                )));
            }
            shared.set_installed(upto);
            Ok(shared.replace(table, snapshot.meta()))
        })
        .await?;
        self.observer.replaced(progress);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current().map(into_openraft))
    }
}

fn into_openraft(file: SnapshotFile) -> Snapshot {
    Snapshot {
        meta: file.snapshot_meta(),
        snapshot: file,
    }
}

/// Builds one snapshot of the table as it was when this was made.
pub struct SnapshotBuilder {
    shared: Arc<Shared>,
    snapshots: Arc<SnapshotStore>,
    runner: Arc<dyn Runner>,
    state: Option<FrozenState>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // A second call of the same builder is for a later state.
        let state = self.state.take().unwrap_or_else(|| self.shared.freeze());
        if let Some(current) = self.snapshots.current()
            && current.meta().last_applied >= state.meta.last_applied
        {
            return Ok(into_openraft(current));
        }
        let upto = state.meta.last_applied();
        let snapshots = Arc::clone(&self.snapshots);
        let file = offload(&*self.runner, "snapshot-build", move || {
            snapshots.write(state)
        })
        .await?;
        if !self.shared.durable(upto).await {
            return Err(io::Error::other(
                "the log stopped before it had synced what a snapshot covers",
            ));
        }
        let snapshots = Arc::clone(&self.snapshots);
        let file = offload(&*self.runner, "snapshot-build", move || {
            snapshots.commit(&file, Origin::Built)
        })
        .await?;
        Ok(into_openraft(file))
    }
}

/// Where received snapshots go. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots(Arc<SnapshotStore>);

impl Snapshots {
    /// Starts to receive one.
    pub async fn receive(&self) -> io::Result<SnapshotReceiver> {
        self.0.receive().await
    }

    /// The newest one of this node.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.0.current()
    }
}
