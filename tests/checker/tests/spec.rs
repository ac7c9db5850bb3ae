//! The specification as a program and the server's table say the same of every history.
//!
//! More cases: `PROPTEST_CASES=20000 cargo test -p evermind-checker --test spec`
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use evermind_checker::spec::Model;
use evermind_lock::command::{
    Acquire, Action, Attachment, Command, CreateLicence, Extend, Idempotency, KeyHash, KeyId,
    LicenceId, Member, OpId, Operation, Release, Stamp,
};
use evermind_lock::licence::Period;
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, LicenceName, Resource};
use evermind_lock::outcome::Event;
use evermind_lock::table::{EntryContext, LockTable, Pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// One step of a history, before it has a place in the log.
#[derive(Debug, Clone)]
struct Planned {
    /// Cluster ms since the step before.
    after_ms: u64,
    /// Wall ms since the step before.
    wall_after_ms: u64,
    server: usize,
    how: How,
    what: What,
}

/// How a step gets into the log.
#[derive(Debug, Clone, Copy)]
enum How {
    /// As a new operation that says that everything but so many before it is answered.
    New(u64),
    /// As an operation that was there before, so many back.
    Again(usize),
    /// Under a new boot of its server.
    Reboot,
    /// With a stamp that says nothing in its term.
    ForeignStamp,
    /// Without a name.
    Nameless,
}

#[derive(Debug, Clone)]
enum What {
    Acquire {
        caller: u64,
        key: usize,
        holder: usize,
        lease_ms: u64,
        retry_attempts: u32,
        window_ms: u64,
        named: Option<usize>,
    },
    Extend {
        caller: u64,
        key: usize,
        holder: usize,
        by_ms: u64,
        named: Option<usize>,
    },
    Release {
        caller: u64,
        key: usize,
        holder: usize,
        named: Option<usize>,
    },
    /// Of the acquire so many back.
    Abandon(usize),
    Reattach(usize),
    DetachNode {
        server: usize,
        boots_back: u64,
    },
    Expire,
    AddConfigured(u8, usize),
    CreateLicence(u8, Option<u64>, bool, Option<u64>),
    Revoke(u64),
    CreateKey(u8, u8),
    DeleteKey(u8, u8),
    DeleteKeyById(u64, u64),
    Member(u64),
}

const IDENTITIES: [&str; 2] = ["team-a", "team-b"];

fn named() -> impl Strategy<Value = Option<usize>> {
    proptest::option::weighted(0.3, 0..5_usize)
}

fn what() -> impl Strategy<Value = What> {
    let caller = || prop_oneof![8 => 1..=2_u64, 3 => 3..=5_u64, 1 => 6..=12_u64];
    let window = prop_oneof![2 => Just(0), 5 => 1..3_000_u64, 1 => 3_000..20_000_u64];
    let acquire = (
        caller(),
        0..3_usize,
        0..5_usize,
        prop_oneof![1..4_000_u64, Just(86_400_000), Just(60_000)],
        prop_oneof![0..5_u32, Just(1000)],
        window,
        named(),
    )
        .prop_map(
            |(caller, key, holder, lease_ms, retry_attempts, window_ms, named)| What::Acquire {
                caller,
                key,
                holder,
                lease_ms,
                retry_attempts,
                window_ms,
                named,
            },
        );
    let by = prop_oneof![1..5_000_u64, Just(86_400_000), Just(86_399_000)];
    let extend = (caller(), 0..3_usize, 0..5_usize, by, named()).prop_map(
        |(caller, key, holder, by_ms, named)| What::Extend {
            caller,
            key,
            holder,
            by_ms,
            named,
        },
    );
    let release =
        (caller(), 0..3_usize, 0..5_usize, named()).prop_map(|(caller, key, holder, named)| {
            What::Release {
                caller,
                key,
                holder,
                named,
            }
        });
    let date = proptest::option::weighted(0.4, 1..200_000_u64);
    prop_oneof![
        30 => acquire,
        6 => extend,
        12 => release,
        4 => (0..12_usize).prop_map(What::Abandon),
        4 => (0..12_usize).prop_map(What::Reattach),
        3 => (0..3_usize, 0..2_u64).prop_map(|(server, boots_back)| What::DetachNode { server, boots_back }),
        5 => Just(What::Expire),
        1 => (0..6_u8, 0..2_usize).prop_map(|(hash, identity)| What::AddConfigured(hash, identity)),
        1 => (0..3_u8, proptest::option::of(0..12_u64), any::<bool>(), date)
            .prop_map(|(key, limit, month, date)| What::CreateLicence(key, limit, month, date)),
        1 => (0..6_u64).prop_map(What::Revoke),
        2 => (0..3_u8, 6..14_u8).prop_map(|(licence, key)| What::CreateKey(licence, key)),
        1 => (0..3_u8, 6..14_u8).prop_map(|(licence, key)| What::DeleteKey(licence, key)),
        1 => (0..6_u64, 0..10_u64).prop_map(|(licence, key)| What::DeleteKeyById(licence, key)),
        1 => (1..4_u64).prop_map(What::Member),
    ]
}

fn planned() -> impl Strategy<Value = Planned> {
    let after =
        prop_oneof![4 => Just(0), 4 => 1..200_u64, 3 => 200..3_500_u64, 1 => 3_500..70_000_u64];
    let wall = prop_oneof![20 => 0..1_000_u64, 1 => 1..2_000_000_000_u64];
    let how = prop_oneof![
        20 => (0..40_u64).prop_map(How::New),
        3 => (1..8_usize).prop_map(How::Again),
        1 => Just(How::Reboot),
        1 => Just(How::ForeignStamp),
        1 => Just(How::Nameless),
    ];
    (after, wall, 0..3_usize, how, what()).prop_map(
        |(after_ms, wall_after_ms, server, how, what)| Planned {
            after_ms,
            wall_after_ms,
            server,
            how,
            what,
        },
    )
}

/// Turns plans into entries.
#[derive(Default)]
struct Writer {
    index: u64,
    now_ms: u64,
    wall_ms: u64,
    /// Boot, next sequence, and what was proposed in this boot.
    servers: BTreeMap<usize, (u64, u64, Vec<Action>)>,
    acquires: Vec<Attachment>,
}

fn idempotency(named: Option<usize>, fingerprint: u64) -> Option<Idempotency> {
    named.map(|name| Idempotency {
        key: IdempotencyKey::new(&format!("name-{name}")).unwrap(),
        // Most that share a name ask for the same.
        fingerprint: [u8::try_from(fingerprint % 2).unwrap(); 16],
    })
}

fn key(number: usize) -> Key {
    Key::new(&format!("key-{number}")).unwrap()
}

fn holder(number: usize) -> Holder {
    Holder::new(&format!("holder-{number}")).unwrap()
}

fn hash(number: u8) -> KeyHash {
    KeyHash([number; 32])
}

impl Writer {
    fn action(&self, what: &What) -> Action {
        let attachment = |back: usize| {
            let at = self.acquires.len().checked_sub(1 + back);
            at.map(|at| self.acquires[at].clone())
        };
        match *what {
            What::Acquire {
                caller,
                key: number,
                holder: uuid,
                lease_ms,
                retry_attempts,
                window_ms,
                named,
            } => Action::Acquire(Acquire {
                caller: KeyId(caller),
                key: key(number),
                holder: holder(uuid),
                lease_ms,
                retry_attempts,
                window_ms,
                fifo: lease_ms % 2 == 0,
                idempotency: idempotency(named, u64::from(lease_ms % 16 == 0)),
            }),
            What::Extend {
                caller,
                key: number,
                holder: uuid,
                by_ms,
                named,
            } => Action::Extend(Extend {
                caller: KeyId(caller),
                key: key(number),
                holder: holder(uuid),
                extend_by_ms: by_ms,
                idempotency: idempotency(named, u64::from(by_ms % 16 == 0)),
            }),
            What::Release {
                caller,
                key: number,
                holder: uuid,
                named,
            } => Action::Release(Release {
                caller: KeyId(caller),
                key: key(number),
                holder: holder(uuid),
                idempotency: idempotency(named, 0),
            }),
            What::Abandon(back) => attachment(back).map_or(Action::Expire, Action::Abandon),
            What::Reattach(back) => attachment(back).map_or(Action::Expire, Action::Reattach),
            What::DetachNode { server, boots_back } => Action::DetachNode {
                node: server as u64 + 1,
                boot: self
                    .servers
                    .get(&server)
                    .map_or(1, |(boot, ..)| boot.saturating_sub(boots_back)),
            },
            What::Expire => Action::Expire,
            What::AddConfigured(number, identity) => Action::AddApiKey {
                hash: hash(number),
                identity: IdentityId::new(IDENTITIES[identity]).unwrap(),
            },
            What::CreateLicence(licence, limit, month, date) => {
                Action::CreateLicence(CreateLicence {
                    name: LicenceName::new("a licence").unwrap(),
                    identity: IdentityId::new(IDENTITIES[usize::from(licence % 2)]).unwrap(),
                    key: hash(100 + licence),
                    limit,
                    period: if month { Period::Month } else { Period::None },
                    expires_ms: date.map(|date| self.wall_ms + date),
                })
            }
            What::Revoke(licence) => Action::RevokeLicence(LicenceId(licence)),
            What::CreateKey(licence, number) => Action::CreateApiKey {
                licence: hash(100 + licence),
                hash: hash(number),
            },
            What::DeleteKey(licence, number) => Action::DeleteApiKey {
                licence: hash(100 + licence),
                hash: hash(number),
            },
            What::DeleteKeyById(licence, number) => Action::DeleteApiKeyById {
                licence: LicenceId(licence),
                key: KeyId(number),
            },
            What::Member(node) => Action::RecordMember(Member {
                node,
                disk: 7,
                http: "http://h".into(),
                peer: "p".into(),
            }),
        }
    }

    fn entry(&mut self, plan: &Planned) -> (EntryContext, Command) {
        const TERM: u64 = 3;
        self.index += 1;
        self.now_ms += plan.after_ms;
        self.wall_ms += plan.wall_after_ms;
        let mut action = self.action(&plan.what);
        let node = plan.server as u64 + 1;
        let server = self
            .servers
            .entry(plan.server)
            .or_insert((1, 1, Vec::new()));
        if matches!(plan.how, How::Reboot) {
            *server = (server.0 + 1, 1, Vec::new());
        }
        let (boot, next, before) = server;
        let operation = match plan.how {
            How::Nameless => None,
            How::Again(back) if back <= before.len() => {
                action = before[before.len() - back].clone();
                Some(Operation {
                    id: OpId {
                        node,
                        boot: *boot,
                        sequence: *next - back as u64,
                    },
                    answered_below: 1,
                })
            }
            How::New(_) | How::Again(_) | How::Reboot | How::ForeignStamp => {
                let open = match plan.how {
                    How::New(open) => open,
                    _ => 40,
                };
                let operation = Operation {
                    id: OpId {
                        node,
                        boot: *boot,
                        sequence: *next,
                    },
                    answered_below: next.saturating_sub(open).max(1),
                };
                *next += 1;
                before.push(action.clone());
                Some(operation)
            }
        };
        if let (Action::Acquire(acquire), Some(operation)) = (&action, operation) {
            let identity = IDENTITIES[usize::from(acquire.caller.0 % 2 == 0)];
            self.acquires.push(Attachment {
                operation: operation.id,
                resource: Resource {
                    identity: IdentityId::new(identity).unwrap(),
                    key: acquire.key.clone(),
                },
                holder: acquire.holder.clone(),
            });
        }
        let stamp = Stamp {
            cluster_ms: self.now_ms,
            term: TERM - u64::from(matches!(plan.how, How::ForeignStamp)),
            wall_ms: 1_700_000_000_000 + self.wall_ms,
        };
        let at = EntryContext {
            log_index: self.index,
            term: TERM,
            stamp: Some(stamp),
        };
        (at, Command { operation, action })
    }
}

/// Keys 1 and 2 of the operator, keys 3 to 5 of three licences, one of which has a limit.
fn beginning() -> Vec<What> {
    vec![
        What::AddConfigured(1, 0),
        What::AddConfigured(2, 1),
        What::CreateLicence(0, None, true, None),
        What::CreateLicence(1, Some(9), false, None),
        What::CreateLicence(2, Some(5), true, Some(400_000)),
        What::CreateKey(0, 3),
        What::CreateKey(1, 4),
        What::CreateKey(2, 5),
    ]
}

/// What the specification said, in a word each.
type Reached = BTreeMap<String, u64>;

fn reach(reached: &mut Reached, said: &impl std::fmt::Debug) {
    let text = format!("{said:?}");
    let words = text.split(|c: char| !c.is_alphanumeric());
    // Names alone: every number has its own text.
    let names = words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    let name = names.take(3).collect::<Vec<_>>().join(" ");
    *reached.entry(name).or_default() += 1;
}

fn compare(plans: &[Planned], pieces: Pieces, reached: &mut Reached) -> Result<(), TestCaseError> {
    let mut writer = Writer {
        wall_ms: 1_000_000,
        ..Writer::default()
    };
    let mut table = LockTable::new().in_pieces(pieces);
    let mut model = Model::new().in_pieces(pieces.of_expire, pieces.of_command);
    let beginning = beginning().into_iter().map(|what| Planned {
        after_ms: 0,
        wall_after_ms: 0,
        server: 0,
        how: How::Nameless,
        what,
    });
    let plans: Vec<_> = beginning.chain(plans.iter().cloned()).collect();
    for plan in &plans {
        let (at, command) = writer.entry(plan);
        let mut events = Vec::new();
        let shown = format!("{at:?} {command:?}");
        let decision = table.apply(at, command.clone(), &mut events);
        let step = model.apply(at, Some(command));
        reach(reached, &decision.outcome);
        for event in &step.events {
            if let Event::WaitEnded { outcome, .. } = event {
                reach(reached, &("WaitEnded", outcome));
            } else {
                reach(reached, event);
            }
        }
        if step.repeated {
            reach(reached, &"Repeated");
        }
        prop_assert_eq!(step.decision, Some(decision), "decision of {}", &shown);
        prop_assert_eq!(step.events, events, "events of {}", &shown);
        prop_assert_eq!(model.now_ms(), table.now_ms());
        prop_assert_eq!(model.is_behind(), is_behind(&table));
        if model.is_behind() {
            reach(reached, &"Behind");
        }
    }
    let held = model.held_locks();
    if !model.is_behind() {
        prop_assert_eq!(held.len(), table.live_leases());
    }
    for (resource, ours) in &held {
        let theirs = table.lock(resource).unwrap();
        prop_assert_eq!(ours.token, theirs.fencing_token);
        prop_assert_eq!(ours.expires_ms - model.now_ms(), theirs.expires_in_ms);
        prop_assert_eq!(ours.waiting, theirs.waiting);
        prop_assert_eq!(ours.fifo, theirs.fifo);
    }
    prop_assert_eq!(model.waits(), table.waiting());
    prop_assert_eq!(model.names(), table.idempotency_keys());
    prop_assert_eq!(model.tokens() + 1, table.next_fencing_token());
    for licence in table.licences(None, usize::MAX, 0) {
        let past: u64 = licence.usage.past.iter().map(|past| past.used).sum();
        let ours = model.used_ever()[&licence.id];
        prop_assert_eq!(ours, licence.usage.used + past, "{:?}", licence.id);
    }
    Ok(())
}

/// The next entry has something to end.
fn is_behind(table: &LockTable) -> bool {
    table.next_deadline_ms() == Some(table.now_ms())
}

/// So small that these histories are often behind.
fn small_pieces() -> impl Strategy<Value = Pieces> {
    (1..6_u32, 1..3_u32).prop_map(|(of_expire, of_command)| Pieces {
        of_expire,
        of_command,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_specification_says(plans in vec(planned(), 1..200)) {
        compare(&plans, Pieces::default(), &mut Reached::new())?;
    }

    #[test]
    fn the_table_does_so_in_pieces_too(
        plans in vec(planned(), 1..200),
        pieces in small_pieces(),
    ) {
        compare(&plans, pieces, &mut Reached::new())?;
    }
}

#[test]
fn the_histories_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut reached = Reached::new();
    for _ in 0..300 {
        let plans = vec(planned(), 200).new_tree(&mut runner).unwrap().current();
        let pieces = small_pieces().new_tree(&mut runner).unwrap().current();
        compare(&plans, Pieces::default(), &mut reached).unwrap();
        compare(&plans, pieces, &mut reached).unwrap();
    }
    for wanted in [
        "Granted Granted",
        "Queued",
        "Extended",
        "Released",
        "Done",
        "Stale",
        "LicenceCreated LicenceId",
        "ApiKeyCreated KeyId",
        "Refused LockHeld NoWait",
        "Refused NotOwner",
        "Refused LockNotFound",
        "Refused ExtendPastLimit",
        "Refused Unauthorized",
        "Refused IdempotencyMismatch",
        "Refused GrantEnded",
        "Refused LicenceInactive",
        "Refused LicenceUnknown",
        "Refused LicenceNotFound",
        "Refused ApiKeyNotFound",
        "Refused QuotaExceeded",
        "WaitEnded Granted Granted",
        "WaitEnded Refused LockHeld",
        "WaitEnded Refused CutOff",
        "Detached OpId",
        "Repeated",
        "Behind",
    ] {
        let found = reached.keys().any(|name| name.starts_with(wanted));
        assert!(found, "no history reaches '{wanted}': {reached:#?}");
    }
}
