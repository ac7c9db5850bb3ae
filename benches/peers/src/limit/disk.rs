//! A file that is written over and over: every write is synced, none of them is ever read.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Written before the start, so that a sync has no blocks to allocate.
const FILE_BYTES: u64 = 64 << 20;

pub(super) struct Disk {
    file: File,
    end: u64,
}

impl Disk {
    pub(super) fn prepare(path: &Path) -> Result<Self> {
        let prepare = || {
            let file = File::create(path)?;
            let zeros = vec![0; 1 << 20];
            for at in (0..FILE_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
            file.sync_all()?;
            Ok::<_, std::io::Error>(file)
        };
        let file = prepare().with_context(|| format!("preparing {}", path.display()))?;
        Ok(Self { file, end: 0 })
    }

    /// Returns when the bytes are on the disk.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.end + bytes.len() as u64 > FILE_BYTES {
            self.end = 0;
        }
        self.file
            .write_all_at(bytes, self.end)
            .context("writing to the disk")?;
        self.end += bytes.len() as u64;
        self.file.sync_data().context("syncing the disk")
    }
}
