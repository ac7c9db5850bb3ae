//! Why the log cannot be opened, and why it stopped.

use std::io;
use std::path::{Path, PathBuf};

use crate::data_dir::PUT_BACK_OR_STAY_OFF;

/// Why a log could not be opened. Nothing that was acknowledged has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system would not do something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// What is there cannot be what this node wrote and acknowledged, nor a write that a crash
    /// tore: cutting it might lose entries that others count on.
    #[error(
        "the log is damaged: {} at byte {offset}: {what}. This is no torn write, so acknowledged \
         entries may be lost; nothing was changed. Keep a copy of the directory. If the disk is \
         sound, {PUT_BACK_OR_STAY_OFF}",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(super) fn damaged(path: &Path, offset: usize, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset: offset as u64,
            what: what.into(),
        }
    }
}

/// The error that stopped a running log: the first one, after which nothing is written, retried
/// or acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log stopped: cannot {action} {}: {message}", path.display())]
pub struct LogFailure {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The kind of error that came back.
    pub kind: io::ErrorKind,
    /// Its text.
    pub message: String,
}

impl LogFailure {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            kind: source.kind(),
            message: source.to_string(),
        }
    }
}

impl From<LogFailure> for io::Error {
    fn from(failure: LogFailure) -> Self {
        io::Error::new(failure.kind, failure)
    }
}
