//! Turns plans into entries of a log.

use std::collections::BTreeMap;

use evermind_lock::command::{
    Acquire, Action, Attachment, Command, CreateLicence, Extend, Idempotency, KeyHash, KeyId,
    LicenceId, Member, OpId, Operation, Release, Resume, Stamp,
};
use evermind_lock::licence::Period;
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, LicenceName, Resource};
use evermind_lock::table::EntryContext;

use crate::plans::{How, Planned, What};

const IDENTITIES: [&str; 2] = ["team-a", "team-b"];

/// Turns plans into entries.
pub(crate) struct Writer {
    index: u64,
    now_ms: u64,
    wall_ms: u64,
    /// Boot, next sequence, and what was proposed in this boot.
    servers: BTreeMap<usize, (u64, u64, Vec<Action>)>,
    /// Every acquire, and by what it can be abandoned.
    acquires: Vec<(Acquire, Attachment)>,
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
    pub(crate) fn new() -> Self {
        Self {
            index: 0,
            now_ms: 0,
            wall_ms: 1_700_000_000_000,
            servers: BTreeMap::new(),
            acquires: Vec::new(),
        }
    }

    fn action(&self, what: &What) -> Action {
        let asked = |back: usize| {
            let at = self.acquires.len().checked_sub(1 + back);
            at.map(|at| self.acquires[at].clone())
        };
        let attachment = |back| asked(back).map(|(_, attachment)| attachment);
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
            What::Resume(back, waited_ms, attempts) => {
                let resume = asked(back).map(|(acquire, _)| Resume {
                    acquire,
                    waited_ms,
                    attempts,
                });
                resume.map_or(Action::Expire, Action::Resume)
            }
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

    pub(crate) fn entry(&mut self, plan: &Planned) -> (EntryContext, Command) {
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
        let acquire = match &action {
            Action::Acquire(acquire) | Action::Resume(Resume { acquire, .. }) => Some(acquire),
            _ => None,
        };
        if let (Some(acquire), Some(operation)) = (acquire, operation) {
            let identity = IDENTITIES[usize::from(acquire.caller.0 % 2 == 0)];
            let attachment = Attachment {
                operation: operation.id,
                resource: Resource {
                    identity: IdentityId::new(identity).unwrap(),
                    key: acquire.key.clone(),
                },
                holder: acquire.holder.clone(),
            };
            self.acquires.push((acquire.clone(), attachment));
        }
        let stamp = Stamp {
            cluster_ms: self.now_ms,
            term: TERM - u64::from(matches!(plan.how, How::ForeignStamp)),
            wall_ms: self.wall_ms,
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
pub(crate) fn beginning() -> Vec<What> {
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
