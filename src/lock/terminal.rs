//! The terminal, lent to the command.

use std::io::{IsTerminal as _, stdin};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal on stdin. A process group reads it, and gets its Ctrl-C, only while it is the
/// terminal's foreground group.
pub(super) struct Terminal {
    own: Pid,
}

impl Terminal {
    /// The terminal, if stdin is one.
    pub(super) fn on_stdin() -> Option<Self> {
        stdin().is_terminal().then(|| Self { own: getpgrp() })
    }

    /// Whether this process is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(stdin()).ok() == Some(self.own)
    }

    /// Makes the group the one that reads, if this process was.
    pub(super) fn lend(&self, group: Pid) {
        if self.is_ours() {
            set_foreground(group);
        }
    }

    /// Reads again, if the group did.
    pub(super) fn take_back(&self, group: Pid) {
        if tcgetpgrp(stdin()).ok() == Some(group) {
            set_foreground(self.own);
        }
    }
}

/// A terminal that is gone needs no foreground group, so errors are no matter.
fn set_foreground(group: Pid) {
    // From the background this call sends SIGTTOU, which would stop us, unless it is blocked.
    let mut quiet = SigSet::empty();
    quiet.add(Signal::SIGTTOU);
    let before = quiet.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    let _ = tcsetpgrp(stdin(), group);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
}
