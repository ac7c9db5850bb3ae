//! What makes a node stop.

use std::io::Read as _;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;
use crate::stderr::say;

/// From the first signal to the end of the process: under the 10 s after which supervisors kill.
pub(crate) const LEAVE_MAX: Duration = Duration::from_millis(9_500);

/// Sent by log rotation, by `systemctl reload`, by a terminal that closes, or by mistake.
const IGNORED: [fn() -> SignalKind; 4] = [
    SignalKind::hangup,
    SignalKind::user_defined1,
    SignalKind::user_defined2,
    SignalKind::alarm,
];

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}")))
        };
        // Most programs end at these without a word. A node has nothing to reload, and goes on: it
        // listens, and does not react.
        for kind in IGNORED {
            let _ = listen(kind())?;
        }
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
        })
    }

    /// Resolves at the next signal.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Ends the process when the time to leave is over, even if the async runtime is stuck.
pub(crate) fn leave_anyway() {
    std::thread::spawn(|| {
        std::thread::sleep(LEAVE_MAX + Duration::from_millis(250));
        say!("error: the node did not stop in time, and is ended");
        std::process::exit(1);
    });
}

/// Ends the process as soon as stdin closes, which the kernel does for a parent however it dies. A
/// node loses nothing by ending so: what it acknowledged is on disk.
pub(crate) fn with_stdin() {
    std::thread::spawn(|| {
        let mut bytes = [0; 64];
        // Data means nothing here; an error is as good as an end.
        while matches!(std::io::stdin().read(&mut bytes), Ok(1..)) {}
        say!("error: the process that started this node is gone, and the node goes with it");
        std::process::exit(1);
    });
}
