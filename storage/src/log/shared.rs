//! What the store, its readers and its steps share.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use super::LogOptions;
use super::error::LogFailure;
use super::memory::{Memory, Spare};
use super::segment;
use crate::disk::Disk;
use crate::runner::{Bell, Runner};
use crate::types::LogId;

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) bell: Arc<Bell>,
    /// std's: held for as long as memory takes, never over an await or a call of the disk.
    memory: Mutex<Memory>,
    /// Rings when the queue has become shorter, or there will be no more.
    pub(super) drained: Notify,
    pub(super) failed: watch::Sender<Option<LogFailure>>,
    pub(super) last_synced: watch::Sender<Option<LogId>>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        runner: Arc<dyn Runner>,
        dir: PathBuf,
        options: LogOptions,
        memory: Memory,
    ) -> Self {
        let last_synced = memory.synced.last.map(LogId::from);
        Self {
            disk,
            runner,
            dir,
            options,
            bell: Arc::default(),
            memory: Mutex::new(memory),
            drained: Notify::new(),
            failed: watch::channel(None).0,
            last_synced: watch::channel(last_synced).0,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("who holds this does not panic")
    }

    /// The memory of a log that has not failed.
    pub(super) fn live(&self) -> Result<MutexGuard<'_, Memory>, LogFailure> {
        let memory = self.lock();
        match &memory.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(memory),
        }
    }

    /// The memory of a log that still takes records.
    pub(super) fn writable(&self) -> Result<MutexGuard<'_, Memory>, LogFailure> {
        let memory = self.live()?;
        if memory.closing {
            return Err(LogFailure {
                action: "write to",
                path: self.dir.clone(),
                kind: io::ErrorKind::BrokenPipe,
                message: "it was closed".into(),
            });
        }
        Ok(memory)
    }

    /// Waits until `done`, which is looked at whenever the queue has become shorter.
    pub(super) async fn until(&self, done: impl Fn(&Memory) -> bool) {
        loop {
            let mut drained = pin!(self.drained.notified());
            drained.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            drained.await;
        }
    }

    /// What is queued is written, and then no more.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.bell.ring();
    }

    /// Stops the log for good: whatever is queued is never acknowledged. The first failure stays.
    pub(super) fn fail(&self, failure: LogFailure) {
        let mut memory = self.lock();
        if memory.failure.is_some() {
            return;
        }
        tracing::error!(%failure, "the log stops: nothing more is written or acknowledged");
        memory.failure = Some(failure.clone());
        let queue = std::mem::take(&mut memory.queue);
        drop(memory);
        for done in queue.into_iter().flat_map(|batch| batch.done) {
            done.tell(Err(failure.clone()));
        }
        self.failed.send_replace(Some(failure));
        self.drained.notify_waiters();
        self.bell.ring();
    }

    /// Starts the helper that makes the next segment ahead of time.
    pub(super) fn make_spare(self: &Arc<Self>) {
        self.lock().spare = Spare::Making;
        let shared = Arc::clone(self);
        let job = move || {
            let made = segment::make_blank(
                &*shared.disk,
                &shared.dir,
                segment::SPARE,
                shared.options.segment_bytes,
            );
            match made {
                Ok(blank) => shared.lock().spare = Spare::Ready(blank),
                Err((action, path, error)) => {
                    shared.lock().spare = Spare::None;
                    shared.fail(LogFailure::io(action, &path)(error));
                }
            }
            shared.drained.notify_waiters();
        };
        self.runner.once("log-spare", Box::new(job));
    }
}
