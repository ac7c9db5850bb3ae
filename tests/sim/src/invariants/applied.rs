//! What is applied stays applied.

use std::collections::BTreeMap;

use super::{Invariant, Look};
use crate::net::HostId;

/// Within a process no node's applied index goes back; once everything is mended for long enough,
/// every node has again what any had.
#[derive(Default)]
pub(super) struct AppliedForward {
    processes: BTreeMap<HostId, (u64, u64)>,
    highest: u64,
    /// When the highest was taken down, and what it was then and the time before.
    noted_us: u64,
    noted: [u64; 2],
}

/// What was applied anywhere is applied everywhere after so long at most, where nothing is broken.
const LAG_MAX_US: u64 = 2_000_000;

/// A cluster of which nothing is broken has caught up after this.
const CAUGHT_UP_AFTER_US: u64 = 20_000_000;

impl Invariant for AppliedForward {
    fn name(&self) -> &'static str {
        "applied entries stay"
    }

    fn look(&mut self, look: &Look) -> Result<(), String> {
        if look.now_us >= self.noted_us + LAG_MAX_US {
            self.noted_us = look.now_us;
            self.noted = [self.highest, self.noted[0]];
        }
        for (id, process, status) in &look.nodes {
            let applied = status.applied_index;
            let (last_process, last) = self.processes.entry(*id).or_default();
            if last_process == process && applied < *last {
                return Err(format!("node {id} had applied {last}, then {applied}"));
            }
            (*last_process, *last) = (*process, applied);
            self.highest = self.highest.max(applied);
            let caught_up = look.healed_us.is_some_and(|us| us > CAUGHT_UP_AFTER_US);
            if caught_up && applied < self.noted[1] {
                return Err(format!(
                    "node {id} has applied {applied} long after the heal, and {} were applied",
                    self.noted[1]
                ));
            }
        }
        Ok(())
    }
}
