//! What ends when. Derived from the state, never kept.

use crate::agenda::Agenda;
use crate::idempotency::IdempotencyId;
use crate::names::Resource;

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// The lease with this token.
    Lease(Resource, u64),
    /// The waiting window of the waiter at this place.
    Wait(Resource, u64),
    /// The place of a detached waiter.
    Place(Resource, u64),
    /// A decided idempotency record.
    Idempotency(IdempotencyId),
}

/// Every deadline, in the order in which they come due: by time, then leases before waits before
/// places before idempotency records, then by sequence.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// By expiry and fencing token.
    pub(crate) leases: Agenda<Resource>,
    /// By the window's end and place.
    pub(crate) waits: Agenda<Resource>,
    /// By the place's end and place.
    pub(crate) places: Agenda<Resource>,
    /// By end and sequence.
    pub(crate) idempotency: Agenda<IdempotencyId>,
}

impl Deadlines {
    fn heads(&self) -> [Option<u64>; 4] {
        let places = [&self.leases, &self.waits, &self.places];
        let [leases, waits, places] = places.map(|agenda| agenda.first().map(|at| at.0));
        let idempotency = self.idempotency.first().map(|at| at.0);
        [leases, waits, places, idempotency]
    }

    /// The earliest.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.heads().into_iter().flatten().min()
    }

    /// Takes the first that is due at `now_ms`.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Due> {
        let next_ms = self.next_ms().filter(|ms| *ms <= now_ms)?;
        let kind = self.heads().iter().position(|head| *head == Some(next_ms));
        match kind? {
            0 => self.leases.pop_first().map(|(at, r)| Due::Lease(r, at.1)),
            1 => self.waits.pop_first().map(|(at, r)| Due::Wait(r, at.1)),
            2 => self.places.pop_first().map(|(at, r)| Due::Place(r, at.1)),
            _ => self
                .idempotency
                .pop_first()
                .map(|(_, id)| Due::Idempotency(id)),
        }
    }
}
