//! What goes over an open connection: our own structs, each with the codec's version byte, never
//! openraft's shapes.
//!
//! A frame's first byte is its [`Kind`], then comes one value, but for two kinds laid out by hand:
//! an append (see [`super::wire_append`]) and a piece of a snapshot: `offset: u64`, then the bytes.

use bytes::{Buf, Bytes};
use evermind_lock::command::{Command, NodeId};
use evermind_storage::codec::{self, CodecError};
use evermind_storage::entry::{LogIdRecord, StoredMembershipRecord, VoteRecord};
use evermind_storage::types::{SnapshotMeta, TypeConfig, Vote};
use openraft::raft::{
    AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::frame;
use super::handler::HandlerError;

/// Bytes of an error's text that are sent.
const REASON_BYTES_MAX: usize = 256;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Ping = 1,
    Pong = 2,
    Call = 3,
    Answer = 4,
    Append = 5,
    AppendReply = 6,
    Forward = 7,
    Forwarded = 8,
    SnapshotBegin = 9,
    SnapshotChunk = 10,
    SnapshotEnd = 11,
    SnapshotReply = 12,
}

/// What a peer sent makes no sense.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a frame that has no place on this connection: {0:?}")]
    OutOfPlace(Kind),
    #[error("a frame cut short")]
    Short,
    #[error("more is in flight than allowed")]
    TooMuch,
    #[error("{0}, which is not its own to send")]
    NotItsOwn(&'static str),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Kind {
    /// Takes a frame's kind off its body.
    pub(super) fn split(mut frame: Bytes) -> Result<(Self, Bytes), WireError> {
        let kind = match frame.try_get_u8().map_err(|_| WireError::Short)? {
            1 => Kind::Ping,
            2 => Kind::Pong,
            3 => Kind::Call,
            4 => Kind::Answer,
            5 => Kind::Append,
            6 => Kind::AppendReply,
            7 => Kind::Forward,
            8 => Kind::Forwarded,
            9 => Kind::SnapshotBegin,
            10 => Kind::SnapshotChunk,
            11 => Kind::SnapshotEnd,
            12 => Kind::SnapshotReply,
            other => return Err(WireError::Kind(other)),
        };
        Ok((kind, frame))
    }

    /// A frame of this kind with nothing in it.
    pub(super) fn bare(self) -> Vec<u8> {
        frame(|out| out.push(self as u8))
    }

    /// A frame of this kind with one value in it.
    pub(super) fn with<T: Serialize>(self, value: &T) -> Vec<u8> {
        frame(|out| {
            out.push(self as u8);
            codec::encode_into(value, out);
        })
    }
}

/// Reads a frame's one value.
pub(super) fn value<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    Ok(codec::decode(body)?)
}

/// One call of a control connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallFrame {
    pub id: u64,
    pub call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    /// The body of an append frame.
    Append(Vec<u8>),
    Vote(Ballot),
    PreVote(Ballot),
    TransferLeader {
        from: VoteRecord,
        to: NodeId,
        last: Option<LogIdRecord>,
    },
    ReadIndex,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ballot {
    pub(super) vote: VoteRecord,
    last: Option<LogIdRecord>,
    leadership_transfer: bool,
}

impl From<VoteRequest<TypeConfig>> for Ballot {
    fn from(request: VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: request.vote.into(),
            last: request.last_log_id.map(Into::into),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl From<Ballot> for VoteRequest<TypeConfig> {
    fn from(ballot: Ballot) -> Self {
        VoteRequest {
            vote: ballot.vote.into(),
            last_log_id: ballot.last.map(Into::into),
            leadership_transfer: ballot.leadership_transfer,
        }
    }
}

impl From<TransferLeaderRequest<TypeConfig>> for Call {
    fn from(request: TransferLeaderRequest<TypeConfig>) -> Self {
        Call::TransferLeader {
            from: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(Into::into),
        }
    }
}

/// The answer to one call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AnswerFrame {
    pub id: u64,
    pub answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Append(AppendAnswer),
    Vote {
        vote: VoteRecord,
        granted: bool,
        last: Option<LogIdRecord>,
    },
    TransferLeader(TransferAnswer),
    ReadIndex(Result<LogIdRecord, Option<NodeId>>),
    Failed(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AppendAnswer {
    Success,
    Partial(Option<LogIdRecord>),
    Conflict,
    HigherVote(VoteRecord),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum TransferAnswer {
    Done,
    VoteChanged {
        expected: VoteRecord,
        actual: VoteRecord,
    },
    LogNotFlushed {
        expected: Option<LogIdRecord>,
        actual: Option<LogIdRecord>,
    },
}

impl Answer {
    pub(super) fn failed(error: &HandlerError) -> Self {
        Answer::Failed(reason(&error.0))
    }
}

/// An error's text, short enough to send.
pub(super) fn reason(text: &str) -> String {
    text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

impl From<AppendEntriesResponse<TypeConfig>> for Answer {
    fn from(response: AppendEntriesResponse<TypeConfig>) -> Self {
        Answer::Append(match response {
            AppendEntriesResponse::Success => AppendAnswer::Success,
            AppendEntriesResponse::PartialSuccess(id) => AppendAnswer::Partial(id.map(Into::into)),
            AppendEntriesResponse::Conflict => AppendAnswer::Conflict,
            AppendEntriesResponse::HigherVote(vote) => AppendAnswer::HigherVote(vote.into()),
        })
    }
}

impl From<AppendAnswer> for AppendEntriesResponse<TypeConfig> {
    fn from(answer: AppendAnswer) -> Self {
        match answer {
            AppendAnswer::Success => Self::Success,
            AppendAnswer::Partial(id) => Self::PartialSuccess(id.map(Into::into)),
            AppendAnswer::Conflict => Self::Conflict,
            AppendAnswer::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<VoteResponse<TypeConfig>> for Answer {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Answer::Vote {
            vote: response.vote.into(),
            granted: response.vote_granted,
            last: response.last_log_id.map(Into::into),
        }
    }
}

impl From<TransferLeaderResponse<TypeConfig>> for TransferAnswer {
    fn from(response: TransferLeaderResponse<TypeConfig>) -> Self {
        match response {
            Ok(()) => TransferAnswer::Done,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                TransferAnswer::VoteChanged {
                    expected: expected.into(),
                    actual: actual.into(),
                }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                TransferAnswer::LogNotFlushed {
                    expected: expected.map(Into::into),
                    actual: actual.map(Into::into),
                }
            }
        }
    }
}

impl From<TransferAnswer> for TransferLeaderResponse<TypeConfig> {
    fn from(answer: TransferAnswer) -> Self {
        Err(match answer {
            TransferAnswer::Done => return Ok(()),
            TransferAnswer::VoteChanged { expected, actual } => TransferLeaderError::VoteChanged {
                expected: expected.into(),
                actual: actual.into(),
            },
            TransferAnswer::LogNotFlushed { expected, actual } => {
                TransferLeaderError::LogNotFlushed {
                    expected: expected.map(Into::into),
                    actual: actual.map(Into::into),
                }
            }
        })
    }
}

/// The reply to one append request of a stream. Every request gets one, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppendReply {
    pub stream: u64,
    pub result: AppendResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum AppendResult {
    Matching(Option<LogIdRecord>),
    Conflict(LogIdRecord),
    HigherVote(VoteRecord),
    /// Its stream had ended before.
    Discarded,
    Failed(String),
}

impl From<Result<StreamAppendResult<TypeConfig>, HandlerError>> for AppendResult {
    fn from(result: Result<StreamAppendResult<TypeConfig>, HandlerError>) -> Self {
        match result {
            Ok(Ok(id)) => AppendResult::Matching(id.map(Into::into)),
            Ok(Err(StreamAppendError::Conflict(id))) => AppendResult::Conflict(id.into()),
            Ok(Err(StreamAppendError::HigherVote(vote))) => AppendResult::HigherVote(vote.into()),
            Err(error) => AppendResult::Failed(reason(&error.0)),
        }
    }
}

/// A forwarded command; the sender borrows it.
#[derive(Serialize)]
pub(super) struct ForwardRef<'a> {
    pub id: u64,
    pub command: &'a Command,
}

/// A forwarded command, received.
#[derive(Deserialize)]
pub(super) struct Forward {
    pub id: u64,
    pub command: Command,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Forwarded {
    pub id: u64,
    pub verdict: ForwardVerdict,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ForwardVerdict {
    Accepted,
    NotLeader(Option<NodeId>),
}

/// What a snapshot covers, and how long it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotBegin {
    pub vote: VoteRecord,
    pub last: Option<LogIdRecord>,
    pub membership: StoredMembershipRecord,
    pub bytes: u64,
}

impl SnapshotBegin {
    pub(super) fn new(vote: Vote, meta: &SnapshotMeta, bytes: u64) -> Self {
        Self {
            vote: vote.into(),
            last: meta.last_log_id.map(Into::into),
            membership: (&meta.last_membership).into(),
            bytes,
        }
    }

    pub(super) fn into_parts(self) -> (Vote, SnapshotMeta) {
        let meta = SnapshotMeta {
            last_log_id: self.last.map(Into::into),
            last_membership: self.membership.into(),
        };
        (self.vote.into(), meta)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SnapshotReply {
    /// So many bytes are written.
    Received(u64),
    /// All of it is there and being installed.
    Installing,
    /// Installed, or refused for a higher vote.
    Done(VoteRecord),
    Failed(String),
}

/// A piece of a snapshot.
pub(super) fn snapshot_chunk(offset: u64, bytes: &[u8]) -> Vec<u8> {
    frame(|out| {
        out.reserve(bytes.len() + 16);
        out.push(Kind::SnapshotChunk as u8);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(bytes);
    })
}

/// Where a piece of a snapshot belongs, and its bytes.
pub(super) fn read_snapshot_chunk(mut body: Bytes) -> Result<(u64, Bytes), WireError> {
    let offset = body.try_get_u64_le().map_err(|_| WireError::Short)?;
    Ok((offset, body))
}
