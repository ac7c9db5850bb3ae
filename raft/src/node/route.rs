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
    /// Another leads and answers this node, and this node does not serve: it would not apply what
    /// was granted. Only what gives back is sent.
    GiveBack {
        /// Who leads.
        leader: NodeId,
        /// Its term.
        term: u64,
    },
}

impl Route {
    /// Who leads, where this node serves.
    pub(crate) fn leader(self, me: NodeId) -> Option<NodeId> {
        match self {
            Route::None | Route::GiveBack { .. } => None,
            Route::Local { .. } => Some(me),
            Route::Remote { leader, .. } => Some(leader),
        }
    }
}
