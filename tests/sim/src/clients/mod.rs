//! The clients: each asks one thing after another, does what the contract says when it is not
//! answered, and records all of it.

mod exchange;
mod mix;
mod operator;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use evermind_checker::history::{Moment, Recorder};
use tokio::time::Instant;

pub use self::operator::Issued;
pub use self::store::Stores;
use crate::dice::Dice;
use crate::net::Net;
use crate::trace::Trace;

/// What the clients share.
#[derive(Clone)]
pub struct Clients {
    /// How they reach the nodes.
    pub net: Net,
    /// Where they record.
    pub recorder: Arc<Recorder>,
    /// What their locks guard.
    pub stores: Arc<Stores>,
    /// What the operator has issued.
    pub issued: Arc<Issued>,
    /// Their randomness.
    pub dice: Dice,
    /// Where their answers are traced.
    pub trace: Trace,
    /// Set: they finish what they do, and end.
    pub stop: Arc<AtomicBool>,
    /// How many have not ended yet.
    pub working: Arc<AtomicU64>,
    /// When the history began, by their clock.
    pub began: Instant,
    /// The longest pause between two things that a client does.
    pub think_max: Duration,
}

impl Clients {
    /// Now, on the history's clock.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_nanos()).expect("a short simulation"))
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Starts so many of them, as tasks of the present runtime.
    pub fn start(&self, count: u64) {
        self.working.store(count, Ordering::Relaxed);
        let onlookers = self.dice.between(0, 2).min(count / 3);
        // Callers with keys that the operator issues and takes back.
        let tenants = self.dice.between(0, 2).min((count - onlookers) / 2);
        if tenants > 0 {
            let clients = self.clone();
            let dice = self.dice.named("operator");
            tokio::spawn(async move { operator::work(&clients, 0, dice).await });
        }
        for number in 1..=count {
            let clients = self.clone();
            let dice = self.dice.named(&format!("client {number}"));
            tokio::spawn(async move {
                if number <= onlookers {
                    mix::look_on(&clients, number, dice).await;
                } else {
                    mix::work(&clients, number, dice, number <= onlookers + tenants).await;
                }
                clients.working.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}
