//! The control connection: calls and their answers, in any order.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::CALLS_IN_FLIGHT_MAX;
use super::hello::Purpose;
use super::lane::{Lane, Line};
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
        timeout(within, async {
            self.line.ask(frame).await.map_err(|_| CallError::Lost)?;
            ticket.answer().await.ok_or(CallError::Lost)
        })
        .await
        .unwrap_or(Err(CallError::TooSlow))
    }
}

impl Lane for Calls {
    const PURPOSE: Purpose = Purpose::Control;

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
