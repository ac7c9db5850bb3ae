//! The receiving end of snapshots, for the fuzzers alone: there is no such module in a build that
//! is not theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermind_lock::record::{Record, RecordKey};
use evermind_lock::table::LockTable;

use super::format::{self, Writer};
use super::receiver::SnapshotReceiver;
use super::{SnapshotError, SnapshotFile};
use crate::codec;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::machine::meta::StateMeta;
use crate::machine::record::RawRecord;
use crate::runner::Tasks;

const FILE: &str = "/snapshot";

/// The bytes of a snapshot of these records, each as it is kept.
pub fn written<'a>(
    meta: &StateMeta,
    records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<u8> {
    let disk = SimDisk::default();
    let file = disk.create(Path::new(FILE)).expect("an empty disk");
    let mut writer = Writer::start(file, meta).expect("no faults");
    for (key, value) in records {
        let record = RawRecord {
            key: key.into(),
            value: value.into(),
        };
        writer.push(&record).expect("no faults");
    }
    writer.finish().expect("no faults");
    disk.contents(Path::new(FILE))
}

/// The records of a table, each as it is kept.
pub fn records(table: &LockTable) -> Vec<(Vec<u8>, Vec<u8>)> {
    let frozen = table.freeze();
    let raw = frozen.records().map(|(key, record)| {
        let raw = RawRecord::new(&key, &record);
        (raw.key, raw.value)
    });
    raw.collect()
}

/// A frame whose checksum holds, whatever is in it.
pub fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a fuzzer's input is short");
    let checksum = format::checksum(length, kind, payload);
    let mut out = Vec::with_capacity(9 + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(payload);
    out
}

/// Receives a snapshot in pieces, as from a peer. Within a runtime.
pub async fn received(
    pieces: impl IntoIterator<Item = Vec<u8>>,
) -> Result<SnapshotFile, SnapshotError> {
    let disk = SimDisk::default();
    let path = PathBuf::from(FILE);
    let receiver = SnapshotReceiver::start(Arc::new(disk.clone()), Arc::new(Tasks), path).await;
    let mut receiver = receiver.expect("an empty disk");
    let mut length = 0;
    for piece in pieces {
        length += piece.len() as u64;
        receiver.push(piece.into()).await.expect("no faults");
        assert_eq!(receiver.received(), length);
    }
    let finished = receiver.finish().await;
    match &finished {
        Ok(file) => assert_eq!(file.len(), length),
        Err(SnapshotError::Damaged { offset, .. }) => {
            assert!(*offset <= length);
            assert!(
                disk.files().is_empty(),
                "what is refused leaves nothing behind"
            );
        }
        Err(SnapshotError::Io(error)) => panic!("no faults: {error}"),
    }
    finished
}

/// The table of a snapshot that was received whole. Blocks.
pub fn load(file: &SnapshotFile) -> std::io::Result<LockTable> {
    file.load()
}

/// Reads a record as it is kept; says whether it is one. Panics where it does not come out again as
/// it went in.
pub fn record(key: &[u8], value: &[u8]) -> bool {
    let Ok((key, record)) = crate::machine::record::decode(key, value) else {
        return false;
    };
    let raw = RawRecord::new(&key, &record);
    let again: (RecordKey, Record) =
        crate::machine::record::decode(&raw.key, &raw.value).expect("what we write we read");
    assert_eq!(again, (key, record));
    true
}

/// What a snapshot covers, as it is kept.
pub fn header(meta: &StateMeta) -> Vec<u8> {
    codec::encode(meta)
}
