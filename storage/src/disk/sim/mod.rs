//! A disk that fails on demand: a test double of [`Disk`], never a place for data.
//!
//! It keeps what was written apart from what was synced, sector by sector, and the names in a
//! directory likewise. A power cut keeps what was synced and, of the rest, what a seed picks: each
//! sector and each change of a directory on its own. A sector is written as a whole or not at all.
//!
//! Every call is counted, so that a test can make the nth fail, and then the next, and so on.

mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::world::{Content, Dice, NameChange, SECTOR_BYTES, World, parent};
use super::{Disk, DiskFile};

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The calls of `Disk` and `DiskFile`, by their names.
pub enum Op {
    CreateDirAll,
    Create,
    Open,
    Exists,
    List,
    Rename,
    Remove,
    SyncDir,
    Len,
    SetLen,
    ReadAt,
    WriteAt,
    SyncData,
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A write may have happened in part. Of a sync, part may be on disk; the rest reads back
    /// as if it were, and is not.
    Io,
    /// ENOSPC, now and at every later call that needs room.
    Full,
    /// A write or read that does only part of what was asked, and says so. Nothing at other calls.
    Short,
    /// The power goes: this call and every later one fails. [`SimDisk::power_cut`] brings it back.
    PowerOff,
}

/// A call, as the hook of [`SimDisk::on_call`] sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counts from 0.
    pub number: u64,
    /// What.
    pub op: Op,
    /// On what.
    pub path: PathBuf,
}

type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    /// Handles from before a crash do nothing any more.
    generation: u64,
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated: the disk is full")
}

impl Default for SimDisk {
    fn default() -> Self {
        let roots = BTreeSet::from([PathBuf::from("/"), PathBuf::from(".")]);
        let world = World {
            dirs: roots.clone(),
            durable_dirs: roots,
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            generation: 0,
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether the power went in the middle of a call.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// How many sectors and changes of directories a power cut could take now.
    pub fn unsynced(&self) -> u64 {
        let world = self.lock();
        let sectors: usize = world.files.values().map(|file| file.dirty.len()).sum();
        (sectors + world.changes.len()) as u64
    }

    /// Whether a fault is set and has not shown, or has shown and lasts.
    pub fn is_about_to_fail(&self) -> bool {
        let world = self.lock();
        !world.faults.is_empty() || world.full || world.off
    }

    /// How many faults took effect.
    pub fn faults_hit(&self) -> u64 {
        self.lock().faults_hit
    }

    /// Makes a call fail, by its number.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.lock().faults.insert(call, fault);
    }

    /// From now on syncs of files say that they happened, and do not: the negative control of a
    /// test that looks for lost writes.
    pub fn lie_about_syncs(&self) {
        self.lock().lies = true;
    }

    /// Calls `hook` before each call. A hook that blocks is a disk that stalls.
    pub fn on_call(&self, hook: impl Fn(&Call) + Send + Sync + 'static) {
        self.lock().hook = Some(Arc::new(hook));
    }

    /// The process is killed: everything written stays. Handles from before are dead; faults that
    /// were set are forgotten.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut world = self.lock();
        world.restart();
        Self {
            world: Arc::clone(&self.world),
            generation: world.generation,
        }
    }

    /// The power is cut and comes back: of what was not synced, `seed` picks what stays. Handles
    /// from before are dead; faults that were set are forgotten.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        self.lock().power_cut(seed);
        self.kill()
    }

    /// Another disk with the same content and no faults: to try what could come next.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut world = self.lock().clone();
        world.faults.clear();
        world.hook = None;
        Self {
            world: Arc::new(Mutex::new(world)),
            generation: self.generation,
        }
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// A file's bytes.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let world = self.lock();
        world.files[&world.names[path]].live.clone()
    }

    /// Replaces a file's bytes behind everyone's back: a disk that rots.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn set_contents(&self, path: &Path, bytes: Vec<u8>) {
        let mut world = self.lock();
        let id = world.names[path];
        *world.file(id) = Content {
            live: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        };
    }

    /// Counts a call, and says whether it is to be done in part, or fails.
    fn call(&self, op: Op, path: &Path) -> io::Result<(MutexGuard<'_, World>, Option<Fault>)> {
        let mut world = self.lock();
        let call = Call {
            number: world.calls,
            op,
            path: path.to_owned(),
        };
        world.calls += 1;
        if let Some(hook) = world.hook.clone() {
            drop(world);
            hook(&call);
            world = self.lock();
        }
        if world.off || world.generation != self.generation {
            return Err(io::Error::other("simulated: the power is off"));
        }
        let fault = world.faults.remove(&call.number);
        let needs_room = matches!(op, Op::CreateDirAll | Op::Create | Op::SetLen | Op::WriteAt);
        let moves_bytes = matches!(op, Op::ReadAt | Op::WriteAt);
        match fault {
            Some(Fault::Full) if needs_room => world.full = true,
            Some(Fault::Short) if moves_bytes => world.faults_hit += 1,
            Some(Fault::Full | Fault::Short) => return Ok((world, None)),
            Some(Fault::PowerOff) => world.off = true,
            Some(Fault::Io) | None => {}
        }
        if world.full && needs_room {
            world.faults_hit += 1;
            return Err(full());
        }
        if matches!(fault, Some(Fault::Io | Fault::PowerOff)) {
            world.faults_hit += 1;
            // What a failed write or sync leaves behind is seen to by its own call.
            if !matches!(op, Op::WriteAt | Op::SyncData) {
                return Err(io::Error::other("simulated: I/O error"));
            }
        }
        Ok((world, fault))
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let (mut world, _) = self.call(Op::CreateDirAll, dir)?;
        let mut ancestors: Vec<_> = dir.ancestors().collect();
        ancestors.reverse();
        for path in ancestors {
            if !path.as_os_str().is_empty() && world.dirs.insert(path.to_owned()) {
                world.change(parent(path), NameChange::Dir(path.to_owned()));
            }
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (mut world, _) = self.call(Op::Create, path)?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !world.dirs.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = world.next_file;
        world.next_file += 1;
        world.files.insert(id, Content::default());
        world.paths.insert(id, path.to_owned());
        world.names.insert(path.to_owned(), id);
        world.change(parent(path), NameChange::Link(path.to_owned(), id));
        drop(world);
        Ok(self.handle(id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (world, _) = self.call(Op::Open, path)?;
        let id = world.names.get(path).copied();
        drop(world);
        Ok(self.handle(id.ok_or(io::ErrorKind::NotFound)?))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let (world, _) = self.call(Op::Exists, path)?;
        Ok(world.names.contains_key(path) || world.dirs.contains(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (world, _) = self.call(Op::List, dir)?;
        let inside = world.names.keys().chain(&world.dirs);
        let inside = inside.filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> = inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut world, _) = self.call(Op::Rename, from)?;
        let id = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), id);
        world.paths.insert(id, to.to_owned());
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), id);
        world.change(parent(to), change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut world, _) = self.call(Op::Remove, path)?;
        let id = world.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        world.change(parent(path), NameChange::Unlink(path.to_owned(), id));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut world, _) = self.call(Op::SyncDir, dir)?;
        world.sync_dir(dir);
        Ok(())
    }
}

impl SimDisk {
    fn handle(&self, id: u64) -> Arc<dyn DiskFile> {
        let disk = self.clone();
        Arc::new(SimFile { disk, id })
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    /// Under the name that the file has now.
    fn call(&self, op: Op) -> io::Result<(MutexGuard<'_, World>, Option<Fault>)> {
        let path = self.disk.lock().paths.get(&self.id).cloned();
        self.disk.call(op, &path.unwrap_or_default())
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let (mut world, _) = self.call(Op::Len)?;
        Ok(world.file(self.id).live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut world, _) = self.call(Op::SetLen)?;
        let len = usize::try_from(len).map_err(|_| full())?;
        world.file(self.id).set_len(len);
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut world, fault) = self.call(Op::ReadAt)?;
        let live = &world.file(self.id).live;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| live.get(at..))
            .unwrap_or_default();
        let mut count = rest.len().min(buf.len());
        if fault == Some(Fault::Short) {
            count = count.min(buf.len().div_ceil(2));
        }
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let (mut world, fault) = self.call(Op::WriteAt)?;
        let offset = usize::try_from(offset).map_err(|_| full())?;
        let part = match fault {
            Some(Fault::Short) => &buf[..buf.len().div_ceil(2)],
            // Even of a write that fails, what is there ends at the edge of a sector.
            Some(Fault::Io) => &buf[..buf.len() / SECTOR_BYTES / 2 * SECTOR_BYTES],
            _ => buf,
        };
        world.file(self.id).write(part, offset);
        match fault {
            Some(Fault::Io | Fault::PowerOff) => Err(io::Error::other("simulated: I/O error")),
            _ => Ok(part.len()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut world, fault) = self.call(Op::SyncData)?;
        let mut dice = Dice(world.calls);
        let lies = world.lies;
        let content = world.file(self.id);
        match fault {
            // Linux marks the pages clean whether or not they reached the disk.
            Some(Fault::Io) => content.sync(|| dice.coin()),
            Some(Fault::PowerOff) => {}
            _ if lies => return Ok(()),
            _ => {
                content.sync(|| true);
                return Ok(());
            }
        }
        Err(io::Error::other("simulated: I/O error"))
    }
}
