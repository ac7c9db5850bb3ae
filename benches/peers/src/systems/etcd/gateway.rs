//! The same two requests through etcd's JSON gateway, one connection a client. It answers in chunks,
//! which the client for the others does not read: this one is hyper's.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::load::Turn;

pub(crate) struct GatewayClient {
    address: String,
    connection: SendRequest<Full<Bytes>>,
    lease: i64,
}

impl GatewayClient {
    pub(super) async fn connect(address: &str, lease: i64) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (connection, driver) = shaken.context("connecting")?;
        // Ends with the connection, whose user then learns why.
        tokio::spawn(driver);
        Ok(Self {
            address: address.to_owned(),
            connection,
            lease,
        })
    }

    pub(super) async fn acquire(&mut self, turn: &Turn) -> Result<()> {
        let key = BASE64.encode(turn.key.as_bytes());
        let owner = BASE64.encode(turn.owner.as_bytes());
        let lease = self.lease;
        let body = format!(
            r#"{{"compare":[{{"result":"EQUAL","target":"CREATE","key":"{key}","createRevision":"0"}}],"success":[{{"requestPut":{{"key":"{key}","value":"{owner}","lease":"{lease}"}}}}]}}"#
        );
        let answer = self.post("/v3/kv/txn", body).await?;
        ensure!(
            contains(&answer, br#""succeeded":true"#),
            "the key is there already"
        );
        Ok(())
    }

    pub(super) async fn release(&mut self, turn: &Turn) -> Result<()> {
        let key = BASE64.encode(turn.key.as_bytes());
        let body = format!(r#"{{"key":"{key}"}}"#);
        let answer = self.post("/v3/kv/deleterange", body).await?;
        ensure!(
            contains(&answer, br#""deleted":"1""#),
            "the key is gone already"
        );
        Ok(())
    }

    async fn post(&mut self, path: &str, body: String) -> Result<Bytes> {
        let request = http::Request::post(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.connection.ready().await?;
        let answer = self.connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "HTTP status {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}

/// The gateway writes no blanks: a parser would find nothing else, and take longer.
fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|part| part == wanted)
}
