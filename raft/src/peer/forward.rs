//! The forward connection: commands on their way to the leader.

use bytes::Bytes;
use evermind_lock::command::Command;

use super::FORWARDS_IN_FLIGHT_MAX;
use super::client::ForwardError;
use super::hello::Purpose;
use super::lane::{Lane, Line};
use super::outbox::NotQueued;
use super::pending::{NoTicket, Pending};
use super::wire::{ForwardRef, ForwardVerdict, Forwarded, Kind, WireError, value};

/// The dialed end of a forward connection.
pub(super) struct Forwards {
    line: Line,
    pending: Pending<Forwarded>,
}

impl Forwards {
    pub(super) async fn forward(&self, command: &Command) -> Result<(), ForwardError> {
        let ticket = self.pending.open().map_err(|error| match error {
            NoTicket::Full => ForwardError::Busy,
            NoTicket::Closed => ForwardError::Unreachable("the connection was lost".into()),
        })?;
        let frame = Kind::Forward.with(&ForwardRef {
            id: ticket.id,
            command,
        });
        // Without a wait, so that commands are queued in the order of the callers' first poll. The
        // queue holds all that may be in flight.
        self.line.try_ask(frame).map_err(|error| match error {
            NotQueued::Full => ForwardError::Busy,
            NotQueued::Closed => ForwardError::Unreachable("the connection was lost".into()),
        })?;
        let forwarded = ticket.answer().await.ok_or(ForwardError::Lost)?;
        match forwarded.verdict {
            ForwardVerdict::Accepted => Ok(()),
            ForwardVerdict::NotLeader(leader) => Err(ForwardError::NotLeader { leader }),
        }
    }
}

impl Lane for Forwards {
    const PURPOSE: Purpose = Purpose::Forward;
    const QUEUE_FRAMES: usize = FORWARDS_IN_FLIGHT_MAX + 1;

    fn open(line: Line) -> Self {
        Self {
            line,
            pending: Pending::new(FORWARDS_IN_FLIGHT_MAX),
        }
    }

    fn on_frame(&self, kind: Kind, body: Bytes) -> Result<(), WireError> {
        if kind != Kind::Forwarded {
            return Err(WireError::OutOfPlace(kind));
        }
        let forwarded: Forwarded = value(&body)?;
        self.pending.resolve(forwarded.id, forwarded);
        Ok(())
    }

    fn on_close(&self) {
        self.pending.close();
    }
}
