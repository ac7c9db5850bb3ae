//! T1, T4 and S: whether a cluster that nothing harms answers, from outside.
//!
//! Safety alone is kept by a server that never answers. These rules ask for the rest, for the times in
//! which nothing is wrong: no fault for two seconds, a leader, all nodes up.

use crate::history::{Ask, History, Lost, Moment, Record, Told};
use crate::verdict::{Check, Verdict, Violation};

const NS_PER_MS: u64 = 1_000_000;

/// A time in which nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healthy {
    /// Since when no fault is there. The rules count from `from`, by when two seconds have passed.
    pub quiet: Moment,
    /// Since when no client's connection and no node's process was harmed. Not later than `quiet`.
    pub clear: Moment,
    /// From here on the rules count.
    pub from: Moment,
    /// The next fault, or the end.
    pub until: Moment,
}

impl Healthy {
    fn has(&self, moment: Moment) -> bool {
        self.from <= moment && moment <= self.until
    }
}

/// When nothing was wrong, and how prompt a cluster is then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// No two overlap.
    pub spells: Vec<Healthy>,
    /// Within this time after its window an operation is answered, in ms.
    pub answers_ms: u64,
    /// Within this time after an end, or after what admits a waiter, its caller is told, in ms: the
    /// server's 50 and what the network takes.
    pub tells_ms: u64,
    /// What one entry ends of what is over, at least: with more due, the last are told later.
    pub ends_at_once: u64,
    /// What a message takes at most, in ms.
    pub transit_ms: u64,
    /// Within this time after a FIN or RST its wait is left, or its untold grant given back, in ms.
    pub leaves_ms: u64,
}

/// The time between two entries that end what is over, in ms.
const PIECE_EVERY_MS: u64 = 15;

impl Health {
    /// The contract's promises, on a network on which a message takes up to `transit_ms`.
    pub fn new(spells: Vec<Healthy>, transit_ms: u64, ends_at_once: u64) -> Self {
        Self {
            spells,
            transit_ms,
            answers_ms: 250 + 2 * transit_ms,
            tells_ms: 50 + 2 * transit_ms,
            ends_at_once: ends_at_once.max(1),
            leaves_ms: 1_000 + transit_ms,
        }
    }

    /// The same for real runs, all processes of which share one machine: what the contract says, and a
    /// second for what the machine itself takes.
    pub fn on_real_machines(spells: Vec<Healthy>) -> Self {
        Self {
            answers_ms: 1_000,
            tells_ms: 1_050,
            leaves_ms: 2_000,
            ..Self::new(spells, 10, 1_000)
        }
    }

    /// How late somebody may be told, where so much was over before.
    pub fn tells_within_ms(&self, overdue: u64) -> u64 {
        self.tells_ms + PIECE_EVERY_MS * overdue.div_ceil(self.ends_at_once)
    }

    /// The spell that a moment is in.
    pub fn spell_at(&self, moment: Moment) -> Option<&Healthy> {
        self.spells.iter().find(|spell| spell.has(moment))
    }
}

/// A moment some ms later.
pub(crate) fn later(moment: Moment, ms: u64) -> Moment {
    Moment(moment.0.saturating_add(ms.saturating_mul(NS_PER_MS)))
}

/// T1 and S.
pub fn check_health(history: &History, health: &Health, verdict: &mut Verdict) {
    for record in &history.records {
        if let Some(why) = outside_contract(record) {
            verdict.violations.push(Violation::new(Check::S, why));
        }
        if let Some(why) = unanswered(record, health) {
            let what = format!("{why}: {record:?}");
            verdict.violations.push(Violation::new(Check::T1, what));
        }
    }
}

/// Whether a healthy cluster owed this request an answer, and why it had none.
fn unanswered(record: &Record, health: &Health) -> Option<String> {
    let is_bad = match &record.told {
        Told::Unknown => !matches!(record.way.lost, None | Some(Lost::HungUp)),
        Told::Refused { status, .. } => *status >= 500,
        _ => false,
    };
    for spell in &health.spells {
        let is_within = spell.has(record.invoked) && record.way.connected >= spell.quiet;
        if is_within && is_bad && spell.has(record.returned) {
            return Some("not answered on a healthy cluster".to_owned());
        }
        let begins = if is_within {
            record.invoked
        } else if record.invoked < spell.from
            && record.returned > spell.from
            && record.way.connected >= spell.clear
            && record.invoked >= spell.clear
        {
            // It was under way already. Cluster time, by which its window goes, may have stood still.
            spell.from
        } else {
            continue;
        };
        let due = later(begins, record.window_ms() + health.answers_ms);
        if due <= spell.until && record.returned > due {
            let ms = (record.returned.0 - due.0) / NS_PER_MS;
            return Some(format!(
                "answered {ms} ms too late, if at all, on a healthy cluster"
            ));
        }
    }
    None
}

/// T4: each of these clients is answered within this time after everything was mended. An answer that
/// says that nobody can be asked is none.
pub fn check_served(
    history: &History,
    clients: impl IntoIterator<Item = u64>,
    mended: Moment,
    within_ms: u64,
) -> Vec<Violation> {
    let by = later(mended, within_ms);
    let is_served = |client: u64| {
        let mut records = history.records.iter();
        records.any(|r| {
            r.client == client && r.invoked >= mended && r.returned <= by && is_answered(&r.told)
        })
    };
    let unserved = clients.into_iter().filter(|client| !is_served(*client));
    let what = |client| format!("client {client} was not served within {within_ms} ms of the heal");
    unserved
        .map(|client| Violation::new(Check::T4, what(client)))
        .collect()
}

/// Whether a client was served with this.
pub fn is_answered(told: &Told) -> bool {
    match told {
        Told::Unknown => false,
        Told::Refused { status, .. } => *status < 500,
        _ => true,
    }
}

/// What the contract has no row for. Workloads ask for nothing malformed.
fn outside_contract(record: &Record) -> Option<String> {
    let Told::Refused { status, code, .. } = &record.told else {
        return None;
    };
    let acquires = matches!(record.ask, Ask::Acquire { .. });
    let keeps = matches!(record.ask, Ask::Extend { .. } | Ask::Release);
    let is_known = match (status, code.as_str()) {
        (401, "unauthorized")
        | (403, "licence_inactive")
        | (429, "rate_limited" | "limit_reached")
        | (503, "no_leader") => true,
        (402, "quota_exceeded") | (423, "lock_held") => acquires,
        (404, "lock_not_found") | (409, "not_owner") => keeps,
        (409, "grant_ended") | (422, "idempotency_mismatch") => record.idempotency.is_some(),
        (400, "invalid_request") => matches!(record.ask, Ask::Extend { .. }),
        _ => false,
    };
    (!is_known).then(|| format!("{status} {code:?} is no answer to this: {record:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Way;

    const MS: u64 = NS_PER_MS;

    fn health() -> Health {
        let spell = Healthy {
            quiet: Moment(3_000 * MS),
            clear: Moment(1_000 * MS),
            from: Moment(5_000 * MS),
            until: Moment(60_000 * MS),
        };
        Health::new(vec![spell], 0, 1_000)
    }

    fn record(invoked_ms: u64, returned_ms: u64, told: Told, lost: Option<Lost>) -> Record {
        Record {
            client: 1,
            node: 1,
            key: "k".into(),
            uuid: "u".into(),
            idempotency: None,
            ask: Ask::Acquire {
                lease_ms: 1_000,
                retry_attempts: 2,
                retry_delay_ms: 500,
                fifo: false,
            },
            invoked: Moment(invoked_ms * MS),
            returned: Moment(returned_ms * MS),
            told,
            log_index: None,
            way: Way {
                lost,
                connected: Moment(3_500 * MS),
            },
        }
    }

    fn found(record: Record) -> Vec<Check> {
        let mut verdict = Verdict::default();
        let history = History {
            records: vec![record],
            writes: Vec::new(),
        };
        check_health(&history, &health(), &mut verdict);
        verdict.violations.iter().map(|v| v.check).collect()
    }

    fn refused(status: u16, code: &str) -> Told {
        Told::Refused {
            status,
            code: code.into(),
            attempts: 1,
        }
    }

    #[test]
    fn t1_an_answer_in_time_passes_and_one_that_is_late_or_none_does_not() {
        let granted = Told::Granted {
            token: 1,
            expires_in_ms: 1_000,
            waited_ms: 900,
            attempts: 2,
        };
        assert_eq!(found(record(6_000, 7_250, granted.clone(), None)), []);
        assert_eq!(
            found(record(6_000, 7_251, granted.clone(), None)),
            [Check::T1]
        );
        let lost = |lost| found(record(6_000, 6_100, Told::Unknown, Some(lost)));
        assert_eq!(lost(Lost::HungUp), []);
        assert_eq!(lost(Lost::Closed), [Check::T1]);
        assert_eq!(lost(Lost::Said), [Check::T1]);
        let nobody = refused(503, "no_leader");
        assert_eq!(
            found(record(6_000, 6_001, nobody.clone(), None)),
            [Check::T1]
        );
        // Asked while something was wrong, or on a connection from then.
        assert_eq!(found(record(4_000, 4_001, nobody.clone(), None)), []);
        let mut old = record(6_000, 6_001, nobody, None);
        old.way.connected = Moment(2_000 * MS);
        assert_eq!(found(old), []);
        // A caller that went on waiting past the time was owed an answer.
        let waited = record(6_000, 7_300, Told::Unknown, Some(Lost::HungUp));
        assert_eq!(found(waited), [Check::T1]);
        // Under way since before: its window may begin when nothing is wrong any more.
        let mut before = record(3_600, 6_251, granted.clone(), None);
        before.way.connected = Moment(1_500 * MS);
        assert_eq!(found(before.clone()), [Check::T1]);
        before.returned = Moment(6_250 * MS);
        assert_eq!(found(before.clone()), []);
        before.returned = Moment(6_251 * MS);
        before.way.connected = Moment(500 * MS);
        assert_eq!(found(before), [], "its connection was harmed");
    }

    #[test]
    fn s_an_answer_that_the_contract_does_not_have() {
        assert_eq!(
            found(record(6_000, 6_001, refused(423, "lock_held"), None)),
            []
        );
        assert_eq!(
            found(record(6_000, 6_001, refused(404, "lock_not_found"), None)),
            [Check::S]
        );
        let broken = found(record(6_000, 6_001, refused(500, "internal"), None));
        assert_eq!(broken, [Check::S, Check::T1]);
    }

    #[test]
    fn t4_a_client_that_only_hears_that_there_is_no_leader_is_not_served() {
        let mut history = History::default();
        history
            .records
            .push(record(6_000, 6_001, refused(423, "lock_held"), None));
        let mut unserved = record(6_000, 6_001, refused(503, "no_leader"), None);
        unserved.client = 2;
        history.records.push(unserved);
        let found = check_served(&history, 1..=2, Moment(5_500 * MS), 30_000);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("client 2"), "{found:?}");
        assert_eq!(found[0].check, Check::T4);
    }
}
