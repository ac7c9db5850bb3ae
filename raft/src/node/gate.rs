//! How many of this node's operations are on their way through consensus at once.
//!
//! Once there are some, what arrives makes one batch behind them: one append, one sync on each disk,
//! one frame to each follower and one wake-up of each task then serve all of it. Fewer go one by one,
//! because a batch would cost each of them a wait and save little. Nothing is held back for longer
//! than the dispatcher's sweep, which sends whatever is there: where a commit takes longer than that,
//! it is the sweep that makes the batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// So many are under way before the next wait for each other. From 8, 12 or 16 on, few callers lose
/// more than many win: docs/performance.md.
const UNDER_WAY_MAX: usize = 24;

/// Counts them.
#[derive(Default)]
pub(crate) struct Gate {
    under_way: AtomicUsize,
    opened: Notify,
}

/// One operation on its way, until this is dropped: once consensus has told what became of it.
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    /// An operation sets out.
    pub(crate) fn enter(self: &Arc<Self>) -> Pass {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Pass(Arc::clone(self))
    }

    /// Whether the next batch has to wait.
    pub(crate) fn is_closed(&self) -> bool {
        self.under_way.load(Ordering::Acquire) >= UNDER_WAY_MAX
    }

    /// The gate opened; or it may have since this was last awaited.
    pub(crate) async fn opened(&self) {
        self.opened.notified().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == UNDER_WAY_MAX {
            self.0.opened.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_closed_while_so_many_are_under_way() {
        let gate = Arc::new(Gate::default());
        let mut passes: Vec<Pass> = (1..UNDER_WAY_MAX).map(|_| gate.enter()).collect();
        assert!(!gate.is_closed());
        // A batch goes whole, however large.
        passes.extend((0..10).map(|_| gate.enter()));
        assert!(gate.is_closed());
        let left = passes.split_off(10);
        drop(left);
        assert!(!gate.is_closed());
        gate.opened().await;
    }
}
