//! Recent entries, decoded: replication and apply read every entry back.

use std::collections::VecDeque;

use crate::types::Entry;

/// The newest entries of the log, without a gap.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: VecDeque<(Entry, usize)>,
    /// Encoded bytes of `entries`.
    bytes: usize,
}

impl Cache {
    /// The lowest index in here.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    /// Adds the next entry and its encoded length.
    pub(super) fn push(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
    }

    /// Forgets entries from `index` on.
    pub(super) fn cut(&mut self, index: u64) {
        while let Some((entry, bytes)) = self.entries.back()
            && entry.log_id.index >= index
        {
            self.bytes -= bytes;
            self.entries.pop_back();
        }
    }

    /// Forgets entries below `index`.
    pub(super) fn purge_below(&mut self, index: u64) {
        self.pop_while(|first, _| first < index);
    }

    /// Forgets the oldest entries below `index` until at most `bytes_max` bytes are left.
    pub(super) fn shrink(&mut self, bytes_max: usize, index: u64) {
        self.pop_while(|first, bytes| bytes > bytes_max && first < index);
    }

    fn pop_while(&mut self, gone: impl Fn(u64, usize) -> bool) {
        while let Some((entry, bytes)) = self.entries.front()
            && gone(entry.log_id.index, self.bytes)
        {
            self.bytes -= bytes;
            self.entries.pop_front();
        }
    }

    /// Entries of `[start, end)`: all that are here, but no more than `bytes_max` bytes and
    /// always one if there is one.
    pub(super) fn read(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.first_index() else {
            return Vec::new();
        };
        let count = self.entries.len();
        let place = |index: u64| {
            usize::try_from(index.saturating_sub(first)).map_or(count, |at| at.min(count))
        };
        let from = place(start);
        let to = place(end).max(from);
        let mut bytes = 0;
        let mut until = from;
        for (_, entry_bytes) in self.entries.range(from..to) {
            bytes += entry_bytes;
            if bytes > bytes_max && until > from {
                break;
            }
            until += 1;
        }
        let read = self.entries.range(from..until);
        read.map(|(entry, _)| entry.clone()).collect()
    }
}
