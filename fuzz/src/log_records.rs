//! What a broken disk can make of a log: a log is written, something happens to its bytes, and it is
//! opened again.
//!
//! Opening it must either be refused, with nothing changed, or give what some prefix of the
//! operations gives that has every acknowledged one. The one exception is stated in
//! [`History::may_be_lost`].

mod model;

use std::path::PathBuf;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use evermind_storage::disk::sim::SimDisk;
use evermind_storage::log::{LogOptions, LogStore, OpenError, fuzzing};
use evermind_storage::runner::Tasks;
use evermind_storage::types::{Entry, LogId, TypeConfig, Vote};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use self::model::{Model, Op};
use crate::damage::{Damage, SECTOR_BYTES, damaged};
use crate::entries::entry;
use crate::memory::{BELIEVED_BYTES, Memory};
use crate::runtime;

/// Bytes that opening one log may take, its simulated disk included: a few of its segments, a few
/// times over, and what a length in a forged record makes it believe.
const OPENING_BYTES: usize = BELIEVED_BYTES + (3 << 20);
/// Operations of one input.
const STEPS_MAX: usize = 24;
/// Changes of one input.
const DAMAGES_MAX: usize = 6;

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    /// A log that was written, and what happened to it.
    Damaged {
        steps: Vec<Step>,
        end: End,
        damages: Vec<Damage>,
    },
    /// Frames whose checksums hold, after a sound head, whatever is in them.
    Forged { payloads: Vec<Payload<'a>> },
    /// The payload of a frame.
    Records(&'a [u8]),
}

#[derive(Debug, Clone, Arbitrary)]
enum Step {
    /// So many entries, each as long as its number says; their callback is waited for.
    Append(Vec<u8>),
    Vote(u8),
    /// So many from the end.
    Truncate(u8),
    /// Up to so many from the end, or past it.
    Purge(u8),
    Committed(u8),
    /// A kill, and the log is opened again.
    Kill,
    /// The same with a power cut.
    PowerCut(u8),
}

/// How the last process ended.
#[derive(Debug, Clone, Arbitrary)]
enum End {
    /// When all was written.
    Shutdown,
    /// Amid an append that nobody was told of.
    PowerCut { entries: Vec<u8>, seed: u8 },
}

#[derive(Debug, Arbitrary)]
struct Payload<'a> {
    records: Vec<(u8, &'a [u8])>,
    /// No record at all.
    rest: &'a [u8],
}

/// One input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    match input {
        Input::Damaged {
            steps,
            end,
            damages,
        } => runtime::block_on(damage(&steps, &end, &damages)),
        Input::Forged { payloads } => runtime::block_on(forge(&payloads)),
        Input::Records(payload) => _ = fuzzing::records(payload),
    }
}

fn dir() -> PathBuf {
    "/log".into()
}

/// Segments of sixteen sectors, frames of up to six, and a cache of a few entries.
fn open(disk: &SimDisk) -> Result<LogStore, OpenError> {
    let options = LogOptions {
        segment_bytes: 8 << 10,
        frame_bytes_max: 3 << 10,
        cache_bytes_max: 300,
    };
    LogStore::open(&dir(), Arc::new(disk.clone()), Arc::new(Tasks), options)
}

/// The segments on a disk, oldest first.
fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension().is_some_and(|suffix| suffix == "log"));
    files
}

/// Where the frames of a log end: the segment's number in the order of names, and a sector of it.
type Place = (PathBuf, usize);

struct History {
    disk: SimDisk,
    log: LogStore,
    term: u64,
    now: Model,
    ops: Vec<Op>,
    committed: Vec<LogId>,
    /// After each acknowledgement: how many operations it covers, and where the frames ended then.
    acknowledged: Vec<(usize, Place)>,
}

impl History {
    fn new() -> Self {
        let disk = SimDisk::default();
        let log = open(&disk).expect("an empty disk");
        let mut history = Self {
            disk,
            log,
            term: 1,
            now: Model::default(),
            ops: Vec::new(),
            committed: Vec::new(),
            acknowledged: Vec::new(),
        };
        history.acknowledge();
        history
    }

    fn ask(&mut self, op: Op) {
        self.now.apply(&op);
        self.ops.push(op);
    }

    /// All that was asked is on disk.
    fn acknowledge(&mut self) {
        let place = written_end(&self.disk);
        self.acknowledged.push((self.ops.len(), place));
    }

    fn batch(&mut self, lengths: &[u8]) -> Vec<Entry> {
        let next = self.now.next_index();
        let lengths = lengths.iter().take(6);
        let batch: Vec<Entry> = (next..)
            .zip(lengths)
            .map(|(index, length)| entry(self.term, index, usize::from(*length) * 9))
            .collect();
        for entry in &batch {
            self.ask(Op::Append(entry.clone()));
        }
        batch
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append(lengths) => {
                let batch = self.batch(lengths);
                let (tell, told) = TypeConfig::oneshot();
                let appended = self.log.append(batch, IOFlushed::signal(tell)).await;
                appended.expect("no faults");
                told.await.expect("is told").expect("no faults");
            }
            Step::Vote(node) => {
                self.term += 1;
                self.vote(Vote::new(self.term, u64::from(*node))).await;
            }
            Step::Truncate(back) => {
                // Never below what is committed: openraft does not either.
                let floor = self.committed.last().map_or(0, |id| id.index);
                let ids = self.now.entries.iter().rev().map(|e| e.log_id);
                let after = ids.filter(|id| id.index >= floor).nth((*back).into());
                let Some(after) = after else {
                    return;
                };
                self.ask(Op::Truncate(after));
                self.term += 1;
                let truncated = self.log.truncate_after(Some(after)).await;
                truncated.expect("no faults");
            }
            Step::Purge(back) => {
                let upto = if *back > 250 {
                    // An installed snapshot can be ahead of the log.
                    LogId::new_term_index(self.term, self.now.next_index() + 3)
                } else {
                    let mut ids = self.now.entries.iter().rev().map(|e| e.log_id);
                    match ids.nth((*back).into()) {
                        Some(id) => id,
                        None => return,
                    }
                };
                self.ask(Op::Purge(upto));
                self.log.purge(upto).await.expect("no faults");
                // A purge is not waited for: what comes after it is.
                self.term += 1;
                self.vote(Vote::new(self.term, 1)).await;
            }
            Step::Committed(back) => {
                let mut ids = self.now.entries.iter().rev().map(|e| e.log_id);
                let Some(id) = ids.nth((*back).into()) else {
                    return;
                };
                if self.committed.last() < Some(&id) {
                    self.committed.push(id);
                    self.log.save_committed(Some(id)).await.expect("no faults");
                }
                return;
            }
            Step::Kill => {
                self.log.shutdown().await;
                self.reopen(self.disk.kill()).await;
            }
            Step::PowerCut(seed) => self.reopen(self.disk.power_cut((*seed).into())).await,
        }
        self.acknowledge();
    }

    async fn vote(&mut self, vote: Vote) {
        self.ask(Op::Vote(vote));
        self.log.save_vote(&vote).await.expect("no faults");
    }

    /// All was acknowledged, so all is there.
    async fn reopen(&mut self, disk: SimDisk) {
        self.disk = disk;
        self.log = open(&self.disk).expect("nothing is damaged");
        assert_eq!(Model::read(&mut self.log).await, self.now);
    }

    /// The end of the last process: no log is open after it.
    async fn end(mut self, end: &End) -> Self {
        match end {
            End::Shutdown => {
                self.log.shutdown().await;
                self.disk = self.disk.kill();
            }
            End::PowerCut { entries, seed } => {
                let batch = self.batch(entries);
                let (tell, told) = TypeConfig::oneshot();
                // Written, and never synced.
                let calls = self.disk.calls();
                self.disk
                    .fail_at(calls + 1, evermind_storage::disk::sim::Fault::PowerOff);
                let appended = self.log.append(batch, IOFlushed::signal(tell)).await;
                appended.expect("only queued");
                if let Ok(Ok(())) = told.await {
                    // More than one frame, or none.
                    self.disk = self.disk.power_cut((*seed).into());
                    return self;
                }
                self.disk = self.disk.power_cut((*seed).into());
            }
        }
        self
    }

    /// How many of the operations give what was found.
    fn prefix(&self, found: &Model) -> Option<usize> {
        let mut model = Model::default();
        let mut at = None;
        for done in 0..=self.ops.len() {
            if model == *found {
                at = Some(done);
            }
            if let Some(op) = self.ops.get(done) {
                model.apply(op);
            }
        }
        at
    }

    /// Acknowledged operations may be missing in one case alone: sectors at the very end of the log
    /// became zero, which no reader can tell from a write that never came. Then every frame after
    /// the first that is lost is wholly zero, and of that one a sector is.
    fn may_be_lost(&self, kept: usize, sound: &SimDisk, found: &SimDisk) -> bool {
        let lost = self.acknowledged.windows(2).filter(|pair| pair[1].0 > kept);
        let mut zeroed = 0;
        for (number, pair) in lost.enumerate() {
            let (from, to) = (&pair[0].1, &pair[1].1);
            for file in segments(sound) {
                let was = sound.contents(&file);
                let is = found.contents(&file);
                // A segment's head is older than what comes after it.
                for sector in 1..was.len() / SECTOR_BYTES {
                    let place = (file.clone(), sector);
                    if place < *from || place >= *to {
                        continue;
                    }
                    let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    let zero = |image: &[u8]| {
                        let sector = image.get(bytes.clone());
                        sector.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
                    };
                    if !zero(&was) {
                        if zero(&is) {
                            zeroed += 1;
                        } else if number > 0 {
                            return false;
                        }
                    }
                }
            }
        }
        zeroed > 0
    }
}

/// Past the last sector that is not zero.
fn written_end(disk: &SimDisk) -> Place {
    let last = segments(disk).pop().expect("a log has a segment");
    let bytes = disk.contents(&last);
    let written = bytes.iter().rposition(|byte| *byte != 0);
    (last, written.map_or(0, |at| at / SECTOR_BYTES + 1))
}

async fn damage(steps: &[Step], end: &End, damages: &[Damage]) {
    let mut history = History::new();
    for step in steps.iter().take(STEPS_MAX) {
        history.step(step).await;
    }
    let acknowledged = history.ops.len();
    let history = history.end(end).await;
    let sound = history.disk.fork();
    let disk = history.disk.fork();

    let files = segments(&disk);
    let before: Vec<Vec<u8>> = files.iter().map(|file| disk.contents(file)).collect();
    let mut images = before.clone();
    for damage in damages.iter().take(DAMAGES_MAX) {
        damaged(&mut images, damage);
    }
    let changed = images != before;
    for (file, image) in files.iter().zip(&images) {
        disk.set_contents(file, image.clone());
    }

    let memory = Memory::watch();
    let opened = open(&disk);
    memory.at_most(OPENING_BYTES);
    let mut log = match opened {
        Ok(log) => log,
        Err(OpenError::Damaged { .. }) => {
            assert!(changed, "an undamaged log is opened");
            for (file, image) in files.iter().zip(&images) {
                assert!(disk.contents(file) == *image, "a refusal changes nothing");
            }
            return;
        }
        Err(error) => panic!("no faults: {error}"),
    };
    let found = Model::read(&mut log).await;
    let Some(kept) = history.prefix(&found) else {
        panic!("no prefix of {:?} gives {found:?}", history.ops);
    };
    if kept < acknowledged {
        let found = disk_of(&files, &images);
        assert!(
            history.may_be_lost(kept, &sound, &found),
            "{kept} of {acknowledged} acknowledged operations are left"
        );
    }
    let committed = log.read_committed().await.expect("no faults");
    if let Some(committed) = committed {
        assert!(history.committed.contains(&committed), "out of nowhere");
        assert!(Some(committed) <= found.last());
    }

    // And the log goes on from there, for good.
    let next = entry(history.term + 1, found.next_index(), 300);
    let (tell, told) = TypeConfig::oneshot();
    let appended = log.append([next.clone()], IOFlushed::signal(tell)).await;
    appended.expect("no faults");
    told.await.expect("is told").expect("no faults");
    drop(log);
    let disk = disk.power_cut(7);
    let mut log = open(&disk).expect("what was opened once is opened again");
    let mut now = found;
    now.apply(&Op::Append(next));
    assert_eq!(Model::read(&mut log).await, now);
    log.shutdown().await;
}

/// A disk with these files.
fn disk_of(files: &[PathBuf], images: &[Vec<u8>]) -> SimDisk {
    use evermind_storage::disk::Disk;

    let disk = SimDisk::default();
    disk.create_dir_all(&dir()).expect("no faults");
    for (file, image) in files.iter().zip(images) {
        disk.create(file).expect("no faults");
        disk.set_contents(file, image.clone());
    }
    disk
}

async fn forge(payloads: &[Payload<'_>]) {
    let disk = SimDisk::default();
    let log = open(&disk).expect("an empty disk");
    log.shutdown().await;
    let disk = disk.kill();
    let file = segments(&disk).pop().expect("a log has a segment");
    let mut bytes = disk.contents(&file);
    let mut end = SECTOR_BYTES;
    for (sequence, payload) in (2..).zip(payloads) {
        let records = payload.records.iter();
        let records = records.map(|(kind, body)| fuzzing::record(kind % 8, body));
        let mut forged: Vec<u8> = records.flatten().collect();
        forged.extend_from_slice(payload.rest);
        let frame = fuzzing::framed(sequence, &forged);
        let Some(room) = bytes.get_mut(end..end + frame.len()) else {
            break;
        };
        room.copy_from_slice(&frame);
        end += frame.len();
    }
    disk.set_contents(&file, bytes.clone());
    let memory = Memory::watch();
    let opened = open(&disk);
    memory.at_most(OPENING_BYTES);
    match opened {
        Ok(mut log) => {
            let found = Model::read(&mut log).await;
            log.shutdown().await;
            // What was opened once is opened again, and says the same.
            let mut log = open(&disk.kill()).expect("was opened before");
            assert_eq!(Model::read(&mut log).await, found);
            log.shutdown().await;
        }
        Err(OpenError::Damaged { .. }) => assert!(disk.contents(&file) == bytes),
        Err(error) => panic!("no faults: {error}"),
    }
}
