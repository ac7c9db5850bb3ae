//! Segments: files of one length, zero-filled before their first frame, so that an fdatasync has
//! no metadata to write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame;
use super::record::{self, Head};
use crate::disk::{self, Disk, DiskFile};

/// What a crash may leave of a segment that was being made. Removed on open.
pub(super) const TEMPORARY: &str = ".tmp";
/// The segment made ahead of time.
pub(super) const SPARE: &str = "spare.tmp";
/// A segment made when there was no spare.
pub(super) const FRESH: &str = "fresh.tmp";
/// The last segment's copy, while the log is opened.
pub(super) const REWRITTEN: &str = "rewritten.tmp";

const SUFFIX: &str = ".log";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Zeros are synced in pieces, so that an fdatasync of the log never waits behind all of them.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// A file with frames.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// Its length.
    pub(super) bytes: u64,
}

/// A zero-filled, synced file that is no segment yet.
pub(super) struct Blank {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{SUFFIX}"))
}

/// The number in a segment's name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 16).then_some(())?;
    u64::from_str_radix(digits, 16).ok()
}

/// Makes a zero-filled file under a temporary name, replacing what a crash left there.
pub(super) fn make_blank(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    bytes: u64,
) -> Result<Blank, (&'static str, PathBuf, io::Error)> {
    let path = dir.join(name);
    let make = || -> io::Result<Arc<dyn DiskFile>> {
        if disk.exists(&path)? {
            disk.remove(&path)?;
        }
        let file = disk.create(&path)?;
        let mut offset = 0;
        while offset < bytes {
            let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX);
            let piece = &ZEROS[..left.min(ZEROS.len())];
            disk::write_all_at(&*file, piece, offset)?;
            offset += piece.len() as u64;
            if offset % SYNC_EVERY_BYTES == 0 || offset == bytes {
                file.sync_data()?;
            }
        }
        Ok(file)
    };
    match make() {
        Ok(file) => Ok(Blank { path, file, bytes }),
        Err(error) => Err(("zero-fill", path, error)),
    }
}

/// Makes a segment of a blank: its head is on disk before its name is, and its name before this
/// returns. So a segment that has its name has its head.
pub(super) fn install(
    disk: &dyn Disk,
    dir: &Path,
    blank: Blank,
    head: &Head,
    sequence: u64,
) -> Result<Segment, (&'static str, PathBuf, io::Error)> {
    let mut payload = Vec::new();
    record::put_head(head, &mut payload);
    let mut bytes = Vec::new();
    frame::write(sequence, &payload, &mut bytes);
    assert_eq!(bytes.len(), frame::SECTOR_BYTES, "a head fits one sector");

    let path = path(dir, head.segment);
    let at = |action, path: &Path| {
        let path = path.to_owned();
        move |error| (action, path, error)
    };
    disk::write_all_at(&*blank.file, &bytes, 0).map_err(at("write", &blank.path))?;
    blank.file.sync_data().map_err(at("sync", &blank.path))?;
    disk.rename(&blank.path, &path)
        .map_err(at("rename to", &path))?;
    disk.sync_dir(dir).map_err(at("sync", dir))?;
    Ok(Segment {
        number: head.segment,
        path,
        file: blank.file,
        bytes: blank.bytes,
    })
}
