//! What can be received as a snapshot, or lie where one should.
//!
//! A damaged one must be refused; only what says the same as what was written may be taken. One
//! whose checksums hold, whatever is in it, must give a table that holds its invariants and goes
//! on, or be refused.

use arbitrary::{Arbitrary, Unstructured};
use evermind_lock::record::RecordKey;
use evermind_lock::table::LockTable;
use evermind_storage::entry::{LogIdRecord, MembershipRecord, StoredMembershipRecord};
use evermind_storage::machine::{StateMeta, fuzzing};

use crate::damage::{Damage, damaged};
use crate::lock_table::{Step, World};
use crate::memory::{BELIEVED_BYTES, Memory};
use crate::runtime;

/// Entries that make a table.
const STEPS_MAX: usize = 32;
/// Changes of one input.
const DAMAGES_MAX: usize = 6;
/// Bytes that receiving and reading may take for each byte that came: the file of the simulated
/// disk twice, the file's copy, what is decoded of it, and of that the table.
const BYTES_PER_BYTE: usize = 200;
/// Bytes that they may take whatever came: what a length makes them believe, and an empty table has
/// its shards.
const BYTES: usize = BELIEVED_BYTES + (7 << 20);

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    /// A table's snapshot, and what happened to it.
    Damaged {
        steps: Vec<Step>,
        damages: Vec<Damage>,
        piece: u8,
    },
    /// A snapshot with the records of a table, changed before it was made.
    Forged {
        steps: Vec<Step>,
        changes: Vec<Change<'a>>,
        then: Vec<Step>,
    },
    /// Frames whose checksums hold, whatever is in them.
    Framed(Vec<(u8, &'a [u8])>),
    /// Any bytes.
    Raw(&'a [u8]),
    /// One record.
    Record(&'a [u8], &'a [u8]),
}

/// What happens to the records before they are written.
#[derive(Debug, Arbitrary)]
enum Change<'a> {
    /// A byte of a value.
    Value {
        record: u8,
        at: u16,
        byte: u8,
    },
    /// A byte of a key.
    Key {
        record: u8,
        at: u8,
        byte: u8,
    },
    Drop(u8),
    Twice(u8),
    /// One's value under another's key.
    Swap(u8, u8),
    New(&'a [u8], &'a [u8]),
    /// Bytes of a value, from some place on.
    Splice {
        record: u8,
        at: u16,
        bytes: &'a [u8],
    },
}

/// One input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    match input {
        Input::Damaged {
            steps,
            damages,
            piece,
        } => damage(&steps, &damages, piece),
        Input::Forged {
            steps,
            changes,
            then,
        } => forge(&steps, &changes, &then),
        Input::Framed(frames) => {
            let magic = &written(&LockTable::new())[..8];
            let frames = frames.iter();
            let frames = frames.flat_map(|(kind, payload)| fuzzing::framed(kind % 5, payload));
            let bytes: Vec<u8> = magic.iter().copied().chain(frames).collect();
            taken(&bytes, 255);
        }
        Input::Raw(bytes) => _ = taken(bytes, 7),
        Input::Record(key, value) => _ = fuzzing::record(key, value),
    }
}

fn meta() -> StateMeta {
    StateMeta {
        last_applied: Some(LogIdRecord { term: 3, index: 9 }),
        membership: StoredMembershipRecord {
            log_id: Some(LogIdRecord { term: 1, index: 2 }),
            membership: MembershipRecord {
                configs: vec![[1, 2, 3].into()],
                nodes: [1, 2, 3, 4].into(),
            },
        },
        cluster_ms: 200,
    }
}

fn table(steps: &[Step]) -> LockTable {
    let mut world = World::with_keys();
    for step in steps.iter().take(STEPS_MAX) {
        world.step(step);
    }
    world.table
}

fn written(table: &LockTable) -> Vec<u8> {
    written_of(&fuzzing::records(table))
}

fn written_of(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let records = records.iter();
    let records = records.map(|(key, value)| (key.as_slice(), value.as_slice()));
    fuzzing::written(&meta(), records)
}

/// Receives bytes in pieces of this length and reads the table, within bounds. What is taken is a
/// sound snapshot, whose table is written again and read again.
fn taken(bytes: &[u8], piece: u8) -> Option<(StateMeta, LockTable)> {
    let memory = Memory::watch();
    let piece = (usize::from(piece) + 1) * 16;
    let pieces = bytes.chunks(piece).map(<[u8]>::to_vec);
    let file = runtime::block_on(fuzzing::received(pieces)).ok();
    let file = file.inspect(|file| assert_eq!(file.len(), bytes.len() as u64))?;
    let table = fuzzing::load(&file);
    memory.at_most(BYTES + BYTES_PER_BYTE * bytes.len());
    let meta = file.meta().clone();
    drop(file);
    let table = table.ok()?;
    table.check_invariants();
    let records = fuzzing::records(&table);
    let again = written_of(&records);
    let file = runtime::block_on(fuzzing::received([again])).expect("what we write we read");
    let same = fuzzing::load(&file).expect("what we write we read");
    assert!(same == table);
    Some((meta, table))
}

fn damage(steps: &[Step], damages: &[Damage], piece: u8) {
    let table = table(steps);
    let sound = written(&table);
    let mut files = [sound.clone()];
    for damage in damages.iter().take(DAMAGES_MAX) {
        damaged(&mut files, damage);
    }
    let [bytes] = files;
    match taken(&bytes, piece) {
        Some((covers, read)) => {
            assert!(covers == meta() && read == table, "damage was taken");
        }
        None => assert!(bytes != sound, "a sound snapshot is taken"),
    }
}

fn forge(steps: &[Step], changes: &[Change<'_>], then: &[Step]) {
    let table = table(steps);
    let before = table.freeze().record(&RecordKey::Meta);
    let mut records = fuzzing::records(&table);
    for change in changes.iter().take(DAMAGES_MAX) {
        changed(&mut records, change);
    }
    let Some((_, table)) = taken(&written_of(&records), 255) else {
        return;
    };
    // What was taken goes on. The counters are left alone: a table whose time or tokens are used up
    // says so by stopping.
    let counters = |table: &LockTable| table.freeze().record(&RecordKey::Meta);
    if counters(&table) != before {
        return;
    }
    let mut world = World::new();
    world.table = table;
    for step in then.iter().take(STEPS_MAX) {
        world.step(step);
    }
}

fn changed(records: &mut Vec<(Vec<u8>, Vec<u8>)>, change: &Change<'_>) {
    let count = records.len();
    if count == 0 {
        return;
    }
    let place = |number: u8| usize::from(number) % count;
    match *change {
        Change::Value { record, at, byte } => {
            let value = &mut records[place(record)].1;
            let at = usize::from(at) % value.len().max(1);
            value[at..].iter_mut().take(1).for_each(|was| *was = byte);
        }
        Change::Key { record, at, byte } => {
            let key = &mut records[place(record)].0;
            let at = usize::from(at) % key.len().max(1);
            key[at..].iter_mut().take(1).for_each(|was| *was = byte);
        }
        Change::Drop(record) => _ = records.remove(place(record)),
        Change::Twice(record) => {
            let same = records[place(record)].clone();
            records.push(same);
        }
        Change::Swap(one, other) => {
            let value = records[place(one)].1.clone();
            records[place(other)].1 = value;
        }
        Change::New(key, value) => records.push((key.to_vec(), value.to_vec())),
        Change::Splice { record, at, bytes } => {
            let value = &mut records[place(record)].1;
            let at = usize::from(at) % (value.len() + 1);
            let end = (at + bytes.len()).min(value.len());
            value.splice(at..end, bytes.iter().copied());
        }
    }
}
