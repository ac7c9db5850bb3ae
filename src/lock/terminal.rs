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
    /// The terminal, if stdin is one and this process is in its foreground.
    pub(super) fn in_foreground() -> Option<Self> {
        let own = getpgrp();
        (stdin().is_terminal() && tcgetpgrp(stdin()).ok() == Some(own)).then_some(Self { own })
    }

    /// Whether the shell has this process in the foreground (again).
    fn is_ours(&self) -> bool {
        tcgetpgrp(stdin()).ok() == Some(self.own)
    }

    /// Makes the group the one that reads, if it is this process's turn to say.
    pub(super) fn lend(&self, group: Pid) {
        if self.is_ours() {
            set_foreground(group);
        }
    }

    /// Reads again.
    pub(super) fn take_back(&self) {
        set_foreground(self.own);
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
