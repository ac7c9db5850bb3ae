//! What a connection is doing, and how long it may.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::handed_over::Grant;
use crate::limits::{AHEAD_PATIENCE, Limits, READ_BYTES_PER_SECOND_MIN};

/// What a connection is doing. Only its own task looks, so the lock is never contended; it is
/// there because tasks move between threads.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Mutex<State>,
    half_close_grace: Duration,
}

#[derive(Debug)]
struct State {
    /// When the connection's task last began a turn: one look at the clock serves all that it does
    /// in it.
    now: Instant,
    phase: Phase,
    since: Instant,
    /// The caller has sent the start of a request that is not in work yet.
    head_began: bool,
    /// The caller has closed its side, seen during this request.
    half_closed: bool,
    /// When the request in work is given up.
    given_up: Option<Instant>,
    /// The socket takes no more of an answer for now.
    blocked: Option<Blocked>,
    /// What the answer on its way grants, if its caller waited for it.
    grant: Option<Grant>,
}

/// One after the other, for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request's head is arriving. A new connection starts here.
    Head,
    /// A request is in work. It bounds itself: its body by [`Limits::body_timeout`], its answer by
    /// its waiting window.
    Work,
    /// The same, and all of the request has been read: what comes now is the next request, or the
    /// caller's end.
    ReadWhole,
    /// An answer is being written.
    Answer,
    /// Between an answer and the next request.
    Idle,
}

/// A reader that is slower than its answer.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    since: Instant,
    /// What the socket has taken since then.
    bytes: usize,
}

impl Watch {
    pub(crate) fn new(half_close_grace: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            now,
            phase: Phase::Head,
            since: now,
            head_began: false,
            half_closed: false,
            given_up: None,
            blocked: None,
            grant: None,
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
            state.head_began = state.phase == Phase::Head;
        });
    }

    /// The caller closed its side. Whether the reader shall hear of it now: not while a request is
    /// in work that began less than [`Limits::half_close_grace`] ago, which goes on for so long. One
    /// that has been in work for longer stands in line, and every moment for which a gone caller
    /// stays there it could be granted what nobody will give back.
    pub(crate) fn half_closed(&self) -> bool {
        let grace = self.half_close_grace;
        self.change(|state| {
            if !state.in_work() {
                return true;
            }
            if !state.half_closed {
                if state.now - state.since >= grace {
                    return true;
                }
                state.half_closed = true;
                state.given_up = Some(state.now + grace);
            }
            false
        })
    }

    /// The caller sent more ahead than is kept, behind a request in work.
    pub(crate) fn crowded(&self) {
        self.change(|state| {
            if state.in_work() && state.given_up.is_none() {
                state.given_up = Some(state.now + AHEAD_PATIENCE);
            }
        });
    }

    /// Whether the caller closed its side while its request was in work.
    pub(crate) fn caller_left(&self) -> bool {
        self.change(|state| state.half_closed)
    }

    /// A request's head is complete.
    pub(crate) fn work_begins(&self) {
        self.change(|state| state.enter(Phase::Work));
    }

    /// The request's body has been read to its end.
    pub(crate) fn read_whole(&self) {
        self.change(|state| {
            if state.phase == Phase::Work {
                state.phase = Phase::ReadWhole;
            }
        });
    }

    /// Whether a request is in work of which nothing is left to read.
    pub(crate) fn is_read_whole(&self) -> bool {
        self.change(|state| state.phase == Phase::ReadWhole)
    }

    /// The answer is ready to be written.
    pub(crate) fn work_ends(&self, grant: Option<Grant>) {
        self.change(|state| {
            let half_closed = state.half_closed;
            state.enter(Phase::Answer);
            state.half_closed = half_closed;
            state.grant = grant;
        });
    }

    /// Whether an answer is being written that grants what its caller waited for.
    pub(crate) fn grants(&self) -> bool {
        self.change(|state| state.grant.is_some())
    }

    /// The socket took so many bytes of an answer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.change(|state| {
            if let Some(blocked) = &mut state.blocked {
                blocked.bytes += bytes;
            }
        });
    }

    /// The socket takes nothing more for now.
    pub(crate) fn blocked(&self) {
        self.change(|state| {
            let since = state.now;
            state.blocked.get_or_insert(Blocked { since, bytes: 0 });
        });
    }

    /// All that was to be written is with the socket.
    pub(crate) fn flushed(&self) {
        let grant = self.change(|state| {
            state.blocked = None;
            if state.phase == Phase::Answer {
                state.enter(Phase::Idle);
            }
            state.grant.take()
        });
        if let Some(grant) = grant {
            grant.handed_over();
        }
    }

    /// Whether a request's head has begun to arrive, and no more.
    pub(crate) fn is_within_head(&self) -> bool {
        self.change(|state| state.phase == Phase::Head && state.head_began)
    }

    /// When the connection is to be closed unless something happens before.
    pub(crate) fn deadline(&self, limits: &Limits, has_key: bool) -> Option<Instant> {
        self.change(|state| {
            let reader = state.blocked.map(|blocked| blocked.ends(limits));
            let phase = state.ends(limits, has_key);
            match (reader, phase) {
                (Some(reader), Some(phase)) => Some(reader.min(phase)),
                (reader, phase) => reader.or(phase),
            }
        })
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
        self.phase = phase;
        self.since = self.now;
        self.head_began = false;
        self.half_closed = false;
        self.given_up = None;
    }

    fn in_work(&self) -> bool {
        matches!(self.phase, Phase::Work | Phase::ReadWhole)
    }

    fn ends(&self, limits: &Limits, has_key: bool) -> Option<Instant> {
        let allowed = match self.phase {
            Phase::Head => limits.head_timeout,
            Phase::Work | Phase::ReadWhole => return self.given_up,
            // A reader that is too slow has a deadline of its own.
            Phase::Answer if self.blocked.is_some() => return None,
            Phase::Answer => limits.write_timeout,
            Phase::Idle if has_key => limits.idle_timeout,
            Phase::Idle => limits.keyless_idle_timeout,
        };
        Some(self.since + allowed)
    }
}

impl Blocked {
    /// A patience at first, and then a least rate: a byte now and then buys no time.
    fn ends(&self, limits: &Limits) -> Instant {
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1) * bytes / READ_BYTES_PER_SECOND_MIN;
        self.since + limits.write_timeout + earned
    }
}
