//! Where the nodes' data and the secrets are.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use evermind_api::{Secret, SecretKind};
use tempfile::TempDir;

use crate::exit::Failure;
use crate::stderr::say;

/// The data of three nodes, and beside it the files with the secrets: no node's own data has any.
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

    /// Where the nodes read the admin token from.
    pub(super) fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    fn licence_key_file(&self) -> PathBuf {
        self.path.join("licence-key")
    }

    /// Makes a new API key and writes it where the nodes read it.
    pub(super) fn write_new_key(&self) -> Result<String, Failure> {
        let key = Secret::new(SecretKind::ApiKey).map_err(no_random)?;
        write_secret(&self.key_file(), key.text())?;
        Ok(key.text().to_owned())
    }

    /// Makes a new admin token and writes it where the nodes read it.
    pub(super) fn write_new_admin_token(&self) -> Result<String, Failure> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).map_err(no_random)?;
        let digits: Vec<String> = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = digits.concat();
        write_secret(&self.admin_token_file(), &token)?;
        Ok(token)
    }

    /// The licence key of an earlier start. The cluster knows only its hash, so it is kept here.
    pub(super) fn licence_key(&self) -> Option<String> {
        let text = fs::read_to_string(self.licence_key_file()).ok()?;
        Some(text.trim().to_owned()).filter(|key| !key.is_empty())
    }

    /// Keeps a licence key for a later start.
    pub(super) fn write_licence_key(&self, key: &str) -> Result<(), Failure> {
        write_secret(&self.licence_key_file(), key)
    }

    /// Removes the data, if it was temporary and no node that was started again by hand uses it.
    pub(super) fn close(self) {
        let running = self.running();
        let Some(temporary) = self.temporary else {
            return;
        };
        if !running.is_empty() {
            let kept = temporary.keep();
            say!(
                "warning: nodes that were started again by hand still run: {running:?}\n\
                 hint: stop them, then remove {}",
                kept.display()
            );
            return;
        }
        if let Err(error) = temporary.close() {
            say!("warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Writes a file that only this user can read.
fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let write = || {
        // A file of an earlier start may have other permissions.
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{secret}")
    };
    write().map_err(|error: std::io::Error| {
        Failure::new(format!("cannot write {}: {error}", path.display()))
            .hint("--data-dir takes a directory that this user may write")
    })
}

fn no_random(error: getrandom::Error) -> Failure {
    Failure::new(format!("cannot get random bits: {error}")).hint("the kernel must give them")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_secrets_at_every_start_for_this_user_alone() {
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
        let token = directory.write_new_admin_token().unwrap();
        assert_ne!(token, directory.write_new_admin_token().unwrap());
        assert!(evermind_api::AdminToken::new(&token).is_ok());
        for file in [directory.key_file(), directory.admin_token_file()] {
            assert_eq!(mode(&file), 0o600);
        }
        directory.close();
        assert!(kept.path().join("a/b/api-key").exists());
    }

    #[test]
    fn the_licence_key_is_kept_for_a_later_start() {
        let kept = TempDir::new().unwrap();
        let directory = Directory::open(Some(kept.path())).unwrap();
        assert_eq!(directory.licence_key(), None);
        directory.write_licence_key("evl_1").unwrap();
        assert_eq!(mode(&directory.licence_key_file()), 0o600);
        directory.close();
        let directory = Directory::open(Some(kept.path())).unwrap();
        assert_eq!(directory.licence_key().as_deref(), Some("evl_1"));
        directory.close();
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
