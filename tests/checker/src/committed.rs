//! The committed log, read as the one order of everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermind_lock::command::{Command, NodeId};
use evermind_lock::table::{EntryContext, Pieces};
use evermind_storage::codec;
use evermind_storage::disk::Disk;
use evermind_storage::entry::{EntryRecord, LogIdRecord, PayloadRecord};
use evermind_storage::log::OpenError;
use evermind_storage::log::archive::{self, Reach, Said};

use crate::spec::Model;
use crate::verdict::{Check, Violation};

/// What one node's log finally holds at each index, purged entries included as far as their
/// segments were kept.
#[derive(Debug, Clone, Default)]
pub struct NodeLog {
    /// Whose.
    pub node: NodeId,
    /// The entries, encoded: a log has many, and most are only compared.
    entries: BTreeMap<u64, Box<[u8]>>,
    /// Entries that this node knew to be committed and took away again.
    lost: Vec<u64>,
    /// How far the segments reached.
    pub reach: Reach,
}

/// Follows a log from its first segment to its last.
struct Follow {
    log: NodeLog,
    committed: Option<u64>,
}

impl Follow {
    fn said(&mut self, said: Said) {
        match said {
            Said::Entry(entry) => {
                let record = EntryRecord::from(&entry);
                let bytes = codec::encode(&record).into_boxed_slice();
                self.log.entries.insert(record.index, bytes);
            }
            Said::Truncated(after) => {
                let end = after.map_or(0, |after| after.index + 1);
                let cut = self.log.entries.split_off(&end);
                let committed = self.committed;
                let known = cut
                    .into_keys()
                    .take_while(|index| committed.is_some_and(|committed| *index <= committed));
                self.log.lost.extend(known);
            }
            Said::Purged(upto) => {
                self.purged(upto);
                self.committed = self.committed.max(Some(upto.index));
            }
            Said::Committed(committed) => {
                self.committed = self.committed.max(Some(committed.index));
            }
        }
    }

    /// A log that holds the purged entry holds what is below it as all others do. One that does not
    /// was replaced by a snapshot, and what was not known to be committed may have lost.
    fn purged(&mut self, upto: LogIdRecord) {
        let own = self.log.entries.get(&upto.index);
        let is_own = own.is_some_and(|bytes| decode(bytes).is_ok_and(|e| e.term == upto.term));
        if !is_own {
            let sure_below = self.committed.map_or(0, |committed| committed + 1);
            let mut unsure = self.log.entries.split_off(&sure_below);
            // What stands above the snapshot's end follows from it, and stays in the log.
            let mut above = unsure.split_off(&(upto.index + 1));
            self.log.entries.append(&mut above);
        }
    }
}

fn decode(bytes: &[u8]) -> Result<EntryRecord, codec::CodecError> {
    codec::decode(bytes)
}

impl NodeLog {
    /// Reads a node's segments from these directories: its log's own, and the one where its
    /// segments were kept before they were purged. A directory that is not there has none.
    ///
    /// # Errors
    /// If a segment cannot be read, or one between two others is missing.
    pub fn read(node: NodeId, disk: &dyn Disk, dirs: &[&Path]) -> Result<Self, OpenError> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for dir in dirs {
            if disk.exists(dir).unwrap_or(false) {
                paths.extend(archive::segments(disk, dir)?);
            }
        }
        let mut follow = Follow {
            log: NodeLog {
                node,
                ..NodeLog::default()
            },
            committed: None,
        };
        let reach = archive::read(disk, &paths, |said| follow.said(said))?;
        follow.log.reach = reach;
        Ok(follow.log)
    }

    /// A log of these entries, as if they had been read.
    pub fn of(node: NodeId, entries: impl IntoIterator<Item = EntryRecord>) -> Self {
        let encode = |entry: EntryRecord| (entry.index, codec::encode(&entry).into_boxed_slice());
        Self {
            node,
            entries: entries.into_iter().map(encode).collect(),
            ..Self::default()
        }
    }

    /// The lowest index that was read.
    pub fn first_index(&self) -> Option<u64> {
        self.entries.keys().next().copied()
    }

    /// The highest index that was read.
    pub fn last_index(&self) -> Option<u64> {
        self.entries.keys().next_back().copied()
    }

    /// The entry at an index.
    pub fn entry(&self, index: u64) -> Option<EntryRecord> {
        decode(self.entries.get(&index)?).ok()
    }
}

/// What the cluster committed, from its first entry on, without a gap.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    first_index: u64,
    entries: Vec<Box<[u8]>>,
    pieces: Pieces,
}

/// One committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Its index, its term, and its stamp if it carries a command.
    pub at: EntryContext,
    /// Blank and membership entries have none.
    pub command: Option<Command>,
}

impl CommittedEntry {
    /// As it was read.
    pub fn new(record: EntryRecord) -> Self {
        let (stamp, command) = match record.payload {
            PayloadRecord::Normal(proposal) => (
                Some(proposal.stamp),
                Some(Arc::unwrap_or_clone(proposal.command)),
            ),
            PayloadRecord::Blank | PayloadRecord::Membership(_) => (None, None),
        };
        Self {
            at: EntryContext {
                log_index: record.index,
                term: record.term,
                stamp,
            },
            command,
        }
    }
}

impl Committed {
    /// The same, of a cluster whose entries end other pieces of what is over.
    #[must_use]
    pub fn in_pieces(mut self, pieces: Pieces) -> Self {
        self.pieces = pieces;
        self
    }

    /// How much each entry ended of what was over.
    pub fn pieces(&self) -> Pieces {
        self.pieces
    }

    /// The specification before the first entry.
    pub fn model(&self) -> Model {
        let Pieces {
            of_expire,
            of_command,
        } = self.pieces;
        Model::new().in_pieces(of_expire, of_command)
    }

    /// One log of many: up to `committed_index` (after the heal, what every node has applied) each
    /// entry must be in at least one log, and the same in every log that has it.
    ///
    /// # Errors
    /// [`Check::W5`] with the first index where that is not so.
    pub fn merge(logs: &[NodeLog], committed_index: u64) -> Result<Self, Violation> {
        for log in logs {
            if let Some(index) = log.lost.iter().find(|index| **index <= committed_index) {
                let what = format!(
                    "node {} knew entry {index} to be committed and took it back",
                    log.node
                );
                return Err(Violation::new(Check::W5, what));
            }
        }
        let first = logs.iter().filter_map(NodeLog::first_index).min();
        // The first entry of a new cluster has index 0 or 1: anything above is a gap.
        let first_index = match first {
            Some(first @ (0 | 1)) => first,
            Some(first) => {
                let what = format!("no log has the entries before {first}");
                return Err(Violation::new(Check::W5, what));
            }
            None => return Err(Violation::new(Check::W5, "no log has any entry")),
        };
        let mut entries = Vec::new();
        for index in first_index..=committed_index {
            let mut found: Option<(NodeId, &[u8])> = None;
            for log in logs {
                let Some(bytes) = log.entries.get(&index) else {
                    continue;
                };
                match found {
                    Some((_, other)) if other == bytes.as_ref() => {}
                    Some((node, other)) => {
                        let what = format!(
                            "entry {index} is {} on node {node} and {} on node {}",
                            shown(other),
                            shown(bytes),
                            log.node
                        );
                        return Err(Violation::new(Check::W5, what));
                    }
                    None => found = Some((log.node, bytes)),
                }
            }
            let Some((_, bytes)) = found else {
                let what = format!("no log has entry {index}, of {committed_index} committed");
                return Err(Violation::new(Check::W5, what));
            };
            entries.push(bytes.into());
        }
        let committed = Self {
            first_index,
            entries,
            pieces: Pieces::default(),
        };
        committed.check_terms()?;
        Ok(committed)
    }

    fn check_terms(&self) -> Result<(), Violation> {
        let mut before = 0;
        for entry in self.iter() {
            if entry.at.term < before {
                let what = format!(
                    "entry {} of term {} follows one of term {before}",
                    entry.at.log_index, entry.at.term
                );
                return Err(Violation::new(Check::W5, what));
            }
            before = entry.at.term;
        }
        Ok(())
    }

    /// Its first index: 0 or 1.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Its last index.
    pub fn last_index(&self) -> Option<u64> {
        let last = (self.entries.len() as u64).checked_sub(1)?;
        Some(self.first_index + last)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every entry, in order.
    pub fn iter(&self) -> impl Iterator<Item = CommittedEntry> {
        self.entries.iter().map(|bytes| {
            let record = decode(bytes).expect("encoded when it was read");
            CommittedEntry::new(record)
        })
    }
}

fn shown(bytes: &[u8]) -> String {
    match decode(bytes).map(CommittedEntry::new) {
        Ok(CommittedEntry { at, command }) => {
            let what = command.map_or("no command".into(), |command| command.to_string());
            format!("'{what}' of term {}", at.term)
        }
        Err(error) => error.to_string(),
    }
}
