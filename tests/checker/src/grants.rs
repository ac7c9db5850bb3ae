//! Which grants a history shows, and what their holders could believe.
//!
//! A holder may believe in its grant from the moment its answer was read until it first sent a
//! release, or until the latest deadline that an answer gave it. Every bound here leans towards the
//! server: where a server could be right, it is not accused.

use std::collections::HashMap;

use crate::clocks::ClockBound;
use crate::history::{Ask, History, Moment, Record, Told};

/// One grant as its holder knew it: a lock, a uuid and a token.
///
/// A uuid whose grant ended may be granted anew under another token, where its acquire arrives
/// twice: those are two grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The lock.
    pub key: &'a str,
    /// The holder.
    pub uuid: &'a str,
    /// The fencing token.
    pub token: u64,
    /// When the first request was sent that may have brought it about.
    pub asked: Moment,
    /// When it was first read of.
    pub acked: Moment,
    /// The latest deadline that its holder was given, whatever it did afterwards.
    pub deadline: Moment,
    /// Until when its holder may act on it. Not after `acked` where nothing may be believed.
    pub until: Moment,
}

impl Grant<'_> {
    /// Whether its holder could believe in it at some moment.
    pub fn was_believed(&self) -> bool {
        self.acked < self.until
    }
}

/// What a caller's requests of one lock and uuid say that is of use for its grants.
#[derive(Default)]
struct Asked {
    /// When acquires were sent that were answered with a token, by token.
    answered: Vec<(u64, Moment)>,
    /// When the first acquire was sent whose effect is not known.
    unsure: Option<Moment>,
    /// When the first acquire was sent at all.
    first: Option<Moment>,
    /// Each release: when it was sent, and from when on it surely does nothing more.
    releases: Vec<(Moment, Option<Moment>)>,
}

impl Asked {
    fn add(&mut self, record: &Record) {
        match record.ask {
            Ask::Acquire { .. } => {
                earlier(&mut self.first, record.invoked);
                match &record.told {
                    Told::Granted { token, .. } => self.answered.push((*token, record.invoked)),
                    told if may_have_granted(told) => earlier(&mut self.unsure, record.invoked),
                    _ => {}
                }
            }
            Ask::Release => {
                let over = (record.told != Told::Unknown).then_some(record.returned);
                self.releases.push((record.invoked, over));
            }
            Ask::Extend { .. } | Ask::Look => {}
        }
    }

    /// When the first request was sent that may have brought `token` about.
    fn asked(&self, token: u64) -> Moment {
        // `answered` was sorted: the first of a token is the earliest.
        let at = self.answered.partition_point(|(other, _)| *other < token);
        let answered = self.answered.get(at).filter(|(other, _)| *other == token);
        let sure = answered.map(|(_, invoked)| *invoked);
        let asked = sure.into_iter().chain(self.unsure).min();
        // A token that no acquire accounts for: the least is claimed of it.
        asked.or(self.first).unwrap_or_default()
    }

    /// When the first release was sent that may have ended a grant asked for at `asked`. One that
    /// was over by then ended another grant; one whose end is not known may have come late.
    fn released(&self, asked: Moment) -> Option<Moment> {
        let may = |over: Option<Moment>| over.is_none_or(|over| over >= asked);
        let releases = self.releases.iter();
        releases
            .filter(|(_, over)| may(*over))
            .map(|(invoked, _)| *invoked)
            .min()
    }
}

/// Whether an acquire so answered may still have taken the lock, or have taken it earlier.
pub(crate) fn may_have_granted(told: &Told) -> bool {
    match told {
        Told::Unknown => true,
        Told::Refused { code, .. } => code == "grant_ended",
        _ => false,
    }
}

fn earlier(moment: &mut Option<Moment>, other: Moment) {
    *moment = Some(moment.map_or(other, |moment| moment.min(other)));
}

/// The token that an answer says its caller holds, and the cluster ms from the request's first
/// entry to the end of the lease.
pub(crate) fn told_of_hold(told: &Told) -> Option<(u64, u64)> {
    match *told {
        Told::Granted {
            token,
            expires_in_ms,
            waited_ms,
            ..
        } => Some((token, waited_ms.saturating_add(expires_in_ms))),
        Told::Extended {
            token,
            expires_in_ms,
        } => Some((token, expires_in_ms)),
        _ => None,
    }
}

/// Every grant that an acquire or an extend told of, by key, uuid and token.
pub fn grants<'a>(history: &'a History, clocks: ClockBound<'_>) -> Vec<Grant<'a>> {
    let mut asked: HashMap<(&str, &str), Asked> = HashMap::new();
    let mut grants: HashMap<(&str, &str, u64), Grant<'_>> = HashMap::new();
    for record in &history.records {
        let (key, uuid) = (record.key.as_str(), record.uuid.as_str());
        if record.ask == Ask::Look {
            continue;
        }
        asked.entry((key, uuid)).or_default().add(record);
        let Some((token, left_ms)) = told_of_hold(&record.told) else {
            continue;
        };
        let deadline = clocks.deadline(record.invoked, left_ms);
        let grant = grants.entry((key, uuid, token)).or_insert(Grant {
            key,
            uuid,
            token,
            asked: Moment::default(),
            acked: record.returned,
            deadline,
            until: deadline,
        });
        grant.acked = grant.acked.min(record.returned);
        grant.deadline = grant.deadline.max(deadline);
    }
    for asked in asked.values_mut() {
        asked.answered.sort_unstable();
    }
    let mut grants: Vec<_> = grants.into_values().collect();
    for grant in &mut grants {
        let asked = &asked[&(grant.key, grant.uuid)];
        grant.asked = asked.asked(grant.token);
        let released = asked.released(grant.asked).unwrap_or(grant.deadline);
        grant.until = grant.deadline.min(released);
    }
    grants.sort_unstable_by_key(|grant| (grant.key, grant.acked, grant.token, grant.uuid));
    grants
}
