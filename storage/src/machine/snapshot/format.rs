//! The bytes of a snapshot, as they lie in a file and travel to a peer.
//!
//! ```text
//! magic (8 bytes)
//! frame: header          what the snapshot covers
//! frame: records  ...    as many as it takes
//! frame: footer          how many records, and their digest
//! ```
//!
//! A frame is `length u32 | crc32 u32 | kind u8 | payload`, little-endian; the length is the
//! payload's, the checksum covers length, kind and payload. A records payload is a sequence of
//! `key length u32 | key | value length u32 | value`. Nothing follows the footer.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::disk::{DiskFile, read_exact_at, write_all_at};
use crate::machine::meta::StateMeta;
use crate::machine::record::{Digest, RawRecord};

const MAGIC: &[u8; 8] = b"EVMSNAP\x01";
const FRAME_HEAD_BYTES: usize = 9;
/// A frame is closed when its payload has reached this.
const FRAME_BYTES: usize = 256 << 10;
/// No frame is larger: one record of the largest size the codec knows, and what surrounds it.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + codec::VALUE_BYTES_MAX * 2 + 64;
/// Synced every so often while writing, so that no single sync keeps the log's own syncs waiting
/// behind gigabytes.
const SYNC_EVERY_BYTES: u64 = 1 << 20;

const HEADER: u8 = 1;
const RECORDS: u8 = 2;
const FOOTER: u8 = 3;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Footer {
    count: u64,
    digest: u128,
}

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They are damaged, or not ours.
    #[error("damaged at byte {offset}: {why}")]
    Damaged {
        /// Where it shows.
        offset: u64,
        /// In which way.
        why: &'static str,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A record's key and value.
pub(super) type RawRef<'a> = (&'a [u8], &'a [u8]);

/// Writes a snapshot, record by record.
pub(super) struct Writer {
    file: Arc<dyn DiskFile>,
    offset: u64,
    unsynced: u64,
    payload: Vec<u8>,
    count: u64,
    digest: Digest,
}

impl Writer {
    /// Starts a snapshot in an empty file.
    pub(super) fn start(file: Arc<dyn DiskFile>, meta: &StateMeta) -> io::Result<Self> {
        let mut writer = Self {
            file,
            offset: 0,
            unsynced: 0,
            payload: Vec::with_capacity(FRAME_BYTES + 4096),
            count: 0,
            digest: Digest::default(),
        };
        writer.write(MAGIC)?;
        codec::encode_into(meta, &mut writer.payload);
        writer.end_frame(HEADER)?;
        Ok(writer)
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: &RawRecord) -> io::Result<()> {
        for part in [&record.key, &record.value] {
            let len = u32::try_from(part.len()).expect("bounded by the codec");
            self.payload.extend_from_slice(&len.to_le_bytes());
            self.payload.extend_from_slice(part);
        }
        self.count += 1;
        self.digest.add(&record.key, &record.value);
        if self.payload.len() >= FRAME_BYTES {
            self.end_frame(RECORDS)?;
        }
        Ok(())
    }

    /// Ends the snapshot and syncs the file. Returns its length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        if !self.payload.is_empty() {
            self.end_frame(RECORDS)?;
        }
        let footer = Footer {
            count: self.count,
            digest: self.digest.sum(),
        };
        codec::encode_into(&footer, &mut self.payload);
        self.end_frame(FOOTER)?;
        self.file.sync_data()?;
        Ok(self.offset)
    }

    fn end_frame(&mut self, kind: u8) -> io::Result<()> {
        let payload = std::mem::take(&mut self.payload);
        let len = u32::try_from(payload.len()).expect("bounded by the codec");
        let mut head = [0; FRAME_HEAD_BYTES];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4..8].copy_from_slice(&checksum(len, kind, &payload).to_le_bytes());
        head[8] = kind;
        self.write(&head)?;
        self.write(&payload)?;
        self.payload = payload;
        self.payload.clear();
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&*self.file, bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        Ok(())
    }
}

/// Reads a snapshot, record by record. What was read may be believed once the end was reached
/// without an error.
pub(super) struct Reader<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    offset: u64,
    payload: Vec<u8>,
    /// How much of the payload was read.
    used: usize,
    count: u64,
    digest: Digest,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// Reads what a snapshot covers.
    pub(super) fn start(file: &'a dyn DiskFile) -> Result<(StateMeta, Self), SnapshotError> {
        let mut reader = Self {
            file,
            len: file.len()?,
            offset: 0,
            payload: Vec::new(),
            used: 0,
            count: 0,
            digest: Digest::default(),
            ended: false,
        };
        let mut magic = [0; MAGIC.len()];
        reader.read(&mut magic)?;
        if magic != *MAGIC {
            return Err(reader.damaged("it does not start like a snapshot"));
        }
        if reader.next_frame()? != HEADER {
            return Err(reader.damaged("it has no header"));
        }
        let meta =
            codec::decode(&reader.payload).map_err(|_| reader.damaged("its header is not ours"))?;
        reader.used = reader.payload.len();
        Ok((meta, reader))
    }

    /// The next record's key and value; `None` at the end, after everything was checked.
    pub(super) fn next(&mut self) -> Result<Option<RawRef<'_>>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        if self.used == self.payload.len() {
            match self.next_frame()? {
                RECORDS if !self.payload.is_empty() => {}
                FOOTER => return self.end().map(|()| None),
                _ => return Err(self.damaged("a frame of unknown kind")),
            }
        }
        let key = self.part()?;
        let value = self.part()?;
        let (key, value) = (&self.payload[key], &self.payload[value]);
        self.count += 1;
        self.digest.add(key, value);
        Ok(Some((key, value)))
    }

    fn part(&mut self) -> Result<std::ops::Range<usize>, SnapshotError> {
        let rest = &self.payload[self.used..];
        let end = rest.split_first_chunk::<4>().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            (len <= rest.len()).then_some(len)
        });
        let Some(len) = end else {
            return Err(self.damaged("a record is cut off"));
        };
        let start = self.used + 4;
        self.used = start + len;
        Ok(start..self.used)
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
        let footer: Footer =
            codec::decode(&self.payload).map_err(|_| self.damaged("its footer is not ours"))?;
        if footer.count != self.count {
            return Err(self.damaged("records are missing"));
        }
        if footer.digest != self.digest.sum() {
            return Err(self.damaged("its records are not those it was made of"));
        }
        if self.offset != self.len {
            return Err(self.damaged("something follows its end"));
        }
        self.ended = true;
        Ok(())
    }

    fn next_frame(&mut self) -> Result<u8, SnapshotError> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.read(&mut head)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if bytes > FRAME_BYTES_MAX {
            return Err(self.damaged("a frame is larger than any may be"));
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(bytes, 0);
        self.read(&mut payload)?;
        self.payload = payload;
        self.used = 0;
        if checksum(len, kind, &self.payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(self.damaged("a checksum is wrong"));
        }
        Ok(kind)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        if bytes.len() as u64 > self.len - self.offset {
            return Err(self.damaged("it is cut off"));
        }
        read_exact_at(self.file, bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn damaged(&self, why: &'static str) -> SnapshotError {
        SnapshotError::Damaged {
            offset: self.offset,
            why,
        }
    }
}

pub(super) fn checksum(len: u32, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}
