//! What running nodes show of their tables while a row runs, for the checker: the table that
//! answers, not the one that a restart would read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evermind_checker::witness::{LiveLock, LiveView};
use evermind_harness::cluster::NODES;
use evermind_harness::http::{Connection, Request};
use serde_json::Value;

use crate::cluster::Cluster;

/// Between two rounds.
const EVERY: Duration = Duration::from_millis(700);
/// A node that runs answers at once; one that does not has nothing to show.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// Until it is asked what the node has applied by then: a snapshot is in place a moment before it is
/// told.
const CLOSES_AFTER: Duration = Duration::from_millis(30);
/// As many locks as one page holds.
const PAGE: usize = 1_000;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Vec<LiveView>>);

impl Watch {
    /// Looks at every node that answers, again and again, until it is over.
    pub(crate) fn run(&self, cluster: &Cluster, is_over: impl Fn() -> bool) {
        while !is_over() {
            let round = Instant::now();
            for id in NODES {
                if cluster.node(id).is_running() && !cluster.node(id).is_stopped() {
                    self.add(view(cluster, id));
                }
            }
            while round.elapsed() < EVERY && !is_over() {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Looks at every node of a cluster at rest, and at what each says was charged. The node that
    /// does not answer.
    pub(crate) fn at_rest(&self, cluster: &Cluster) -> Result<(), String> {
        for id in NODES {
            let seen = view(cluster, id).and_then(|view| charged(cluster, view));
            if seen.is_none() {
                return Err(format!("node {id} at rest does not show its table"));
            }
            self.add(seen);
        }
        Ok(())
    }

    fn add(&self, view: Option<LiveView>) {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.extend(view);
    }

    /// What was seen.
    pub(crate) fn views(&self) -> Vec<LiveView> {
        let views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.clone()
    }
}

fn get(connection: &mut Connection, path: &str, bearer: &str) -> Option<Value> {
    let request = Request::get(path).bearer(bearer);
    let answer = connection.call(&request, ANSWERS_WITHIN).ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// All on one connection, so that one process answers all of it.
fn view(cluster: &Cluster, id: u64) -> Option<LiveView> {
    let mut connection = Connection::open(cluster.node(id).http).ok()?;
    let key = &cluster.api_key;
    let applied = |connection: &mut Connection| {
        let body = get(connection, "/v1/cluster", key)?;
        body["appliedIndex"].as_u64()
    };
    let from = applied(&mut connection)?;
    let path = format!("/v1/locks?consistency=stale&limit={PAGE}");
    let page = get(&mut connection, &path, key)?;
    thread::sleep(CLOSES_AFTER);
    let until = applied(&mut connection)?;
    let locks = page["locks"].as_array()?;
    let last = locks.last().filter(|_| !page["cursor"].is_null());
    let through = last
        .and_then(|lock| lock["key"].as_str())
        .map(str::to_owned);
    let held = locks.iter().map(|lock| {
        let shown = LiveLock {
            token: lock["fencingToken"].as_u64()?,
            expires_in_ms: lock["expiresIn"].as_u64()?,
            waiting: lock["waiting"].as_u64()?,
            fifo: lock["fifo"].as_bool()?,
        };
        Some((lock["key"].as_str()?.to_owned(), shown))
    });
    Some(LiveView {
        node: id,
        from,
        until,
        caller: LiveView::FIRST_KEY,
        held: held.collect::<Option<_>>()?,
        through,
        used: None,
    })
}

/// Adds what a node at rest says was charged.
fn charged(cluster: &Cluster, view: LiveView) -> Option<LiveView> {
    let mut connection = Connection::open(cluster.node(view.node).http).ok()?;
    let path = format!("/admin/licences?limit={PAGE}");
    let page = get(&mut connection, &path, &cluster.admin_token)?;
    let mut used = BTreeMap::new();
    for licence in page["licences"].as_array()? {
        let number = licence["id"].as_str()?.strip_prefix("lic_")?.parse().ok()?;
        used.insert(LiveView::licence(number), licence["used"].as_u64()?);
    }
    Some(LiveView {
        used: Some(used),
        ..view
    })
}
