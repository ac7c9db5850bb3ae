//! What a simulated disk holds, on disk and not yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Fault, Hook};

/// What is written as a whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) generation: u64,
    pub(super) files: BTreeMap<u64, Content>,
    /// The name that each file was last given.
    pub(super) paths: BTreeMap<u64, PathBuf>,
    pub(super) next_file: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) durable_dirs: BTreeSet<PathBuf>,
    /// Changes of directories since they were synced, in order.
    pub(super) changes: Vec<Change>,
    pub(super) calls: u64,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) faults_hit: u64,
    pub(super) full: bool,
    pub(super) off: bool,
    pub(super) lies: bool,
    pub(super) hook: Option<Hook>,
}

/// A file's bytes.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Sectors that a sync would write.
    pub(super) dirty: BTreeSet<usize>,
}

#[derive(Clone)]
pub(super) struct Change {
    dir: PathBuf,
    what: NameChange,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Dir(PathBuf),
    Link(PathBuf, u64),
    Unlink(PathBuf, u64),
    Rename(PathBuf, PathBuf, u64),
}

/// splitmix64: a few good bits from a seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 1
    }
}

fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

impl Content {
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.live.len() {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty
                .extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let kept = self.live.len().min(len);
        self.live.resize(len, 0);
        self.dirty
            .extend(kept / SECTOR_BYTES..len.div_ceil(SECTOR_BYTES));
    }

    /// Brings dirty sectors to disk: all, or those that `keep` picks.
    pub(super) fn sync(&mut self, mut keep: impl FnMut() -> bool) {
        if keep() {
            self.durable.resize(self.live.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if keep() {
                copy_sector(&self.live, &mut self.durable, sector);
            }
        }
    }
}

impl World {
    /// What is on disk, and of the rest what the seed picks, becomes all there is.
    pub(super) fn power_cut(&mut self, seed: u64) {
        let mut dice = Dice(seed);
        for Change { what, .. } in std::mem::take(&mut self.changes) {
            if dice.coin() {
                self.apply(what);
            }
        }
        self.dirs.clone_from(&self.durable_dirs);
        let dirs = &self.dirs;
        self.durable_names
            .retain(|path, _| dirs.contains(parent(path)));
        self.names.clone_from(&self.durable_names);
        for content in self.files.values_mut() {
            content.sync(|| dice.coin());
            content.live.clone_from(&content.durable);
        }
    }

    /// A new process: no old handle works, and no fault is set.
    pub(super) fn restart(&mut self) {
        self.generation += 1;
        self.faults.clear();
        (self.full, self.off, self.hook) = (false, false, None);
        let pending = self.changes.iter().filter_map(|change| match change.what {
            NameChange::Link(_, file) | NameChange::Rename(_, _, file) => Some(file),
            NameChange::Dir(_) | NameChange::Unlink(..) => None,
        });
        let named = self.names.values().chain(self.durable_names.values());
        let reachable: BTreeSet<u64> = named.copied().chain(pending).collect();
        self.files.retain(|id, _| reachable.contains(id));
        self.paths.retain(|id, _| reachable.contains(id));
    }

    /// Changes in a directory are on disk.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.changes) {
            if change.dir == dir {
                self.apply(change.what);
            } else {
                self.changes.push(change);
            }
        }
    }

    fn apply(&mut self, change: NameChange) {
        let names = &mut self.durable_names;
        match change {
            NameChange::Dir(path) => drop(self.durable_dirs.insert(path)),
            NameChange::Link(path, file) => drop(names.insert(path, file)),
            NameChange::Unlink(path, file) => {
                if names.get(&path) == Some(&file) {
                    names.remove(&path);
                }
            }
            NameChange::Rename(from, to, file) => {
                if names.get(&from) == Some(&file) {
                    names.remove(&from);
                }
                names.insert(to, file);
            }
        }
    }

    pub(super) fn change(&mut self, dir: &Path, what: NameChange) {
        let dir = dir.to_owned();
        self.changes.push(Change { dir, what });
    }

    pub(super) fn file(&mut self, id: u64) -> &mut Content {
        self.files.get_mut(&id).expect("an open file has bytes")
    }
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
