//! How many pages of locks a node keeps in memory for callers that read them slowly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use evermind_lock::names::IdentityId;

use crate::problem::{Code, Problem};

/// Pages of one identity: being asked for, made, or written. A page is 1.2 MB at most.
const OF_IDENTITY_MAX: usize = 16;
/// The same of all identities.
const MAX: usize = 128;

/// Counts them.
#[derive(Default)]
pub(crate) struct Pages(Mutex<State>);

#[derive(Default)]
struct State {
    all: usize,
    of: HashMap<IdentityId, usize>,
}

/// Room for one page, until this is dropped.
pub(crate) struct Page {
    pages: Arc<Pages>,
    identity: IdentityId,
}

/// A page's bytes, which take up its room until they are written.
struct Written {
    bytes: Bytes,
    _page: Page,
}

impl Pages {
    /// Room for one more, or 429.
    pub(crate) fn take(self: &Arc<Self>, identity: &IdentityId) -> Result<Page, Problem> {
        let mut state = self.state();
        let own = state.of.get(identity).copied().unwrap_or_default();
        if own >= OF_IDENTITY_MAX || state.all >= MAX {
            let detail = format!(
                "at most {OF_IDENTITY_MAX} listings of one identity, and {MAX} of all, are under way on one node; read their answers, then ask again"
            );
            return Err(Problem::new(Code::RateLimited, detail));
        }
        state.all += 1;
        state.of.insert(identity.clone(), own + 1);
        drop(state);
        Ok(Page {
            pages: Arc::clone(self),
            identity: identity.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    /// The answer's bytes, which keep the room until the socket has taken them.
    pub(crate) fn holding(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Written { bytes, _page: self })
    }
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let mut state = self.pages.state();
        state.all -= 1;
        if let Some(own) = state.of.get_mut(&self.identity) {
            *own -= 1;
            if *own == 0 {
                state.of.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn one_identity_has_its_share_until_its_pages_are_written() {
        let pages = Arc::new(Pages::default());
        let (one, other) = (
            IdentityId::new("one").unwrap(),
            IdentityId::new("other").unwrap(),
        );
        let mut written: Vec<Bytes> = (0..OF_IDENTITY_MAX)
            .map(|_| pages.take(&one).unwrap().holding(Bytes::from_static(b"{}")))
            .collect();
        assert!(pages.take(&one).is_err());
        assert!(pages.take(&other).is_ok());
        written.pop();
        assert!(pages.take(&one).is_ok());
        drop(written);
        assert!(pages.state().of.is_empty());
    }
}
