//! What must hold at every moment of a run, each in a file of its own. What must hold of the whole
//! history is the checker's.

mod applied;
mod leaders;
mod terms;

use evermind_raft::api::ClusterStatus;

use crate::net::HostId;

/// What one look sees: each node that runs, and how many processes it has had.
pub struct Look {
    /// Real time since the beginning.
    pub now_us: u64,
    /// Node, its process's number, and what it says of the cluster.
    pub nodes: Vec<(HostId, u64, ClusterStatus)>,
    /// Everything is mended, and has been for so long.
    pub healed_us: Option<u64>,
}

/// Something that must hold.
pub trait Invariant {
    /// What it is called where it is broken.
    fn name(&self) -> &'static str;
    /// Looks.
    ///
    /// # Errors
    /// If it does not hold: what was seen.
    fn look(&mut self, look: &Look) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(applied::AppliedForward::default()),
        Box::new(leaders::OneLeader::default()),
        Box::new(terms::TermsBounded::default()),
    ]
}
