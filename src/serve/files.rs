//! How many files this process may have open, and who may use them.

use evermind_api::{HEALTH_CONNECTIONS_MAX, LEAVING_MAX, Limits};

use crate::exit::Failure;

/// Kept for the other nodes: what they may open here, and what this node opens to them.
const PEERS: usize = 256 + 32;

/// Kept for the log, the table, snapshots, listeners and the runtime.
const OWN: usize = 128;

/// Never used for callers that have a place: without them a node could not go on.
const HELD_BACK: usize = PEERS + OWN + HEALTH_CONNECTIONS_MAX + LEAVING_MAX;

/// Fewer connections than this are not worth a node.
const CONNECTIONS_MIN: usize = 128;

/// How many connections callers may have, with so many open files in all.
pub(super) fn connections_max(open_files_max: u64) -> Result<usize, Failure> {
    let open_files = usize::try_from(open_files_max).unwrap_or(usize::MAX);
    let wanted = Limits::default().connections_max;
    let left = open_files.saturating_sub(HELD_BACK).min(wanted);
    if left < CONNECTIONS_MIN {
        let least = HELD_BACK + CONNECTIONS_MIN;
        return Err(Failure::new(format!(
            "this process may have {open_files} files open, and a node needs {least}"
        ))
        .hint(format!(
            "raise the limit, for example with ulimit -n {} or LimitNOFILE= of systemd: one for each connection, and {HELD_BACK}",
            HELD_BACK + wanted
        )));
    }
    if left < wanted {
        tracing::warn!(
            open_files,
            connections = left,
            "this process may have few files open: it takes fewer connections than the usual {wanted}"
        );
    }
    Ok(left)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(connections_max(1 << 20).unwrap(), 10_000);
        assert_eq!(connections_max(1024).unwrap(), 1024 - HELD_BACK);
        let failure = connections_max(600).unwrap_err();
        assert!(failure.hint.unwrap().contains("ulimit -n"));
    }
}
