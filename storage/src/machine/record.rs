//! Records of the lease table as bytes: the same in checkpoints and snapshots, so that the digest
//! of one says something about the other.

use evermind_lock::record::{Record, RecordKey};
use twox_hash::XxHash3_128;

use crate::codec::{self, CodecError};

/// A record's key and value as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawRecord {
    /// The encoded key.
    pub(super) key: Vec<u8>,
    /// The encoded record.
    pub(super) value: Vec<u8>,
}

impl RawRecord {
    /// A record's bytes.
    pub(super) fn new(key: &RecordKey, record: &Record) -> Self {
        Self {
            key: codec::encode(key),
            value: codec::encode(record),
        }
    }
}

/// Reads a record's bytes.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<(RecordKey, Record), CodecError> {
    Ok((codec::decode(key)?, codec::decode(value)?))
}

/// A digest of a set of records that is kept up to date record by record: the sum of their hashes.
/// It finds damage and bugs; it is no protection from forgery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl Digest {
    /// The digest to keep.
    pub(super) fn sum(self) -> u128 {
        self.0
    }

    /// A record came.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(hash(key, value));
    }

    /// A record went.
    pub(super) fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(hash(key, value));
    }
}

/// Key and value are hashed apart, the value under the key's hash as its seed: no shift of the
/// border between them gives the same hash.
fn hash(key: &[u8], value: &[u8]) -> u128 {
    let key = XxHash3_128::oneshot(key);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let seed = (key as u64) ^ ((key >> 64) as u64);
    XxHash3_128::oneshot_with_seed(seed, value)
}
