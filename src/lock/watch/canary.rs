//! `evermind lock canary`: a member of the guard's process group that takes every signal, and says
//! which. It tells a signal to the group, which the command had too, from one to the guard alone.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SfdFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::exit::Failure;
use crate::lock::signals;

/// The kernel signals the members of a group one after the other.
const SETTLES: Duration = Duration::from_millis(5);
/// It has nothing else to do.
const ANSWERS_WITHIN: Duration = Duration::from_millis(200);

/// The guard's side.
pub(in crate::lock) struct Canary {
    socket: UnixStream,
    child: Child,
}

impl Canary {
    /// Starts it in this process's group.
    pub(in crate::lock) fn start() -> io::Result<Self> {
        let (ours, its) = StdStream::pair()?;
        let mut command = super::this_program("canary");
        command
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/");
        let child = command.spawn()?;
        ours.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixStream::from_std(ours)?,
            child,
        })
    }

    /// Whether this signal came to the whole group since it was last asked for.
    pub(in crate::lock) async fn had(&mut self, signal: Signal) -> bool {
        tokio::time::sleep(SETTLES).await;
        let ask = async {
            self.socket.write_u8(signal as u8).await?;
            self.socket.read_u8().await
        };
        matches!(tokio::time::timeout(ANSWERS_WITHIN, ask).await, Ok(Ok(1)))
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The canary itself. It goes when the guard does.
pub(in crate::lock) fn run() -> Result<ExitCode, Failure> {
    super::set_name(c"evermind-canary");
    let failed = |error: io::Error| Failure::new(format!("cannot take signals: {error}"));
    let signals = signals::blocked(&SigSet::all(), SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut socket = StdStream::from(socket);
    let mut had = 0_u64;
    let mut asked = [0];
    while socket.read_exact(&mut asked).is_ok() {
        while let Some(received) = signals::read(&signals) {
            had |= 1 << received.signal as u32;
        }
        let bit = 1_u64.checked_shl(u32::from(asked[0])).unwrap_or(0);
        let answer = u8::from(had & bit != 0);
        had &= !bit;
        socket.write_all(&[answer]).map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}
