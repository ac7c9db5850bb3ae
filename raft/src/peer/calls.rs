//! The control connection: calls and their answers, in any order.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::CALLS_IN_FLIGHT_MAX;
use super::hello::Purpose;
use super::lane::{Lane, Line};
use super::outbox::NotQueued;
use super::pending::{NoTicket, Pending};
use super::wire::{Answer, AnswerFrame, Call, CallFrame, Kind, WireError, value};

/// The dialed end of a control connection.
pub(super) struct Calls {
    line: Line,
    pending: Pending<Answer>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("too many calls are open")]
    Full,
    #[error("the connection was lost")]
    Lost,
    #[error("no answer in time")]
    TooSlow,
}

impl Calls {
    /// Calls, and waits for the answer up to `within`.
    pub(super) async fn call(&self, call: Call, within: Duration) -> Result<Answer, CallError> {
        let ticket = self.pending.open().map_err(|error| match error {
            NoTicket::Full => CallError::Full,
            NoTicket::Closed => CallError::Lost,
        })?;
        let frame = Kind::Call.with(&CallFrame {
            id: ticket.id,
            call,
        });
        // The queue holds all that may be in flight.
        self.line.try_ask(frame).map_err(|error| match error {
            NotQueued::Full => CallError::Full,
            NotQueued::Closed => CallError::Lost,
        })?;
        match timeout(within, ticket.answer()).await {
            Ok(answer) => answer.ok_or(CallError::Lost),
            Err(_) => Err(CallError::TooSlow),
        }
    }
}

impl Lane for Calls {
    const PURPOSE: Purpose = Purpose::Control;
    const QUEUE_FRAMES: usize = CALLS_IN_FLIGHT_MAX + 1;

    fn open(line: Line) -> Self {
        Self {
            line,
            pending: Pending::new(CALLS_IN_FLIGHT_MAX),
        }
    }

    fn on_frame(&self, kind: Kind, body: Bytes) -> Result<(), WireError> {
        if kind != Kind::Answer {
            return Err(WireError::OutOfPlace(kind));
        }
        let AnswerFrame { id, answer } = value(&body)?;
        self.pending.resolve(id, answer);
        Ok(())
    }

    fn on_close(&self) {
        self.pending.close();
    }
}
