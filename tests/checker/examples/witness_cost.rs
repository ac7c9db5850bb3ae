//! What the witness costs: `cargo run --release -p evermind-checker --example witness_cost [ENTRIES]`
//!
//! A million entries over a thousand locks: acquires, some of which wait, and releases.

use std::collections::BTreeMap;
use std::time::Instant;

use evermind_checker::ClockBound;
use evermind_checker::committed::{Committed, NodeLog};
use evermind_checker::history::{Ask, History, Moment, Record, Told, Way};
use evermind_checker::stored::TableState;
use evermind_checker::witness::{Ends, check_witness};
use evermind_lock::command::{
    Acquire, Action, Command, KeyHash, KeyId, OpId, Operation, Release, Stamp,
};
use evermind_lock::names::{Holder, IdentityId, Key};
use evermind_lock::outcome::{Event, Outcome};
use evermind_lock::table::{EntryContext, LockTable};
use evermind_storage::entry::{EntryRecord, PayloadRecord};
use evermind_storage::types::Proposal;

const LOCKS: u64 = 1_000;
const LEASE_MS: u64 = 60_000;

struct Server {
    table: LockTable,
    entries: Vec<EntryRecord>,
    history: History,
    waiting: BTreeMap<OpId, Record>,
}

fn main() {
    let wanted = std::env::args().nth(1);
    let wanted: u64 = wanted.map_or(1_000_000, |text| text.parse().expect("a number of entries"));
    let mut server = Server {
        table: LockTable::new(),
        entries: Vec::new(),
        history: History::default(),
        waiting: BTreeMap::new(),
    };
    server.enter(
        0,
        None,
        Action::AddApiKey {
            hash: KeyHash([1; 32]),
            identity: IdentityId::new("team").expect("allowed"),
        },
    );
    // Of each lock: one holds, the next waits, the first gives back, and so on.
    for number in 0..wanted / 2 {
        let (lock, turn) = (number % LOCKS, number / LOCKS);
        server.ask(number, lock, turn, true);
        if turn > 0 {
            server.ask(number, lock, turn - 1, false);
        }
    }
    let Server {
        table,
        entries,
        history,
        ..
    } = server;
    let last = entries.len() as u64 - 1;
    let state = TableState::of(&table, last);
    let ends = Ends {
        used: BTreeMap::from([(1, state.used.clone())]),
        tables: BTreeMap::from([(1, state)]),
        ..Ends::default()
    };
    let logs: Vec<_> = (1..=3)
        .map(|node| NodeLog::of(node, entries.iter().cloned()))
        .collect();
    drop((entries, table));

    let start = Instant::now();
    let committed = Committed::merge(&logs, last).expect("three equal logs");
    let merged = start.elapsed();
    drop(logs);
    let start = Instant::now();
    let verdict = check_witness(&history, &committed, ClockBound::EXACT, &ends);
    let witnessed = start.elapsed();
    verdict.assert_clean();
    println!(
        "{} entries merged in {merged:.1?}, {} operations witnessed in {witnessed:.1?}",
        committed.len(),
        verdict.operations
    );
}

impl Server {
    fn ask(&mut self, now_ms: u64, lock: u64, turn: u64, acquires: bool) {
        let sequence = self.entries.len() as u64;
        let id = OpId {
            node: 1,
            boot: 1,
            sequence,
        };
        let (key, uuid) = (format!("lock-{lock}"), format!("uuid-{lock}-{turn}"));
        let (caller, holder) = (KeyId(1), Holder::new(&uuid).expect("allowed"));
        let name = Key::new(&key).expect("allowed");
        let (ask, action) = if acquires {
            let ask = Ask::Acquire {
                lease_ms: LEASE_MS,
                retry_attempts: 10,
                retry_delay_ms: 1_000,
                fifo: true,
            };
            let acquire = Acquire {
                caller,
                key: name,
                holder,
                lease_ms: LEASE_MS,
                retry_attempts: 10,
                window_ms: 10_000,
                fifo: true,
                idempotency: None,
            };
            (ask, Action::Acquire(acquire))
        } else {
            let release = Release {
                caller,
                key: name,
                holder,
                idempotency: None,
            };
            (Ask::Release, Action::Release(release))
        };
        let record = Record {
            client: lock,
            node: 1,
            key,
            uuid,
            idempotency: None,
            ask,
            invoked: Moment(now_ms * 1_000_000),
            returned: Moment(now_ms * 1_000_000 + 500_000),
            told: Told::Unknown,
            log_index: None,
            way: Way::default(),
        };
        self.waiting.insert(id, record);
        self.enter(now_ms, Some(id), action);
    }

    fn enter(&mut self, now_ms: u64, id: Option<OpId>, action: Action) {
        let index = self.entries.len() as u64;
        let stamp = Stamp {
            cluster_ms: now_ms,
            term: 1,
            wall_ms: 1_700_000_000_000 + now_ms,
        };
        let command = Command {
            operation: id.map(|id| Operation {
                id,
                answered_below: index.saturating_sub(3 * LOCKS).max(1),
            }),
            action,
        };
        let at = EntryContext {
            log_index: index,
            term: 1,
            stamp: Some(stamp),
        };
        let mut events = Vec::new();
        let decision = self.table.apply(at, command.clone(), &mut events);
        self.table.take_changes();
        self.entries.push(EntryRecord {
            term: 1,
            index,
            payload: PayloadRecord::Normal(Proposal {
                stamp,
                command: command.into(),
            }),
        });
        if let Some(id) = id {
            self.answer(id, &decision.outcome, now_ms, index);
        }
        for event in events {
            if let Event::WaitEnded {
                operation, outcome, ..
            } = event
            {
                self.answer(operation, &outcome, now_ms, index);
            }
        }
    }

    fn answer(&mut self, id: OpId, outcome: &Outcome, now_ms: u64, index: u64) {
        let told = match outcome {
            Outcome::Granted(granted) => Told::Granted {
                token: granted.fencing_token,
                expires_in_ms: granted.expires_in_ms,
                waited_ms: granted.waited_ms,
                attempts: granted.attempts,
            },
            Outcome::Released => Told::Released,
            Outcome::Queued => return,
            other => panic!("nobody asks for {other:?}"),
        };
        if let Some(mut record) = self.waiting.remove(&id) {
            record.told = told;
            record.log_index = Some(index);
            record.returned = Moment(now_ms * 1_000_000 + 500_000);
            self.history.records.push(record);
        }
    }
}
