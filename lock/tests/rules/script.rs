//! The commands of the scripts, and how their effects are printed.
//!
//! A command is `[@TIME] NAME WORDS… [option=value]…`. `@TIME` is the stamp's cluster time, from
//! there on. Options of every entry: `op=NODE/BOOT/SEQUENCE` (default: node 1, boot 1, the next
//! sequence) or `op=none`, `answered=SEQUENCE`, `term=TERM` of the stamp (the entries' own is 7), `caller=KEY`,
//! `wall=MS` of the stamp, from there on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use evermind_lock::command::{
    Acquire, Action, Attachment, Command, CreateLicence, Extend, Idempotency, KeyHash, KeyId,
    LicenceId, Member, OpId, Operation, Release, Resume, Stamp,
};
use evermind_lock::licence::Period;
use evermind_lock::names::{Holder, IdempotencyKey, IdentityId, Key, LicenceName, Resource};
use evermind_lock::outcome::{Event, Outcome};
use evermind_lock::table::{AttachmentState, EntryContext, LockTable, Pieces};

use crate::said::{decided, said, shown};

const TERM: u64 = 7;

pub(crate) struct Script {
    table: LockTable,
    pieces: Pieces,
    log_index: u64,
    cluster_ms: u64,
    wall_ms: u64,
    /// The next sequence of node 1, boot 1.
    sequence: u64,
}

/// A line, taken apart.
struct Line<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl Line<'_> {
    fn word(&self, at: usize) -> Result<&str, String> {
        self.words
            .get(at)
            .copied()
            .ok_or_else(|| format!("word {at} is missing"))
    }

    fn number(&self, at: usize) -> Result<u64, String> {
        number(self.word(at)?)
    }

    fn option(&self, name: &str, default: u64) -> Result<u64, String> {
        self.options
            .get(name)
            .map_or(Ok(default), |text| number(text))
    }

    /// A key, as the hash that a number stands for.
    fn hash(&self, at: usize) -> Result<KeyHash, String> {
        let number = u8::try_from(self.number(at)?).map_err(|e| e.to_string())?;
        Ok(KeyHash([number; 32]))
    }

    fn given(&self, name: &str) -> Result<Option<u64>, String> {
        self.options.get(name).map(|text| number(text)).transpose()
    }

    fn caller(&self) -> Result<KeyId, String> {
        self.option("caller", 1).map(KeyId)
    }

    fn resource(&self, at: usize) -> Result<Resource, String> {
        let identity = self.options.get("identity").copied().unwrap_or("acme");
        Ok(Resource {
            identity: IdentityId::new(identity).map_err(|e| e.to_string())?,
            key: Key::new(self.word(at)?).map_err(|e| e.to_string())?,
        })
    }

    fn holder(&self, at: usize) -> Result<Holder, String> {
        Holder::new(self.word(at)?).map_err(|e| e.to_string())
    }

    /// `idem=KEY` or `idem=KEY/BODY`.
    fn idempotency(&self) -> Result<Option<Idempotency>, String> {
        let Some(text) = self.options.get("idem") else {
            return Ok(None);
        };
        let (key, body) = text.split_once('/').unwrap_or((text, "0"));
        Ok(Some(Idempotency {
            key: IdempotencyKey::new(key).map_err(|e| e.to_string())?,
            fingerprint: [u8::try_from(number(body)?).map_err(|e| e.to_string())?; 16],
        }))
    }

    fn attachment(&self) -> Result<Attachment, String> {
        Ok(Attachment {
            operation: op(self.word(1)?)?,
            resource: self.resource(2)?,
            holder: self.holder(3)?,
        })
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

fn op(text: &str) -> Result<OpId, String> {
    let numbers: Vec<_> = text.split('/').map(number).collect::<Result<_, _>>()?;
    match numbers[..] {
        [node, boot, sequence] => Ok(OpId {
            node,
            boot,
            sequence,
        }),
        _ => Err(format!("no operation: {text}")),
    }
}

impl Script {
    /// Two API keys: 1 opens the locks of `acme`, 2 those of `beta`.
    pub(crate) fn new() -> Self {
        let mut script = Self {
            table: LockTable::new(),
            pieces: Pieces::default(),
            log_index: 0,
            cluster_ms: 0,
            wall_ms: 0,
            sequence: 1,
        };
        for line in ["add-key 1 acme", "add-key 2 beta"] {
            script.run(line).unwrap();
        }
        script.log_index = 0;
        script
    }

    /// Runs one line; returns what it printed.
    pub(crate) fn run(&mut self, text: &str) -> Result<String, String> {
        let mut line = Line {
            words: Vec::new(),
            options: BTreeMap::new(),
        };
        for word in text.split_whitespace() {
            if let Some(time) = word.strip_prefix('@') {
                self.cluster_ms = number(time)?;
            } else if let Some(time) = word.strip_prefix("wall=") {
                self.wall_ms = number(time)?;
            } else if let Some((name, value)) = word.split_once('=') {
                line.options.insert(name, value);
            } else {
                line.words.push(word);
            }
        }
        match self.look(&line)? {
            Some(seen) => Ok(seen),
            None => self.enter(&line),
        }
    }

    /// Runs an entry of the log.
    fn enter(&mut self, line: &Line<'_>) -> Result<String, String> {
        let action = action(line)?;
        let operation = match &action {
            _ if line.options.get("op") == Some(&"none") => None,
            Action::Acquire(_) | Action::Resume(_) | Action::Extend(_) | Action::Release(_) => {
                Some(self.operation(line)?)
            }
            _ if line.options.contains_key("op") => Some(self.operation(line)?),
            _ => None,
        };
        self.log_index += 1;
        let at = EntryContext {
            log_index: self.log_index,
            term: TERM,
            stamp: Some(Stamp {
                cluster_ms: self.cluster_ms,
                term: line.option("term", TERM)?,
                wall_ms: self.wall_ms,
            }),
        };
        let mut events = Vec::new();
        let decision = self
            .table
            .apply(at, Command { operation, action }, &mut events);
        self.table.check_invariants();
        let mut out = format!("#{}", self.log_index);
        if let Some(Operation { id, .. }) = operation {
            write!(out, " {}/{}/{}", id.node, id.boot, id.sequence).unwrap();
        }
        writeln!(out, ": {}", decided(self.log_index, &decision)).unwrap();
        for event in events {
            match event {
                Event::WaitEnded {
                    operation:
                        OpId {
                            node,
                            boot,
                            sequence,
                        },
                    outcome,
                    ..
                } => writeln!(out, "   {node}/{boot}/{sequence}: {}", said(&outcome)),
                Event::Detached {
                    operation:
                        OpId {
                            node,
                            boot,
                            sequence,
                        },
                } => writeln!(out, "   {node}/{boot}/{sequence}: detached"),
            }
            .unwrap();
        }
        Ok(out)
    }

    fn operation(&mut self, line: &Line<'_>) -> Result<Operation, String> {
        let id = match line.options.get("op") {
            Some(text) => op(text)?,
            None => OpId {
                node: 1,
                boot: 1,
                sequence: self.sequence,
            },
        };
        if (id.node, id.boot) == (1, 1) {
            self.sequence = self.sequence.max(id.sequence + 1);
        }
        let answered_below = line.option("answered", 1)?;
        Ok(Operation { id, answered_below })
    }

    /// Runs what only looks.
    fn look(&mut self, line: &Line<'_>) -> Result<Option<String>, String> {
        let seen = match line.word(0)? {
            "lock" => format!("{:?}", self.table.lock(&line.resource(1)?)),
            "locks" => {
                let after = line.options.get("after");
                let after = after.map(|key| Key::new(key).unwrap());
                let page = self.table.freeze().locks(
                    &line.resource(0)?.identity,
                    line.options.get("prefix").unwrap_or(&""),
                    after.as_ref(),
                    usize::try_from(line.option("limit", 100)?).unwrap(),
                );
                let keys: Vec<_> = page.locks.iter().map(|lock| lock.key.as_str()).collect();
                let next = page.next_after.map(|key| key.to_string());
                format!("{} next {}", keys.join(" "), next.unwrap_or_default())
            }
            "attachment" => {
                let Attachment {
                    operation,
                    resource,
                    holder,
                } = line.attachment()?;
                match self.table.attachment(operation, &resource, &holder) {
                    AttachmentState::Holds(granted) => said(&Outcome::Granted(granted)),
                    other => format!("{other:?}").to_lowercase(),
                }
            }
            "attached-nodes" => format!("{:?}", self.table.attached_nodes().collect::<Vec<_>>()),
            "status" => format!(
                "now {} next deadline {:?} leases {} waiting {} idempotency keys {}",
                self.table.now_ms(),
                self.table.next_deadline_ms(),
                self.table.live_leases(),
                self.table.waiting(),
                self.table.idempotency_keys(),
            ),
            "cluster" => {
                let members: Vec<_> = self.table.members().collect();
                format!(
                    "prefix {:?} members {members:?}",
                    self.table.global_prefix()
                )
            }
            "key" => format!("{:?}", self.table.api_key(&line.hash(1)?)),
            "licence-key" => format!("{:?}", self.table.licence_key(&line.hash(1)?)),
            "licence" => match self.table.licence(LicenceId(line.number(1)?), 0) {
                Some(licence) => shown(&licence),
                None => "no such licence".to_owned(),
            },
            "keys-of" => format!("{:?}", self.table.api_keys_of(LicenceId(line.number(1)?))),
            "changes" => {
                let changes = self.table.take_changes();
                format!("{:?}", changes.keys().collect::<Vec<_>>())
            }
            "pieces" => {
                let number = |at| u32::try_from(line.number(at)?).map_err(|e| e.to_string());
                self.pieces = Pieces {
                    of_expire: number(1)?,
                    of_command: number(2)?,
                };
                let table = std::mem::take(&mut self.table);
                self.table = table.in_pieces(self.pieces);
                format!("{:?}", self.pieces)
            }
            "restore" => {
                let frozen = self.table.freeze();
                let table = LockTable::restore(frozen.records()).map_err(|e| e.to_string())?;
                table.check_invariants();
                assert_eq!(table, self.table);
                self.table = table.in_pieces(self.pieces);
                format!("{} records", frozen.count())
            }
            _ => return Ok(None),
        };
        Ok(Some(format!("{}\n", seen.trim_end())))
    }
}

fn acquire(line: &Line<'_>) -> Result<Acquire, String> {
    Ok(Acquire {
        caller: line.caller()?,
        key: line.resource(1)?.key,
        holder: line.holder(2)?,
        lease_ms: line.option("lease", 10_000)?,
        retry_attempts: u32::try_from(line.option("retries", 10)?).unwrap(),
        window_ms: line.option("window", 5_000)?,
        fifo: line.words.contains(&"fifo"),
        idempotency: line.idempotency()?,
    })
}

fn action(line: &Line<'_>) -> Result<Action, String> {
    Ok(match line.word(0)? {
        "acquire" => Action::Acquire(acquire(line)?),
        "resume" => Action::Resume(Resume {
            acquire: acquire(line)?,
            waited_ms: line.option("waited", 0)?,
            attempts: u32::try_from(line.option("attempts", 1)?).unwrap(),
        }),
        "extend" => Action::Extend(Extend {
            caller: line.caller()?,
            key: line.resource(1)?.key,
            holder: line.holder(2)?,
            extend_by_ms: line.number(3)?,
            idempotency: line.idempotency()?,
        }),
        "release" => Action::Release(Release {
            caller: line.caller()?,
            key: line.resource(1)?.key,
            holder: line.holder(2)?,
            idempotency: line.idempotency()?,
        }),
        "abandon" => Action::Abandon(line.attachment()?),
        "reattach" => Action::Reattach(line.attachment()?),
        "detach-node" => Action::DetachNode {
            node: line.number(1)?,
            boot: line.number(2)?,
        },
        "expire" => Action::Expire,
        "found" => Action::Found {
            global_prefix: line.word(1)?.to_owned(),
        },
        "member" => Action::RecordMember(Member {
            node: line.number(1)?,
            disk: u128::from(line.number(2)?),
            http: line.word(3)?.to_owned(),
            peer: line.word(4)?.to_owned(),
        }),
        "create-licence" => Action::CreateLicence(CreateLicence {
            name: LicenceName::new(line.word(1)?).map_err(|e| e.to_string())?,
            identity: IdentityId::new(line.word(2)?).map_err(|e| e.to_string())?,
            key: line.hash(3)?,
            limit: line.given("limit")?,
            period: if line.words.contains(&"month") {
                Period::Month
            } else {
                Period::None
            },
            expires_ms: line.given("expires")?,
        }),
        "revoke" => Action::RevokeLicence(LicenceId(line.number(1)?)),
        "create-key" => Action::CreateApiKey {
            licence: line.hash(1)?,
            hash: line.hash(2)?,
        },
        "delete-key" => Action::DeleteApiKey {
            licence: line.hash(1)?,
            hash: line.hash(2)?,
        },
        "delete-key-by-id" => Action::DeleteApiKeyById {
            licence: LicenceId(line.number(1)?),
            key: KeyId(line.number(2)?),
        },
        "add-key" => Action::AddApiKey {
            hash: line.hash(1)?,
            identity: IdentityId::new(line.word(2)?).map_err(|e| e.to_string())?,
        },
        other => return Err(format!("no such command: {other}")),
    })
}
