//! A log in memory, as the oracle of the one on disk, and random histories that are held against
//! it over crashes.
#![allow(dead_code, clippy::unwrap_used)]

use std::io;

use evermind_storage::disk::sim::SimDisk;
use evermind_storage::log::{LogStore, OpenError};
use evermind_storage::types::{Entry, LogId, Vote};
use futures_util::{FutureExt, StreamExt};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;

use crate::log_support::{Rng, append, entries, entry, id, open};

/// What a log says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
}

/// One record's worth of change.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Append(Entry),
    Vote(Vote),
    Truncate(LogId),
    Purge(LogId),
}

impl Model {
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last().map_or(self.purged, |e| Some(e.log_id))
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entry) => self.entries.push(entry.clone()),
            Op::Vote(vote) => self.vote = Some(*vote),
            Op::Truncate(after) => self.entries.retain(|e| e.log_id.index <= after.index),
            Op::Purge(upto) => {
                self.entries.retain(|e| e.log_id.index > upto.index);
                self.purged = Some(*upto);
            }
        }
    }

    /// What a log says, read through its own interface.
    pub(crate) async fn read(log: &mut LogStore) -> io::Result<Self> {
        let state = log.get_log_state().await?;
        let model = Self {
            vote: log.get_log_reader().await.read_vote().await?,
            purged: state.last_purged_log_id,
            entries: entries(log).await?,
        };
        assert_eq!(state.last_log_id, model.last());
        Ok(model)
    }
}

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    Kill,
    PowerCut,
}

/// One disk, and what must be true of it.
pub(crate) struct History {
    pub(crate) disk: SimDisk,
    rng: Rng,
    term: u64,
    /// What is certainly on disk.
    base: Model,
    /// What the log must say while it runs.
    now: Model,
    /// What was asked since `base`, in order.
    ops: Vec<Op>,
    /// How many of `ops` were acknowledged.
    acked: usize,
    /// Appends not heard of yet: how many ops are on disk when they are.
    waiting: Vec<(usize, oneshot::Receiver<io::Result<()>>)>,
    /// Every committed point ever saved.
    committed: Vec<LogId>,
    pub(crate) acknowledged: usize,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::default(),
            rng: Rng(seed),
            term: 1,
            base: Model::default(),
            now: Model::default(),
            ops: Vec::new(),
            acked: 0,
            waiting: Vec::new(),
            committed: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Opens the log, compares, works on it for some steps, and crashes. Whatever fails in between
    /// may fail; what was acknowledged must be there at the next round.
    pub(crate) async fn round(&mut self, steps: u64, crash: Crash) -> Result<(), String> {
        match open(&self.disk) {
            Ok(mut log) => {
                if self.compare(&mut log).await? {
                    for _ in 0..steps {
                        if self.step(&mut log).await.is_err() {
                            self.after_failure(&mut log).await?;
                            break;
                        }
                        self.hear()?;
                    }
                }
            }
            Err(OpenError::Io { .. }) if self.disk.faults_hit() > 0 => {}
            Err(error) => return Err(format!("refused: {error}")),
        }
        self.hear()?;
        self.waiting.clear();
        self.disk = match crash {
            Crash::Kill => self.disk.kill(),
            Crash::PowerCut => self.disk.power_cut(self.rng.next()),
        };
        Ok(())
    }

    /// The log must say what some prefix of the operations says that has all acknowledged ones.
    /// False if it could not be read.
    async fn compare(&mut self, log: &mut LogStore) -> Result<bool, String> {
        let (Ok(found), Ok(committed)) = (Model::read(log).await, log.read_committed().await)
        else {
            return Ok(false);
        };
        let mut model = self.base.clone();
        let mut at = None;
        for done in 0..=self.ops.len() {
            if done >= self.acked && model == found {
                at = Some(done);
            }
            if let Some(op) = self.ops.get(done) {
                model.apply(op);
            }
        }
        if at.is_none() {
            return Err(format!(
                "no prefix of the operations with the {} acknowledged ones of {} gives what was \
                 found: vote {:?}, purged {:?}, entries {:?}",
                self.acked,
                self.ops.len(),
                found.vote,
                found.purged,
                found.entries.iter().map(|e| e.log_id).collect::<Vec<_>>(),
            ));
        }
        if let Some(committed) = committed
            && (!self.committed.contains(&committed) || Some(committed) > found.last())
        {
            return Err(format!("committed point {committed} out of nowhere"));
        }
        self.now = found.clone();
        (self.base, self.acked) = (found, 0);
        self.ops.clear();
        Ok(true)
    }

    fn ask(&mut self, op: Op) {
        self.now.apply(&op);
        self.ops.push(op);
    }

    async fn step(&mut self, log: &mut LogStore) -> io::Result<()> {
        match self.rng.below(20) {
            0..=9 => {
                let count = 1 + self.rng.below(5);
                let mut batch = Vec::new();
                let next = self.now.next_index();
                for index in next..next + count {
                    let bytes = *self.rng.pick(&[0, 40, 90, 300, 1100, 2500]);
                    batch.push(entry(self.term, index, bytes));
                }
                for entry in &batch {
                    self.ask(Op::Append(entry.clone()));
                }
                let told = append(log, batch).await?;
                self.waiting.push((self.ops.len(), told));
            }
            10 => {
                self.term += 1;
                let vote = Vote::new(self.term, self.rng.below(3));
                self.ask(Op::Vote(vote));
                log.save_vote(&vote).await?;
                self.acked = self.ops.len();
            }
            11 => self.truncate(log).await?,
            12 if self.now.last().is_some() => {
                // An installed snapshot can be ahead of the log.
                let upto = if self.rng.once_in(8) {
                    id(self.term, self.now.next_index() + self.rng.below(5))
                } else if self.now.entries.is_empty() {
                    return Ok(());
                } else {
                    self.rng.pick(&self.now.entries).log_id
                };
                self.ask(Op::Purge(upto));
                log.purge(upto).await?;
            }
            13 | 14 if !self.now.entries.is_empty() => {
                let committed = self.rng.pick(&self.now.entries).log_id;
                if self.committed.last() < Some(&committed) {
                    self.committed.push(committed);
                    log.save_committed(Some(committed)).await?;
                }
            }
            15 | 16 => read_some(log, &self.now, &mut self.rng).await?,
            _ => {
                for _ in 0..self.rng.below(4) {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Never below what is committed: openraft does not either.
    async fn truncate(&mut self, log: &mut LogStore) -> io::Result<()> {
        let floor = self.committed.last().map_or(0, |id| id.index);
        let cut: Vec<_> = self.now.entries.iter().map(|e| e.log_id).collect();
        let cut: Vec<_> = cut.into_iter().filter(|id| id.index >= floor).collect();
        if cut.is_empty() {
            return Ok(());
        }
        let after = *self.rng.pick(&cut);
        self.ask(Op::Truncate(after));
        self.term += 1;
        log.truncate_after(Some(after)).await?;
        self.acked = self.ops.len();
        Ok(())
    }

    /// Listens for acknowledgements, which must come in order.
    fn hear(&mut self) -> Result<(), String> {
        let mut silent = false;
        let mut still = Vec::new();
        for (ops, mut told) in std::mem::take(&mut self.waiting) {
            match told.try_recv() {
                Ok(Ok(())) if silent => return Err("acknowledged out of order".into()),
                Ok(Ok(())) => {
                    self.acked = self.acked.max(ops);
                    self.acknowledged += 1;
                }
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => silent = true,
                Err(oneshot::error::TryRecvError::Empty) => {
                    silent = true;
                    still.push((ops, told));
                }
            }
        }
        self.waiting = still;
        Ok(())
    }

    /// A log that failed says so, and does nothing any more.
    async fn after_failure(&mut self, log: &mut LogStore) -> Result<(), String> {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        self.hear()?;
        if !self.waiting.is_empty() {
            return Err("the log failed, and an append was not told".into());
        }
        if log.failed().now_or_never().is_none() {
            return Err("the log failed, and nobody was told".into());
        }
        let next = self.now.next_index();
        let refused = append(log, vec![entry(self.term, next, 0)]).await.is_err()
            && log.save_vote(&Vote::new(self.term, 1)).await.is_err()
            && log.truncate_after(None).await.is_err()
            && log.purge(id(self.term, next)).await.is_err()
            && log.save_committed(Some(id(1, 0))).await.is_err();
        if !refused {
            return Err("the log failed, and went on".into());
        }
        Ok(())
    }
}

/// Reads part of the log in one of the ways there are, and compares.
async fn read_some(log: &mut LogStore, now: &Model, rng: &mut Rng) -> io::Result<()> {
    let start = rng.below(now.next_index() + 2);
    let end = start + rng.below(12);
    let inside = |e: &&Entry| (start..end).contains(&e.log_id.index);
    let expected: Vec<Entry> = now.entries.iter().filter(inside).cloned().collect();
    let mut reader = log.get_log_reader().await;
    match rng.below(3) {
        0 => assert_eq!(reader.try_get_log_entries(start..end).await?, expected),
        1 => {
            let some = reader.limited_get_log_entries(start, end).await?;
            assert_eq!(some.is_empty(), expected.is_empty());
            assert_eq!(some, expected[..some.len()]);
        }
        _ => {
            let stream = reader.entries_stream(start..end).await;
            let read: Vec<_> = stream.collect().await;
            let read: io::Result<Vec<_>> = read.into_iter().collect();
            assert_eq!(read?, expected);
        }
    }
    Ok(())
}
