//! Tables in memory, for simulations: they outlive a simulated process, and can be lost.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Scan, TableEngine, TableError, TableStore};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tables by directory. Clones share them: keep one while the nodes that use it come and go.
#[derive(Debug, Clone, Default)]
pub struct MemoryTables(Arc<Mutex<BTreeMap<PathBuf, Map>>>);

struct MemoryTable {
    tables: MemoryTables,
    dir: PathBuf,
}

impl MemoryTables {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Map>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of a table as it is, to come back to.
    pub fn save(&self, dir: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
        let tables = self.lock();
        let map = tables.get(dir).cloned().unwrap_or_default();
        map.into_iter().collect()
    }

    /// What a power cut may do: the table is as it was when this was saved, or empty.
    pub fn put_back(&self, dir: &Path, saved: Vec<(Vec<u8>, Vec<u8>)>) {
        self.lock().insert(dir.into(), saved.into_iter().collect());
    }
}

impl TableEngine for MemoryTables {
    fn open(&self, dir: &Path) -> Result<Box<dyn TableStore>, TableError> {
        self.lock().entry(dir.into()).or_default();
        Ok(Box::new(MemoryTable {
            tables: self.clone(),
            dir: dir.into(),
        }))
    }

    fn set_aside(&self, dir: &Path) -> io::Result<Option<PathBuf>> {
        Ok(self.lock().remove(dir).map(|_| dir.into()))
    }
}

impl MemoryTable {
    fn with<T>(&self, use_map: impl FnOnce(&mut Map) -> T) -> T {
        use_map(self.tables.lock().entry(self.dir.clone()).or_default())
    }
}

impl TableStore for MemoryTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.with(|map| map.get(key).cloned()))
    }

    fn scan(&self) -> Scan<'_> {
        Box::new(self.with(|map| map.clone()).into_iter().map(Ok))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), TableError> {
        for (key, value) in batch.changes {
            self.set(key, value)?;
        }
        Ok(())
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), TableError> {
        self.with(|map| match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        });
        Ok(())
    }

    fn clear(&mut self) -> Result<(), TableError> {
        self.with(Map::clear);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TableError> {
        Ok(())
    }
}
