//! A snapshot on its way in.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::file::{SnapshotFile, TempFile, check};
use super::format::SnapshotError;
use crate::disk::{Disk, write_all_at};
use crate::machine::offload::offload;
use crate::runner::Runner;

/// The largest snapshot that is taken from a peer: 8 GiB, several times what a table at all its
/// limits makes.
pub const SNAPSHOT_BYTES_MAX: u64 = 8 << 30;

/// Synced every so often, so that no single sync keeps the log's own waiting behind gigabytes.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// Takes a snapshot's bytes, in order, into a file of its own, off the async threads. Dropped
/// before [`SnapshotReceiver::finish`], it leaves nothing behind.
pub struct SnapshotReceiver {
    runner: Arc<dyn Runner>,
    temp: TempFile,
    len: u64,
    unsynced: u64,
}

impl SnapshotReceiver {
    pub(super) async fn start(
        disk: Arc<dyn Disk>,
        runner: Arc<dyn Runner>,
        path: PathBuf,
    ) -> io::Result<Self> {
        let temp = offload(&*runner, "snapshot-receive", move || {
            TempFile::create(disk, path)
        })
        .await?;
        Ok(Self {
            runner,
            temp,
            len: 0,
            unsynced: 0,
        })
    }

    /// Adds the next bytes. Fails beyond [`SNAPSHOT_BYTES_MAX`].
    pub async fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        let len = self.len + bytes.len() as u64;
        if len > SNAPSHOT_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes"),
            ));
        }
        let offset = self.len;
        self.unsynced += bytes.len() as u64;
        let sync = self.unsynced >= SYNC_EVERY_BYTES;
        if sync {
            self.unsynced = 0;
        }
        let file = Arc::clone(&self.temp.file);
        offload(&*self.runner, "snapshot-receive", move || {
            write_all_at(&*file, &bytes, offset)?;
            if sync { file.sync_data() } else { Ok(()) }
        })
        .await?;
        self.len = len;
        Ok(())
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.len
    }

    /// Ends the file, syncs it, and checks every byte: only what comes out of this may be
    /// installed.
    pub async fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        let file = Arc::clone(&self.temp.file);
        let meta = offload(&*self.runner, "snapshot-receive", move || {
            file.sync_data()?;
            check(&*file)
        })
        .await?;
        Ok(SnapshotFile::received(
            self.temp,
            self.len,
            meta,
            self.runner,
        ))
    }
}
