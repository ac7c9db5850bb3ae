//! A node's disk: what it keeps, how long it takes, and every log segment that it ever held.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermind_storage::disk::sim::{Op, SimDisk};
use evermind_storage::machine::MemoryTables;
use evermind_storage::runner::{Bell, Flow, Runner};

use crate::dice::Dice;

/// Where every node keeps its data, on a disk of its own.
pub const DATA_DIR: &str = "/data";

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Segments that a node has removed, by name: what they held is part of the committed log.
pub type Archive = BTreeMap<String, Vec<u8>>;

/// A lease table's rows.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// How long the disk's work takes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The most that one step waits, in ms; most take no time.
    pub slow_ms: u64,
    /// How many of a thousand steps wait at all.
    pub slow_per_mille: u64,
    /// Every step waits this much more: a disk that stalls.
    pub stall_ms: u64,
}

/// A node's disk. Clones are the same one.
#[derive(Clone)]
pub struct HostDisk {
    disk: Arc<Mutex<SimDisk>>,
    tables: MemoryTables,
    /// What a power cut may put the lease table back to.
    saved: Arc<Mutex<Rows>>,
    archive: Arc<Mutex<Archive>>,
    pace: Arc<Mutex<Pace>>,
    /// How many steps a stall has put off.
    stalls: Arc<AtomicU64>,
    dice: Dice,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostDisk {
    /// An empty disk.
    pub fn new(dice: Dice) -> Self {
        let disk = Self {
            disk: Arc::new(Mutex::new(SimDisk::default())),
            tables: MemoryTables::default(),
            saved: Arc::default(),
            archive: Arc::default(),
            pace: Arc::new(Mutex::new(Pace {
                slow_ms: 3,
                slow_per_mille: 200,
                stall_ms: 0,
            })),
            stalls: Arc::default(),
            dice,
        };
        disk.keep_segments();
        disk
    }

    /// As the present process sees it.
    pub fn now(&self) -> SimDisk {
        lock(&self.disk).clone()
    }

    /// The lease tables.
    pub fn tables(&self) -> MemoryTables {
        self.tables.clone()
    }

    /// What was removed from the log so far.
    pub fn archive(&self) -> Archive {
        lock(&self.archive).clone()
    }

    /// How many steps a stall has put off.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Changes how long things take.
    pub fn set_pace(&self, change: impl FnOnce(&mut Pace)) {
        change(&mut lock(&self.pace));
    }

    /// The process is gone.
    pub fn killed(&self) {
        let mut disk = lock(&self.disk);
        *disk = disk.kill();
        drop(disk);
        self.keep_segments();
    }

    /// The power is gone: of what was not synced, the dice pick what stays. The lease table, which
    /// may be lost at any time, is as it is, or as it once was, or gone.
    ///
    /// How many sectors and changes of directories were not synced.
    pub fn power_cut(&self) -> u64 {
        let mut disk = lock(&self.disk);
        let unsynced = disk.unsynced();
        *disk = disk.power_cut(self.dice.number());
        drop(disk);
        let table = table_dir();
        match self.dice.between(0, 2) {
            0 => {}
            1 => self.tables.put_back(&table, lock(&self.saved).clone()),
            _ => self.tables.put_back(&table, Vec::new()),
        }
        self.keep_segments();
        unsynced
    }

    /// Remembers the lease table as it is.
    pub fn save_table(&self) {
        *lock(&self.saved) = self.tables.save(&table_dir());
    }

    /// A bit changes in the newest segment of the log, among those that were written. The file, and
    /// what it was; `None` if there is no such bit.
    pub fn rot(&self) -> Option<(PathBuf, Vec<u8>)> {
        let disk = self.now();
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
        let path = disk.files().into_iter().rfind(is_segment)?;
        let bytes = disk.contents(&path);
        // In a sector with more than that one bit: one of zeros alone may be a torn write's.
        let written: Vec<usize> = bytes
            .chunks(SECTOR_BYTES)
            .enumerate()
            .filter(|(_, sector)| sector.iter().filter(|byte| **byte != 0).count() > 1)
            .flat_map(|(number, sector)| {
                let is_written =
                    |(at, byte): (usize, &u8)| (*byte != 0).then_some(number * SECTOR_BYTES + at);
                sector
                    .iter()
                    .enumerate()
                    .filter_map(is_written)
                    .collect::<Vec<_>>()
            })
            .collect();
        if written.is_empty() {
            return None;
        }
        let at = self.dice.pick(&written);
        let mut rotten = bytes.clone();
        rotten[at] ^= 1 << self.dice.between(0, 7);
        disk.set_contents(&path, rotten);
        Some((path, bytes))
    }

    /// What leaves the log is kept for the checker.
    fn keep_segments(&self) {
        let disk = self.now();
        let (looked_at, archive) = (disk.clone(), Arc::clone(&self.archive));
        disk.on_call(move |call| {
            let is_segment = call.path.extension().is_some_and(|end| end == "log");
            if call.op == Op::Remove && is_segment && looked_at.files().contains(&call.path) {
                let name = call.path.file_name().unwrap_or_default();
                let bytes = looked_at.contents(&call.path);
                lock(&archive).insert(name.to_string_lossy().into_owned(), bytes);
            }
        });
    }
}

fn table_dir() -> PathBuf {
    Path::new(DATA_DIR).join("table")
}

/// Runs a node's blocking steps as tasks that take the disk's time.
impl Runner for HostDisk {
    fn drive(
        &self,
        _name: &'static str,
        bell: Arc<Bell>,
        mut step: Box<dyn FnMut() -> Flow + Send>,
    ) {
        let disk = self.clone();
        tokio::spawn(async move {
            loop {
                bell.rung().await;
                disk.takes_time().await;
                if step() == Flow::Stop {
                    return;
                }
            }
        });
    }

    fn once(&self, _name: &'static str, job: Box<dyn FnOnce() + Send>) {
        let disk = self.clone();
        tokio::spawn(async move {
            disk.takes_time().await;
            job();
        });
    }
}

impl HostDisk {
    async fn takes_time(&self) {
        let pace = *lock(&self.pace);
        let mut wait_ms = pace.stall_ms;
        if wait_ms > 0 {
            self.stalls.fetch_add(1, Ordering::Relaxed);
        }
        if self.dice.chance(pace.slow_per_mille) {
            wait_ms += self.dice.between(1, pace.slow_ms);
        }
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }
}
