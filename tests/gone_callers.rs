//! Shows that no lock stays with a caller that is gone: 300 connections a round, each with an acquire
//! that waits or was granted, each ended in a way and at a moment that a seed decides.
//!
//! `EVERMIND_GONE_ROUNDS` says how many rounds (2 where nothing is said), `EVERMIND_GONE_SEED` which:
//! `EVERMIND_GONE_ROUNDS=10 cargo nextest run -p evermind --no-capture gone_callers`

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::harness::TestCluster;
use crate::harness::gone::Vanished;
use crate::harness::http::Connection;
use crate::harness::waiter::Waiter;

const ROUNDS_DEFAULT: u64 = 2;
const CONNECTIONS: u64 = 300;
const KEYS: u64 = 20;

/// By then a caller that vanished is noticed. One that closed is noticed at once.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// How long a lock may take from a release to a caller that is there.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(3);

/// In a round everything begins and ends within these.
const JOIN_MS: u64 = 700;
const STAY_MS: u64 = 1_300;

/// What a caller asks that goes while it stands in line: granted later, it would be seen.
const LONG_LEASE_MS: u64 = 600_000;
/// What a caller asks that may be granted before it goes: that much is its right.
const SHORT_LEASE_MS: u64 = 1_000;

/// Dice that fall the same way for the same seed (`SplitMix64`).
struct Random(u64);

impl Random {
    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// When the lock that they wait for becomes free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Free {
    /// It is free from the start: the first is granted at once.
    FromTheStart,
    /// While they come and go.
    Meanwhile,
    /// When they are gone.
    Later,
}

impl Free {
    fn of(key: u64) -> Self {
        match key % 4 {
            0 => Self::FromTheStart,
            1 => Self::Meanwhile,
            _ => Self::Later,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Fin,
    Reset,
    Vanished,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Joins(u64),
    Ends(u64),
    /// A caller that stays begins to wait for this key.
    Stays(u64),
    /// The holder of this key releases it.
    Released(u64),
}

/// One round's connections.
struct Storm<'a> {
    cluster: &'a TestCluster,
    round: u64,
    random: Random,
    open: Vec<Option<Connection>>,
    vanished: Vec<Vanished>,
    staying: Vec<(u64, Waiter)>,
    counts: [u64; 3],
}

impl<'a> Storm<'a> {
    fn new(cluster: &'a TestCluster, round: u64, seed: u64) -> Self {
        Self {
            cluster,
            round,
            random: Random(seed.wrapping_add(round)),
            open: (0..CONNECTIONS).map(|_| None).collect(),
            vanished: Vec::new(),
            staying: Vec::new(),
            counts: [0; 3],
        }
    }

    /// Returns when every connection has ended.
    fn run(&mut self) {
        let mut events = self.events();
        events.sort_by_key(|(at, _)| *at);
        for key in (0..KEYS).filter(|key| Free::of(*key) != Free::FromTheStart) {
            let client = self.cluster.client(1);
            client.take(&self.key(key), "holder", LONG_LEASE_MS);
        }
        let began = Instant::now();
        for (at_ms, event) in events {
            // The rhythm of the round, not a wait for anything.
            thread::sleep(Duration::from_millis(at_ms).saturating_sub(began.elapsed()));
            match event {
                Event::Joins(number) => self.joins(number),
                Event::Ends(number) => self.ends(number),
                Event::Stays(key) => {
                    let node = self.random.below(3) + 1;
                    let asked = acquire(&self.key(key), "stays", LONG_LEASE_MS);
                    let waiter = Waiter::send(&self.cluster.client(node), &asked);
                    self.staying.push((key, waiter));
                }
                Event::Released(key) => self.release(key, "holder"),
            }
        }
    }

    fn events(&mut self) -> Vec<(u64, Event)> {
        let mut events = Vec::new();
        for number in 0..CONNECTIONS {
            let joins = self.random.below(JOIN_MS);
            // Some go at once, in the middle of whatever the server does.
            let stays = self.random.of(&[0, 1, 5, STAY_MS]);
            let ends = joins + self.random.below(stays + 1);
            events.extend([(joins, Event::Joins(number)), (ends, Event::Ends(number))]);
        }
        for key in 0..KEYS {
            events.push((self.random.below(JOIN_MS), Event::Stays(key)));
            if Free::of(key) == Free::Meanwhile {
                let at = self.random.below(JOIN_MS + STAY_MS);
                events.push((at, Event::Released(key)));
            }
        }
        events
    }

    fn joins(&mut self, number: u64) {
        let (key, uuid) = (number % KEYS, format!("gone-{number}"));
        let lease_ms = match Free::of(key) {
            Free::Later => LONG_LEASE_MS,
            Free::FromTheStart | Free::Meanwhile => SHORT_LEASE_MS,
        };
        let key = self.key(key);
        let client = self.cluster.client(self.random.below(3) + 1);
        let mut bytes = client
            .request("/lock/acquire", &acquire(&key, &uuid, lease_ms))
            .bytes();
        if self.random.below(20) == 0 {
            // Not even the request is whole.
            let cut = usize::try_from(self.random.below(bytes.len() as u64)).unwrap();
            bytes.truncate(cut);
        }
        let look = b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n";
        match self.random.below(7) {
            0 => bytes.extend_from_slice(b"\r\n"),
            1 => bytes.extend_from_slice(b"G"),
            2 => bytes.extend_from_slice(look),
            3 => {
                let release = json!({"key": key, "uuid": uuid});
                bytes.extend(client.request("/lock/release", &release).bytes());
            }
            4 => bytes.extend(look.repeat(400)),
            5 => bytes.extend(look.repeat(1_500)),
            _ => {}
        }
        let mut connection = Connection::open(client.address).expect("the node listens");
        // The server may have closed it before it took all of this.
        let _ = connection.send(&bytes);
        self.open[usize::try_from(number).unwrap()] = Some(connection);
    }

    fn ends(&mut self, number: u64) {
        let connection = self.open[usize::try_from(number).unwrap()].take();
        let connection = connection.expect("it joined before");
        let ending = (self.random).of(&[Ending::Fin, Ending::Reset, Ending::Vanished]);
        self.counts[ending as usize] += 1;
        match ending {
            Ending::Fin => connection.close(),
            Ending::Reset => connection.reset(),
            Ending::Vanished => self.vanished.push(connection.vanish()),
        }
    }

    /// Looks what became of the locks, and lists those that are not with the caller that stayed.
    fn left(mut self) -> Vec<String> {
        for key in (0..KEYS).filter(|key| Free::of(*key) == Free::Later) {
            self.release(key, "holder");
        }
        let by = Instant::now() + HANDED_OVER_WITHIN;
        let mut left = Vec::new();
        for (key, mut waiter) in std::mem::take(&mut self.staying) {
            let within = by.saturating_duration_since(Instant::now());
            let answer = waiter.try_answer(within.max(Duration::from_millis(1)));
            match &answer {
                Ok(granted) if granted.status == 200 => self.release(key, "stays"),
                _ => left.push(format!("{} did not go on: {answer:?}", self.key(key))),
            }
        }
        // Whatever is left is in nobody's hands.
        let prefix = format!("/v1/locks?prefix={}", self.key_prefix());
        let listed = self.cluster.client(1).get(&prefix).json();
        let locks = listed["locks"].as_array().expect("a listing").clone();
        left.extend(locks.iter().map(Value::to_string));
        left
    }

    fn release(&self, key: u64, uuid: &str) {
        let key = self.key(key);
        let released = self.cluster.client(2).release(&key, uuid);
        assert_eq!(released.status, 200, "{key}: {released}");
    }

    fn key(&self, key: u64) -> String {
        format!("{}{key}", self.key_prefix())
    }

    fn key_prefix(&self) -> String {
        format!("round-{}-", self.round)
    }
}

fn acquire(key: &str, uuid: &str, lease_ms: u64) -> Value {
    json!({
        "key": key, "uuid": uuid, "lease": lease_ms, "fifo": true,
        "retryAttempts": 120, "retryDelay": 500,
    })
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a whole number"))
}

#[test]
fn no_lock_stays_with_a_caller_that_is_gone() {
    let rounds = number_of("EVERMIND_GONE_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let seed = number_of("EVERMIND_GONE_SEED").unwrap_or_else(|| {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        u32::from_le_bytes(bytes).into()
    });
    println!(
        "again: EVERMIND_GONE_SEED={seed} EVERMIND_GONE_ROUNDS={rounds} cargo nextest run -p evermind --no-capture gone_callers"
    );
    // Those that vanished stay open here.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let cluster = TestCluster::start();
    let mut left = String::new();
    // A round begins when all callers of the one before have gone, and is looked at meanwhile.
    thread::scope(|scope| {
        let mut looks = Vec::new();
        for round in 1..=rounds {
            let mut storm = Storm::new(&cluster, round, seed);
            storm.run();
            let counts = storm.counts;
            let look = scope.spawn(move || {
                // What is claimed is a time: nothing else says that the server has noticed.
                thread::sleep(GONE_AFTER);
                storm.left()
            });
            looks.push((round, counts, look));
        }
        for (round, [fin, reset, vanished], look) in looks {
            let of_round = look.join().unwrap();
            println!(
                "round {round}: {fin} closed, {reset} reset, {vanished} vanished; {} left",
                of_round.len()
            );
            for one in of_round {
                let _ = writeln!(left, "round {round}: {one}");
            }
        }
    });
    assert!(
        left.is_empty(),
        "after {GONE_AFTER:?}, seed {seed}:\n{left}"
    );
}
