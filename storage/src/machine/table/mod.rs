//! Where checkpoints of the lease table are kept: an engine behind a trait small enough to change
//! the engine.

use std::io;
use std::path::{Path, PathBuf};

mod memory;
mod sled;

pub use memory::MemoryTables;
pub use sled::SledTables;

/// What an engine says when it cannot.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Someone else has the table open: nothing is wrong with it.
    #[error("the lease table's checkpoint is in use")]
    InUse,
    /// It cannot be read or written.
    #[error("the lease table's checkpoint: {0}")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl TableError {
    /// For whatever an engine says.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// Changes that are made all together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Key, and value to put or `None` to delete.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Puts a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }
}

/// Opens tables and puts them aside.
pub trait TableEngine: Send + Sync + 'static {
    /// Opens the table in a directory, or makes an empty one. May panic on damage: its caller has
    /// left a mark beforehand, and the next start puts the directory aside unopened.
    fn open(&self, dir: &Path) -> Result<Box<dyn TableStore>, TableError>;

    /// Moves a directory out of the way and returns where it is now; `None` if there was none. A
    /// few are kept for whoever wants to look.
    fn set_aside(&self, dir: &Path) -> io::Result<Option<PathBuf>>;
}

/// A map of bytes to bytes. Every method blocks. Nothing is promised to survive a power cut; only
/// that a batch is seen whole, and even that is checked by a digest.
pub trait TableStore: Send {
    /// One value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError>;

    /// Everything, in key order.
    fn scan(&self) -> Scan<'_>;

    /// Makes a batch of changes at once: a small one, because an engine may keep what it replaces
    /// until its end.
    fn apply(&mut self, batch: Batch) -> Result<(), TableError>;

    /// Puts one value, or deletes a key.
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), TableError>;

    /// Deletes everything. Not at once: an interruption leaves some.
    fn clear(&mut self) -> Result<(), TableError>;

    /// Hands what was applied to the operating system.
    fn flush(&mut self) -> Result<(), TableError>;
}

/// See [`TableStore::scan`]. Ends after an error.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), TableError>> + 'a>;
