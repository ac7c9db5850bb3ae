//! The client of Evermind and its limit: the same requests to both, over HTTP/1.1.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::load::{Client, LEASE_MS, Turn};
// What `evermind bench` sends its requests with: a full client would take a good part of the time
// that is measured.
#[path = "../../../src/bench/http1.rs"]
mod http1;

/// A connection that is opened again after an error.
pub(crate) struct Connection {
    target: String,
    bearer: String,
    open: Option<http1::Connection>,
}

impl Connection {
    /// To `host:port`.
    pub(crate) async fn open(target: &str, bearer: &str) -> Result<Self> {
        let mut connection = Self {
            target: target.to_owned(),
            bearer: bearer.to_owned(),
            open: None,
        };
        connection.ready().await?;
        Ok(connection)
    }

    async fn ready(&mut self) -> Result<http1::Connection> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let open = http1::Connection::open(&self.target, &self.bearer).await;
        open.with_context(|| format!("connecting to {}", self.target))
    }

    /// Any status but 200 is an error, also that of a lock which was not given.
    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Result<()> {
        let mut open = self.ready().await?;
        let answer = open.post(path, body).await.context("HTTP")?;
        if answer.status != 200 {
            let body = String::from_utf8_lossy(answer.body);
            bail!("HTTP status {}: {body}", answer.status);
        }
        self.open = Some(open);
        Ok(())
    }
}

/// A client of Evermind, or of what answers like it.
pub(crate) struct EvermindClient {
    connection: Connection,
    body: Vec<u8>,
}

impl EvermindClient {
    /// So many clients of the node at `host:port`, each with a connection of its own.
    pub(crate) async fn several(count: usize, target: &str, api_key: &str) -> Result<Vec<Self>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Self {
                connection: Connection::open(target, api_key).await?,
                body: Vec::with_capacity(256),
            });
        }
        Ok(clients)
    }
}

impl Client for EvermindClient {
    async fn acquire(&mut self, turn: &Turn) -> Result<()> {
        self.body.clear();
        let Turn { key, owner } = turn;
        write!(
            self.body,
            r#"{{"key":"{key}","uuid":"{owner}","lease":{LEASE_MS},"retryAttempts":0}}"#
        )?;
        self.connection.post("/lock/acquire", &self.body).await
    }

    async fn release(&mut self, turn: &Turn) -> Result<()> {
        self.body.clear();
        let Turn { key, owner } = turn;
        write!(self.body, r#"{{"key":"{key}","uuid":"{owner}"}}"#)?;
        self.connection.post("/lock/release", &self.body).await
    }
}
