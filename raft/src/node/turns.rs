//! Whose listing is next: one at a time, and each identity in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evermind_lock::names::IdentityId;
use tokio::sync::oneshot;

use crate::api::NodeError;

/// Listings of one identity that wait for their turn; one more is refused.
const WAITING_MAX: usize = 16;

/// Gives turns. A listing takes milliseconds of a processor in a big table: one identity that asks
/// for many delays the others by one listing each, not by all of them.
#[derive(Default)]
pub(super) struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    is_taken: bool,
    waiting: HashMap<IdentityId, VecDeque<oneshot::Sender<Turn>>>,
    /// The identities in `waiting`, each once, the next first.
    order: VecDeque<IdentityId>,
}

/// The turn of one listing, until it is dropped.
pub(super) struct Turn(Option<Arc<Turns>>);

impl Turns {
    /// Resolves when it is this identity's turn. [`NodeError::Listings`] if it has too many waiting
    /// already.
    pub(super) async fn take(self: &Arc<Self>, identity: &IdentityId) -> Result<Turn, NodeError> {
        let waiting = {
            let mut state = self.state();
            if !state.is_taken {
                state.is_taken = true;
                return Ok(Turn(Some(Arc::clone(self))));
            }
            state.join(identity)?
        };
        waiting.await.map_err(|_| NodeError::Stopping)
    }

    /// Gives the turn to the next that still wants it.
    fn pass(self: &Arc<Self>) {
        loop {
            let Some(next) = self.state().next() else {
                return;
            };
            match next.send(Turn(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // Its caller has gone. Not dropped, or it would be passed on a second time.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, identity: &IdentityId) -> Result<oneshot::Receiver<Turn>, NodeError> {
        let (turn, waiting) = oneshot::channel();
        if let Some(own) = self.waiting.get_mut(identity) {
            own.retain(|turn| !turn.is_closed());
            if own.len() >= WAITING_MAX {
                return Err(NodeError::Listings);
            }
            own.push_back(turn);
        } else {
            self.waiting.insert(identity.clone(), [turn].into());
            self.order.push_back(identity.clone());
        }
        Ok(waiting)
    }

    /// The next listing; `None` if there is none, and the turn is free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(identity) = self.order.pop_front() {
            let Some(own) = self.waiting.get_mut(&identity) else {
                continue;
            };
            let turn = own.pop_front();
            if own.is_empty() {
                self.waiting.remove(&identity);
            } else {
                self.order.push_back(identity);
            }
            if turn.is_some() {
                return turn;
            }
        }
        self.is_taken = false;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn identity(name: &str) -> IdentityId {
        IdentityId::new(name).unwrap()
    }

    #[test]
    fn an_identity_with_many_listings_delays_another_by_one() {
        let turns = Arc::new(Turns::default());
        let (noisy, quiet) = (identity("noisy"), identity("quiet"));
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(turns.take(&noisy));
        let Poll::Ready(Ok(turn)) = first.as_mut().poll(&mut cx) else {
            panic!("the turn is free");
        };
        let mut many: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(turns.take(&noisy)))
            .collect();
        for one in &mut many {
            assert!(one.as_mut().poll(&mut cx).is_pending());
        }
        let refused = pin!(turns.take(&noisy)).poll(&mut cx);
        assert!(matches!(refused, Poll::Ready(Err(NodeError::Listings))));
        let mut other = pin!(turns.take(&quiet));
        assert!(other.as_mut().poll(&mut cx).is_pending());
        drop(turn);
        let Poll::Ready(Ok(turn)) = many[0].as_mut().poll(&mut cx) else {
            panic!("the first that waits is next");
        };
        drop(turn);
        let Poll::Ready(Ok(turn)) = other.as_mut().poll(&mut cx) else {
            panic!("the other identity is next");
        };
        // One whose caller has gone is passed over.
        many.drain(..2);
        drop(turn);
        assert!(matches!(many[0].as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    }

    #[test]
    fn the_turn_is_free_again_after_the_last() {
        let turns = Arc::new(Turns::default());
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let (one, other) = (identity("one"), identity("other"));
            let taken = pin!(turns.take(&one)).poll(&mut cx);
            let mut gone = Box::pin(turns.take(&other));
            assert!(gone.as_mut().poll(&mut cx).is_pending());
            drop(gone);
            assert!(matches!(taken, Poll::Ready(Ok(_))));
        }
        assert!(turns.state().waiting.is_empty() && turns.state().order.is_empty());
    }
}
