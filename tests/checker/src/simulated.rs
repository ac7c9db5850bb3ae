//! A lock server in one function call, with clients over a bad network and bugs to order: what the
//! rules are tried on.

mod server;
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::history::{Ask, History, Moment, Record, Told, Way, Write};
pub(crate) use server::Bug;
use server::Server;

const NS_PER_MS: u64 = 1_000_000;

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    pub(crate) keys: u64,
    /// About how many requests are sent.
    pub(crate) requests: usize,
    /// Of a thousand messages.
    pub(crate) lost_per_mille: u64,
    /// How much faster cluster time goes than true time; below zero slower.
    pub(crate) skew_per_mille: i64,
    pub(crate) bug: Option<Bug>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            seed: 1,
            clients: 6,
            keys: 2,
            requests: 300,
            lost_per_mille: 30,
            skew_per_mille: 0,
            bug: None,
        }
    }
}

/// What came of a run.
pub(crate) struct Run {
    pub(crate) history: History,
    /// By uuid: the first entry of its acquire.
    pub(crate) entries: HashMap<String, u64>,
}

/// Splitmix64: the same run for the same seed, everywhere.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// A message's way: mostly short, now and then very long.
    fn delay_ns(&mut self) -> u64 {
        let ms = if self.per_mille(20) { 300 } else { 3 };
        self.below(ms * NS_PER_MS) + 1
    }
}

/// What a client does next.
#[derive(Debug, Clone)]
enum Plan {
    Afresh,
    /// Once more, under the same name if it had one.
    Again(Request),
    Holding {
        key: String,
        uuid: String,
        token: u64,
    },
}

#[derive(Debug, Clone)]
struct Request {
    key: String,
    uuid: String,
    ask: Ask,
    idempotency: Option<String>,
}

#[derive(Debug)]
enum Event {
    Act(u64, Plan),
    Arrive(usize),
    Answer(usize, Told, u64),
    GiveUp(usize),
    Store(Write),
    /// A lease or a wait of this lock may be due.
    Due(String),
}

struct World {
    conditions: Conditions,
    dice: Dice,
    now: u64,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    /// By the number that stands in `events`.
    what: Vec<Option<Event>>,
    server: Server,
    records: Vec<Record>,
    open: Vec<bool>,
    writes: Vec<Write>,
    /// The highest token that each store took.
    stores: HashMap<String, u64>,
    uuids: u64,
}

/// Runs clients against a server until all requests are sent and settled.
pub(crate) fn run(conditions: Conditions) -> Run {
    let mut world = World {
        conditions,
        dice: Dice(conditions.seed),
        now: 0,
        events: BinaryHeap::new(),
        what: Vec::new(),
        server: Server::new(conditions.bug),
        records: Vec::new(),
        open: Vec::new(),
        writes: Vec::new(),
        stores: HashMap::new(),
        uuids: 0,
    };
    for client in 0..conditions.clients {
        let start_ns = world.dice.delay_ns();
        world.after(start_ns, Event::Act(client, Plan::Afresh));
    }
    while let Some(Reverse((at, number))) = world.events.pop() {
        world.now = at;
        let event = world.what[number].take().expect("each happens once");
        world.happen(event);
    }
    Run {
        history: History {
            records: world.records,
            writes: world.writes,
        },
        entries: world.server.entries,
    }
}

impl World {
    fn after(&mut self, delay_ns: u64, event: Event) {
        self.events
            .push(Reverse((self.now + delay_ns, self.what.len())));
        self.what.push(Some(event));
    }

    /// Cluster time is another one than the clients', and goes at its own rate.
    fn cluster_ms(&self) -> u64 {
        let rate = 1000_u64.saturating_add_signed(self.conditions.skew_per_mille);
        7_777 + self.now * rate / 1000 / NS_PER_MS
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Act(client, plan) => self.act(client, plan),
            Event::Arrive(number) => {
                let now_ms = self.cluster_ms();
                self.server.pass(now_ms);
                self.server.arrive(number, &self.records[number], now_ms);
                self.carry_out(number);
            }
            Event::Due(key) => {
                let now_ms = self.cluster_ms();
                self.server.pass(now_ms);
                self.wake_for(&key);
                self.send_answers();
            }
            Event::Answer(number, told, index) => self.answered(number, told, Some(index)),
            Event::GiveUp(number) => self.answered(number, Told::Unknown, None),
            Event::Store(mut write) => {
                let highest = self.stores.entry(write.key.clone()).or_default();
                let forgets = self.conditions.bug == Some(Bug::StoreForgets);
                write.accepted = forgets || write.token >= *highest;
                *highest = write.token.max(*highest);
                write.at = Moment(self.now);
                self.writes.push(write);
            }
        }
    }

    fn carry_out(&mut self, number: usize) {
        let key = self.records[number].key.clone();
        self.wake_for(&key);
        self.send_answers();
    }

    /// Comes back when the next lease or wait of `key` is due.
    fn wake_for(&mut self, key: &str) {
        let Some(due_ms) = self.server.due_ms(key) else {
            return;
        };
        let rate = 1000_u64.saturating_add_signed(self.conditions.skew_per_mille);
        let at = ((due_ms - 7_777) * NS_PER_MS * 1000).div_ceil(rate);
        self.after(at.saturating_sub(self.now), Event::Due(key.to_owned()));
    }

    fn send_answers(&mut self) {
        for (number, told, index) in std::mem::take(&mut self.server.answers) {
            if !self.dice.per_mille(self.conditions.lost_per_mille) {
                let delay_ns = self.dice.delay_ns();
                self.after(delay_ns, Event::Answer(number, told, index));
            }
        }
    }

    fn answered(&mut self, number: usize, told: Told, index: Option<u64>) {
        if !std::mem::take(&mut self.open[number]) {
            return;
        }
        let record = &mut self.records[number];
        record.returned = Moment(self.now);
        record.told = told;
        record.log_index = index;
        let (key, uuid, ask) = (record.key.clone(), record.uuid.clone(), record.ask.clone());
        let idempotency = record.idempotency.clone();
        let client = record.client;
        let plan = match (&ask, &self.records[number].told) {
            (_, Told::Granted { token, .. } | Told::Extended { token, .. }) => {
                let token = *token;
                Plan::Holding { key, uuid, token }
            }
            (Ask::Look, _) => Plan::Afresh,
            (_, Told::Unknown) if self.dice.per_mille(600) => Plan::Again(Request {
                key,
                uuid,
                ask,
                idempotency,
            }),
            _ => Plan::Afresh,
        };
        let pause_ns = self.dice.below(20 * NS_PER_MS);
        self.after(pause_ns, Event::Act(client, plan));
    }

    fn act(&mut self, client: u64, plan: Plan) {
        if self.records.len() >= self.conditions.requests {
            return;
        }
        match plan {
            Plan::Again(request) => self.send(client, request),
            Plan::Afresh => {
                let key = format!("k{}", self.dice.below(self.conditions.keys));
                if self.dice.per_mille(300) {
                    return self.ask(client, key, String::new(), Ask::Look);
                }
                self.uuids += 1;
                let uuid = format!("u{}", self.uuids);
                let ask = Ask::Acquire {
                    lease_ms: 20 + self.dice.below(150),
                    retry_attempts: 10,
                    retry_delay_ms: [0, 10, 30][usize::try_from(self.dice.below(3)).expect("0..3")],
                    fifo: true,
                };
                self.ask(client, key, uuid, ask);
            }
            Plan::Holding { key, uuid, token } => match self.dice.below(10) {
                0..3 => {
                    let extend_by_ms = if self.dice.per_mille(500) { 30 } else { 400 };
                    self.ask(client, key, uuid, Ask::Extend { extend_by_ms });
                }
                3..6 => {
                    let write = Write {
                        key: key.clone(),
                        uuid: uuid.clone(),
                        token,
                        at: Moment(0),
                        accepted: false,
                    };
                    let delay_ns = self.dice.delay_ns();
                    self.after(delay_ns, Event::Store(write));
                    let plan = Plan::Holding { key, uuid, token };
                    self.after(delay_ns, Event::Act(client, plan));
                }
                6 => self.after(NS_PER_MS, Event::Act(client, Plan::Afresh)),
                _ => self.ask(client, key, uuid, Ask::Release),
            },
        }
    }

    /// Half of what changes a lock has a name, under which it may come again.
    fn ask(&mut self, client: u64, key: String, uuid: String, ask: Ask) {
        let named = ask != Ask::Look && self.dice.per_mille(500);
        let idempotency = named.then(|| format!("n{}", self.records.len()));
        let request = Request {
            key,
            uuid,
            ask,
            idempotency,
        };
        self.send(client, request);
    }

    fn send(&mut self, client: u64, request: Request) {
        let Request {
            key,
            uuid,
            ask,
            idempotency,
        } = request;
        let number = self.records.len();
        let window_ms = server::window_ms(&ask);
        self.records.push(Record {
            client,
            node: 1,
            key,
            uuid,
            idempotency,
            ask,
            invoked: Moment(self.now),
            returned: Moment(self.now),
            told: Told::Unknown,
            log_index: None,
            way: Way::default(),
        });
        self.open.push(true);
        self.after((window_ms + 100) * NS_PER_MS, Event::GiveUp(number));
        if !self.dice.per_mille(self.conditions.lost_per_mille) {
            let delay_ns = self.dice.delay_ns();
            self.after(delay_ns, Event::Arrive(number));
        }
    }
}
