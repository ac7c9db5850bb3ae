//! What a connection is doing, and how long it may.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// What a connection is doing. Only its own task looks, so the lock is never contended; it is
/// there because tasks move between threads.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Mutex<State>,
    half_close_grace: Duration,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the connection's task last began a turn: one look at the clock serves all that it does
    /// in it.
    now: Instant,
    phase: Phase,
    since: Instant,
    /// The caller has closed its side, seen during this request.
    half_closed: bool,
}

/// One after the other, for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request's head is arriving. A new connection starts here.
    Head,
    /// A request is in work. It bounds itself: its body by [`Limits::body_timeout`], its answer by
    /// its waiting window.
    Work,
    /// An answer is being written.
    Answer,
    /// Between an answer and the next request.
    Idle,
}

impl Watch {
    pub(crate) fn new(half_close_grace: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            now,
            phase: Phase::Head,
            since: now,
            half_closed: false,
        };
        Self {
            state: Mutex::new(state),
            half_close_grace,
        }
    }

    /// The connection's task begins a turn.
    pub(crate) fn turns(&self) {
        self.change(|state| state.now = Instant::now());
    }

    /// Bytes came in.
    pub(crate) fn received(&self) {
        self.change(|state| {
            if state.phase == Phase::Idle {
                state.enter(Phase::Head);
            }
        });
    }

    /// The caller closed its side. Whether the reader shall hear of it now: not while a request is
    /// in work that began less than [`Limits::half_close_grace`] ago, which goes on for so long. One
    /// that has been in work for longer stands in line, and every moment for which a gone caller
    /// stays there it could be granted what nobody will give back.
    pub(crate) fn half_closed(&self) -> bool {
        self.change(|state| {
            if state.phase != Phase::Work {
                return true;
            }
            if !state.half_closed {
                if state.now - state.since >= self.half_close_grace {
                    return true;
                }
                state.half_closed = true;
                state.since = state.now;
            }
            false
        })
    }

    /// Whether the caller closed its side while its request was in work.
    pub(crate) fn caller_left(&self) -> bool {
        self.change(|state| state.half_closed)
    }

    /// A request's head is complete.
    pub(crate) fn work_begins(&self) {
        self.change(|state| state.enter(Phase::Work));
    }

    /// The answer is ready to be written.
    pub(crate) fn work_ends(&self) {
        self.change(|state| state.enter(Phase::Answer));
    }

    /// Some bytes of the answer were taken by the socket.
    pub(crate) fn sent(&self) {
        self.change(|state| {
            if state.phase == Phase::Answer {
                state.since = state.now;
            }
        });
    }

    /// All that was to be written is with the socket.
    pub(crate) fn flushed(&self) {
        self.change(|state| {
            if state.phase == Phase::Answer {
                state.enter(Phase::Idle);
            }
        });
    }

    /// When the connection is to be closed unless something happens before.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        self.change(|state| Some(state.since + state.allowed(limits)?))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // No code that holds it can panic, so it cannot be poisoned halfway through a change.
        change(
            &mut self
                .state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        *self = State {
            now: self.now,
            phase,
            since: self.now,
            half_closed: false,
        };
    }

    fn allowed(&self, limits: &Limits) -> Option<Duration> {
        match self.phase {
            Phase::Head => Some(limits.head_timeout),
            Phase::Work => self.half_closed.then_some(limits.half_close_grace),
            Phase::Answer => Some(limits.write_timeout),
            Phase::Idle => Some(limits.idle_timeout),
        }
    }
}
