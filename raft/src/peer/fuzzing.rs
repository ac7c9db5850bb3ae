//! The readers of what a peer sends, for the fuzzers alone: there is no such module in a build that
//! is not theirs.
//!
//! Each function panics where something was read that does not come out again as it went in.

use bytes::Bytes;
use evermind_storage::codec;
use openraft::raft::{
    AppendEntriesResponse, StreamAppendResult, TransferLeaderResponse, VoteRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;

use super::frame::{FrameError, FrameReader, frame};
use super::hello::{Hello, Purpose, Word};
use super::session_snapshot::Piece;
use super::wire::{
    Answer, AnswerFrame, AppendAnswer, AppendReply, AppendResult, Ballot, Call, CallFrame, Forward,
    ForwardRef, Forwarded, Kind, SnapshotBegin, SnapshotReply, TransferAnswer, WireError,
    snapshot_chunk, value,
};
use super::wire_append::{append_body, append_frames, read_append};
use super::{FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, session_snapshot};

/// How a stream of frames ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Between two frames.
    Whole,
    /// Within a frame.
    CutShort,
    /// At a length that is not allowed.
    Length,
}

/// Reads frames as an accepted connection does: `handshake` of them by the bound of strangers, the
/// others by that of peers.
pub async fn frames(
    stream: impl AsyncRead + Unpin,
    handshake: usize,
    mut on: impl FnMut(&[u8]),
) -> End {
    let mut reader = FrameReader::new(stream, HANDSHAKE_FRAME_BYTES_MAX);
    for number in 0.. {
        if number == handshake {
            reader.allow(FRAME_BYTES_MAX);
        }
        match reader.next().await {
            Ok(Some(body)) => on(&body),
            Ok(None) => return End::Whole,
            Err(FrameError::CutShort) => return End::CutShort,
            Err(FrameError::Length { .. }) => return End::Length,
            Err(FrameError::Io(error)) => panic!("the stream of a fuzzer fails: {error}"),
        }
    }
    unreachable!("a stream has an end")
}

/// A frame around a body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    frame(|out| out.extend_from_slice(body))
}

/// Reads a frame of a handshake; says whether it is one.
pub fn word(body: &[u8]) -> bool {
    let Ok(word) = Word::read(body) else {
        return false;
    };
    let again = word.frame();
    assert!(again.len() <= 4 + HANDSHAKE_FRAME_BYTES_MAX);
    assert_eq!(Word::read(&again[4..]).ok().as_ref(), Some(&word));
    if let Word::Hello(theirs) = word {
        let ours = Hello {
            node: theirs.to,
            to: theirs.node,
            ..theirs.clone()
        };
        assert_eq!(ours.check(&theirs).is_ok(), theirs.node != theirs.to);
        let contact = theirs.clone().contact();
        assert_eq!((contact.node, contact.disk), (theirs.node, theirs.disk));
    }
    true
}

/// Reads a frame as either end of any connection does; says whether it has a place on one.
pub fn message(body: &[u8]) -> bool {
    let Ok((kind, body)) = Kind::split(Bytes::copy_from_slice(body)) else {
        return false;
    };
    let read = match kind {
        Kind::Ping | Kind::Pong => Ok(()),
        Kind::Call => same(kind, &body, |frame: CallFrame| CallFrame {
            id: frame.id,
            call: call(frame.call),
        }),
        Kind::Answer => same(kind, &body, |frame: AnswerFrame| AnswerFrame {
            id: frame.id,
            answer: answer(frame.answer),
        }),
        Kind::Append => append(&body),
        Kind::AppendReply => same(kind, &body, |reply: AppendReply| AppendReply {
            stream: reply.stream,
            result: append_result(reply.result),
        }),
        Kind::Forward => forward(&body),
        Kind::Forwarded => same(kind, &body, |forwarded: Forwarded| forwarded),
        Kind::SnapshotBegin | Kind::SnapshotChunk | Kind::SnapshotEnd => piece(kind, body),
        Kind::SnapshotReply => same(kind, &body, |reply: SnapshotReply| reply),
    };
    read.is_ok()
}

/// Reads a value, takes it through openraft's shape of it, and reads what is written of that.
fn same<T: Serialize + DeserializeOwned>(
    kind: Kind,
    body: &[u8],
    through: impl Fn(T) -> T,
) -> Result<(), WireError> {
    let first: T = value(body)?;
    let written = kind.with(&first);
    let again: T = value(&written[5..]).expect("what we write we read");
    assert_eq!(kind.with(&again), written);
    assert_eq!(kind.with(&through(again)), written);
    Ok(())
}

fn call(call: Call) -> Call {
    match call {
        Call::Append(body) => {
            if let Ok((_, request)) = read_append(&body) {
                let written = append_body(&request);
                let (_, again) = read_append(&written).expect("what we write we read");
                assert_eq!(append_body(&again), written);
            }
            Call::Append(body)
        }
        Call::Vote(ballot) => Call::Vote(Ballot::from(VoteRequest::from(ballot))),
        Call::PreVote(ballot) => Call::PreVote(Ballot::from(VoteRequest::from(ballot))),
        Call::TransferLeader { from, to, last } => {
            let last = last.map(Into::into);
            openraft::raft::TransferLeaderRequest::new(from.into(), to, last).into()
        }
        Call::ReadIndex => Call::ReadIndex,
    }
}

fn answer(answer: Answer) -> Answer {
    match answer {
        Answer::Append(answer) => Answer::from(AppendEntriesResponse::from(answer)),
        Answer::TransferLeader(answer) => {
            let through = TransferLeaderResponse::from(answer);
            Answer::TransferLeader(TransferAnswer::from(through))
        }
        other => other,
    }
}

/// As a follower makes them; what it never says is left as it is.
fn append_result(result: AppendResult) -> AppendResult {
    let said: StreamAppendResult<_> = match result {
        AppendResult::Matching(id) => Ok(id.map(Into::into)),
        AppendResult::HigherVote(vote) => {
            Err(openraft::raft::StreamAppendError::HigherVote(vote.into()))
        }
        AppendResult::Conflict(id) => Err(openraft::raft::StreamAppendError::Conflict(id.into())),
        other => return other,
    };
    AppendResult::from(Ok(said))
}

fn forward(body: &[u8]) -> Result<(), WireError> {
    let Forward { id, command } = value(body)?;
    let written = Kind::Forward.with(&ForwardRef {
        id,
        command: &command,
    });
    let again: Forward = value(&written[5..]).expect("what we write we read");
    assert_eq!((again.id, again.command), (id, command));
    Ok(())
}

/// What was read is sent on: the same entries, each frame going on where the one before it ended.
fn append(body: &[u8]) -> Result<(), WireError> {
    let (stream, request) = read_append(body)?;
    let mut prev = request.prev_log_id;
    let mut entries = Vec::new();
    for frame in append_frames(stream, &request) {
        assert!(frame.len() - 4 <= FRAME_BYTES_MAX, "{} bytes", frame.len());
        let (same, part) = read_append(&frame[5..]).expect("what we write we read");
        assert_eq!(same, stream);
        assert_eq!(part.vote, request.vote);
        assert_eq!(part.leader_commit, request.leader_commit);
        assert_eq!(part.prev_log_id, prev);
        prev = part.entries.last().map(|entry| entry.log_id).or(prev);
        entries.extend(part.entries);
    }
    assert_eq!(entries, request.entries);
    Ok(())
}

fn piece(kind: Kind, body: Bytes) -> Result<(), WireError> {
    match session_snapshot::read(kind, body)? {
        Piece::Begin(begin) => {
            // Voters that the nodes forgot are among them afterwards: so twice.
            let bytes = begin.bytes;
            let (vote, meta) = begin.into_parts();
            let again = SnapshotBegin::new(vote, &meta, bytes);
            let written = codec::encode(&again);
            let (vote, meta) = value::<SnapshotBegin>(&written)?.into_parts();
            assert_eq!(
                codec::encode(&SnapshotBegin::new(vote, &meta, bytes)),
                written
            );
        }
        Piece::Chunk(offset, bytes) => {
            let written = snapshot_chunk(offset, &bytes);
            let body = Bytes::copy_from_slice(&written[5..]);
            let again = session_snapshot::read(kind, body)?;
            assert!(matches!(again, Piece::Chunk(o, b) if o == offset && b == bytes));
        }
        Piece::End => {}
    }
    Ok(())
}

/// One well-formed frame's body of each kind and shape: where a corpus begins.
pub fn samples() -> Vec<Vec<u8>> {
    use evermind_storage::entry::{LogIdRecord, StoredMembershipRecord, VoteRecord};

    let vote = VoteRecord {
        term: 3,
        node: 1,
        committed: true,
    };
    let id = LogIdRecord { term: 3, index: 10 };
    let hello = Hello {
        cluster: [7; 16],
        node: 1,
        to: 2,
        disk: 0x0102_0304,
        boot: 3,
        http: "http://a:1".into(),
        purpose: Purpose::Control,
        secret: true,
        nonce: [9; 32],
    };
    let ballot = || Ballot::from(VoteRequest::new(vote.into(), Some(id.into())));
    let calls = [
        Call::Append(append_body(&sample_append())),
        Call::Vote(ballot()),
        Call::PreVote(ballot()),
        Call::TransferLeader {
            from: vote,
            to: 2,
            last: Some(id),
        },
        Call::ReadIndex,
    ];
    let answers = [
        Answer::Append(AppendAnswer::Partial(Some(id))),
        Answer::Append(AppendAnswer::HigherVote(vote)),
        Answer::Vote {
            vote,
            granted: true,
            last: None,
        },
        Answer::TransferLeader(TransferAnswer::VoteChanged {
            expected: vote,
            actual: vote,
        }),
        Answer::ReadIndex(Ok(id)),
        Answer::ReadIndex(Err(Some(2))),
        Answer::Failed("no".into()),
    ];
    let replies = [
        AppendResult::Matching(Some(id)),
        AppendResult::Conflict(id),
        AppendResult::HigherVote(vote),
        AppendResult::Discarded,
        AppendResult::Failed("no".into()),
    ];
    let begin = SnapshotBegin {
        vote,
        last: Some(id),
        membership: StoredMembershipRecord::default(),
        bytes: 100,
    };
    let mut frames = vec![
        Word::Hello(hello).frame(),
        Word::Proof([1; 32]).frame(),
        Word::Verdict {
            refusal: None,
            proof: [2; 32],
        }
        .frame(),
        Kind::Ping.bare(),
        Kind::SnapshotBegin.with(&begin),
        snapshot_chunk(0, b"EVMSNAP"),
        Kind::SnapshotEnd.bare(),
        Kind::SnapshotReply.with(&SnapshotReply::Received(9)),
        Kind::SnapshotReply.with(&SnapshotReply::Done(vote)),
    ];
    frames.extend(append_frames(5, &sample_append()));
    frames.extend(
        (1..)
            .zip(calls)
            .map(|(id, call)| Kind::Call.with(&CallFrame { id, call })),
    );
    let answer = |(id, answer)| Kind::Answer.with(&AnswerFrame { id, answer });
    frames.extend((1..).zip(answers).map(answer));
    let reply = |result| Kind::AppendReply.with(&AppendReply { stream: 5, result });
    frames.extend(replies.map(reply));
    for command in sample_commands() {
        frames.push(Kind::Forward.with(&ForwardRef {
            id: 1,
            command: &command,
        }));
    }
    frames
        .into_iter()
        .map(|frame| frame[4..].to_vec())
        .collect()
}

fn sample_commands() -> Vec<evermind_lock::command::Command> {
    use evermind_lock::command::{Acquire, Action, Command, KeyId, OpId, Operation, Release};
    use evermind_lock::names::{Holder, Key};

    let key = Key::new("a/b").expect("a key");
    let holder = Holder::new("u").expect("a holder");
    let operation = Some(Operation {
        id: OpId {
            node: 1,
            boot: 2,
            sequence: 3,
        },
        answered_below: 2,
    });
    let acquire = Action::Acquire(Acquire {
        caller: KeyId(1),
        key: key.clone(),
        holder: holder.clone(),
        lease_ms: 10_000,
        retry_attempts: 10,
        window_ms: 5_000,
        fifo: true,
        idempotency: None,
    });
    let release = Action::Release(Release {
        caller: KeyId(1),
        key,
        holder,
        idempotency: None,
    });
    let actions = [acquire, release, Action::Expire];
    actions.map(|action| Command { operation, action }).into()
}

fn sample_append() -> openraft::raft::AppendEntriesRequest<evermind_storage::types::TypeConfig> {
    use evermind_lock::command::Stamp;
    use evermind_storage::types::{Entry, LogId, Proposal, Vote};
    use openraft::{EntryPayload, Membership};

    let stamp = Stamp {
        cluster_ms: 7,
        term: 3,
        wall_ms: 1_700_000_000_000,
    };
    let proposals = sample_commands().into_iter();
    let proposals = proposals.map(|command| {
        EntryPayload::Normal(Proposal {
            stamp,
            command: command.into(),
        })
    });
    let members = Membership::new_with_defaults(vec![[1, 2, 3].into()], [4]);
    let payloads = [EntryPayload::Blank, EntryPayload::Membership(members)];
    let entries = payloads.into_iter().chain(proposals).zip(10..);
    openraft::raft::AppendEntriesRequest {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(LogId::new_term_index(2, 9)),
        entries: entries
            .map(|(payload, index)| Entry {
                log_id: LogId::new_term_index(3, index),
                payload,
            })
            .collect(),
        leader_commit: Some(LogId::new_term_index(2, 8)),
    }
}
