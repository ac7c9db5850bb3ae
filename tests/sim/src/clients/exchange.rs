//! One HTTP request, and its record.

use std::time::Duration;

use bytes::Bytes;
use evermind_checker::history::{Ask, Lost, Moment, Record, Told, Way};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Clients;
use crate::net::{CLIENTS, HostId};
use crate::node::{API_KEY, HTTP_PORT};
use crate::trace;

/// What is asked of which lock, as whom.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) key: String,
    pub(super) uuid: String,
    pub(super) idempotency: Option<String>,
    pub(super) ask: Ask,
    /// Asked with a key that the operator issued.
    pub(super) tenant: bool,
    /// Whether failures are to be told with status 200.
    pub(super) soft: bool,
}

/// Statuses that `softFail` does not soften.
const NEVER_SOFT: [u64; 5] = [401, 413, 415, 429, 504];

impl Question {
    /// A look has no body to say so in.
    fn is_soft(&self) -> bool {
        self.soft && self.ask != Ask::Look
    }

    fn request(&self, api_key: &str) -> Request<Full<Bytes>> {
        let (method, path, mut body) = match &self.ask {
            Ask::Acquire {
                lease_ms,
                retry_attempts,
                retry_delay_ms,
                fifo,
            } => (
                Method::POST,
                "/lock/acquire".to_owned(),
                json!({
                    "key": self.key, "uuid": self.uuid, "lease": lease_ms, "fifo": fifo,
                    "retryAttempts": retry_attempts, "retryDelay": retry_delay_ms,
                }),
            ),
            Ask::Extend { extend_by_ms } => (
                Method::POST,
                "/lock/extend".to_owned(),
                json!({"key": self.key, "uuid": self.uuid, "extendBy": extend_by_ms}),
            ),
            Ask::Release => (
                Method::POST,
                "/lock/release".to_owned(),
                json!({"key": self.key, "uuid": self.uuid}),
            ),
            Ask::Look => (Method::GET, format!("/v1/locks/{}", self.key), Value::Null),
        };
        if self.is_soft() {
            body["softFail"] = json!(true);
        }
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "evermind")
            .header(header::AUTHORIZATION, format!("Bearer {api_key}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(name) = &self.idempotency {
            request = request.header("idempotency-key", name);
        }
        let body = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        request.body(Full::new(body)).expect("a fixed form")
    }
}

struct Open {
    node: HostId,
    since: Moment,
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client's connection, made anew where it broke.
pub(super) struct Exchange<'a> {
    clients: &'a Clients,
    number: u64,
    open: Option<Open>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(clients: &'a Clients, number: u64) -> Self {
        Self {
            clients,
            number,
            open: None,
        }
    }

    /// Asks one node, for so long at most; then the client hangs up, and knows nothing.
    pub(super) async fn ask(
        &mut self,
        node: HostId,
        question: &Question,
        within: Duration,
    ) -> Told {
        let invoked = self.clients.now();
        let answered = timeout(within, self.exchange(node, question)).await;
        let connected = self.open.as_ref().map_or(invoked, |open| open.since);
        let (told, log_index, lost) = match answered {
            Ok(Some((Told::Unknown, log_index))) => (Told::Unknown, log_index, Some(Lost::Said)),
            Ok(Some((told, log_index))) => (told, log_index, None),
            nothing => {
                self.open = None;
                let lost = nothing.map_or(Lost::HungUp, |_| Lost::Closed);
                (Told::Unknown, None, Some(lost))
            }
        };
        let Question {
            key,
            uuid,
            idempotency,
            ask,
            ..
        } = question.clone();
        trace!(
            self.clients.trace,
            "client {} at node {node}: {ask:?} {key} {uuid} {idempotency:?} -> {told:?} {log_index:?}",
            self.number
        );
        self.clients.recorder.record(Record {
            client: self.number,
            node,
            key,
            uuid,
            idempotency,
            ask,
            invoked,
            returned: self.clients.now(),
            told: told.clone(),
            log_index,
            way: Way { lost, connected },
        });
        told
    }

    async fn exchange(&mut self, node: HostId, question: &Question) -> Option<(Told, Option<u64>)> {
        let api_key = if question.tenant {
            self.clients.issued.api_key()?
        } else {
            API_KEY.to_owned()
        };
        let response = self.send(node, question.request(&api_key)).await?;
        let status = response.status().as_u16();
        let log_index = log_index(&response);
        let body = response.into_body().collect().await.ok()?.to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let status = if question.is_soft() {
            softened(status, &body)
        } else {
            status
        };
        Some((Told::of(&question.ask, status, &body), log_index))
    }

    /// Any request, and what is answered.
    pub(super) async fn call(
        &mut self,
        node: HostId,
        request: Request<Full<Bytes>>,
    ) -> Option<(u16, Value)> {
        let response = self.send(node, request).await;
        if response.is_none() {
            self.open = None;
        }
        let response = response?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    async fn send(
        &mut self,
        node: HostId,
        request: Request<Full<Bytes>>,
    ) -> Option<Response<Incoming>> {
        if self.open.as_ref().is_none_or(|open| open.node != node) {
            self.open = None;
            let stream = self
                .clients
                .net
                .connect(CLIENTS, node, HTTP_PORT)
                .await
                .ok()?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
            let task = tokio::spawn(async move {
                // How it ends shows in the request that was on it.
                let _ = connection.await;
            });
            self.open = Some(Open {
                node,
                since: self.clients.now(),
                sender,
                task,
            });
        }
        let open = self.open.as_mut()?;
        open.sender.ready().await.ok()?;
        open.sender.send_request(request).await.ok()
    }
}

/// The status that a softened answer stands for. One that should have been softened and was not, or the
/// other way round, is of no contract.
fn softened(status: u16, body: &Value) -> u16 {
    let Some(meant) = body["status"].as_u64() else {
        return status;
    };
    let is_soft = status == 200 && !NEVER_SOFT.contains(&meant);
    let is_hard = u64::from(status) == meant && NEVER_SOFT.contains(&meant);
    if is_soft || is_hard {
        u16::try_from(meant).unwrap_or(u16::MAX)
    } else {
        u16::MAX
    }
}

fn log_index<B>(response: &Response<B>) -> Option<u64> {
    let value = response.headers().get("evermind-log-index")?;
    value.to_str().ok()?.parse().ok()
}
