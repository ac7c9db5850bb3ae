//! Where the nodes' data and the key are.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::exit::Failure;

/// The data of three nodes, and the file that tells them the key.
pub(super) struct Directory {
    path: PathBuf,
    /// Gone with `dev`, if nobody asked to keep it.
    temporary: Option<TempDir>,
}

impl Directory {
    /// The directory asked for, or a new temporary one.
    pub(super) fn open(kept: Option<&Path>) -> Result<Self, Failure> {
        let refuse = |path: &Path, error: std::io::Error| {
            Failure::new(format!("cannot keep data in {}: {error}", path.display()))
                .hint("--data-dir takes a directory that this user may write")
        };
        let (path, temporary) = if let Some(path) = kept {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path);
            made.map_err(|error| refuse(path, error))?;
            (path.to_owned(), None)
        } else {
            let made = tempfile::Builder::new().prefix("evermind-dev-").tempdir();
            let made = made.map_err(|error| refuse(&std::env::temp_dir(), error))?;
            (made.path().to_owned(), Some(made))
        };
        // The command that starts a node again must work from anywhere.
        let path = path.canonicalize().map_err(|error| refuse(&path, error))?;
        let directory = Self { path, temporary };
        // Before the running cluster's key file is written over.
        if let Some(id) = directory.running().first() {
            return Err(Failure::new(format!(
                "node {id} of {} is running",
                directory.path.display()
            ))
            .hint("stop that cluster first, or choose another --data-dir"));
        }
        Ok(directory)
    }

    /// The nodes that run on this data now, whoever started them: each holds its lock.
    fn running(&self) -> Vec<u16> {
        let runs = |id: &u16| {
            let lock = self.path.join(format!("node-{id}")).join("lock");
            let Ok(file) = fs::File::open(lock) else {
                return false;
            };
            matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
        };
        (1..=3).filter(runs).collect()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the data ends with `dev`.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Where the nodes read the key from: a command line would show it to everyone.
    pub(super) fn key_file(&self) -> PathBuf {
        self.path.join("api-key")
    }

    /// Makes a new API key and writes it where the nodes read it.
    pub(super) fn write_new_key(&self) -> Result<String, Failure> {
        let path = self.key_file();
        let key = new_key()?;
        let write = || {
            // A file of an earlier start may have other permissions.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            writeln!(file, "{key}")
        };
        write().map_err(|error: std::io::Error| {
            Failure::new(format!("cannot write {}: {error}", path.display()))
                .hint("--data-dir takes a directory that this user may write")
        })?;
        Ok(key)
    }

    /// Removes the data, if it was temporary and no node that was started again by hand uses it.
    pub(super) fn close(self) {
        let running = self.running();
        let Some(temporary) = self.temporary else {
            return;
        };
        if !running.is_empty() {
            let kept = temporary.keep();
            eprintln!(
                "warning: nodes that were started again by hand still run: {running:?}\n\
                 hint: stop them, then remove {}",
                kept.display()
            );
            return;
        }
        if let Err(error) = temporary.close() {
            eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// 256 random bits under the prefix that tells an API key from other secrets.
fn new_key() -> Result<String, Failure> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(|error| {
        Failure::new(format!("cannot get random bits: {error}")).hint("the kernel must give them")
    })?;
    let digits: Vec<String> = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("evk_{}", digits.concat()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_new_key_at_every_start_for_this_user_alone() {
        let kept = TempDir::new().unwrap();
        let directory = Directory::open(Some(&kept.path().join("a/b"))).unwrap();
        let first = directory.write_new_key().unwrap();
        let second = directory.write_new_key().unwrap();
        assert_ne!(first, second);
        assert!(crate::serve::check_api_key(&first).is_ok());
        assert_eq!(
            fs::read_to_string(directory.key_file()).unwrap(),
            format!("{second}\n")
        );
        let mode = fs::metadata(directory.key_file())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        directory.close();
        assert!(kept.path().join("a/b/api-key").exists());
    }

    #[test]
    fn a_temporary_directory_goes() {
        let directory = Directory::open(None).unwrap();
        let path = directory.path().to_owned();
        directory.write_new_key().unwrap();
        assert!(directory.is_temporary() && path.is_absolute());
        directory.close();
        assert!(!path.exists());
    }
}
