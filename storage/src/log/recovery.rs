//! Reading a log back after a stop of any kind.

use std::collections::VecDeque;
use std::path::Path;

#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};

use super::LogOptions;
use super::cache::Cache;
use super::error::OpenError;
use super::frame::{self, Header, HeaderSector, SECTOR_BYTES};
use super::index::{Effect, FrameIndex, FrameRef};
use super::record::{self, Record, State};
use super::segment::{self, Segment};
use crate::disk::{self, Disk};
use crate::entry::LogIdRecord;

/// A log as it was found.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) cache: Cache,
    pub(super) frames: FrameIndex,
    /// In order; the last one is written next.
    pub(super) segments: VecDeque<Segment>,
    /// Where in the last segment.
    pub(super) offset: u64,
    /// The next frame's.
    pub(super) sequence: u64,
    /// See [`FrameRef::position`].
    pub(super) position: u64,
    /// Whether a batch that was never acknowledged was cut.
    pub(super) torn: bool,
}

/// A sound log, read and not yet changed.
pub(super) struct Found {
    log: Recovered,
    /// The last segment's, all zero past its frames.
    bytes: Vec<u8>,
}

/// Reads every segment; `numbers` are those found, sorted, and at least one. Every check is made
/// here and nothing is written: a log that is refused stays as it was found.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &Path,
    numbers: &[u64],
    options: &LogOptions,
) -> Result<Found, OpenError> {
    let mut scan = Scan {
        log: Recovered {
            state: State::default(),
            cache: Cache::default(),
            frames: FrameIndex::default(),
            segments: VecDeque::new(),
            offset: 0,
            sequence: 0,
            position: 0,
            torn: false,
        },
        cache_bytes_max: options.cache_bytes_max,
        missing_end: 0,
    };
    let mut bytes = Vec::new();
    for (place, number) in numbers.iter().enumerate() {
        let path = segment::path(dir, *number);
        if *number != numbers[0] + place as u64 {
            let missing = segment::path(dir, numbers[0] + place as u64);
            return Err(OpenError::damaged(&missing, 0, "this file is missing"));
        }
        let last = place + 1 == numbers.len();
        let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
        let length = file.len().map_err(OpenError::io("measure", &path))?;
        // A length that no options allow is damage too, and must not make us run out of memory.
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length as u64 <= LogOptions::SEGMENT_BYTES_MAX)
            .ok_or_else(|| OpenError::damaged(&path, 0, format!("{length} bytes long")))?;
        bytes.clear();
        bytes.resize(length, 0);
        disk::read_exact_at(&*file, &mut bytes, 0).map_err(OpenError::io("read", &path))?;
        let end = scan.segment(&path, &bytes, *number, place == 0, last)?;
        if last {
            bytes[end..].fill(0);
        }
        scan.log.offset = end as u64;
        scan.log.segments.push_back(Segment {
            number: *number,
            path,
            file,
            bytes: length as u64,
        });
    }
    let log = scan.log;
    if scan.missing_end > log.state.first_index() {
        let what = format!(
            "entries {} to {} should be in the segments before this one, which are missing",
            log.state.first_index(),
            scan.missing_end - 1
        );
        return Err(OpenError::damaged(&log.segments[0].path, 0, what));
    }
    Ok(Found { log, bytes })
}

impl Found {
    /// Writes the last segment anew: after a failed fsync the page cache may show what the disk
    /// never got.
    pub(super) fn rewrite(self, disk: &dyn Disk, dir: &Path) -> Result<Recovered, OpenError> {
        let Self { mut log, bytes } = self;
        let last = log.segments.back_mut().expect("a log has a segment");
        last.file = rewrite(disk, dir, &last.path, &bytes)?;
        Ok(log)
    }
}

fn rewrite(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<std::sync::Arc<dyn disk::DiskFile>, OpenError> {
    let temporary = dir.join(segment::REWRITTEN);
    let file = disk
        .create(&temporary)
        .map_err(OpenError::io("create", &temporary))?;
    disk::write_all_at(&*file, bytes, 0).map_err(OpenError::io("write", &temporary))?;
    file.sync_data()
        .map_err(OpenError::io("sync", &temporary))?;
    disk.rename(&temporary, path)
        .map_err(OpenError::io("rename to", path))?;
    disk.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    Ok(file)
}

struct Scan {
    log: Recovered,
    cache_bytes_max: usize,
    /// Entries below this were in segments that are gone: each must turn out to be purged, or cut
    /// by a truncation.
    missing_end: u64,
}

impl Scan {
    /// Reads one segment; returns where its frames end.
    fn segment(
        &mut self,
        path: &Path,
        bytes: &[u8],
        number: u64,
        first: bool,
        last: bool,
    ) -> Result<usize, OpenError> {
        let mut offset = self.head(path, bytes, number, first)?;
        while offset < bytes.len() {
            match frame_at(bytes, offset, self.log.sequence) {
                Ok(None) => return Ok(offset),
                Ok(Some((header, payload))) => {
                    self.frame(path, number, offset, &header, &payload)?;
                    offset += header.frame_bytes();
                }
                #[cfg(evermind_mutants)]
                Err(_) if last && mutant::is(Mutant::DamagedTailCut) => {
                    self.log.torn = true;
                    return Ok(offset);
                }
                Err(bad) if last && bad.torn => {
                    tracing::warn!(
                        file = %path.display(), offset, why = bad.what,
                        "cut a batch that a crash tore before it was acknowledged"
                    );
                    self.log.torn = true;
                    return Ok(offset);
                }
                Err(bad) => return Err(OpenError::damaged(path, offset, bad.what)),
            }
        }
        Ok(offset)
    }

    /// Reads a segment's first frame. It was on disk before the segment had its name, so it is
    /// never torn.
    fn head(
        &mut self,
        path: &Path,
        bytes: &[u8],
        number: u64,
        first: bool,
    ) -> Result<usize, OpenError> {
        let damaged = |what: &str| Err(OpenError::damaged(path, 0, what));
        if bytes.len() < SECTOR_BYTES {
            return damaged("the file is too short for a segment");
        }
        let sequence = match frame::read_header(bytes) {
            HeaderSector::Intact(header) if first => header.sequence,
            _ => self.log.sequence,
        };
        let payload = match frame_at(bytes, 0, sequence) {
            Ok(Some((header, payload))) if header.frame_bytes() == SECTOR_BYTES => payload,
            Ok(_) => return damaged("the segment's head is missing"),
            Err(bad) => return damaged(bad.what),
        };
        let mut records = record::records(&payload);
        let (Some(Ok((Record::Head(head), _))), None) = (records.next(), records.next()) else {
            return damaged("the segment's head cannot be read");
        };
        if head.segment != number {
            return damaged("the segment's head belongs to another segment");
        }
        if head.segment_bytes != bytes.len() as u64 {
            return damaged(&format!(
                "the segment is {} bytes long and should be {}",
                bytes.len(),
                head.segment_bytes
            ));
        }
        if first {
            self.log.state = head.state;
            self.log.position = head.position;
            if head.state.last != head.state.purged {
                self.missing_end = head.state.end_index();
            }
        } else if (head.state, head.position) != (self.log.state, self.log.position) {
            return damaged("the segment's head does not follow from the segment before it");
        }
        self.log.sequence = sequence + 1;
        self.log.position += SECTOR_BYTES as u64;
        Ok(SECTOR_BYTES)
    }

    fn frame(
        &mut self,
        path: &Path,
        segment: u64,
        offset: usize,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), OpenError> {
        let log = &mut self.log;
        let mut effect = Effect::default();
        for record in record::records(payload) {
            let (record, bytes) =
                record.map_err(|e| OpenError::damaged(path, offset, e.to_string()))?;
            match record {
                Record::Entry(entry) => {
                    let id = LogIdRecord::from(entry.log_id);
                    if log.state.next_index().is_some_and(|next| next != id.index) {
                        let what = format!("entry {} does not follow the one before it", id.index);
                        return Err(OpenError::damaged(path, offset, what));
                    }
                    log.state.last = Some(id);
                    effect.append(id.index);
                    log.cache.push(entry, bytes);
                }
                Record::Vote(vote) => log.state.vote = Some(vote),
                Record::Committed(committed) => log.state.committed = Some(committed),
                Record::Truncate(after) => {
                    log.state.truncate_after(after);
                    effect.cut(log.state.end_index());
                    log.cache.cut(log.state.end_index());
                    self.missing_end = self.missing_end.min(log.state.end_index());
                }
                Record::Purge(upto) => {
                    log.state.purge(upto);
                    effect.purge_below(log.state.first_index());
                }
                Record::Head(_) => {
                    return Err(OpenError::damaged(path, offset, "a head amid a segment"));
                }
            }
        }
        let frame = FrameRef {
            first: 0,
            last: 0,
            segment,
            offset: offset as u64,
            bytes: header.frame_bytes(),
            sequence: header.sequence,
            position: log.position,
        };
        log.frames.add(&effect, frame);
        log.frames.purge_below(log.state.first_index());
        log.cache.purge_below(log.state.first_index());
        log.cache
            .shrink(self.cache_bytes_max, log.state.end_index());
        log.position += header.frame_bytes() as u64;
        log.sequence += 1;
        Ok(())
    }
}

/// A frame that cannot be read.
pub(super) struct Bad {
    pub(super) what: &'static str,
    /// Whether it is provably a write that a crash cut short. Counts in the last segment only.
    torn: bool,
}

/// The frame at `offset`; none where the rest of the segment is as zero-filling left it.
pub(super) fn frame_at(
    bytes: &[u8],
    offset: usize,
    sequence: u64,
) -> Result<Option<(Header, Vec<u8>)>, Bad> {
    let refuse = |what| Err(Bad { what, torn: false });
    let Some(sector) = bytes.get(offset..offset + SECTOR_BYTES) else {
        return refuse("the segment ends within a sector");
    };
    let header = match frame::read_header(sector) {
        HeaderSector::Bad(what) => return refuse(what),
        HeaderSector::Zero => return headless(bytes, offset, sequence),
        HeaderSector::Intact(header) => header,
    };
    if header.sequence != sequence {
        return refuse("the frame is not the one that follows");
    }
    let end = offset + header.frame_bytes();
    let Some(frame) = bytes.get(offset..end) else {
        return refuse("the frame runs past the end of the segment");
    };
    if let Some(payload) = header.read_payload(frame) {
        return Ok(Some((header, payload)));
    }
    Err(Bad {
        what: "the frame's checksum does not match",
        torn: frame.chunks(SECTOR_BYTES).any(frame::is_zero)
            && bytes[end..].chunks(SECTOR_BYTES).all(frame::is_zero),
    })
}

/// The header's sector is all zero: the end of the log, or a frame whose header never reached the
/// disk. Of such a frame nothing can be there but later sectors of its own, which its marker shows.
fn headless(bytes: &[u8], offset: usize, sequence: u64) -> Result<Option<(Header, Vec<u8>)>, Bad> {
    let mut rest = bytes[offset..]
        .chunks(SECTOR_BYTES)
        .filter(|sector| !frame::is_zero(sector))
        .peekable();
    if rest.peek().is_none() {
        return Ok(None);
    }
    let torn = rest.all(|sector| sector[0] == frame::later_marker(sequence));
    Err(Bad {
        what: if torn {
            "the frame's header never reached the disk"
        } else {
            "something was written past an unwritten frame"
        },
        torn,
    })
}
