//! The layout of a node's data directory, and the file that says whose it is.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use evermind_lock::command::NodeId;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::disk::{Disk, read_exact_at, write_all_at};

/// Whose directory, in a file of its own.
const NODE_FILE: &str = "node";
/// Its next version, until it is renamed.
const NODE_FILE_NEW: &str = "node.new";
/// Locked for as long as a process uses the directory. Empty.
const LOCK_FILE: &str = "lock";
/// What a node file starts with, so that a stray file is told apart from a damaged one.
const MAGIC: &[u8; 8] = b"EVMNODE\x01";
/// Far above what a node file takes: a bound on what is read.
const NODE_FILE_BYTES_MAX: u64 = 4096;

/// Which node of which cluster a directory is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The cluster, drawn from its first members and their secret. Counts when the directory is made:
    /// addresses may change later.
    pub cluster: [u8; 16],
}

/// What to do about a data directory that forgot something: a hint's text.
pub const PUT_BACK_OR_STAY_OFF: &str = "put it back as it was when the node last ran, not from an \
    older backup; otherwise leave this node off: the others go on without it, and no new node can \
    take its place yet";

/// Why a data directory cannot be used. Each text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "{path} is in use by another process\nhint: each node needs a data directory of its own; stop the other process or choose another --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another node.
    #[error(
        "{path} belongs to node {found}, and this is node {wanted}\nhint: start with --node-id {found}, or choose another --data-dir"
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asked.
        wanted: NodeId,
    },
    /// The node file cannot be read.
    #[error(
        "{path} is damaged: {why}\nhint: it is never made anew, because the node would forget its votes; {PUT_BACK_OR_STAY_OFF}"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        why: String,
    },
    /// Written by another version of this program.
    #[error(
        "{path} was written in format version {found}, and this build reads version {}\nhint: nothing is damaged, and nothing was changed: start the node with the build that wrote it. There is no way yet from one version to the other",
        codec::VERSION
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// There is data, and no file that says whose.
    #[error(
        "{path} holds data but no node file\nhint: the directory is incomplete, and what is missing may be votes; {PUT_BACK_OR_STAY_OFF}"
    )]
    Orphaned {
        /// The directory.
        path: PathBuf,
    },
    /// A part of the directory is missing.
    #[error("{path} is missing\nhint: part of this node's data is gone; {PUT_BACK_OR_STAY_OFF}")]
    Incomplete {
        /// What is missing.
        path: PathBuf,
    },
    /// This process may not write there.
    #[error(
        "{path} cannot be written to: {source}\nhint: it and all in it must belong to the user that runs the node"
    )]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// What the node file says, in format version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct NodeFile {
    cluster: [u8; 16],
    node: NodeId,
    disk: u128,
    boot: u64,
    settled: bool,
}

/// One process at a time uses a directory: an advisory lock, given back when this is dropped or
/// the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes the directory if need be and locks it. For real disks alone.
    pub fn take(dir: &Path) -> Result<Self, DataDirError> {
        let path = dir.join(LOCK_FILE);
        let io = |source| DataDirError::Io {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {
                writable(dir)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: dir.into() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

/// A node's data directory:
///
/// | name | holds |
/// | --- | --- |
/// | `node` | whose directory this is |
/// | `lock` | nothing; locked while in use |
/// | `log/` | the Raft log |
/// | `table/` | the checkpoint of the lease table |
/// | `snapshot/` | the newest snapshot |
///
/// The node file is made last, after every directory is on disk: a directory without it was never
/// used. It is never made a second time.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node_file: NodeFile,
    _lock: Option<DirLock>,
}

impl DataDir {
    /// Opens, and at the first start makes, the directory; counts the boot, durably. `new_disk` is
    /// the random number a new directory gets. Blocks.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        identity: Identity,
        new_disk: u128,
        lock: Option<DirLock>,
    ) -> Result<Self, DataDirError> {
        let io = |at: &Path| {
            let path = at.to_path_buf();
            move |source| DataDirError::Io { path, source }
        };
        let node_path = path.join(NODE_FILE);
        let found = disk.exists(&node_path).map_err(io(&node_path))?;
        let mut node_file = if found {
            let node_file = read(disk, &node_path)?;
            check(path, identity, &node_file)?;
            for part in parts(path) {
                if !disk.exists(&part).map_err(io(&part))? {
                    return Err(DataDirError::Incomplete { path: part });
                }
            }
            node_file
        } else {
            make(disk, path)?;
            NodeFile {
                cluster: identity.cluster,
                node: identity.node,
                disk: new_disk,
                boot: 0,
                settled: false,
            }
        };
        node_file.boot += 1;
        write(disk, path, &node_file).map_err(io(&node_path))?;
        Ok(Self {
            path: path.into(),
            node_file,
            _lock: lock,
        })
    }

    /// Says, durably, that the log has been made: from now on a log that is missing has been lost.
    /// Blocks. Does nothing after the first time.
    pub fn settle(&mut self, disk: &dyn Disk) -> Result<(), DataDirError> {
        if self.node_file.settled {
            return Ok(());
        }
        let settled = NodeFile {
            settled: true,
            ..self.node_file
        };
        write(disk, &self.path, &settled).map_err(|source| DataDirError::Io {
            path: self.path.join(NODE_FILE),
            source,
        })?;
        self.node_file = settled;
        Ok(())
    }

    /// Says, durably, which cluster it belongs to. Only for a directory that never took part in any:
    /// its list of nodes was corrected before it did. Blocks.
    pub fn move_to(&mut self, disk: &dyn Disk, cluster: [u8; 16]) -> Result<(), DataDirError> {
        if self.node_file.cluster == cluster {
            return Ok(());
        }
        let moved = NodeFile {
            cluster,
            ..self.node_file
        };
        write(disk, &self.path, &moved).map_err(|source| DataDirError::Io {
            path: self.path.join(NODE_FILE),
            source,
        })?;
        self.node_file = moved;
        Ok(())
    }

    /// Whether this directory has never been settled: nothing was ever promised by it.
    pub fn is_fresh(&self) -> bool {
        !self.node_file.settled
    }

    /// How often it has been opened, this time included.
    pub fn boot(&self) -> u64 {
        self.node_file.boot
    }

    /// Which cluster it belongs to, since it was made.
    pub fn cluster_id(&self) -> [u8; 16] {
        self.node_file.cluster
    }

    /// The random number of this directory.
    pub fn disk_id(&self) -> u128 {
        self.node_file.disk
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the checkpoint of the lease table is.
    pub fn table(&self) -> PathBuf {
        self.path.join("table")
    }

    /// Where the snapshot is.
    pub fn snapshot(&self) -> PathBuf {
        self.path.join("snapshot")
    }
}

/// The directories that a node cannot do without. The table is not among them: it can be rebuilt.
fn parts(path: &Path) -> [PathBuf; 2] {
    [path.join("log"), path.join("snapshot")]
}

fn check(path: &Path, wanted: Identity, found: &NodeFile) -> Result<(), DataDirError> {
    if found.node != wanted.node {
        return Err(DataDirError::OtherNode {
            path: path.into(),
            found: found.node,
            wanted: wanted.node,
        });
    }
    Ok(())
}

/// Refuses parts that this process may not write to: some are first written to hours after the start.
fn writable(dir: &Path) -> Result<(), DataDirError> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let [log, snapshot] = parts(dir);
    for path in [log, snapshot, dir.join("table")] {
        match accessat(CWD, &path, access, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOENT | Errno::NOSYS) => {}
            Err(error) => {
                let source = error.into();
                return Err(DataDirError::Unwritable { path, source });
            }
        }
    }
    Ok(())
}

/// Makes the directories, durably.
fn make(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let io = |at: &Path| {
        let path = at.to_path_buf();
        move |source| DataDirError::Io { path, source }
    };
    for part in parts(path) {
        if disk.exists(&part).map_err(io(&part))?
            && !disk.list(&part).map_err(io(&part))?.is_empty()
        {
            return Err(DataDirError::Orphaned { path: path.into() });
        }
        disk.create_dir_all(&part).map_err(io(&part))?;
    }
    disk.sync_dir(path).map_err(io(path))?;
    // Which of its parents are new is not known any more (the lock made them), so all are synced.
    // One that may not be opened was not made by us, and no parent of it was.
    for parent in path.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        match disk.sync_dir(parent) {
            Ok(()) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
                ) =>
            {
                break;
            }
            Err(e) => return Err(io(parent)(e)),
        }
    }
    Ok(())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<NodeFile, DataDirError> {
    let io = |source| DataDirError::Io {
        path: path.into(),
        source,
    };
    let damaged = |why: String| DataDirError::Damaged {
        path: path.into(),
        why,
    };
    let file = disk.open(path).map_err(io)?;
    let len = file.len().map_err(io)?;
    let short = (MAGIC.len() + 4) as u64;
    if !(short..=NODE_FILE_BYTES_MAX).contains(&len) {
        return Err(damaged(format!("{len} bytes cannot be a node file")));
    }
    let mut bytes = vec![0; usize::try_from(len).expect("bounded above")];
    read_exact_at(&*file, &mut bytes, 0).map_err(io)?;
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(damaged("it does not start like a node file".into()));
    };
    let (body, sum) = rest.split_at(rest.len() - 4);
    if crc32fast::hash(body).to_le_bytes() != sum {
        return Err(damaged("its checksum is wrong".into()));
    }
    codec::decode(body).map_err(|error| match error {
        CodecError::Version(found) => DataDirError::OtherVersion {
            path: path.into(),
            found,
        },
        error => damaged(error.to_string()),
    })
}

fn write(disk: &dyn Disk, dir: &Path, node_file: &NodeFile) -> io::Result<()> {
    let new = dir.join(NODE_FILE_NEW);
    if disk.exists(&new)? {
        disk.remove(&new)?;
    }
    let body = codec::encode(node_file);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    let file = disk.create(&new)?;
    write_all_at(&*file, &bytes, 0)?;
    file.sync_data()?;
    disk.rename(&new, &dir.join(NODE_FILE))?;
    disk.sync_dir(dir)
}
