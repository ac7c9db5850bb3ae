//! What one batch of entries costs the codec and the log.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use evermind_lock::names::{Holder, Key};
use evermind_storage::disk::RealDisk;
use evermind_storage::entry;
use evermind_storage::log::{LogOptions, LogStore};
use evermind_storage::runner::{Bell, Flow, Runner};
use evermind_storage::types::{Entry, LogId, Proposal};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage};
use tempfile::TempDir;

use crate::BATCH;
use crate::meter::{Case, Round};
use crate::table::{Scribe, acquire_of};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "codec/encode",
        prepare: encode,
    },
    Case {
        name: "codec/decode",
        prepare: decode,
    },
    Case {
        name: "log/append",
        prepare: append,
    },
];

/// Rounds between two purges: the log stays within a few segments.
const PURGE_ROUNDS: u64 = 1_000;

/// A batch of acquires, from this index on.
pub(crate) fn entries(from: u64) -> Vec<Entry> {
    let mut scribe = Scribe::new();
    let holder = Holder::new("0192d3a0-0000-7000-8000-000000000000").unwrap();
    let entry = |index: u64| {
        let key = Key::new(&format!("key-of-ordinary-length-{}", index % BATCH)).unwrap();
        let (_, command) = scribe.entry(acquire_of(&key, &holder, 30_000));
        Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Normal(Proposal {
                stamp: scribe.stamp(),
                command: command.into(),
            }),
        }
    };
    (from..from + BATCH).map(entry).collect()
}

fn encode() -> Round {
    let entries = entries(1);
    let mut out = Vec::new();
    Box::new(move |meter| {
        out.clear();
        let out = &mut out;
        meter.measure(|| {
            for entry in &entries {
                entry::encode(entry, out);
            }
        });
    })
}

fn decode() -> Round {
    let encoded = |entry: &Entry| {
        let mut out = Vec::new();
        entry::encode(entry, &mut out);
        out
    };
    let encoded: Vec<_> = entries(1).iter().map(encoded).collect();
    Box::new(move |meter| {
        let decoded: Vec<_> = meter.measure(|| {
            let entries = encoded.iter().map(|bytes| entry::decode(bytes));
            entries.collect()
        });
        assert!(decoded.iter().all(Result::is_ok));
    })
}

/// Entries into the log and its file: encoding, the checksum, the frame, the write. On a tmpfs where
/// there is one, so that the disk's own time stays out of it.
fn append() -> Round {
    let mut log = Log::open();
    let mut next = 0;
    let mut round = 0;
    Box::new(move |meter| {
        let batch = entries(next);
        meter.measure(|| log.append(batch));
        next += BATCH;
        assert_eq!(log.store.last_synced().map(|id| id.index), Some(next - 1));
        round += 1;
        if round % PURGE_ROUNDS == 0 {
            log.purge(next - 1);
        }
    })
}

/// A log whose steps run on this thread, when they are called.
struct Log {
    store: LogStore,
    steps: Here,
    // Removed last.
    _dir: TempDir,
}

impl Log {
    fn open() -> Self {
        let dir = tempfile::tempdir_in(place()).unwrap();
        let steps = Here::default();
        let runner = Arc::new(steps.clone());
        let path = dir.path().join("log");
        let disk = Arc::new(RealDisk);
        let store = LogStore::open(&path, disk, runner, LogOptions::default()).unwrap();
        steps.run();
        Self {
            store,
            steps,
            _dir: dir,
        }
    }

    fn append(&mut self, batch: Vec<Entry>) {
        at_once(self.store.append(batch, IOFlushed::noop()));
        self.steps.step();
    }

    /// Lets go of what is no longer needed, and makes the next segment.
    fn purge(&mut self, upto: u64) {
        at_once(self.store.purge(LogId::new_term_index(1, upto)));
        self.steps.run();
    }
}

fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Finishes a call that has nothing to wait for.
fn at_once(call: impl Future<Output = std::io::Result<()>>) {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(call).poll(&mut context) {
        Poll::Ready(done) => done.unwrap(),
        Poll::Pending => panic!("the log has room"),
    }
}

type Step = Box<dyn FnMut() -> Flow + Send>;
type Job = Box<dyn FnOnce() + Send>;

/// Keeps steps and jobs until they are asked for: threads would make every count another.
#[derive(Clone, Default)]
struct Here {
    steps: Arc<Mutex<Vec<Step>>>,
    jobs: Arc<Mutex<Vec<Job>>>,
}

impl Here {
    fn step(&self) {
        for step in self.steps.lock().unwrap().iter_mut() {
            assert_eq!(step(), Flow::Continue);
        }
    }

    fn run(&self) {
        self.step();
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        for job in jobs {
            job();
        }
    }
}

impl Runner for Here {
    fn drive(&self, _name: &'static str, _bell: Arc<Bell>, step: Step) {
        self.steps.lock().unwrap().push(step);
    }

    fn once(&self, _name: &'static str, job: Job) {
        self.jobs.lock().unwrap().push(job);
    }
}
