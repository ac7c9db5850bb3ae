//! What ends when. Derived from the state, never kept.

use crate::agenda::Agenda;
use crate::idempotency::IdempotencyId;
use crate::names::Resource;

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// The lease with this token, for whose resource somebody waits.
    Contended(Resource, u64),
    /// Another lease.
    Lease(Resource, u64),
    /// The waiting window of the waiter at this place.
    Wait(Resource, u64),
    /// The place of a detached waiter.
    Place(Resource, u64),
    /// A decided idempotency record.
    Idempotency(IdempotencyId),
}

/// Every deadline, by kind. What has an end is over once cluster time is past it, so nothing ends a
/// millisecond early.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Leases on resources that somebody waits for, by expiry and fencing token.
    pub(crate) contended: Agenda<Resource>,
    /// All other leases, likewise.
    pub(crate) leases: Agenda<Resource>,
    /// By the window's end and place.
    pub(crate) waits: Agenda<Resource>,
    /// By the place's end and place.
    pub(crate) places: Agenda<Resource>,
    /// By end and sequence.
    pub(crate) idempotency: Agenda<IdempotencyId>,
}

impl Deadlines {
    /// Where a lease is kept.
    pub(crate) fn leases(&mut self, contended: bool) -> &mut Agenda<Resource> {
        if contended {
            &mut self.contended
        } else {
            &mut self.leases
        }
    }

    /// In the order of [`Deadlines::due`].
    fn heads(&self) -> [Option<u64>; 5] {
        let [waits, contended, places, leases] =
            [&self.waits, &self.contended, &self.places, &self.leases]
                .map(|agenda| agenda.first().map(|at| at.0));
        let idempotency = self.idempotency.first().map(|at| at.0);
        [waits, contended, places, leases, idempotency]
    }

    /// The earliest end.
    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.heads().into_iter().flatten().min()
    }

    /// The first of what is over at `now_ms`. Where somebody waits comes before where nobody does;
    /// of one kind, the earliest end comes first. It stays until it is ended.
    pub(crate) fn due(&self, now_ms: u64) -> Option<Due> {
        let is_over = |head: &Option<u64>| head.is_some_and(|end_ms| end_ms < now_ms);
        let head = |agenda: &Agenda<Resource>| {
            let (at, resource) = agenda.head()?;
            Some((resource.clone(), at.1))
        };
        match self.heads().iter().position(is_over)? {
            0 => head(&self.waits).map(|(resource, place)| Due::Wait(resource, place)),
            1 => head(&self.contended).map(|(resource, token)| Due::Contended(resource, token)),
            2 => head(&self.places).map(|(resource, place)| Due::Place(resource, place)),
            3 => head(&self.leases).map(|(resource, token)| Due::Lease(resource, token)),
            _ => {
                let (_, id) = self.idempotency.head()?;
                Some(Due::Idempotency(id.clone()))
            }
        }
    }
}
