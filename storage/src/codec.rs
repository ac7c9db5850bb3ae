//! The one place where bytes that are kept or sent are made and read: bincode, behind a version
//! byte and a size limit.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of every encoding this build writes, and of the rules by which it applies commands: nodes
/// that apply one log by different rules have different tables. Raised with either.
pub const VERSION: u8 = 4;

/// The most bytes one value may decode to or from: a peer or a disk cannot make us allocate more.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Nothing there at all.
    #[error("no bytes where a value should be")]
    Empty,
    /// Written by another version.
    #[error("written in format version {0}, this build reads version {VERSION}")]
    Version(u8),
    /// Damaged, or not ours.
    #[error("not a value of ours: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// More bytes than the value has.
    #[error("{0} bytes too many after a value")]
    Trailing(usize),
}

fn config() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<VALUE_BYTES_MAX>,
> {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

/// Appends a value's bytes to `out`.
///
/// # Panics
/// If the value cannot be encoded: our types all can, and are bounded far below the limit.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.push(VERSION);
    bincode::serde::encode_into_std_write(value, out, config()).expect("our own values encode");
}

/// A value's bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    encode_into(value, &mut out);
    out
}

/// Reads a value that takes up all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config())?;
    if used != body.len() {
        return Err(CodecError::Trailing(body.len() - used));
    }
    Ok(value)
}
