//! Histories written by hand, for tests: in milliseconds, of one lock unless another is named.

use crate::history::{Ask, History, Moment, Record, Told, Way, Write};

/// A history in the making. Every method adds one record and gives the script back.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) history: History,
    key: String,
}

pub(crate) fn ms(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

/// When a request was sent and when its answer was read, in ms.
pub(crate) type Span = (u64, u64);

/// The acquire that scripts send where its terms do not matter.
pub(crate) const ACQUIRE: Ask = Ask::Acquire {
    lease_ms: 100,
    retry_attempts: 10,
    retry_delay_ms: 100,
    fifo: true,
};

pub(crate) fn granted(token: u64, expires_in_ms: u64, waited_ms: u64) -> Told {
    Told::Granted {
        token,
        expires_in_ms,
        waited_ms,
        attempts: 1,
    }
}

pub(crate) fn refused(status: u16, code: &str) -> Told {
    Told::Refused {
        status,
        code: code.to_owned(),
        attempts: 0,
    }
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default().on("k")
    }

    /// What follows is of another lock.
    pub(crate) fn on(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    pub(crate) fn add(mut self, ask: Ask, uuid: &str, span: Span, told: Told) -> Self {
        self.history.records.push(Record {
            client: 1,
            node: 1,
            key: self.key.clone(),
            uuid: uuid.to_owned(),
            idempotency: None,
            ask,
            invoked: ms(span.0),
            returned: ms(span.1),
            told,
            log_index: None,
            way: Way::default(),
        });
        self
    }

    /// Of the last record: the entry that it was answered of.
    pub(crate) fn entry(mut self, index: u64) -> Self {
        let last = self.history.records.last_mut().expect("a record to place");
        last.log_index = Some(index);
        self
    }

    /// Of the last record: its `Idempotency-Key`.
    pub(crate) fn named(mut self, name: &str) -> Self {
        let last = self.history.records.last_mut().expect("a record to name");
        last.idempotency = Some(name.to_owned());
        self
    }

    /// An acquire that was granted. Its lease is 1 ms longer than `lease_ms`: what the rounding of
    /// cluster time may take away.
    pub(crate) fn grant(self, uuid: &str, span: Span, token: u64, lease_ms: u64) -> Self {
        let ask = Ask::Acquire {
            lease_ms: lease_ms + 1,
            retry_attempts: 10,
            retry_delay_ms: 100,
            fifo: true,
        };
        self.add(ask, uuid, span, granted(token, lease_ms + 1, 0))
    }

    /// An acquire that came to nothing that is known of.
    pub(crate) fn lost(self, uuid: &str, span: Span) -> Self {
        self.add(ACQUIRE, uuid, span, Told::Unknown)
    }

    pub(crate) fn extend(self, uuid: &str, span: Span, token: u64, left_ms: u64) -> Self {
        let told = Told::Extended {
            token,
            expires_in_ms: left_ms + 1,
        };
        self.add(Ask::Extend { extend_by_ms: 50 }, uuid, span, told)
    }

    pub(crate) fn release(self, uuid: &str, span: Span) -> Self {
        self.add(Ask::Release, uuid, span, Told::Released)
    }

    /// A look that saw `token`.
    pub(crate) fn held(self, span: Span, token: u64) -> Self {
        let told = Told::Held {
            token,
            expires_in_ms: 1,
            waiting: 0,
            fifo: true,
        };
        self.add(Ask::Look, "", span, told)
    }

    /// A look that saw nobody.
    pub(crate) fn free(self, span: Span) -> Self {
        self.add(Ask::Look, "", span, Told::Free)
    }

    pub(crate) fn write(mut self, uuid: &str, token: u64, at_ms: u64, accepted: bool) -> Self {
        self.history.writes.push(Write {
            key: self.key.clone(),
            uuid: uuid.to_owned(),
            token,
            at: ms(at_ms),
            accepted,
        });
        self
    }
}
