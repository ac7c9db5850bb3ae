//! The lock server: right, unless a bug was ordered.

use std::collections::HashMap;

use crate::history::{Ask, Record, Told};

/// What may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A lease ends after half its time.
    EndsEarly,
    /// Now and then the next token is an older one.
    TokenGoesBack,
    /// A release is answered and not made.
    LivesAfterRelease,
    /// A look is answered of the state before the last change.
    LooksBack,
    /// The line is served from its end.
    ServesTheLast,
    /// A release by one who does not hold the lock takes it from who does.
    TakesFromAnother,
    /// One who comes while the lock is held gets it now and then.
    GrantsTwice,
    /// An extension is told of and not made.
    ExtendsInWords,
    /// What comes again under its name is made again.
    ForgetsNames,
    /// The store takes every write.
    StoreForgets,
}

impl Bug {
    pub(crate) const ALL: [Self; 10] = [
        Self::EndsEarly,
        Self::TokenGoesBack,
        Self::LivesAfterRelease,
        Self::LooksBack,
        Self::ServesTheLast,
        Self::TakesFromAnother,
        Self::GrantsTwice,
        Self::ExtendsInWords,
        Self::ForgetsNames,
        Self::StoreForgets,
    ];
}

pub(super) fn window_ms(ask: &Ask) -> u64 {
    match ask {
        Ask::Acquire {
            retry_attempts,
            retry_delay_ms,
            ..
        } => u64::from(*retry_attempts) * retry_delay_ms,
        _ => 0,
    }
}

#[derive(Debug, Clone)]
struct Hold {
    uuid: String,
    token: u64,
    /// By what it tells.
    told_ends_ms: u64,
    /// By what it does.
    ends_ms: u64,
}

#[derive(Debug)]
struct Waiter {
    uuid: String,
    lease_ms: u64,
    ends_ms: u64,
    /// The requests that wait, and since when.
    requests: Vec<(usize, u64)>,
}

#[derive(Debug, Default)]
struct Lock {
    hold: Option<Hold>,
    before: Option<Hold>,
    line: Vec<Waiter>,
}

impl Lock {
    fn put(&mut self, hold: Option<Hold>) {
        self.before = std::mem::replace(&mut self.hold, hold);
    }

    fn due_ms(&self) -> Option<u64> {
        let leases = self.hold.iter().map(|hold| hold.ends_ms);
        leases.chain(self.line.iter().map(|w| w.ends_ms)).min()
    }
}

/// The endpoint (by whether it is an acquire, a release), the uuid and the `Idempotency-Key`.
type Name = (bool, bool, String, String);

fn name(record: &Record) -> Option<Name> {
    let acquire = matches!(record.ask, Ask::Acquire { .. });
    let release = record.ask == Ask::Release;
    let name = record.idempotency.clone()?;
    Some((acquire, release, record.uuid.clone(), name))
}

#[derive(Debug)]
pub(super) struct Server {
    bug: Option<Bug>,
    locks: HashMap<String, Lock>,
    token: u64,
    entry: u64,
    /// Of requests: their names.
    names: HashMap<usize, Name>,
    /// What was answered first under each name.
    done: HashMap<Name, Told>,
    /// By uuid: the first entry of its acquire.
    pub(super) entries: HashMap<String, u64>,
    /// To be sent: of which request, what, and the entry.
    pub(super) answers: Vec<(usize, Told, u64)>,
}

fn refused(status: u16, code: &str) -> Told {
    Told::Refused {
        status,
        code: code.to_owned(),
        attempts: 1,
    }
}

impl Server {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            locks: HashMap::new(),
            token: 0,
            entry: 0,
            names: HashMap::new(),
            done: HashMap::new(),
            entries: HashMap::new(),
            answers: Vec::new(),
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn answer(&mut self, number: usize, told: Told) {
        if let Some(name) = self.names.get(&number) {
            let first = self.done.entry(name.clone());
            first.or_insert_with(|| told.clone());
        }
        self.answers.push((number, told, self.entry));
    }

    pub(super) fn due_ms(&self, key: &str) -> Option<u64> {
        self.locks.get(key).and_then(Lock::due_ms)
    }

    /// Ends what is due at `now_ms`.
    pub(super) fn pass(&mut self, now_ms: u64) {
        let due = |lock: &Lock| lock.due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        let mut keys: Vec<String> = Vec::new();
        keys.extend(
            self.locks
                .iter()
                .filter(|(_, lock)| due(lock))
                .map(|(key, _)| key.clone()),
        );
        keys.sort_unstable();
        for key in keys {
            self.entry += 1;
            self.with(&key, |server, lock| {
                if lock
                    .hold
                    .as_ref()
                    .is_some_and(|hold| hold.ends_ms <= now_ms)
                {
                    lock.put(None);
                    server.serve(lock, now_ms);
                }
                let (over, line) = std::mem::take(&mut lock.line)
                    .into_iter()
                    .partition(|waiter| waiter.ends_ms <= now_ms);
                lock.line = line;
                let over: Vec<Waiter> = over;
                for (number, _) in over.into_iter().flat_map(|waiter| waiter.requests) {
                    server.answer(number, refused(423, "lock_held"));
                }
            });
        }
    }

    fn with(&mut self, key: &str, change: impl FnOnce(&mut Self, &mut Lock)) {
        let mut lock = self.locks.remove(key).unwrap_or_default();
        change(self, &mut lock);
        self.locks.insert(key.to_owned(), lock);
    }

    /// Grants a free lock to the next in line.
    fn serve(&mut self, lock: &mut Lock, now_ms: u64) {
        if lock.hold.is_some() || lock.line.is_empty() {
            return;
        }
        let next = if self.is(Bug::ServesTheLast) {
            lock.line.len() - 1
        } else {
            0
        };
        let waiter = lock.line.remove(next);
        self.grant(lock, &waiter, now_ms);
    }

    fn grant(&mut self, lock: &mut Lock, waiter: &Waiter, now_ms: u64) {
        self.token += 1;
        if self.is(Bug::TokenGoesBack) && self.token.is_multiple_of(20) {
            self.token -= 5;
        }
        let lasts_ms = if self.is(Bug::EndsEarly) {
            waiter.lease_ms / 2
        } else {
            waiter.lease_ms
        };
        lock.put(Some(Hold {
            uuid: waiter.uuid.clone(),
            token: self.token,
            told_ends_ms: now_ms + waiter.lease_ms,
            ends_ms: now_ms + lasts_ms,
        }));
        for (number, since_ms) in &waiter.requests {
            let told = Told::Granted {
                token: self.token,
                expires_in_ms: waiter.lease_ms,
                waited_ms: now_ms - since_ms,
                attempts: 1,
            };
            self.answer(*number, told);
        }
    }

    pub(super) fn arrive(&mut self, number: usize, record: &Record, now_ms: u64) {
        self.entry += 1;
        if let Some(name) = name(record) {
            let done = self.done.get(&name).cloned();
            self.names.insert(number, name);
            if let Some(told) = done.filter(|_| !self.is(Bug::ForgetsNames)) {
                let told = self.repeat(&record.key, told, now_ms);
                return self.answer(number, told);
            }
        }
        let (uuid, ask) = (record.uuid.clone(), record.ask.clone());
        self.with(&record.key, |server, lock| match ask {
            Ask::Acquire { lease_ms, .. } => {
                let waiter = Waiter {
                    uuid,
                    lease_ms,
                    ends_ms: now_ms + window_ms(&ask),
                    requests: vec![(number, now_ms)],
                };
                server.acquire(lock, waiter, now_ms);
            }
            Ask::Extend { extend_by_ms } => {
                server.extend(lock, number, &uuid, extend_by_ms, now_ms);
            }
            Ask::Release => server.release(lock, number, &uuid, now_ms),
            Ask::Look => {
                let back = server.is(Bug::LooksBack);
                let seen = if back { &lock.before } else { &lock.hold };
                let told = seen.as_ref().map_or(Told::Free, |hold| Told::Held {
                    token: hold.token,
                    expires_in_ms: hold.told_ends_ms.saturating_sub(now_ms),
                    waiting: lock.line.len() as u64,
                    fifo: true,
                });
                server.answer(number, told);
            }
        });
    }

    /// What a repetition is told of what was `told` first: a grant as it is now.
    fn repeat(&self, key: &str, mut told: Told, now_ms: u64) -> Told {
        let hold = self.locks.get(key).and_then(|lock| lock.hold.as_ref());
        if let Told::Granted {
            token,
            expires_in_ms,
            waited_ms,
            ..
        } = &mut told
        {
            let Some(hold) = hold.filter(|hold| hold.token == *token) else {
                return refused(409, "grant_ended");
            };
            *expires_in_ms = hold.told_ends_ms - now_ms;
            *waited_ms = 0;
        }
        if let Told::Extended {
            token,
            expires_in_ms,
        } = &mut told
        {
            let Some(hold) = hold.filter(|hold| hold.token == *token) else {
                return refused(409, "grant_ended");
            };
            *expires_in_ms = hold.told_ends_ms - now_ms;
        }
        told
    }

    fn acquire(&mut self, lock: &mut Lock, waiter: Waiter, now_ms: u64) {
        let entry = self.entry;
        self.entries.entry(waiter.uuid.clone()).or_insert(entry);
        if let Some(hold) = lock.hold.as_ref().filter(|hold| hold.uuid == waiter.uuid) {
            let told = Told::Granted {
                token: hold.token,
                expires_in_ms: hold.told_ends_ms - now_ms,
                waited_ms: 0,
                attempts: 1,
            };
            self.answer(waiter.requests[0].0, told);
        } else if let Some(old) = lock.line.iter_mut().find(|old| old.uuid == waiter.uuid) {
            old.requests.extend(waiter.requests);
        } else if lock.hold.is_none() || (self.is(Bug::GrantsTwice) && entry.is_multiple_of(10)) {
            self.grant(lock, &waiter, now_ms);
        } else if waiter.ends_ms == now_ms {
            self.answer(waiter.requests[0].0, refused(423, "lock_held"));
        } else {
            lock.line.push(waiter);
        }
    }

    fn not_held(lock: &Lock) -> Told {
        match lock.hold {
            Some(_) => refused(409, "not_owner"),
            None => refused(404, "lock_not_found"),
        }
    }

    fn extend(&mut self, lock: &mut Lock, number: usize, uuid: &str, by_ms: u64, now_ms: u64) {
        let refusal = Self::not_held(lock);
        let in_words = self.is(Bug::ExtendsInWords);
        let hold = lock.hold.as_mut().filter(|hold| hold.uuid == uuid);
        let told = hold.map_or(refusal, |hold| {
            hold.told_ends_ms += by_ms;
            hold.ends_ms += if in_words { 0 } else { by_ms };
            Told::Extended {
                token: hold.token,
                expires_in_ms: hold.told_ends_ms - now_ms,
            }
        });
        self.answer(number, told);
    }

    fn release(&mut self, lock: &mut Lock, number: usize, uuid: &str, now_ms: u64) {
        let holds = lock.hold.as_ref().is_some_and(|hold| hold.uuid == uuid);
        let takes = self.is(Bug::TakesFromAnother) && lock.hold.is_some();
        if holds || takes {
            if !self.is(Bug::LivesAfterRelease) {
                lock.put(None);
            }
            self.answer(number, Told::Released);
            self.serve(lock, now_ms);
        } else if let Some(at) = lock.line.iter().position(|waiter| waiter.uuid == uuid) {
            for (request, _) in lock.line.remove(at).requests {
                self.answer(request, refused(423, "lock_held"));
            }
            self.answer(number, Told::Released);
        } else {
            let told = Self::not_held(lock);
            self.answer(number, told);
        }
    }
}
