//! Requests of one connection that wait for their answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// Who waits for which answer.
pub(super) struct Pending<T>(Mutex<Table<T>>);

struct Table<T> {
    next: u64,
    max: usize,
    /// Empty for ever once the connection is gone.
    open: Option<BTreeMap<u64, oneshot::Sender<T>>>,
}

/// Why no request can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTicket {
    /// As many are open as may be.
    Full,
    /// The connection is gone.
    Closed,
}

impl<T> Pending<T> {
    /// At most `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self(Mutex::new(Table {
            next: 1,
            max,
            open: Some(BTreeMap::new()),
        }))
    }

    /// A number for a new request, and the place to wait for its answer.
    pub(super) fn open(&self) -> Result<Ticket<T>, NoTicket> {
        let mut table = lock(&self.0);
        let id = table.next;
        let max = table.max;
        let open = table.open.as_mut().ok_or(NoTicket::Closed)?;
        if open.len() >= max {
            return Err(NoTicket::Full);
        }
        let (sender, answer) = oneshot::channel();
        open.insert(id, sender);
        table.next += 1;
        Ok(Ticket { id, answer })
    }

    /// An answer came. One that nobody waits for any more is dropped.
    pub(super) fn resolve(&self, id: u64, answer: T) {
        let waiting = lock(&self.0).open.as_mut().and_then(|o| o.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// No answer will come any more.
    pub(super) fn close(&self) {
        let open = lock(&self.0).open.take();
        drop(open);
    }
}

/// A request that waits. Dropped, it still counts until its answer has come: the other side has it
/// in its queue.
pub(super) struct Ticket<T> {
    pub(super) id: u64,
    answer: oneshot::Receiver<T>,
}

impl<T> Ticket<T> {
    /// The answer; `None` if the connection is gone.
    pub(super) async fn answer(self) -> Option<T> {
        self.answer.await.ok()
    }
}

fn lock<T>(table: &Mutex<Table<T>>) -> std::sync::MutexGuard<'_, Table<T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bound_counts_what_has_no_answer_yet_whoever_waits_for_it() {
        let pending = Pending::new(2);
        let first = pending.open().expect("room");
        let second = pending.open().expect("room");
        let (one, two) = (first.id, second.id);
        assert_eq!(pending.open().err(), Some(NoTicket::Full));
        drop(first);
        assert_eq!(pending.open().err(), Some(NoTicket::Full));
        pending.resolve(one, "to nobody");
        pending.resolve(two, "to second");
        assert_eq!(second.answer().await, Some("to second"));
        let third = pending.open().expect("room");
        pending.close();
        assert_eq!(third.answer().await, None);
        assert_eq!(pending.open().err(), Some(NoTicket::Closed));
    }
}
