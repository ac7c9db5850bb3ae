//! Where commands go.

use evermind_lock::command::NodeId;

/// Where commands go, for as long as one leader leads in one term. Any change of it means that
/// what was sent before may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// No leader that could commit anything.
    None,
    /// This node leads.
    Local {
        /// Its term.
        term: u64,
    },
    /// Another leads.
    Remote {
        /// Who.
        leader: NodeId,
        /// Its term.
        term: u64,
    },
}

impl Route {
    /// Who leads.
    pub(crate) fn leader(self, me: NodeId) -> Option<NodeId> {
        match self {
            Route::None => None,
            Route::Local { .. } => Some(me),
            Route::Remote { leader, .. } => Some(leader),
        }
    }
}
