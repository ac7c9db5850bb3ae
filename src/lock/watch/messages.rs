//! What the guard and the watch tell each other: one JSON text per line, over a socket pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use evermind_client::Moment;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::lock::processes::Process;

/// When the command has to end, unless it is told otherwise before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::lock) struct Term {
    term_at: Duration,
    kill_at: Duration,
}

impl Term {
    pub(in crate::lock) fn new(term_at: Moment, kill_at: Moment) -> Self {
        Self {
            term_at: term_at.since_boot(),
            kill_at: kill_at.since_boot(),
        }
    }

    /// When it is asked to end.
    pub(in crate::lock) fn term_at(self) -> Moment {
        Moment::at_since_boot(self.term_at)
    }

    /// When it is killed.
    pub(in crate::lock) fn kill_at(self) -> Moment {
        Moment::at_since_boot(self.kill_at)
    }
}

/// From the guard to the watch.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::lock) enum Order {
    /// Comes first, with the guard's stdin.
    Start {
        words: Vec<Vec<u8>>,
        /// The guard's process group, if the watch has one of its own.
        group: Option<i32>,
        /// The signals that the command is to start with blocked.
        blocked: Vec<i32>,
        term: Term,
    },
    /// The lock was extended, or is lost and the command has to end sooner.
    Term(Term),
    /// The command gets this signal.
    Signal(i32),
    /// A stopped command goes on.
    Continue,
}

/// From the watch to the guard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::lock) enum Report {
    /// The command runs under this number.
    Started(i32),
    NotStarted(String),
    /// The command was stopped by this signal.
    Stopped(i32),
    /// The term is over: the command and all that it started were asked to end.
    Ending,
    /// The command ended: its code, or the signal that ended it.
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// The last: nothing is left but what is said here.
    Done(Leftovers),
}

/// What the command left running.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::lock) struct Leftovers {
    /// Was ended.
    pub(in crate::lock) ended: Vec<Process>,
    /// Runs on in a session of its own, as a daemon does.
    pub(in crate::lock) daemons: Vec<Process>,
    /// Could not be ended.
    pub(in crate::lock) stuck: Vec<Process>,
}

/// A message as a line.
pub(in crate::lock) fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("it has no maps and no floats");
    line.push(b'\n');
    line
}

/// Takes the first whole line, if there is one.
pub(in crate::lock) fn take<T: for<'de> Deserialize<'de>>(
    buffer: &mut Vec<u8>,
) -> io::Result<Option<T>> {
    let Some(end) = buffer.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line: Vec<u8> = buffer.drain(..=end).collect();
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Sends a byte with a descriptor.
pub(in crate::lock) fn send_descriptor(socket: impl AsFd, descriptor: impl AsFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        socket,
        &[IoSlice::new(b"\n")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives what [`send_descriptor`] sent.
pub(in crate::lock) fn receive_descriptor(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("no descriptor came with the first byte"))
}
