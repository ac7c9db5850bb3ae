//! A table, and an onlooker who believes only what was told.

use std::collections::{BTreeMap, BTreeSet};

use evermind_lock::command::{
    Acquire, Action, Attachment, Command, CreateLicence, Extend, KeyHash, KeyId, LicenceId, OpId,
    Operation, Release, Stamp,
};
use evermind_lock::licence::Period;
use evermind_lock::names::{Holder, Key, LicenceName, Resource};
use evermind_lock::outcome::{Decision, Event, Outcome};
use evermind_lock::table::{EntryContext, Frozen, LockTable, Pieces};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::ledger::Ledger;
use super::steps::{
    CALLERS, DATED, DATED_UNTIL_MS, DAY_MS, LIMITED, LIMITED_TO, Own, Step, Time, What,
    idempotency, identity, licence_of, name,
};

/// A node, as its commands show it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    boot: u64,
    sequence: u64,
    /// The acquires of this boot.
    acquires: Vec<Attachment>,
}

/// One grant, as those who were told of it know it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    holder: Holder,
    fencing_token: u64,
    expires_at_ms: u64,
    /// The acquires that were told of it.
    by: BTreeSet<OpId>,
    /// Its holder has gone on with it.
    extended: bool,
}

impl Told {
    /// This command ends it before its lease, if it comes in time. A hang-up does only if it is that
    /// of the one request that was told: of several, another may go on with it.
    fn given_back_by(&self, command: &Command, resource: &Resource) -> bool {
        match &command.action {
            Action::Release(release) => {
                release.holder == self.holder
                    && release.key == resource.key
                    && u8::try_from(release.caller.0).map(identity).as_ref()
                        == Ok(&resource.identity)
            }
            Action::Abandon(attachment) => {
                attachment.resource == *resource
                    && self.by.iter().eq([&attachment.operation])
                    && !self.extended
            }
            _ => false,
        }
    }
}

/// Whether an event tells of the grant with this token.
fn tells(event: &Event, fencing_token: u64) -> bool {
    let Event::WaitEnded { outcome, .. } = event else {
        return false;
    };
    matches!(outcome, Outcome::Granted(granted) if granted.fencing_token == fencing_token)
}

/// Of the licence that a caller's API key belongs to.
fn licence_key(caller: u8) -> KeyHash {
    let LicenceId(number) = licence_of(caller);
    KeyHash([100 + u8::try_from(number).unwrap(); 32])
}

/// All at once: these rules are of a table that is never behind. The second model is compared in
/// small pieces.
const WHOLE: Pieces = Pieces {
    of_expire: u32::MAX,
    of_command: u32::MAX,
};

/// A table, and what an onlooker knows of it.
pub(super) struct World {
    pub(super) table: LockTable,
    pub(super) log: Vec<(EntryContext, Command)>,
    said: Vec<(Decision, Vec<Event>)>,
    servers: BTreeMap<u64, Server>,
    told: BTreeMap<Resource, Told>,
    token_max: u64,
    on: BTreeMap<OpId, Resource>,
    wall_ms: u64,
    ledger: Ledger,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            table: LockTable::new().in_pieces(WHOLE),
            log: Vec::new(),
            said: Vec::new(),
            servers: BTreeMap::new(),
            told: BTreeMap::new(),
            token_max: 0,
            on: BTreeMap::new(),
            wall_ms: 0,
            ledger: Ledger::default(),
        };
        for caller in 1..=2 {
            let add = Action::AddApiKey {
                hash: KeyHash([caller; 32]),
                identity: identity(caller),
            };
            let command = Command {
                operation: None,
                action: add,
            };
            world.enter(command, &Time::Unstamped).unwrap();
        }
        world.issue_licences();
        world
    }

    /// Each API key gets the number of its caller.
    fn issue_licences(&mut self) {
        let mut enter = |action| {
            let operation = None;
            let command = Command { operation, action };
            self.enter(command, &Time::Unstamped).unwrap();
        };
        for licence in 3..=5_u8 {
            let id = LicenceId(u64::from(licence));
            enter(Action::CreateLicence(CreateLicence {
                name: LicenceName::new("l").unwrap(),
                identity: identity(licence),
                key: KeyHash([100 + licence; 32]),
                limit: (id == LIMITED).then_some(LIMITED_TO),
                period: if id == LIMITED {
                    Period::None
                } else {
                    Period::Month
                },
                expires_ms: (id == DATED).then_some(DATED_UNTIL_MS),
            }));
        }
        for caller in 3..=CALLERS {
            enter(Action::CreateApiKey {
                licence: licence_key(caller),
                hash: KeyHash([caller; 32]),
            });
        }
    }

    fn server(&mut self, node: u8) -> &mut Server {
        self.servers.entry(u64::from(node)).or_insert(Server {
            boot: 1,
            sequence: 0,
            acquires: Vec::new(),
        })
    }

    pub(super) fn take(&mut self, step: &Step, time: &Time) -> TestCaseResult {
        match step {
            Step::Operate {
                node,
                answered,
                what,
            } => {
                let command = self.command(*node, *answered, what);
                self.enter(command, time)
            }
            Step::Again { which } => self.again(*which),
            Step::Cluster(own) => {
                let action = match own {
                    Own::Expire => Action::Expire,
                    Own::DetachNode { node, boots_ago } => Action::DetachNode {
                        node: u64::from(*node),
                        boot: self.server(*node).boot.saturating_sub(*boots_ago),
                    },
                };
                let operation = None;
                self.enter(Command { operation, action }, time)
            }
            Step::Boot { node } => {
                let server = self.server(*node);
                server.boot += 1;
                server.sequence = 0;
                server.acquires.clear();
                Ok(())
            }
        }
    }

    fn command(&mut self, node: u8, answered: bool, what: &What) -> Command {
        let server = self.server(node);
        server.sequence += 1;
        let id = OpId {
            node: u64::from(node),
            boot: server.boot,
            sequence: server.sequence,
        };
        let attachment = |which: &prop::sample::Index| {
            (!server.acquires.is_empty()).then(|| which.get(&server.acquires).clone())
        };
        let key = |key: u8| Key::new(&name('k', key)).unwrap();
        let holder = |holder: u8| Holder::new(&name('h', holder)).unwrap();
        let action = match *what {
            What::Acquire {
                caller,
                key: on,
                holder: by,
                lease_ms,
                window_ms,
                retries,
                named,
            } => {
                let resource = Resource {
                    identity: identity(caller),
                    key: key(on),
                };
                server.acquires.push(Attachment {
                    operation: id,
                    resource: resource.clone(),
                    holder: holder(by),
                });
                self.on.insert(id, resource);
                Action::Acquire(Acquire {
                    caller: KeyId(u64::from(caller)),
                    key: key(on),
                    holder: holder(by),
                    lease_ms,
                    retry_attempts: retries,
                    window_ms,
                    fifo: false,
                    idempotency: idempotency(named, on, None),
                })
            }
            What::Extend {
                caller,
                key: on,
                holder: by,
                by_ms,
                named,
            } => Action::Extend(Extend {
                caller: KeyId(u64::from(caller)),
                key: key(on),
                holder: holder(by),
                extend_by_ms: by_ms,
                idempotency: idempotency(named, on, Some(by)),
            }),
            What::Release {
                caller,
                key: on,
                holder: by,
                named,
            } => Action::Release(Release {
                caller: KeyId(u64::from(caller)),
                key: key(on),
                holder: holder(by),
                idempotency: idempotency(named, on, Some(by)),
            }),
            What::DeleteKey { caller } => Action::DeleteApiKey {
                licence: licence_key(caller),
                hash: KeyHash([caller; 32]),
            },
            What::Revoke { caller } => Action::RevokeLicence(licence_of(caller)),
            What::Abandon(ref which) => attachment(which).map_or(Action::Expire, Action::Abandon),
            What::Reattach(ref which) => attachment(which).map_or(Action::Expire, Action::Reattach),
        };
        let answered_below = if answered {
            id.sequence.saturating_sub(4)
        } else {
            0
        };
        Command {
            operation: Some(Operation { id, answered_below }),
            action,
        }
    }

    /// A duplicate has no effect and is told what the first was told, or that it is too late.
    fn again(&mut self, which: prop::sample::Index) -> TestCaseResult {
        let first = which.index(self.log.len());
        let command = self.log[first].1.clone();
        if command.operation.is_none() {
            return Ok(());
        }
        let before = self.table.freeze();
        self.enter(command, &Time::Unstamped)?;
        prop_assert!(before == self.table.freeze(), "a duplicate had an effect");
        let (decision, events) = &self.said[self.said.len() - 1];
        prop_assert!(events.is_empty());
        let same = *decision == self.said[first].0;
        prop_assert!(same || decision.outcome == Outcome::Stale, "{decision:?}");
        Ok(())
    }

    fn stamp(&self, time: &Time) -> Option<Stamp> {
        let now_ms = self.table.now_ms();
        let (cluster_ms, term) = match *time {
            Time::On(ms) => (now_ms + ms, 5),
            Time::Days(_) => (now_ms, 5),
            Time::Back(ms) => (now_ms.saturating_sub(ms), 5),
            Time::OtherTerm(ms) => (now_ms + ms, 4),
            Time::Unstamped => return None,
        };
        Some(Stamp {
            cluster_ms,
            term,
            wall_ms: self.wall_ms,
        })
    }

    /// Applies one entry and checks all that must hold after it.
    fn enter(&mut self, command: Command, time: &Time) -> TestCaseResult {
        self.wall_ms = match time {
            Time::On(ms) => self.wall_ms + ms,
            Time::Days(days) => self.wall_ms + days * DAY_MS,
            Time::Back(ms) => self.wall_ms.saturating_sub(*ms),
            Time::OtherTerm(_) | Time::Unstamped => self.wall_ms,
        };
        let at = EntryContext {
            log_index: self.log.len() as u64 + 1,
            term: 5,
            stamp: self.stamp(time),
        };
        let before_ms = self.table.now_ms();
        let before = Ledger::before(&self.table, &command);
        let token_max = self.token_max;
        let mut events = Vec::new();
        let decision = self.table.apply(at, command.clone(), &mut events);
        // In a debug build each apply has done this already, as the table is small.
        if cfg!(not(debug_assertions)) {
            self.table.check_invariants();
        }

        let now_ms = self.table.now_ms();
        let passed_ms = if let Time::On(ms) = time { *ms } else { 0 };
        prop_assert_eq!(now_ms, before_ms + passed_ms);
        let own = command.operation.map(|operation| operation.id);
        for event in &events {
            let (Event::WaitEnded { operation, .. } | Event::Detached { operation }) = event;
            prop_assert!(own != Some(*operation), "an acquire was told twice");
        }
        self.listen(at, &command, &decision, &events)?;
        let own = Some(&decision).filter(|decision| decision.log_index == at.log_index);
        let is_new_token = match own.map(|own| &own.outcome) {
            Some(Outcome::Granted(granted)) => {
                granted.fencing_token > token_max
                    && !events
                        .iter()
                        .any(|event| tells(event, granted.fencing_token))
            }
            _ => false,
        };
        let heard = (&before, is_new_token);
        self.ledger
            .listen(&self.table, &command, heard, own, &events)?;
        self.log.push((at, command));
        self.said.push((decision, events));
        Ok(())
    }

    /// Checks what was told against what was told before.
    fn listen(
        &mut self,
        at: EntryContext,
        command: &Command,
        decision: &Decision,
        events: &[Event],
    ) -> TestCaseResult {
        for event in events {
            if let Event::WaitEnded {
                operation, outcome, ..
            } = event
            {
                self.hear(command, *operation, outcome)?;
            }
        }
        // A repeated outcome is about its own entry.
        if decision.log_index == at.log_index {
            if let (Action::Acquire(_), Some(operation)) = (&command.action, command.operation) {
                self.hear(command, operation.id, &decision.outcome)?;
            }
            if let (
                Action::Extend(extend),
                Outcome::Extended {
                    fencing_token,
                    expires_in_ms,
                },
            ) = (&command.action, &decision.outcome)
            {
                let expires_at_ms = self.table.now_ms() + expires_in_ms;
                let grants = self.told.values_mut();
                let told = grants
                    .into_iter()
                    .find(|told| told.fencing_token == *fencing_token);
                let told = told.ok_or_else(|| TestCaseError::fail("extended what is not held"))?;
                prop_assert_eq!(&told.holder, &extend.holder);
                prop_assert!(expires_at_ms >= told.expires_at_ms);
                told.expires_at_ms = expires_at_ms;
                told.extended = true;
            }
        }
        self.look(command, decision)
    }

    /// A grant was told: it is the one that is known, or a new one after that has ended.
    fn hear(&mut self, command: &Command, operation: OpId, outcome: &Outcome) -> TestCaseResult {
        let Outcome::Granted(granted) = outcome else {
            return Ok(());
        };
        let now_ms = self.table.now_ms();
        if let Some(known) = self
            .told
            .values_mut()
            .find(|told| told.fencing_token == granted.fencing_token)
        {
            prop_assert_eq!(&known.holder, &granted.holder);
            prop_assert_eq!(known.expires_at_ms, now_ms + granted.expires_in_ms);
            known.by.insert(operation);
            return Ok(());
        }
        prop_assert!(granted.fencing_token > self.token_max, "a token went back");
        self.token_max = granted.fencing_token;
        let told = Told {
            holder: granted.holder.clone(),
            fencing_token: granted.fencing_token,
            expires_at_ms: now_ms + granted.expires_in_ms,
            by: BTreeSet::from([operation]),
            extended: false,
        };
        let resource = &self.on[&operation];
        // One entry may end a lease, grant the next, and be the hang-up of that one.
        if let Some(before) = self.told.insert(resource.clone(), told) {
            prop_assert!(
                before.given_back_by(command, resource) || before.expires_at_ms <= now_ms,
                "two leases on one resource: {before:?} and {granted:?}"
            );
        }
        Ok(())
    }

    /// The table shows exactly the grants that are known, until they end or are given back.
    fn look(&mut self, command: &Command, decision: &Decision) -> TestCaseResult {
        let now_ms = self.table.now_ms();
        let mut held = 0;
        let hung_up =
            matches!(command.action, Action::Abandon(_)) && decision.outcome == Outcome::Done;
        for (resource, told) in &self.told {
            let given_back = told.given_back_by(command, resource);
            match self.table.lock(resource) {
                Some(lock) => {
                    prop_assert!(
                        !(hung_up && given_back),
                        "nobody is left who was told: {told:?}"
                    );
                    held += 1;
                    prop_assert_eq!(lock.fencing_token, told.fencing_token);
                    prop_assert_eq!(lock.expires_in_ms, told.expires_at_ms - now_ms);
                }
                None => prop_assert!(
                    given_back || told.expires_at_ms <= now_ms,
                    "a lease ended early: {told:?} at {now_ms}"
                ),
            }
        }
        let free = |resource: &Resource| self.table.lock(resource).is_none();
        prop_assert_eq!(held, self.table.live_leases());
        let gone: Vec<_> = self.told.keys().filter(|r| free(r)).cloned().collect();
        for resource in gone {
            self.told.remove(&resource);
        }
        Ok(())
    }

    pub(super) fn restored(&self) -> Result<LockTable, TestCaseError> {
        let frozen: Frozen = self.table.freeze();
        prop_assert_eq!(frozen.records().count(), frozen.count());
        for (key, record) in frozen.records() {
            prop_assert_eq!(frozen.record(&key), Some(record));
        }
        let restored = LockTable::restore(frozen.records());
        let restored = restored.map_err(|why| TestCaseError::fail(why.to_string()))?;
        let restored = restored.in_pieces(WHOLE);
        restored.check_invariants();
        prop_assert!(restored == self.table, "a restored table differs");
        Ok(restored)
    }

    /// The same log again, from the start and by way of a restored table.
    pub(super) fn replay(&self, restored_at: usize) -> TestCaseResult {
        let mut table = LockTable::new().in_pieces(WHOLE);
        for (number, (at, command)) in self.log.iter().enumerate() {
            if number == restored_at {
                let restored = LockTable::restore(table.freeze().records());
                let restored = restored.map_err(|why| TestCaseError::fail(why.to_string()))?;
                table = restored.in_pieces(WHOLE);
            }
            let mut events = Vec::new();
            let decision = table.apply(*at, command.clone(), &mut events);
            prop_assert_eq!(&(decision, events), &self.said[number]);
        }
        prop_assert!(table == self.table, "the same log made another table");
        Ok(())
    }
}
