//! The reader of records, for the fuzzers alone: there is no such module in a build that is not
//! theirs.

use super::frame;
use super::record::{self, Record};

/// Reads a payload's records, and says how many there were before the first that cannot be read.
/// Panics where what was read does not come out again as it went in.
pub fn records(payload: &[u8]) -> usize {
    let mut used = 0;
    let mut count = 0;
    for read in record::records(payload) {
        let Ok((record, bytes)) = read else {
            break;
        };
        used += bytes;
        count += 1;
        let written = written(&record);
        let mut again = record::records(&written);
        let (same, length) = again.next().expect("one").expect("what we write we read");
        assert!(again.next().is_none());
        assert_eq!(length, written.len());
        assert_eq!(self::written(&same), written, "{record:?}");
    }
    assert!(used <= payload.len());
    count
}

fn written(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    match record {
        Record::Entry(entry) => record::put_entry(entry, &mut out),
        Record::Vote(vote) => record::put_vote(vote, &mut out),
        Record::Truncate(after) => record::put_truncate(*after, &mut out),
        Record::Purge(upto) => record::put_purge(upto, &mut out),
        Record::Committed(committed) => record::put_committed(committed, &mut out),
        Record::Head(head) => record::put_head(head, &mut out),
    }
    if !matches!(record, Record::Entry(_) | Record::Head(_)) {
        assert!(out.len() <= record::SMALL_RECORD_BYTES_MAX);
    }
    out
}

/// A record of a kind, its body whatever it is.
pub fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let length = u32::try_from(body.len()).expect("a fuzzer's input is short");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// A frame whose checksums hold, whatever is in it.
pub fn framed(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(sequence, payload, &mut out);
    out
}
