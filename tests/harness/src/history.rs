//! What every client asked and was told.
//!
//! All clients are threads of this process, so one monotonic clock orders everything. A grant is
//! believed from the moment its answer was read until its release was first sent, or until the
//! latest deadline that the contract lets its holder rely on: the moment before the request was
//! sent + `waited` + `expiresIn`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::http::Answer;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Acquire,
    Extend,
    Release,
}

impl Kind {
    pub fn path(self) -> &'static str {
        match self {
            Kind::Acquire => "/lock/acquire",
            Kind::Extend => "/lock/extend",
            Kind::Release => "/lock/release",
        }
    }
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An acquire or an extend went well.
    Holds {
        token: u64,
        expires_in: Duration,
        waited: Duration,
    },
    Released,
    Refused {
        status: u16,
        code: String,
    },
    /// No answer, or one that says so.
    Unknown,
}

/// One HTTP request and what came of it.
#[derive(Debug, Clone)]
pub struct Record {
    pub kind: Kind,
    pub key: String,
    pub uuid: String,
    pub invoked: Instant,
    /// When the answer was read, or the caller gave the connection up.
    pub returned: Instant,
    pub told: Told,
    pub log_index: Option<u64>,
}

impl Record {
    /// The record of an answered request.
    pub fn answered(kind: Kind, key: &str, uuid: &str, answer: &Answer) -> Self {
        let body = answer.json();
        let millis = |field: &str| Duration::from_millis(body[field].as_u64().unwrap_or_default());
        let told = match (answer.status, kind) {
            (200, Kind::Release) => Told::Released,
            (200, _) => Told::Holds {
                token: answer.token(),
                expires_in: millis("expiresIn"),
                waited: millis("waited"),
            },
            (504, _) => Told::Unknown,
            (status, _) => Told::Refused {
                status,
                code: answer.code(),
            },
        };
        Self {
            kind,
            key: key.to_owned(),
            uuid: uuid.to_owned(),
            invoked: answer.invoked,
            returned: answer.returned,
            told,
            log_index: answer.log_index(),
        }
    }
}

/// Every record, in no order.
#[derive(Debug, Default)]
pub struct History {
    records: Mutex<Vec<Record>>,
}

/// A grant as its holder knew it.
#[derive(Debug, Clone)]
pub struct Grant {
    pub key: String,
    pub uuid: String,
    pub token: u64,
    /// When its uuid was first sent.
    pub asked: Instant,
    /// When its token was first read.
    pub acked: Instant,
    /// Until when its holder may act on it.
    pub believed_until: Instant,
}

impl History {
    pub fn record(&self, record: Record) {
        self.records.lock().unwrap().push(record);
    }

    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// When the first grant was read of those that were asked for after `moment`.
    pub fn first_grant_asked_after(&self, moment: Instant) -> Option<Instant> {
        let records = self.records.lock().unwrap();
        let new = records
            .iter()
            .filter(|r| r.kind == Kind::Acquire && r.invoked >= moment);
        new.filter(|r| matches!(r.told, Told::Holds { .. }))
            .map(|r| r.returned)
            .min()
    }

    /// Every grant that was read. A uuid stands for one acquisition in what is recorded here.
    pub fn grants(&self) -> Vec<Grant> {
        let records = self.records();
        let mut asked: HashMap<(&str, &str), Instant> = HashMap::new();
        let mut released: HashMap<(&str, &str), Instant> = HashMap::new();
        for record in &records {
            let first = match record.kind {
                Kind::Acquire => &mut asked,
                Kind::Release => &mut released,
                Kind::Extend => continue,
            };
            let moment = first
                .entry((&record.key, &record.uuid))
                .or_insert(record.invoked);
            *moment = record.invoked.min(*moment);
        }
        let mut grants: BTreeMap<(&str, &str, u64), Grant> = BTreeMap::new();
        for record in &records {
            let Told::Holds {
                token,
                expires_in,
                waited,
            } = record.told
            else {
                continue;
            };
            let name = (record.key.as_str(), record.uuid.as_str());
            let deadline = record.invoked + waited + expires_in;
            let grant = grants
                .entry((name.0, name.1, token))
                .or_insert_with(|| Grant {
                    key: record.key.clone(),
                    uuid: record.uuid.clone(),
                    token,
                    asked: asked.get(&name).copied().unwrap_or(record.invoked),
                    acked: record.returned,
                    believed_until: deadline,
                });
            grant.acked = grant.acked.min(record.returned);
            grant.believed_until = grant.believed_until.max(deadline);
        }
        for grant in grants.values_mut() {
            if let Some(moment) = released.get(&(grant.key.as_str(), grant.uuid.as_str())) {
                grant.believed_until = grant.believed_until.min(*moment);
            }
        }
        grants.into_values().collect()
    }
}
