//! One connection: two directions, two ends.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::ReadBuf;

use super::HostId;

/// Bytes that a sender may have sent without knowing that they arrived, and a receiver may have
/// without reading them: more make the sender wait.
const WINDOW_BYTES: usize = 256 << 10;

/// What travels.
#[derive(Debug, Clone)]
pub(super) enum Segment {
    Bytes(Bytes),
    /// No more bytes come.
    End,
    /// The connection is gone.
    Reset,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Segment::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Segment::End => f.write_str("end"),
            Segment::Reset => f.write_str("reset"),
        }
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// On its way, with the moment of its arrival; `None` behind a cut.
    flight: VecDeque<(Option<u64>, Segment)>,
    last_due_us: u64,
    arrived: BytesMut,
    ended: bool,
    reset: bool,
    /// Sent and, as far as the sender knows, not arrived.
    unacknowledged: usize,
    /// Arrived without the sender knowing.
    to_acknowledge: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// An end, as its machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Its process has closed it.
    Closed,
    /// Its machine lost its power.
    Vanished,
}

/// Side 0 dialed, side 1 accepted; pipe `n` leads away from side `n`.
pub(super) struct Connection {
    hosts: [HostId; 2],
    ends: [End; 2],
    pipes: [Pipe; 2],
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Connection {
    pub(super) fn new(from: HostId, to: HostId) -> Self {
        Self {
            hosts: [from, to],
            ends: [End::Open; 2],
            pipes: [Pipe::default(), Pipe::default()],
        }
    }

    /// Where what `side` sends comes from and goes to.
    pub(super) fn direction(&self, side: usize) -> (HostId, HostId) {
        (self.hosts[side], self.hosts[1 - side])
    }

    /// Which sides send along this link.
    pub(super) fn sides(&self, from: HostId, to: HostId) -> Vec<usize> {
        [0, 1]
            .into_iter()
            .filter(|side| self.direction(*side) == (from, to))
            .collect()
    }

    pub(super) fn push(&mut self, side: usize, due: Option<u64>, what: Segment) {
        let pipe = &mut self.pipes[side];
        if let Segment::Bytes(bytes) = &what {
            pipe.unacknowledged += bytes.len();
        }
        // In order: what waits behind a cut holds up what comes after it.
        let held = pipe.flight.back().is_some_and(|(due, _)| due.is_none());
        let due = due.filter(|_| !held).map(|due| due.max(pipe.last_due_us));
        pipe.last_due_us = due.unwrap_or(pipe.last_due_us);
        pipe.flight.push_back((due, what));
    }

    /// The link is cut: what is under way does not arrive. How many segments that is.
    pub(super) fn hold(&mut self, side: usize) -> u64 {
        let flight = &mut self.pipes[side].flight;
        for (due, _) in flight.iter_mut() {
            *due = None;
        }
        flight.len() as u64
    }

    /// The link is whole: what waits arrives at this moment.
    pub(super) fn resume(&mut self, side: usize, at_us: u64) {
        let pipe = &mut self.pipes[side];
        for (due, _) in pipe.flight.iter_mut().filter(|(due, _)| due.is_none()) {
            *due = Some(at_us);
            pipe.last_due_us = pipe.last_due_us.max(at_us);
        }
    }

    pub(super) fn is_due(&self, side: usize, now_us: u64) -> bool {
        matches!(self.pipes[side].flight.front(), Some((Some(due), _)) if *due <= now_us)
    }

    /// Everything on this side's way comes later.
    pub(super) fn delay(&mut self, side: usize, until_us: u64) {
        let pipe = &mut self.pipes[side];
        for (due, _) in &mut pipe.flight {
            *due = due.map(|due| due.max(until_us));
        }
        pipe.last_due_us = pipe.last_due_us.max(until_us);
    }

    pub(super) fn drop_first(&mut self, side: usize) {
        self.pipes[side].flight.pop_front();
    }

    /// The first segment under way from `side` arrives.
    pub(super) fn arrive(&mut self, side: usize, acknowledged: bool) -> Segment {
        let (_, what) = self.pipes[side].flight.pop_front().expect("it was due");
        let gone = self.ends[1 - side] == End::Closed;
        let pipe = &mut self.pipes[side];
        match &what {
            Segment::Bytes(bytes) if !gone => {
                pipe.arrived.extend_from_slice(bytes);
                pipe.to_acknowledge += bytes.len();
            }
            // Bytes for a socket that its process has closed: its kernel answers with a reset.
            Segment::Bytes(_) => self.reset(side),
            Segment::End => pipe.ended = true,
            Segment::Reset => {
                pipe.reset = true;
                self.reset(side);
            }
        }
        if acknowledged {
            self.acknowledge(side);
        }
        wake(&mut self.pipes[side].reader);
        what
    }

    /// The sender learns what arrived.
    pub(super) fn acknowledge(&mut self, side: usize) {
        let pipe = &mut self.pipes[side];
        let arrived = std::mem::take(&mut pipe.to_acknowledge);
        if arrived > 0 {
            pipe.unacknowledged -= arrived;
            wake(&mut pipe.writer);
        }
    }

    /// `side` finds its connection gone, whatever it does next.
    pub(super) fn reset(&mut self, side: usize) {
        self.pipes[side].flight.clear();
        self.pipes[1 - side].reset = true;
        for pipe in &mut self.pipes {
            wake(&mut pipe.reader);
            wake(&mut pipe.writer);
        }
    }

    pub(super) fn vanish(&mut self, host: HostId) {
        for side in [0, 1] {
            if self.hosts[side] == host && self.ends[side] == End::Open {
                self.ends[side] = End::Vanished;
                // What is on the wire arrives; what waits to be sent again does not.
                self.pipes[side].flight.retain(|(due, _)| due.is_some());
            }
        }
    }

    pub(super) fn has_vanished(&self, side: usize) -> bool {
        self.ends[side] == End::Vanished
    }

    /// Its process closes its end. What is to be sent then.
    pub(super) fn close(&mut self, side: usize) -> Option<Segment> {
        if self.ends[side] != End::Open {
            return None;
        }
        self.ends[side] = End::Closed;
        let unread = !self.pipes[1 - side].arrived.is_empty();
        self.pipes[1 - side].arrived.clear();
        Some(if unread { Segment::Reset } else { Segment::End })
    }

    pub(super) fn is_over(&self) -> bool {
        let silent = |side: usize| {
            self.ends[side] != End::Open
                && (self.pipes[side].flight.is_empty() || self.ends[1 - side] != End::Open)
        };
        silent(0) && silent(1)
    }

    pub(super) fn poll_read(
        &mut self,
        side: usize,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut self.pipes[1 - side];
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !pipe.arrived.is_empty() {
            let count = pipe.arrived.len().min(buffer.remaining());
            buffer.put_slice(&pipe.arrived[..count]);
            pipe.arrived.advance(count);
            // There is room again.
            wake(&mut pipe.writer);
            return Poll::Ready(Ok(()));
        }
        if pipe.ended {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether `side` may send now.
    pub(super) fn poll_room(&mut self, side: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pipes[1 - side].reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.ends[side] != End::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let pipe = &mut self.pipes[side];
        if pipe.unacknowledged + pipe.arrived.len() >= WINDOW_BYTES {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}
