//! How much of a node one licence may take.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermind_lock::command::LicenceId;

use crate::problem::{Code, Problem};

/// The acquires under way here, by licence. Each takes a connection for as long as it waits, and a
/// connection in work is closed for nobody: so one licence has at most nine tenths of the connections
/// for its acquires, and the rest is left to others.
pub(crate) struct Shares {
    max: usize,
    under_way: Mutex<HashMap<LicenceId, usize>>,
}

/// An acquire under way, until this is dropped.
pub(crate) struct UnderWay<'a> {
    shares: &'a Shares,
    licence: LicenceId,
}

impl Shares {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            max: connections_max - connections_max / 10,
            under_way: Mutex::default(),
        }
    }

    /// One more, or 429.
    pub(crate) fn begin(&self, licence: LicenceId) -> Result<UnderWay<'_>, Problem> {
        let mut under_way = self.under_way();
        let own = under_way.entry(licence).or_default();
        if *own >= self.max {
            let detail = format!(
                "this licence has {own} acquires under way on this node, as many as one may have: use another node, or wait for fewer locks at once"
            );
            let retry_after = Duration::from_secs(1);
            return Err(Problem::new(Code::LimitReached, detail).retry_after(retry_after));
        }
        *own += 1;
        drop(under_way);
        Ok(UnderWay {
            shares: self,
            licence,
        })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<LicenceId, usize>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.shares.under_way();
        if let Some(own) = under_way.get_mut(&self.licence) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.licence);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn one_licence_leaves_a_tenth_to_others() {
        let shares = Shares::new(20);
        let (one, other) = (LicenceId(1), LicenceId(2));
        let mut all: Vec<_> = (0..18).map(|_| shares.begin(one).unwrap()).collect();
        assert!(shares.begin(one).is_err());
        let others = shares.begin(other);
        assert!(others.is_ok());
        all.pop();
        assert!(shares.begin(one).is_ok());
        drop((all, others));
        assert!(shares.under_way().is_empty());
    }
}
