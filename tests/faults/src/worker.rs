//! What one client does, over and over: a mix that provokes what locks get wrong.

use std::thread;
use std::time::Duration;

use evermind_checker::history::{Ask, Told};

use crate::caller::{Caller, Operation};
use crate::cluster::Cluster;
use crate::load::Load;
use crate::random::Random;

/// Locks that every client wants. As many clients have one of their own.
const SHARED_KEYS: u64 = 8;
/// Locks for leases that are left to run out: they would hold everybody else up.
const BRIEF_KEYS: u64 = 12;
/// Long enough that ordinary work never outlives it, short enough that a run drains fast.
const LEASE_MS: u64 = 4_000;

/// A client in a closed loop.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    caller: Caller<'a>,
    random: Random,
    rounds: u64,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(cluster: &Cluster, load: &'a Load, number: u64) -> Self {
        Self {
            caller: Caller::new(cluster, load, number, number % 3 + 1),
            random: Random::new(number + 1),
            rounds: 0,
        }
    }

    /// One acquisition, from asking to the end that it takes.
    pub(crate) fn cycle(&mut self) {
        self.rounds += 1;
        let habit = self.random.below(1000);
        let short = habit < 15;
        let hangs_up = habit >= 980;
        let acquire = self.acquire(short, hangs_up);
        if hangs_up {
            self.hang_up(&acquire);
            return;
        }
        let Some(told) = self.caller.surely(&acquire) else {
            return;
        };
        let Told::Granted { token, .. } = told else {
            self.expect(&acquire, &told, &[423, 409]);
            return;
        };
        self.caller.load.write(&acquire.key, &acquire.uuid, token);
        if short {
            self.outlive(&acquire, token);
            return;
        }
        if habit < 200 {
            self.extend(&acquire);
        }
        if habit < 350 {
            let look = Self::operation(&acquire, Ask::Look, false);
            let _ = self.caller.surely(&look);
        }
        // Others stand in line meanwhile, now and then.
        thread::sleep(Duration::from_millis(self.random.below(8)));
        self.release(&acquire);
    }

    fn acquire(&mut self, short: bool, hangs_up: bool) -> Operation {
        let number = self.caller.number;
        let key = if short {
            format!("brief-{}", self.random.below(BRIEF_KEYS))
        } else if self.random.percent(40) {
            format!("own-{number}")
        } else {
            format!("shared-{}", self.random.below(SHARED_KEYS))
        };
        let lease_ms = match (short, hangs_up) {
            (true, _) => 1_000 + self.random.below(1_000),
            (_, true) => 1_000,
            _ => LEASE_MS,
        };
        let uuid = format!("{number}-{}", self.rounds);
        let waits = !self.random.percent(15);
        let ask = Ask::Acquire {
            lease_ms,
            retry_attempts: if waits { 25 } else { 0 },
            retry_delay_ms: 100,
            fifo: self.random.percent(50),
        };
        let idempotency = self.random.percent(25).then(|| format!("{uuid}-acquire"));
        Operation {
            key,
            uuid,
            ask,
            idempotency,
        }
    }

    fn operation(of: &Operation, ask: Ask, once: bool) -> Operation {
        let kind = match ask {
            Ask::Extend { .. } => "extend",
            _ => "release",
        };
        Operation {
            key: of.key.clone(),
            uuid: of.uuid.clone(),
            ask,
            idempotency: once.then(|| format!("{}-{kind}", of.uuid)),
        }
    }

    /// Leaves in the middle of the request; then comes back, or takes it back, or forgets it.
    fn hang_up(&mut self, acquire: &Operation) {
        let after = Duration::from_millis(1 + self.random.below(30));
        let _ = self.caller.hang_up_after(acquire, after);
        match self.random.below(3) {
            0 => {
                if let Some(Told::Granted { .. }) = self.caller.surely(acquire) {
                    self.release(acquire);
                }
            }
            1 => self.release(acquire),
            _ => {}
        }
    }

    /// Sleeps past the lease, and then writes as if nothing had happened.
    fn outlive(&mut self, acquire: &Operation, token: u64) {
        if self.random.percent(50) {
            return;
        }
        let Ask::Acquire { lease_ms, .. } = acquire.ask else {
            return;
        };
        thread::sleep(Duration::from_millis(lease_ms + self.random.below(500)));
        self.caller.load.write(&acquire.key, &acquire.uuid, token);
    }

    fn extend(&mut self, acquire: &Operation) {
        let extend_by_ms = 200 + self.random.below(800);
        let once = self.random.percent(50);
        let extend = Self::operation(acquire, Ask::Extend { extend_by_ms }, once);
        if let Some(told) = self.caller.surely(&extend) {
            self.expect(&extend, &told, &[404, 409]);
        }
    }

    /// A release that an earlier try may have made, or a lease's end before it, is well.
    fn release(&mut self, acquire: &Operation) {
        let once = self.random.percent(25);
        let release = Self::operation(acquire, Ask::Release, once);
        if let Some(told) = self.caller.surely(&release) {
            self.expect(&release, &told, &[404, 409]);
        }
    }

    fn expect(&self, operation: &Operation, told: &Told, refusals: &[u16]) {
        if let Told::Refused { status, code, .. } = told
            && !refusals.contains(status)
        {
            let what = format!("{operation:?}: {status} {code}");
            self.caller.load.failed(what);
        }
    }
}
