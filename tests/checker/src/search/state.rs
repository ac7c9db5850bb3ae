//! One lock as the general search knows it: who may hold it, and what each answer says about that.
//!
//! Time is left out but for one thing: a lease may run out only after the earliest moment at which
//! it could have.

use std::collections::HashMap;

use crate::clocks::ClockBound;
use crate::grants::{may_have_granted, told_of_hold};
use crate::history::{Ask, Moment, Record, Told};

/// Who holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// The acquisition of this number.
    Uuid(u32),
    /// One of those whose acquire had no answer that says what came of it.
    Unsure,
    /// Anyone: the search began in the middle.
    Anyone,
}

/// A grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Hold {
    pub(super) who: Who,
    /// Where an answer has told it.
    pub(super) token: Option<u64>,
    /// No lease of its ends before.
    pub(super) ends: Moment,
}

/// The lock between two operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lock {
    pub(super) hold: Option<Hold>,
    /// The highest token that an answer told so far: a new grant's is above.
    pub(super) highest: u64,
}

/// What an answer says of the lock at the moment when its operation took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// The caller holds it, newly or still.
    Granted { token: u64, ends: Moment },
    /// The caller holds it, and for longer.
    Extended { token: u64, ends: Moment },
    /// The caller held it. Where `perhaps`, it may have waited or have been told of earlier.
    Released { perhaps: bool },
    /// Somebody else holds it.
    Others,
    /// Nobody holds it.
    Free,
    /// Somebody holds it under this token.
    Held { token: u64 },
}

impl Says {
    /// Whether it tells of the lock and changes nothing.
    fn is_observation(self) -> bool {
        matches!(self, Self::Others | Self::Free | Self::Held { .. })
    }
}

/// An answered operation that says something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation<'a> {
    pub(super) record: &'a Record,
    pub(super) uuid: u32,
    pub(super) says: Says,
}

/// What may happen without an answered operation, of one lock.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    /// By acquisition: since when it may take the lock without an answer.
    acquires: HashMap<u32, Moment>,
    /// By acquisition: since when it may give the lock back without an answer.
    releases: HashMap<u32, Moment>,
    /// Since when any may take it.
    first_acquire: Option<Moment>,
    /// Since when any may give it back.
    first_release: Option<Moment>,
}

impl Unsure {
    fn add(since: &mut HashMap<u32, Moment>, uuid: u32, invoked: Moment) {
        let moment = since.entry(uuid).or_insert(invoked);
        *moment = invoked.min(*moment);
    }

    fn may_hold(&self, uuid: u32, by: Moment) -> bool {
        self.acquires.get(&uuid).is_some_and(|since| *since <= by)
    }

    fn some_may_hold(&self, by: Moment) -> bool {
        self.first_acquire.is_some_and(|since| since <= by)
    }

    fn may_be_given_back(&self, who: Who, by: Moment) -> bool {
        match who {
            Who::Uuid(uuid) => self.releases.get(&uuid).is_some_and(|since| *since <= by),
            Who::Unsure | Who::Anyone => self.first_release.is_some_and(|since| since <= by),
        }
    }
}

/// What the records of one lock say, by the moment they were sent.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) operations: Vec<Operation<'a>>,
    pub(super) unsure: Unsure,
}

/// How often a uuid was asked for, and whether every acquire of it was granted.
#[derive(Default, Clone, Copy)]
struct Acquired {
    times: u32,
    granted: u32,
}

impl<'a> Said<'a> {
    /// `records` of one lock.
    pub(super) fn of(records: &[&'a Record], clocks: ClockBound<'_>) -> Self {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut acquired: HashMap<&str, Acquired> = HashMap::new();
        let mut named: HashMap<(&str, bool, &str), u32> = HashMap::new();
        for record in records {
            let next = u32::try_from(numbers.len()).expect("fewer than 2^32 acquisitions");
            numbers.entry(&record.uuid).or_insert(next);
            if let Some(name) = record.idempotency.as_deref() {
                let release = record.ask == Ask::Release;
                *named.entry((&record.uuid, release, name)).or_default() += 1;
            }
            if matches!(record.ask, Ask::Acquire { .. }) {
                let of_uuid = acquired.entry(&record.uuid).or_default();
                of_uuid.times += 1;
                of_uuid.granted += u32::from(matches!(record.told, Told::Granted { .. }));
            }
        }
        let mut said = Self::default();
        for record in records {
            let uuid = numbers[record.uuid.as_str()];
            let repeated = record.idempotency.as_deref().is_some_and(|name| {
                let release = record.ask == Ask::Release;
                named[&(record.uuid.as_str(), release, name)] > 1
            });
            let of_uuid = acquired.get(record.uuid.as_str()).copied();
            said.add(record, uuid, repeated, of_uuid.unwrap_or_default(), clocks);
        }
        said.operations.sort_by_key(|op| op.record.invoked);
        let unsure = &mut said.unsure;
        unsure.first_acquire = unsure.acquires.values().min().copied();
        unsure.first_release = unsure.releases.values().min().copied();
        said
    }

    fn add(
        &mut self,
        record: &'a Record,
        uuid: u32,
        repeated: bool,
        acquired: Acquired,
        clocks: ClockBound<'_>,
    ) {
        match record.ask {
            Ask::Acquire { .. } if may_have_granted(&record.told) => {
                Unsure::add(&mut self.unsure.acquires, uuid, record.invoked);
            }
            Ask::Release if record.told == Told::Unknown => {
                Unsure::add(&mut self.unsure.releases, uuid, record.invoked);
            }
            _ => {}
        }
        let hold = told_of_hold(&record.told);
        let hold = hold.map(|(token, left_ms)| (token, clocks.deadline(record.invoked, left_ms)));
        let says = match (&record.ask, &record.told) {
            (_, Told::Granted { .. }) => hold.map(|(token, ends)| Says::Granted { token, ends }),
            (_, Told::Extended { .. }) => hold.map(|(token, ends)| Says::Extended { token, ends }),
            (_, Told::Held { token, .. }) => Some(Says::Held { token: *token }),
            (_, Told::Free) => Some(Says::Free),
            // Or of a wait: one who was granted the only acquire it made had none to give up.
            (_, Told::Released) => Some(Says::Released {
                perhaps: repeated || acquired.times > acquired.granted.min(1),
            }),
            // A repetition is told what was so at an earlier time.
            (Ask::Extend { .. } | Ask::Release, Told::Refused { code, .. }) if !repeated => {
                match code.as_str() {
                    "lock_not_found" => Some(Says::Free),
                    "not_owner" => Some(Says::Others),
                    _ => None,
                }
            }
            // What asked twice may have joined its own earlier wait, while the lock is free.
            (Ask::Acquire { .. }, Told::Refused { code, .. })
                if code == "lock_held" && acquired.times == 1 =>
            {
                Some(Says::Others)
            }
            _ => None,
        };
        self.operations
            .extend(says.map(|says| Operation { record, uuid, says }));
    }
}

impl Lock {
    /// Nothing is known of it.
    pub(super) fn anything() -> [Self; 2] {
        let anyone = Hold {
            who: Who::Anyone,
            token: None,
            ends: Moment::default(),
        };
        [None, Some(anyone)].map(|hold| Self { hold, highest: 0 })
    }

    /// What the lock may have come to by itself at `by` the latest, itself included: leases run
    /// out, and acquires and releases without an answer take effect.
    fn by_itself(self, unsure: &Unsure, by: Moment) -> impl Iterator<Item = Self> {
        let highest = self.highest;
        let ended = self
            .hold
            .is_some_and(|hold| hold.ends <= by || unsure.may_be_given_back(hold.who, by));
        let free = ended.then_some(Self {
            hold: None,
            highest,
        });
        let taken = (ended || self.hold.is_none()) && unsure.some_may_hold(by);
        let taken = taken.then_some(Self {
            hold: Some(Hold {
                who: Who::Unsure,
                token: None,
                ends: Moment::default(),
            }),
            highest,
        });
        [Some(self), free, taken].into_iter().flatten()
    }

    /// Where an operation that takes effect at `by` the latest can lead; nowhere if what it says
    /// cannot be so.
    pub(super) fn after(
        self,
        operation: &Operation<'_>,
        unsure: &Unsure,
        by: Moment,
    ) -> impl Iterator<Item = Self> {
        let befores = self.by_itself(unsure, by);
        befores.flat_map(move |lock| {
            let perhaps = operation.says == Says::Released { perhaps: true };
            let untouched = perhaps.then_some(lock);
            lock.then(operation, unsure, by)
                .into_iter()
                .chain(untouched)
        })
    }

    /// Whether the operation can take effect as the lock is, and changes nothing: then there is no
    /// reason to put it off.
    pub(super) fn shows(self, operation: &Operation<'_>, unsure: &Unsure, by: Moment) -> bool {
        operation.says.is_observation() && self.then(operation, unsure, by) == Some(self)
    }

    fn then(self, operation: &Operation<'_>, unsure: &Unsure, by: Moment) -> Option<Self> {
        let uuid = operation.uuid;
        let is_callers = |hold: &Hold| match hold.who {
            Who::Uuid(holder) => holder == uuid,
            Who::Unsure => unsure.may_hold(uuid, by),
            Who::Anyone => true,
        };
        match (operation.says, self.hold) {
            (Says::Granted { token, ends }, None) => {
                (token > self.highest).then(|| self.held(Who::Uuid(uuid), token, ends))
            }
            (Says::Granted { token, ends } | Says::Extended { token, ends }, Some(hold)) => {
                let same = is_callers(&hold) && self.may_be(hold, token);
                same.then(|| self.held(Who::Uuid(uuid), token, ends.max(hold.ends)))
            }
            (Says::Released { .. }, Some(hold)) => {
                is_callers(&hold).then_some(Self { hold: None, ..self })
            }
            (Says::Others, Some(hold)) => (hold.who != Who::Uuid(uuid)).then_some(self),
            (Says::Free, None) => Some(self),
            (Says::Held { token }, Some(hold)) => self
                .may_be(hold, token)
                .then(|| self.held(hold.who, token, hold.ends)),
            (Says::Free, Some(_))
            | (
                Says::Released { .. } | Says::Extended { .. } | Says::Others | Says::Held { .. },
                None,
            ) => None,
        }
    }

    fn may_be(self, hold: Hold, token: u64) -> bool {
        hold.token
            .map_or(token > self.highest, |told| told == token)
    }

    fn held(self, who: Who, token: u64, ends: Moment) -> Self {
        Self {
            hold: Some(Hold {
                who,
                token: Some(token),
                ends,
            }),
            highest: self.highest.max(token),
        }
    }
}
