//! Terms grow by elections, and elections have a reason.

use super::{Invariant, Look};

/// A candidate asks before it raises the term, so that no partition makes terms race: an election
/// takes the shortest election timeout at least, and the cluster settles after a heal.
#[derive(Default)]
pub(super) struct TermsBounded {
    settled: Option<u64>,
}

/// An election each so often is more than any fault here can cause: the shortest timeout is 200 ms.
const ELECTION_US: u64 = 100_000;

/// After a heal, elections are over by then.
const SETTLED_AFTER_US: u64 = 15_000_000;

impl Invariant for TermsBounded {
    fn name(&self) -> &'static str {
        "terms are bounded"
    }

    fn look(&mut self, look: &Look) -> Result<(), String> {
        let Some(term) = look.nodes.iter().map(|(_, _, status)| status.term).max() else {
            return Ok(());
        };
        let most = 3 + look.now_us / ELECTION_US;
        if term > most {
            return Err(format!("term {term} after {} us", look.now_us));
        }
        if look.healed_us.is_some_and(|us| us > SETTLED_AFTER_US) {
            let settled = *self.settled.get_or_insert(term);
            if term > settled {
                return Err(format!(
                    "term {settled} became {term} long after everything was mended"
                ));
            }
        }
        Ok(())
    }
}
