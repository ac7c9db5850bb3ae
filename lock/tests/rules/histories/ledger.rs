//! What every licence owes, added up from what was decided and told.

use std::collections::{BTreeMap, BTreeSet};

use evermind_lock::command::{Acquire, Action, Command, LicenceId, OpId};
use evermind_lock::limits::DETACHED_MS;
use evermind_lock::names::{Holder, IdempotencyKey, Resource};
use evermind_lock::outcome::{Decision, Event, HeldReason, Outcome, Refusal};
use evermind_lock::record::{Endpoint, IdempotencyId, Record, RecordKey};
use evermind_lock::table::{AttachmentState, LockTable};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::steps::{LIMITED, LIMITED_TO, identity, licence_of};

/// One wait, as those who were told of it know it.
#[derive(Debug)]
struct Wait {
    resource: Resource,
    holder: Holder,
    licence: LicenceId,
    /// Since when the newest terms count what polling costs: since first joining.
    joined_ms: u64,
    window_ms: u64,
    retries: u32,
    /// What polling had cost when the terms last changed.
    polled: u32,
    /// What was paid for before.
    credit: u32,
    names: BTreeSet<IdempotencyKey>,
    /// When its last caller was lost; what ends it with a grant from then on is coming back alone.
    deserted_ms: Option<u64>,
}

impl Wait {
    /// The newest request says how long the wait goes on, but takes back nothing that was tried; a
    /// repeated one is no new one.
    fn renew(&mut self, acquire: &Acquire, now_ms: u64) {
        let name = acquire.idempotency.as_ref().map(|name| name.key.clone());
        if name.is_none_or(|name| self.names.insert(name)) {
            self.polled = self.attempts(now_ms) - 1;
            self.window_ms = now_ms - self.joined_ms + acquire.window_ms;
            self.retries = acquire.retry_attempts;
        }
    }

    /// Whether a place that lost its callers was still there for the command of an entry.
    fn is_kept_at(&self, now_ms: u64) -> bool {
        let ends_ms = self.joined_ms + self.window_ms;
        self.deserted_ms
            .is_some_and(|since_ms| since_ms + DETACHED_MS >= now_ms && ends_ms >= now_ms)
    }

    /// When it ended, if it has without a grant: as at its end, however late an entry removes it.
    fn ended_ms(&self, now_ms: u64) -> u64 {
        let place_ms = self.deserted_ms.map(|since_ms| since_ms + DETACHED_MS);
        now_ms.min(place_ms.unwrap_or(u64::MAX))
    }

    /// SPEC 2: `1 + min(retryAttempts, ceil(wait x retryAttempts / window))`.
    fn attempts(&self, now_ms: u64) -> u32 {
        let waited_ms = now_ms - self.joined_ms;
        let polls = (waited_ms * u64::from(self.retries)).div_ceil(self.window_ms.max(1));
        let polls = u32::try_from(polls).unwrap_or(u32::MAX).min(self.retries);
        1 + polls.max(self.polled)
    }
}

/// The sum over distinct outcomes.
#[derive(Default)]
pub(super) struct Ledger {
    owed: BTreeMap<LicenceId, u64>,
    /// By place.
    waits: BTreeMap<u64, Wait>,
    attached: BTreeMap<OpId, u64>,
}

/// What is known of an acquire before it is applied.
pub(super) struct Before {
    /// The record of its name.
    record: Option<String>,
    /// Attempts that it paid for before, and until when that counts.
    paid: Option<(u32, u64)>,
}

impl Before {
    fn credit(&self, now_ms: u64) -> u32 {
        let paid = self.paid.filter(|(_, until_ms)| *until_ms >= now_ms);
        paid.map_or(0, |(attempts, _)| attempts)
    }
}

/// The record of an acquire's name, without how it stands: the same text is the same record.
fn record_of(table: &LockTable, acquire: &Acquire) -> Option<String> {
    let text = record_text(table, acquire)?;
    let (identity, _) = text.split_once(", state:").expect("a record has a state");
    Some(identity.to_owned())
}

fn record_text(table: &LockTable, acquire: &Acquire) -> Option<String> {
    let name = acquire.idempotency.as_ref()?;
    let id = IdempotencyId {
        identity: identity(u8::try_from(acquire.caller.0).ok()?),
        endpoint: Endpoint::Acquire,
        key: name.key.clone(),
    };
    match table.freeze().record(&RecordKey::Idempotency(id)) {
        Some(Record::Idempotency(record)) => Some(format!("{record:?}")),
        _ => None,
    }
}

/// Of an acquire that was given back before anybody was told of it.
fn paid_for(table: &LockTable, acquire: &Acquire) -> Option<(u32, u64)> {
    let text = record_text(table, acquire)?;
    let (_, paid) = text.split_once("Paid { attempts: ")?;
    let (attempts, rest) = paid.split_once(", until_ms: ")?;
    let (until_ms, _) = rest.split_once(' ')?;
    Some((attempts.parse().ok()?, until_ms.parse().ok()?))
}

/// Who was granted what, if an acquire was.
fn granted_to(acquire: &Acquire, outcome: &Outcome) -> Option<(Resource, Holder)> {
    let Outcome::Granted(granted) = outcome else {
        return None;
    };
    let resource = Resource {
        identity: identity(u8::try_from(acquire.caller.0).ok()?),
        key: acquire.key.clone(),
    };
    Some((resource, granted.holder.clone()))
}

/// Whoever begins an attempt has one left.
fn admitted(payer: LicenceId, owed: u64) -> TestCaseResult {
    prop_assert!(payer != LIMITED || owed < LIMITED_TO, "{owed} were used");
    Ok(())
}

impl Ledger {
    pub(super) fn before(table: &LockTable, command: &Command) -> Before {
        let acquire = match &command.action {
            Action::Acquire(acquire) => Some(acquire),
            _ => None,
        };
        Before {
            record: acquire.and_then(|acquire| record_of(table, acquire)),
            paid: acquire.and_then(|acquire| paid_for(table, acquire)),
        }
    }

    /// One entry: who was told what, and what the table shows after it. `is_new`: the entry is the
    /// one that decided, and `is_new_token`: nobody had heard of the grant before.
    pub(super) fn listen(
        &mut self,
        table: &LockTable,
        command: &Command,
        (before, is_new_token): (&Before, bool),
        decision: Option<&Decision>,
        events: &[Event],
    ) -> TestCaseResult {
        let granted = match (&command.action, decision) {
            (Action::Acquire(acquire), Some(decision)) => granted_to(acquire, &decision.outcome),
            _ => None,
        };
        let came_back = granted
            .as_ref()
            .and_then(|to| self.place(to))
            .filter(|place| self.waits[place].is_kept_at(table.now_ms()));
        self.hear_ends(table, events, came_back)?;
        if let (Action::Acquire(acquire), Some(operation), Some(decision)) =
            (&command.action, command.operation, decision)
        {
            let asked = (operation.id, acquire);
            self.ended_in_silence(table, came_back);
            let heard = (before, is_new_token, came_back);
            self.decided(table, asked, heard, &decision.outcome)?;
        }
        self.ended_in_silence(table, None);
        self.look_for_callers(table);
        for licence in table.licences(None, usize::MAX, 0) {
            let usage = &licence.usage;
            let past: u64 = usage.past.iter().map(|past| past.used).sum();
            let id = licence.id;
            prop_assert_eq!(usage.used + past, self.owed(id), "{:?}", id);
        }
        Ok(())
    }

    /// What has ended, and the first attempt of each wait that goes on.
    fn owed(&self, licence: LicenceId) -> u64 {
        let waits = self.waits.values().filter(|wait| wait.licence == licence);
        let begun = waits.filter(|wait| wait.credit == 0).count() as u64;
        self.owed.get(&licence).copied().unwrap_or_default() + begun
    }

    fn owe(&mut self, licence: LicenceId, attempts: u32) {
        *self.owed.entry(licence).or_default() += u64::from(attempts);
    }

    /// `came_back`: the wait that the entry's own request is granted by, and answers for.
    fn hear_ends(
        &mut self,
        table: &LockTable,
        events: &[Event],
        came_back: Option<u64>,
    ) -> TestCaseResult {
        for event in events {
            let Event::WaitEnded {
                operation, outcome, ..
            } = event
            else {
                continue;
            };
            // The second to be told of the same end owes nothing more.
            let place = self.attached.remove(operation);
            if place.is_some() && place == came_back {
                continue;
            }
            let Some(wait) = place.and_then(|place| self.waits.get(&place)) else {
                continue;
            };
            let (attempts, ended_ms) = match outcome {
                Outcome::Granted(granted) => (granted.attempts, table.now_ms()),
                Outcome::Refused(Refusal::LockHeld {
                    reason, attempts, ..
                }) => {
                    if *reason == HeldReason::WindowPassed {
                        prop_assert!(place.is_some());
                    }
                    (*attempts, wait.ended_ms(table.now_ms()))
                }
                // Only this request's end: the wait goes on with others, or is gone without a word.
                _ => continue,
            };
            prop_assert_eq!(attempts, wait.attempts(ended_ms));
            if let Some(wait) = self.waits.remove(&place.unwrap_or_default()) {
                self.owe(wait.licence, attempts.saturating_sub(wait.credit));
            }
        }
        Ok(())
    }

    fn decided(
        &mut self,
        table: &LockTable,
        (operation, acquire): (OpId, &Acquire),
        (before, is_new_token, came_back): (&Before, bool, Option<u64>),
        outcome: &Outcome,
    ) -> TestCaseResult {
        let caller = u8::try_from(acquire.caller.0).unwrap_or_default();
        let payer = licence_of(caller);
        let record = record_of(table, acquire);
        let is_replay = before.record.is_some() && before.record == record;
        let owed = self.owed(payer);
        let credit = before.credit(table.now_ms());
        let admitted = |owed| {
            if credit > 0 {
                Ok(())
            } else {
                admitted(payer, owed)
            }
        };
        match outcome {
            Outcome::Queued => self.joined(table, operation, acquire, (payer, credit))?,
            Outcome::Granted(granted) => {
                // A wait whose callers were gone was found again, with nobody before it.
                if let Some(mut wait) = came_back.and_then(|place| self.waits.remove(&place)) {
                    wait.renew(acquire, table.now_ms());
                    prop_assert_eq!(granted.attempts, wait.attempts(table.now_ms()));
                    self.owe(wait.licence, granted.attempts.saturating_sub(wait.credit));
                } else if is_new_token {
                    prop_assert_eq!(granted.attempts, 1);
                    admitted(owed)?;
                    self.owe(payer, 1_u32.saturating_sub(credit));
                } else if !is_replay {
                    admitted(owed)?;
                    self.owe(payer, 1_u32.saturating_sub(credit));
                }
            }
            Outcome::Refused(Refusal::LockHeld { attempts, .. }) if !is_replay => {
                admitted(owed)?;
                self.owe(payer, attempts.saturating_sub(credit));
            }
            Outcome::Refused(Refusal::QuotaExceeded { limit, .. }) => {
                prop_assert_eq!((payer, *limit), (LIMITED, LIMITED_TO));
                prop_assert!(owed >= LIMITED_TO, "refused with {owed} used");
            }
            _ => {}
        }
        Ok(())
    }

    fn place(&self, (resource, holder): &(Resource, Holder)) -> Option<u64> {
        let mut waits = self.waits.iter();
        waits
            .find(|(_, wait)| wait.resource == *resource && wait.holder == *holder)
            .map(|(place, _)| *place)
    }

    fn joined(
        &mut self,
        table: &LockTable,
        operation: OpId,
        acquire: &Acquire,
        (payer, credit): (LicenceId, u32),
    ) -> TestCaseResult {
        let caller = u8::try_from(acquire.caller.0).unwrap_or_default();
        let resource = Resource {
            identity: identity(caller),
            key: acquire.key.clone(),
        };
        let name = acquire.idempotency.as_ref().map(|name| &name.key);
        // A repeated request stands in line under its first holder's name, and changes nothing.
        let repeated = self.waits.iter_mut().find(|(place, wait)| {
            wait.resource == resource
                && name.is_some_and(|name| wait.names.contains(name))
                && table.place_in_line(&wait.resource, &wait.holder) == Some(**place)
        });
        if let Some((place, _)) = repeated {
            self.attached.insert(operation, *place);
            return Ok(());
        }
        let now_ms = table.now_ms();
        let place = table.place_in_line(&resource, &acquire.holder);
        let place = place.expect("who was queued stands in line");
        self.attached.insert(operation, place);
        if !self.waits.contains_key(&place) && credit == 0 {
            admitted(payer, self.owed(payer))?;
        }
        let wait = self.waits.entry(place).or_insert_with(|| Wait {
            resource,
            holder: acquire.holder.clone(),
            licence: payer,
            joined_ms: now_ms,
            window_ms: acquire.window_ms,
            retries: acquire.retry_attempts,
            polled: 0,
            credit,
            names: BTreeSet::new(),
            deserted_ms: None,
        });
        wait.renew(acquire, now_ms);
        Ok(())
    }

    fn look_for_callers(&mut self, table: &LockTable) {
        for (place, wait) in &mut self.waits {
            let mut callers = self.attached.iter().filter(|(_, at)| *at == place);
            let is_attached = callers.any(|(operation, _)| {
                let state = table.attachment(*operation, &wait.resource, &wait.holder);
                state == AttachmentState::Waiting
            });
            wait.deserted_ms = match wait.deserted_ms {
                _ if is_attached => None,
                since_ms => Some(since_ms.unwrap_or(table.now_ms())),
            };
        }
    }

    /// Waits that lost their last caller, and then their place.
    fn ended_in_silence(&mut self, table: &LockTable, but: Option<u64>) {
        let gone: Vec<u64> = self
            .waits
            .iter()
            .filter(|(place, wait)| {
                let now = table.place_in_line(&wait.resource, &wait.holder);
                now != Some(**place) && but != Some(**place)
            })
            .map(|(place, _)| *place)
            .collect();
        for place in gone {
            if let Some(wait) = self.waits.remove(&place) {
                let attempts = wait.attempts(wait.ended_ms(table.now_ms()));
                self.owe(wait.licence, attempts.saturating_sub(wait.credit));
            }
        }
    }
}
