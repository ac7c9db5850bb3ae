//! Logs and messages, on stderr: writing them never ends a process, and never holds it up.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a pipe takes at once or not at all (`PIPE_BUF`), once it says that it takes anything.
const PIECE_BYTES_MAX: usize = 4096;

/// How long the reader of a full pipe may take, the first time. As long as it is still full then, what
/// would be written is dropped at once.
const READER_PATIENCE_MS: u16 = 100;

static IS_STUCK: AtomicBool = AtomicBool::new(false);

/// The process's stderr. Everything counts as written: a reader that has gone away, a full disk and a
/// reader that has stopped reading cost what would be written, and no more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            if !has_room(&stderr) || stderr.write_all(piece).is_err() {
                break;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn has_room(stderr: &io::StderrLock<'_>) -> bool {
    let patience = if IS_STUCK.load(Ordering::Relaxed) {
        PollTimeout::ZERO
    } else {
        PollTimeout::from(READER_PATIENCE_MS)
    };
    let mut wanted = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let is_full = matches!(poll(&mut wanted, patience), Ok(0));
    IS_STUCK.store(is_full, Ordering::Relaxed);
    !is_full
}

/// Writes a line to stderr, as `eprintln!` does, and goes on where that would panic.
macro_rules! say {
    ($($message:tt)*) => {{
        let mut line = format!($($message)*);
        line.push('\n');
        // It never fails.
        let _ = std::io::Write::write_all(&mut $crate::stderr::Stderr, line.as_bytes());
    }};
}

pub(crate) use say;
