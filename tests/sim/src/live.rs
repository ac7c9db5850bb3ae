//! What running nodes show of their tables, for the checker: the table that answers, not the one
//! that a restart would read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evermind_checker::witness::{LiveLock, LiveView};
use evermind_lock::command::LicenceId;
use evermind_lock::licence::Standing;
use evermind_lock::names::IdentityId;
use evermind_raft::api::Caller;
use evermind_raft::node::Node;

use crate::net::HostId;
use crate::node::IDENTITY;
use crate::world::World;

/// How often the nodes are looked at.
const EVERY_US: u64 = 100_000;

/// How much later it is asked what the node has applied by then: a snapshot is in place a moment
/// before it is told.
const CLOSES_US: u64 = 3_000;

/// More than there are locks.
const PAGE: usize = 1_000;

/// A view whose end is not known yet.
struct Open {
    at_us: u64,
    process: u64,
    view: LiveView,
}

/// What licences were charged, once a node has answered.
type Charged = Arc<Mutex<Option<BTreeMap<LicenceId, u64>>>>;

/// Looks at the nodes' tables.
#[derive(Default)]
pub struct Live {
    open: Vec<Open>,
    views: Vec<LiveView>,
}

impl Live {
    /// What was seen.
    pub fn into_views(self) -> Vec<LiveView> {
        self.views
    }

    /// Time has passed.
    pub fn tick(&mut self, world: &World) {
        let now_us = world.now_us();
        let due = |open: &Open| open.at_us + CLOSES_US <= now_us;
        let (due, open) = std::mem::take(&mut self.open).into_iter().partition(due);
        self.open = open;
        let due: Vec<Open> = due;
        self.views.extend(due.into_iter().filter_map(|mut open| {
            let node = running(world, open.view.node)?;
            // Of a process that was replaced meanwhile nothing more is known.
            let same = world.places[&open.view.node].starts == open.process;
            open.view.until = node.status().applied_index;
            same.then_some(open.view)
        }));
        if now_us.is_multiple_of(EVERY_US) {
            for id in world.places.keys() {
                let view = running(world, *id).and_then(|node| view(*id, &node));
                let process = world.places[id].starts;
                self.open.extend(view.map(|view| Open {
                    at_us: now_us,
                    process,
                    view,
                }));
            }
        }
    }

    /// Of a cluster at rest: all that its nodes show, what was charged among it.
    ///
    /// # Errors
    /// If a node gives no view, or does not say in time what was charged.
    pub fn at_rest(&mut self, world: &mut World) -> Result<(), String> {
        const ANSWERS_US_MAX: u64 = 5_000_000;
        let asked: Vec<(HostId, Charged)> = world
            .places
            .iter()
            .map(|(id, place)| {
                let charged = Charged::default();
                if let Some(node) = place.process.seen().node.clone() {
                    place.host.spawn(ask(node, Arc::clone(&charged)));
                }
                (*id, charged)
            })
            .collect();
        let began_us = world.now_us();
        let answer = |charged: &Charged| {
            let charged = charged.lock().unwrap_or_else(PoisonError::into_inner);
            charged.clone()
        };
        let mut from = BTreeMap::new();
        for id in world.places.keys() {
            let node = running(world, *id);
            from.insert(*id, node.map_or(0, |node| node.status().applied_index));
        }
        while asked.iter().any(|(_, charged)| answer(charged).is_none()) {
            if world.now_us() > began_us + ANSWERS_US_MAX {
                return Err("nodes at rest: one does not say what was charged".to_owned());
            }
            world.tick();
            self.tick(world);
        }
        for (id, charged) in asked {
            let shown = running(world, id).and_then(|node| view(id, &node));
            let Some(mut view) = shown else {
                return Err(format!("nodes at rest: node {id} does not show its table"));
            };
            // Where something was applied since the question, what was charged is of the one or the
            // other: then the locks are checked alone.
            if view.until == from[&id] {
                view.used = answer(&charged);
            }
            self.views.push(view);
        }
        Ok(())
    }
}

async fn ask(node: Node, charged: Charged) {
    if let Ok(licences) = node.licences(None, PAGE).await {
        let used = licences
            .iter()
            .map(|licence| (licence.id, licence.usage.used));
        *charged.lock().unwrap_or_else(PoisonError::into_inner) = Some(used.collect());
    }
}

/// A node that runs and does not stand still.
fn running(world: &World, id: HostId) -> Option<Node> {
    let place = &world.places[&id];
    if place.host.is_paused() {
        return None;
    }
    place.process.seen().node.clone()
}

/// Nothing before the node knows the API key.
fn view(id: HostId, node: &Node) -> Option<LiveView> {
    let caller = Caller {
        key: LiveView::FIRST_KEY,
        licence: LicenceId(1),
        identity: IdentityId::new(IDENTITY).expect("it is one"),
        standing: Standing::Active,
    };
    let applied = node.status().applied_index;
    let page = node.list_here(&caller, "", None, PAGE).ok()?;
    assert!(page.next_after.is_none(), "more locks than a page holds");
    let held = page.locks.into_iter().map(|lock| {
        let shown = LiveLock {
            token: lock.fencing_token,
            expires_in_ms: lock.expires_in_ms,
            waiting: lock.waiting,
            fifo: lock.fifo,
        };
        (lock.key.as_str().to_owned(), shown)
    });
    Some(LiveView {
        node: id,
        from: applied,
        until: applied,
        caller: LiveView::FIRST_KEY,
        held: held.collect(),
        through: None,
        used: None,
    })
}
