//! What clients do: a little of everything that has ever broken a lock server.

use std::time::Duration;

use evermind_checker::history::{Ask, Told};
use tokio::time::{Instant, sleep};

use super::Clients;
use super::exchange::{Exchange, Question};
use crate::dice::Dice;
use crate::net::HostId;
use crate::node::NODES;

/// Locks that everybody wants.
const SHARED_KEYS: u64 = 3;

/// How long a client waits for an answer, if it does not give up early: longer than any window.
const PATIENCE: Duration = Duration::from_secs(17);

/// How often a client asks again what was not answered.
const TRIES_MAX: u32 = 6;

/// One client.
struct Client<'a> {
    clients: &'a Clients,
    exchange: Exchange<'a>,
    number: u64,
    dice: Dice,
    node: HostId,
    made: u64,
    /// A lock that it keeps for the whole run, extending it now and then.
    kept: Option<Question>,
    /// An acquire that was made long ago: to be sent once more, as a network that delays would.
    old: Option<Question>,
    /// It has a key that the operator issued, and may take back.
    tenant: bool,
}

pub(super) async fn work(clients: &Clients, number: u64, dice: Dice, tenant: bool) {
    let mut client = Client {
        clients,
        exchange: Exchange::new(clients, number),
        number,
        node: dice.pick(&NODES),
        dice,
        made: 0,
        kept: None,
        old: None,
        tenant,
    };
    while !clients.is_over() {
        client.round().await;
        client.think().await;
    }
}

/// One that only looks, all the time: whatever is stale for a moment, it sees.
pub(super) async fn look_on(clients: &Clients, number: u64, dice: Dice) {
    let mut exchange = Exchange::new(clients, number);
    let mut node = dice.pick(&NODES);
    while !clients.is_over() {
        let look = Question {
            key: format!("shared-{}", dice.between(1, SHARED_KEYS)),
            uuid: format!("onlooker-{number}"),
            idempotency: None,
            ask: Ask::Look,
            tenant: false,
            soft: false,
        };
        let told = exchange.ask(node, &look, Duration::from_secs(2)).await;
        if told == Told::Unknown || dice.chance(50) {
            node = dice.pick(&NODES);
        }
        sleep(Duration::from_millis(dice.between(1, 60))).await;
    }
}

impl Client<'_> {
    async fn think(&self) {
        let most = u64::try_from(self.clients.think_max.as_millis()).expect("short");
        sleep(Duration::from_millis(self.dice.between(0, most))).await;
    }

    /// Asks until there is an answer, at one node after the other.
    async fn ask(&mut self, question: &Question, within: Duration) -> Told {
        let mut told = Told::Unknown;
        for _ in 0..TRIES_MAX {
            told = self.exchange.ask(self.node, question, within).await;
            let again = match &told {
                Told::Unknown => true,
                Told::Refused { status, .. } => *status == 503,
                _ => false,
            };
            if !again {
                break;
            }
            self.node = self.dice.pick(&NODES);
            sleep(Duration::from_millis(self.dice.between(1, 300))).await;
        }
        told
    }

    fn question(&mut self, ask: Ask) -> Question {
        self.made += 1;
        let whose = if self.tenant { "t-" } else { "" };
        let key = if self.dice.chance(650) {
            format!("{whose}shared-{}", self.dice.between(1, SHARED_KEYS))
        } else {
            format!("{whose}own-{}", self.number)
        };
        Question {
            key,
            uuid: format!("{}-{}", self.number, self.made),
            idempotency: self.idempotency(),
            ask,
            tenant: self.tenant,
            soft: self.dice.chance(150),
        }
    }

    /// A lock that nobody else wants.
    fn own(&self, name: &str) -> String {
        let whose = if self.tenant { "t-" } else { "" };
        format!("{whose}{name}-{}", self.number)
    }

    fn idempotency(&mut self) -> Option<String> {
        self.made += 1;
        let name = format!("once-{}-{}", self.number, self.made);
        self.dice.chance(600).then_some(name)
    }

    fn same(&mut self, question: &Question, ask: Ask) -> Question {
        Question {
            idempotency: self.idempotency(),
            ask,
            ..question.clone()
        }
    }

    fn acquire(&mut self) -> Question {
        let waits = self.dice.chance(700);
        let ask = Ask::Acquire {
            lease_ms: self
                .dice
                .pick(&[300, 800, 2_000, 5_000, 800, 2_000, 12_000]),
            retry_attempts: if waits {
                u32::try_from(self.dice.between(1, 10)).expect("small")
            } else {
                0
            },
            retry_delay_ms: self.dice.pick(&[400, 400, 400, 1_500]),
            fifo: self.dice.chance(600),
        };
        self.question(ask)
    }

    async fn round(&mut self) {
        if self.tenant && self.clients.issued.api_key().is_none() {
            return;
        }
        if self.dice.chance(100) {
            self.node = self.dice.pick(&NODES);
        }
        if let Some(old) = self.old.take_if(|_| self.dice.chance(300)) {
            // Nobody waits for this one's answer: what it is granted runs out by itself.
            self.exchange
                .ask(self.node, &old, Duration::from_secs(5))
                .await;
            return;
        }
        if self.dice.chance(40) {
            self.keep().await;
            return;
        }
        if self.dice.chance(60) {
            self.crowd().await;
            return;
        }
        if self.dice.chance(40) {
            self.leave_at_the_grant().await;
            return;
        }
        if self.dice.chance(40) {
            self.reuse_name().await;
            return;
        }
        if self.dice.chance(80) {
            let look = self.question(Ask::Look);
            self.ask(&look, Duration::from_secs(7)).await;
            return;
        }
        let acquire = self.acquire();
        // Some give up early: their place in line must not strand those behind.
        let patience = if self.dice.chance(120) {
            Duration::from_millis(self.dice.between(20, 600))
        } else {
            PATIENCE
        };
        match self.ask(&acquire, patience).await {
            Told::Granted { token, .. } => self.hold(&acquire, token).await,
            // It may be held without anybody knowing: it is given back, as a good client does, or
            // forgotten.
            Told::Unknown if self.dice.chance(500) => {
                let release = self.same(&acquire, Ask::Release);
                self.ask(&release, Duration::from_secs(5)).await;
            }
            _ => {}
        }
    }

    /// Takes a lock for longer than the run, or extends it.
    async fn keep(&mut self) {
        let Some(kept) = self.kept.clone() else {
            let mut acquire = self.question(Ask::Acquire {
                lease_ms: 120_000,
                retry_attempts: 0,
                retry_delay_ms: 0,
                fifo: false,
            });
            acquire.key = self.own("kept");
            if let Told::Granted { .. } = self.ask(&acquire, Duration::from_secs(6)).await {
                self.kept = Some(acquire);
            }
            return;
        };
        let by = self.dice.between(1, 10_000);
        let extend = self.same(&kept, Ask::Extend { extend_by_ms: by });
        self.ask(&extend, Duration::from_secs(6)).await;
    }

    /// Waits for a lock of its own, gives it back, and hangs up just when the wait is granted.
    async fn leave_at_the_grant(&mut self) {
        let mut held = self.question(Ask::Acquire {
            lease_ms: 5_000,
            retry_attempts: 0,
            retry_delay_ms: 0,
            fifo: false,
        });
        held.key = self.own("left");
        let waits = Question {
            uuid: format!("{}-left", held.uuid),
            idempotency: self.idempotency(),
            ask: Ask::Acquire {
                lease_ms: 2_000,
                retry_attempts: 10,
                retry_delay_ms: 400,
                fifo: false,
            },
            ..held.clone()
        };
        let Told::Granted { .. } = self.ask(&held, Duration::from_secs(2)).await else {
            return;
        };
        let stands_ms = self.dice.between(10, 60);
        let leaves_ms = stands_ms + self.dice.between(0, 12);
        let (node, mut second) = (self.node, Exchange::new(self.clients, self.number));
        let leaves = Duration::from_millis(leaves_ms);
        let release = self.same(&held, Ask::Release);
        let waiting = second.ask(node, &waits, leaves);
        let releasing = async {
            sleep(Duration::from_millis(stands_ms)).await;
            self.ask(&release, Duration::from_secs(6)).await;
        };
        tokio::join!(waiting, releasing);
    }

    /// An `Idempotency-Key` that another request had.
    async fn reuse_name(&mut self) {
        let mut first = self.acquire();
        first.idempotency = Some(format!("reused-{}-{}", self.number, self.made));
        let told = self.ask(&first, PATIENCE).await;
        let mut second = self.acquire();
        second.idempotency.clone_from(&first.idempotency);
        second.ask = match second.ask {
            Ask::Acquire {
                fifo,
                retry_attempts,
                retry_delay_ms,
                ..
            } => Ask::Acquire {
                lease_ms: 1_234,
                retry_attempts,
                retry_delay_ms,
                fifo,
            },
            other => other,
        };
        self.ask(&second, PATIENCE).await;
        if let Told::Granted { .. } = told {
            let release = self.same(&first, Ask::Release);
            self.ask(&release, Duration::from_secs(6)).await;
        }
    }

    /// Takes locks whose leases end in one moment, and asks for more time just then, the last first:
    /// what is over is gone, though entries end the others before it.
    async fn crowd(&mut self) {
        const LEASE: Duration = Duration::from_millis(1_200);
        let began = Instant::now();
        let mut taken = Vec::new();
        for number in 0..self.dice.between(2, 5) {
            let left = LEASE.saturating_sub(began.elapsed()).as_millis();
            let mut acquire = self.question(Ask::Acquire {
                lease_ms: u64::try_from(left).expect("short").max(1),
                retry_attempts: 0,
                retry_delay_ms: 0,
                fifo: false,
            });
            acquire.key = format!("{}-{number}", self.own("crowd"));
            if let Told::Granted { .. } = self.ask(&acquire, Duration::from_secs(2)).await {
                taken.push(acquire);
            }
        }
        let late = Duration::from_millis(self.dice.between(0, 30));
        sleep((LEASE + late).saturating_sub(began.elapsed())).await;
        for acquire in taken.iter().rev() {
            let extend = self.same(acquire, Ask::Extend { extend_by_ms: 300 });
            self.ask(&extend, Duration::from_secs(2)).await;
        }
    }

    async fn hold(&mut self, acquire: &Question, token: u64) {
        for _ in 0..self.dice.between(0, 3) {
            match self.dice.between(0, 9) {
                0..=2 => self.write(acquire, token),
                3..=4 => {
                    let look = self.same(acquire, Ask::Look);
                    self.ask(&look, Duration::from_secs(7)).await;
                }
                5..=6 => {
                    let by = self.dice.pick(&[200, 1_000, 3_000]);
                    let extend = self.same(acquire, Ask::Extend { extend_by_ms: by });
                    self.ask(&extend, Duration::from_secs(6)).await;
                    if self.dice.chance(250) {
                        // A retry whose first answer had arrived after all.
                        self.ask(&extend, Duration::from_secs(6)).await;
                    }
                }
                7 => {
                    // Asked again while it holds.
                    let again = self.same(acquire, acquire.ask.clone());
                    self.ask(&again, Duration::from_secs(6)).await;
                }
                8 => self.think().await,
                _ => sleep(Duration::from_millis(self.dice.between(0, 1_500))).await,
            }
        }
        self.write(acquire, token);
        if self.dice.chance(80) {
            // A holder that dies.
            return;
        }
        if self.dice.chance(60) {
            // Somebody else's release must not end it.
            let mut stranger = self.same(acquire, Ask::Release);
            stranger.uuid = format!("stranger-{}-{}", self.number, self.made);
            self.ask(&stranger, Duration::from_secs(6)).await;
            let look = self.same(acquire, Ask::Look);
            self.ask(&look, Duration::from_secs(7)).await;
        }
        let release = self.same(acquire, Ask::Release);
        self.ask(&release, Duration::from_secs(6)).await;
        if self.dice.chance(100) {
            self.ask(&release, Duration::from_secs(6)).await;
        }
        if self.dice.chance(200) && acquire.idempotency.is_some() {
            self.old = Some(acquire.clone());
        }
    }

    fn write(&self, acquire: &Question, token: u64) {
        let at = self.clients.now();
        let write = self
            .clients
            .stores
            .write(&acquire.key, &acquire.uuid, token, at);
        self.clients.recorder.write(write);
    }
}
