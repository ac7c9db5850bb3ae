//! Where callers connect.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

use crate::exit::Failure;

/// Connections that wait to be accepted. The library's 128 is full when a few hundred callers come
/// back at once after a failover, and a full one costs each of them a second.
const BACKLOG: u32 = 4096;

/// Bytes that the kernel keeps for a caller that reads slowly. It takes twice as many for its own
/// bookkeeping.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;

/// A caller's machine that vanished without a word (no power, no network) is noticed after a silence
/// of at most 12 s: by then it has left three probes unanswered.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// See [`PROBE_AFTER`].
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// See [`PROBE_AFTER`]. The same where an answer stays unacknowledged.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);

/// A listener for callers at this address.
pub(super) async fn for_callers(flag: &str, address: &str) -> Result<TcpListener, Failure> {
    let listener = bind(flag, address).await?;
    if let Err(error) = watch_callers(&listener) {
        tracing::warn!(%error, "callers that vanish are not noticed: their waits end with their windows");
    }
    Ok(listener)
}

/// A listener at this address.
pub(super) async fn bind(flag: &str, address: &str) -> Result<TcpListener, Failure> {
    listen(address).await.map_err(|error| {
        let failure = Failure::new(format!("cannot listen on {address} ({flag}): {error}"));
        match error.kind() {
            io::ErrorKind::AddrInUse => failure.hint(format!(
                "another process has that port: choose another with {flag}"
            )),
            _ => failure.hint(format!(
                "{flag} takes an address of this machine, as host:port"
            )),
        }
    })
}

async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in tokio::net::lookup_host(address).await? {
        match socket(address).and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A port is free at once after a restart.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Set on the listener, the connections that it accepts have it too: a connection costs no call more.
fn watch_callers(listener: &TcpListener) -> nix::Result<()> {
    setsockopt(listener, sockopt::SndBuf, &(SEND_BUFFER_BYTES as usize))?;
    setsockopt(listener, sockopt::KeepAlive, &true)?;
    #[cfg(target_os = "linux")]
    {
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let unanswered = u32::try_from(UNANSWERED_MAX.as_millis()).unwrap_or(u32::MAX);
        setsockopt(listener, sockopt::TcpKeepIdle, &seconds(PROBE_AFTER))?;
        setsockopt(listener, sockopt::TcpKeepInterval, &seconds(PROBE_EVERY))?;
        setsockopt(listener, sockopt::TcpUserTimeout, &unanswered)?;
    }
    Ok(())
}
