//! Reading what segments say without opening their log: nothing is locked, written or cut.
//!
//! For whoever proves what a cluster did: purged segments that were kept elsewhere can be read
//! together with those that are still in place, also while the log is in use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::frame::{self, HeaderSector, SECTOR_BYTES};
use super::record::{self, Record};
use super::recovery::frame_at;
use super::{LogOptions, segment};
use crate::disk::{self, Disk};
use crate::entry::LogIdRecord;
use crate::types::Entry;

/// One thing that a log says, in the order in which it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// An entry follows the one before it.
    Entry(Entry),
    /// The entries after this one are no part of the log any more; all of them, if there is none.
    Truncated(Option<LogIdRecord>),
    /// The entries up to this one were applied, or are covered by a snapshot.
    Purged(LogIdRecord),
    /// The entries up to this one are known to be committed.
    Committed(LogIdRecord),
}

/// How far the segments reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// What the log had purged before the first of these segments.
    pub purged_before: Option<LogIdRecord>,
    /// The log's newest entry before the first of these segments: entries between the two are
    /// missing here.
    pub last_before: Option<LogIdRecord>,
    /// What was purged in the end.
    pub purged: Option<LogIdRecord>,
    /// The newest entry in the end, or the newest purged one.
    pub last: Option<LogIdRecord>,
    /// Why reading stopped before the end of the last segment, where that was a frame that cannot
    /// be read: one being written, or a damaged one.
    pub stopped: Option<&'static str>,
}

/// The paths in a directory that hold a segment, or an older copy of one: whatever starts with a
/// segment's name.
pub fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let names = disk.list(dir).map_err(OpenError::io("list", dir))?;
    let is_segment = |name: &String| number(name).is_some();
    Ok(names
        .into_iter()
        .filter(is_segment)
        .map(|name| dir.join(name))
        .collect())
}

/// Reads segments in the order of their numbers. Several copies of one may be given (the log writes
/// its last segment anew when it is opened): the one that reaches furthest counts.
///
/// # Errors
/// If a segment between two others is missing or cannot be read to its end, or does not follow from
/// the one before it.
pub fn read(
    disk: &dyn Disk,
    paths: &[PathBuf],
    mut tell: impl FnMut(Said),
) -> Result<Reach, OpenError> {
    let mut copies: BTreeMap<u64, Vec<&PathBuf>> = BTreeMap::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(number) {
            copies.entry(number).or_default().push(path);
        }
    }
    let mut reach = Reach::default();
    let mut sequence = None;
    let mut expected = copies.keys().next().copied();
    let last = copies.keys().next_back().copied();
    for (number, copies) in copies {
        if expected != Some(number) {
            let missing = segment::path(Path::new(""), expected.unwrap_or_default());
            return Err(OpenError::damaged(&missing, 0, "this segment is missing"));
        }
        expected = Some(number + 1);
        let (path, bytes) = furthest(disk, &copies)?;
        let stopped = read_one(&path, &bytes, &mut sequence, &mut reach, &mut tell)?;
        if let Some((offset, what)) = stopped {
            if Some(number) != last {
                return Err(OpenError::damaged(&path, offset, what));
            }
            reach.stopped = Some(what);
        }
    }
    Ok(reach)
}

/// The number that a segment's name, or the name of a copy, starts with.
fn number(name: &str) -> Option<u64> {
    const NAME_BYTES: usize = 20;
    segment::number(name.get(..NAME_BYTES)?)
}

fn furthest(disk: &dyn Disk, copies: &[&PathBuf]) -> Result<(PathBuf, Vec<u8>), OpenError> {
    let mut best: Option<(usize, PathBuf, Vec<u8>)> = None;
    for path in copies {
        let bytes = contents(disk, path)?;
        if copies.len() == 1 {
            return Ok(((*path).clone(), bytes));
        }
        let end = intact_end(&bytes);
        if best.as_ref().is_none_or(|(furthest, ..)| end > *furthest) {
            best = Some((end, (*path).clone(), bytes));
        }
    }
    let (_, path, bytes) = best.expect("a number was found in a path");
    Ok((path, bytes))
}

fn contents(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, OpenError> {
    let file = disk.open(path).map_err(OpenError::io("open", path))?;
    let length = file.len().map_err(OpenError::io("measure", path))?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length as u64 <= LogOptions::SEGMENT_BYTES_MAX)
        .ok_or_else(|| OpenError::damaged(path, 0, format!("{length} bytes long")))?;
    let mut bytes = vec![0; length];
    disk::read_exact_at(&*file, &mut bytes, 0).map_err(OpenError::io("read", path))?;
    Ok(bytes)
}

/// The sequence of the first frame, if there is one.
fn first_sequence(bytes: &[u8]) -> Option<u64> {
    match frame::read_header(bytes.get(..SECTOR_BYTES)?) {
        HeaderSector::Intact(header) => Some(header.sequence),
        HeaderSector::Zero | HeaderSector::Bad(_) => None,
    }
}

fn intact_end(bytes: &[u8]) -> usize {
    let Some(mut sequence) = first_sequence(bytes) else {
        return 0;
    };
    let mut offset = 0;
    while let Ok(Some((header, _))) = frame_at(bytes, offset, sequence) {
        offset += header.frame_bytes();
        sequence += 1;
        if offset >= bytes.len() {
            break;
        }
    }
    offset
}

/// Where and why reading stopped early, if it did.
fn read_one(
    path: &Path,
    bytes: &[u8],
    sequence: &mut Option<u64>,
    reach: &mut Reach,
    tell: &mut impl FnMut(Said),
) -> Result<Option<(usize, &'static str)>, OpenError> {
    let Some(first) = first_sequence(bytes) else {
        return Ok(Some((0, "the segment's head is missing")));
    };
    let is_first = sequence.is_none();
    let next = sequence.get_or_insert(first);
    let mut offset = 0;
    while offset < bytes.len() {
        let (header, payload) = match frame_at(bytes, offset, *next) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(bad) => return Ok(Some((offset, bad.what))),
        };
        for record in record::records(&payload) {
            let (record, _) =
                record.map_err(|e| OpenError::damaged(path, offset, e.to_string()))?;
            match record {
                Record::Head(head) if is_first && offset == 0 => {
                    reach.purged_before = head.state.purged;
                    reach.last_before = head.state.last;
                    reach.purged = head.state.purged;
                    reach.last = head.state.last;
                }
                Record::Head(head) => {
                    let (purged, last) = (head.state.purged, head.state.last);
                    if offset > 0 || (purged, last) != (reach.purged, reach.last) {
                        let what = "the segment does not follow from the one before it";
                        return Err(OpenError::damaged(path, offset, what));
                    }
                }
                Record::Entry(entry) => {
                    reach.last = Some(entry.log_id.into());
                    tell(Said::Entry(entry));
                }
                Record::Vote(_) => {}
                Record::Truncate(after) => {
                    let mut state = reach.state();
                    state.truncate_after(after);
                    reach.last = state.last;
                    tell(Said::Truncated(after));
                }
                Record::Purge(upto) => {
                    let mut state = reach.state();
                    state.purge(upto);
                    (reach.purged, reach.last) = (state.purged, state.last);
                    tell(Said::Purged(upto));
                }
                Record::Committed(committed) => tell(Said::Committed(committed)),
            }
        }
        offset += header.frame_bytes();
        *next += 1;
    }
    Ok(None)
}

impl Reach {
    fn state(&self) -> record::State {
        record::State {
            purged: self.purged,
            last: self.last,
            ..record::State::default()
        }
    }
}
