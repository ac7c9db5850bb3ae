//! One who issues licences and API keys, and takes them back while they are used.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::Clients;
use super::exchange::Exchange;
use crate::dice::Dice;
use crate::node::{ADMIN_TOKEN, NODES};
use crate::trace;

/// Whose locks the issued keys open: of all licences alike, so that a lock has one name.
const TENANT: &str = "tenant";

/// A cluster that nothing has harmed yet is founded by then.
const FOUNDED: Duration = Duration::from_millis(1_500);

/// When the simulation's day is, by the minute: see the clocks.
const DAY_AND_HOUR: &str = "2027-01-15T08";

/// What is issued at present.
#[derive(Debug, Default)]
pub struct Issued(Mutex<Present>);

#[derive(Debug, Default)]
struct Present {
    licence: Option<Licence>,
    /// The newest that was made, refused or not.
    api_key: Option<String>,
}

#[derive(Debug, Clone)]
struct Licence {
    id: String,
    secret: String,
    api_key: Option<String>,
}

impl Issued {
    fn now(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API key that tenants use, which may be refused by now.
    pub(super) fn api_key(&self) -> Option<String> {
        self.now().api_key.clone()
    }
}

/// Works until the clients end.
pub(super) async fn work(clients: &Clients, number: u64, dice: Dice) {
    let mut operator = Operator {
        clients,
        exchange: Exchange::new(clients, number),
        dice,
    };
    // The first API key is the configured one.
    sleep(FOUNDED).await;
    while !clients.is_over() {
        operator.step().await;
        sleep(Duration::from_millis(operator.dice.between(200, 3_000))).await;
    }
}

struct Operator<'a> {
    clients: &'a Clients,
    exchange: Exchange<'a>,
    dice: Dice,
}

impl Operator<'_> {
    async fn step(&mut self) {
        let issued = self.clients.issued.now().licence.clone();
        let Some(licence) = issued else {
            self.issue().await;
            return;
        };
        match (&licence.api_key, self.dice.between(0, 5)) {
            (None, _) => self.make_key(licence).await,
            (Some(api_key), 0..=1) => {
                let body = json!({"licenceKey": licence.secret, "apiKey": api_key});
                self.call(Method::DELETE, "/api-key", Some(body)).await;
                // Its waits are to be cut off before anybody has another.
                self.make_key(licence).await;
            }
            (_, 2) => {
                let path = format!("/admin/licences/{}", licence.id);
                self.call(Method::DELETE, &path, None).await;
                sleep(Duration::from_millis(self.dice.between(0, 1_500))).await;
                self.issue().await;
            }
            _ => {}
        }
    }

    async fn issue(&mut self) {
        let mut wanted = json!({"name": "of the simulation", "identity": TENANT});
        match self.dice.between(0, 3) {
            0 => wanted["limit"] = json!(self.dice.between(20, 120)),
            1 => {
                let s = self.clients.now().0 / 1_000_000_000 + self.dice.between(2, 12);
                wanted["expires"] = json!(format!("{DAY_AND_HOUR}:{:02}:{:02}Z", s / 60, s % 60));
            }
            2 => {
                wanted["limit"] = json!(self.dice.between(100, 500));
                wanted["period"] = json!("month");
            }
            _ => {}
        }
        let made = self
            .call(Method::POST, "/admin/licences", Some(wanted))
            .await;
        let text = |field: &str| Some(made.as_ref()?[field].as_str()?.to_owned());
        if let (Some(id), Some(secret)) = (text("id"), text("licenceKey")) {
            let licence = Licence {
                id,
                secret,
                api_key: None,
            };
            self.make_key(licence).await;
        }
    }

    async fn make_key(&mut self, mut licence: Licence) {
        let body = json!({"licenceKey": licence.secret});
        let made = self.call(Method::POST, "/api-key", Some(body)).await;
        let made = made.as_ref().and_then(|made| made["apiKey"].as_str());
        licence.api_key = made.map(str::to_owned);
        let mut issued = self.clients.issued.now();
        if licence.api_key.is_some() {
            issued.api_key.clone_from(&licence.api_key);
        }
        // One whose making nobody was told of is not used: its licence is given up with it.
        issued.licence = licence.api_key.is_some().then_some(licence);
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
        let node = self.dice.pick(&NODES);
        let bytes = body
            .as_ref()
            .map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::HOST, "evermind")
            .header(header::AUTHORIZATION, format!("Bearer {ADMIN_TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(bytes))
            .expect("a fixed form");
        let asked = timeout(Duration::from_secs(6), self.exchange.call(node, request)).await;
        let (status, body) = asked.ok().flatten()?;
        trace!(
            self.clients.trace,
            "operator at node {node}: {method} {path} -> {status}"
        );
        (status < 300).then_some(body)
    }
}
