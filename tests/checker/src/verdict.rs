//! What the rules found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Which rule. Its `Display` is the short name that tables use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Check {
    /// What two callers believe of one lock never overlaps.
    M,
    /// A token belongs to one acquisition.
    F1,
    /// Tokens rise with time, over all locks.
    F2,
    /// The line of a lock is served in its order.
    Q,
    /// A look sees what is so.
    L,
    /// A fenced store takes no token below its highest.
    X,
    /// Every answered operation is in the log.
    W0,
    /// The log's order respects real time.
    W1,
    /// An expiry comes only where its lease could have run out.
    W2,
    /// Replaying the specification gives the answered outcome.
    W3,
    /// An operation id has one effect.
    W4,
    /// All replicas hold one log and one table.
    W5,
    /// Some order of the operations explains every answer: the general search.
    G,
    /// On a healthy cluster every operation is answered, in time.
    T1,
    /// What ends is told of in time.
    T2,
    /// What is free is granted, and its new holder told, in time.
    T3,
    /// After a heal every client is served.
    T4,
    /// A caller that hangs up leaves its wait, and its untold grant, in time.
    T5,
    /// Answers are of the contract.
    S,
}

impl Check {
    /// Every rule, in the order of tables.
    pub const ALL: [Self; 19] = [
        Self::M,
        Self::F1,
        Self::F2,
        Self::Q,
        Self::L,
        Self::X,
        Self::W0,
        Self::W1,
        Self::W2,
        Self::W3,
        Self::W4,
        Self::W5,
        Self::G,
        Self::T1,
        Self::T2,
        Self::T3,
        Self::T4,
        Self::T5,
        Self::S,
    ];

    /// What the rule asks, in one line.
    pub const fn demands(self) -> &'static str {
        match self {
            Self::M => "beliefs of one lock never overlap",
            Self::F1 => "a token belongs to one acquisition",
            Self::F2 => "tokens rise with time",
            Self::Q => "the line is served in order",
            Self::L => "a look sees what is so",
            Self::X => "a fenced store takes no lower token",
            Self::W0 => "every answered operation is in the log",
            Self::W1 => "the log's order respects time",
            Self::W2 => "no lease ends early",
            Self::W3 => "the specification gives the answers",
            Self::W4 => "an operation has one effect",
            Self::W5 => "replicas are equal",
            Self::G => "some order explains every answer",
            Self::T1 => "a healthy cluster answers in time",
            Self::T2 => "an end is told in time",
            Self::T3 => "what is free is granted in time",
            Self::T4 => "after a heal all are served",
            Self::T5 => "a hang-up is passed on in time",
            Self::S => "answers are of the contract",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A rule is called in tables what it is called here.
        f.pad(&format!("{self:?}"))
    }
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule.
    pub check: Check,
    /// A readable account, with the records involved.
    pub what: String,
}

impl Violation {
    /// A breach of `check`.
    pub fn new(check: Check, what: impl Into<String>) -> Self {
        Self {
            check,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

/// What a check, or several, found of one history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// What could not be decided, and why: as bad as a violation.
    pub undecided: Vec<String>,
    /// How many operations were checked.
    pub operations: u64,
    /// How many of them had no answer, or one that says so.
    pub ambiguous: u64,
    /// How many of the ambiguous ones the committed log told about: the sum of the next two.
    pub resolved: u64,
    /// How many of them took effect, by the log: a grant, an extension, a release was made.
    pub took_effect: u64,
    /// How many did not: they are not in the log, or were refused there, or never granted.
    pub without_effect: u64,
    /// How many windows the general search went through.
    pub windows: u64,
    /// How many views of a running node's table were held against the log.
    pub live_views: u64,
    /// How often each action, outcome and event was in the log.
    #[serde(default)]
    pub reached: BTreeMap<String, u64>,
}

impl Verdict {
    /// Adds what another check found of the same history: violations add up; the counts are of the
    /// history and do not.
    pub fn merge(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.undecided.extend(other.undecided);
        self.operations = self.operations.max(other.operations);
        self.ambiguous = self.ambiguous.max(other.ambiguous);
        self.resolved = self.resolved.max(other.resolved);
        self.took_effect = self.took_effect.max(other.took_effect);
        self.without_effect = self.without_effect.max(other.without_effect);
        self.windows += other.windows;
        self.live_views += other.live_views;
        self.reach(other.reached);
    }

    fn reach(&mut self, more: BTreeMap<String, u64>) {
        for (name, count) in more {
            *self.reached.entry(name).or_default() += count;
        }
    }

    /// Adds what was found of another history: every count adds up.
    pub fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.undecided.extend(other.undecided);
        self.operations += other.operations;
        self.ambiguous += other.ambiguous;
        self.resolved += other.resolved;
        self.took_effect += other.took_effect;
        self.without_effect += other.without_effect;
        self.windows += other.windows;
        self.live_views += other.live_views;
        self.reach(other.reached);
    }

    /// Whether nothing is broken and nothing undecided.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }

    /// How often `check` was broken.
    pub fn count(&self, check: Check) -> usize {
        self.violations
            .iter()
            .filter(|violation| violation.check == check)
            .count()
    }

    /// Panics with the whole account unless [`Self::is_clean`].
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

/// As many accounts of one rule as are printed: the first say what the next thousand say.
const ACCOUNTS_PER_RULE: usize = 5;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations checked ({} ambiguous: by the log {} took effect, {} did not), {} windows searched, \
             {} views of running nodes, {} violations, {} undecided",
            self.operations,
            self.ambiguous,
            self.took_effect,
            self.without_effect,
            self.windows,
            self.live_views,
            self.violations.len(),
            self.undecided.len()
        )?;
        for check in Check::ALL {
            let broken = self.count(check);
            if broken == 0 {
                continue;
            }
            writeln!(f, "{check:<3} {broken:>6}  {}", check.demands())?;
            let accounts = self.violations.iter().filter(|v| v.check == check);
            for violation in accounts.take(ACCOUNTS_PER_RULE) {
                writeln!(f, "    {}", violation.what)?;
            }
            if broken > ACCOUNTS_PER_RULE {
                writeln!(f, "    and {} more", broken - ACCOUNTS_PER_RULE)?;
            }
        }
        for reason in self.undecided.iter().take(ACCOUNTS_PER_RULE) {
            writeln!(f, "undecided: {reason}")?;
        }
        if self.undecided.len() > ACCOUNTS_PER_RULE {
            let more = self.undecided.len() - ACCOUNTS_PER_RULE;
            writeln!(f, "undecided: {more} more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: Check, times: usize) -> Verdict {
        Verdict {
            violations: vec![Violation::new(check, "two at once"); times],
            operations: 10,
            ambiguous: 2,
            ..Verdict::default()
        }
    }

    #[test]
    fn checks_of_one_history_do_not_count_its_operations_twice() {
        let mut verdict = found(Check::M, 1);
        verdict.merge(found(Check::L, 2));
        assert_eq!((verdict.operations, verdict.ambiguous), (10, 2));
        assert_eq!(verdict.violations.len(), 3);
        verdict.add(found(Check::L, 0));
        assert_eq!((verdict.operations, verdict.ambiguous), (20, 4));
    }

    #[test]
    fn what_is_undecided_is_not_clean() {
        let mut verdict = found(Check::M, 0);
        assert!(verdict.is_clean());
        verdict.undecided.push("too long".to_owned());
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_table_names_each_broken_rule_and_shows_a_few_accounts() {
        let table = found(Check::F2, 7).to_string();
        assert_eq!(table.matches("two at once").count(), ACCOUNTS_PER_RULE);
        assert!(
            table.contains("F2       7  tokens rise with time"),
            "{table}"
        );
        assert!(table.contains("and 2 more"), "{table}");
    }

    #[test]
    fn every_rule_is_in_the_table_under_its_own_name() {
        let names = Check::ALL.map(|check| check.to_string());
        assert_eq!(
            names.join(" "),
            "M F1 F2 Q L X W0 W1 W2 W3 W4 W5 G T1 T2 T3 T4 T5 S"
        );
    }

    #[test]
    fn a_verdict_survives_json() {
        let verdict = found(Check::G, 1);
        let json = serde_json::to_string(&verdict).expect("plain data");
        assert_eq!(serde_json::from_str::<Verdict>(&json).ok(), Some(verdict));
    }
}
