//! Who may ask, and what it costs: SPEC.md section 4 and `docs/metering.md`.

use std::collections::VecDeque;

use evermind_lock::command::{CreateLicence, KeyHash, KeyId, LicenceId};
use evermind_lock::licence::Period;
use evermind_lock::names::IdentityId;
use evermind_lock::outcome::{CutOff, Limit, Outcome, Refusal};

use super::numbers::{
    ALLOWANCE_MAX, API_KEYS_MAX, API_KEYS_PER_LICENCE_MAX, DELETED_KEYS_REMEMBERED, LICENCES_MAX,
};
use super::{Model, calendar, no};

#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) licence: LicenceId,
    hash: KeyHash,
}

#[derive(Debug)]
pub(super) struct Licence {
    pub(super) identity: IdentityId,
    /// `None` where the operator configures its API keys.
    key: Option<KeyHash>,
    limit: Option<u64>,
    expires_ms: Option<u64>,
    revoked: bool,
    /// When the period ends in which `used` was charged.
    period_ends_ms: Option<u64>,
    used: u64,
    /// What was charged in all periods together.
    pub(super) used_ever: u64,
    deleted: VecDeque<(KeyId, KeyHash)>,
}

impl Licence {
    fn is_active(&self, wall_ms: u64) -> bool {
        !self.revoked && self.expires_ms.is_none_or(|date| wall_ms < date)
    }

    /// What was charged in the period that the moment is in.
    pub(super) fn used_at(&self, wall_ms: u64) -> u64 {
        let is_over = self.period_ends_ms.is_some_and(|end| end <= wall_ms);
        if is_over { 0 } else { self.used }
    }

    /// Begins the period that the moment is in. Periods never go back.
    fn advance(&mut self, wall_ms: u64) {
        if self.period_ends_ms.is_some_and(|end| end <= wall_ms) {
            self.used = 0;
            self.period_ends_ms = Some(calendar::month(wall_ms).1);
        }
    }
}

/// Who asks, and may.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) key: KeyId,
    pub(super) licence: LicenceId,
    pub(super) identity: IdentityId,
}

impl Model {
    pub(super) fn caller(&self, key: KeyId) -> Result<Caller, Refusal> {
        let known = self.keys.get(&key).ok_or(Refusal::Unauthorized)?;
        let licence = self.licences.get(&known.licence);
        let licence = licence.ok_or(Refusal::Unauthorized)?;
        if !licence.is_active(self.wall_ms) {
            return Err(Refusal::LicenceInactive);
        }
        Ok(Caller {
            key,
            licence: known.licence,
            identity: licence.identity.clone(),
        })
    }

    /// Whether one more attempt may begin; what was paid for before may always.
    pub(super) fn check_allowance(&mut self, id: LicenceId, credit: u32) -> Result<(), Refusal> {
        let wall_ms = self.wall_ms;
        let Some(licence) = self.licences.get_mut(&id) else {
            return Err(Refusal::Unauthorized);
        };
        licence.advance(wall_ms);
        match licence.limit {
            Some(limit) if credit == 0 && licence.used >= limit => Err(Refusal::QuotaExceeded {
                limit,
                next_period_ms: licence.period_ends_ms,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn charge(&mut self, id: LicenceId, attempts: u32) {
        let wall_ms = self.wall_ms;
        if attempts > 0
            && let Some(licence) = self.licences.get_mut(&id)
        {
            licence.advance(wall_ms);
            licence.used += u64::from(attempts);
            licence.used_ever += u64::from(attempts);
        }
    }

    pub(super) fn end_dated_licences(&mut self) {
        while let Some(&(date, licence)) = self.dates.first()
            && date <= self.wall_ms
        {
            self.dates.pop_first();
            self.cut_off_licence(licence);
        }
    }

    fn cut_off_licence(&mut self, licence: LicenceId) {
        for key in self.keys_of(licence) {
            self.cut_off_key(key, CutOff::LicenceInactive);
        }
    }

    fn keys_of(&self, licence: LicenceId) -> Vec<KeyId> {
        let own = self.keys.iter().filter(|(_, key)| key.licence == licence);
        own.map(|(id, _)| *id).collect()
    }

    /// From now on every wait of the key is over.
    fn cut_off_key(&mut self, key: KeyId, reason: CutOff) {
        if self.first_wait_of(key).is_some() {
            let at_ms = self.now_ms;
            self.cut_off.entry(key).or_insert((at_ms, reason));
        }
    }

    pub(super) fn add_configured_key(&mut self, hash: KeyHash, identity: IdentityId) -> Outcome {
        if self.hashes.contains_key(&hash) {
            return Outcome::Done;
        }
        if self.deleted.contains(&hash) {
            return no(Refusal::ApiKeyNotFound);
        }
        let built_in = self
            .licences
            .iter()
            .find(|(_, licence)| licence.key.is_none() && licence.identity == identity);
        let licence = if let Some((id, _)) = built_in {
            *id
        } else {
            let period_ends_ms = Some(calendar::month(self.wall_ms).1);
            self.issue(Licence::issued(identity, None, None, None, period_ends_ms))
        };
        let own = self.keys_of(licence);
        if own.len() >= API_KEYS_PER_LICENCE_MAX && self.is_active(licence) {
            self.drop_key(own[0]);
        }
        match self.add_key(licence, hash) {
            Ok(_) => Outcome::Done,
            Err(refusal) => no(refusal),
        }
    }

    fn is_active(&self, licence: LicenceId) -> bool {
        let licence = self.licences.get(&licence);
        licence.is_some_and(|licence| licence.is_active(self.wall_ms))
    }

    fn issue(&mut self, licence: Licence) -> LicenceId {
        let id = LicenceId(self.licences.len() as u64 + 1);
        if let Some(date) = licence.expires_ms {
            self.dates.insert((date, id));
        }
        self.licences.insert(id, licence);
        id
    }

    fn with_licence_key(&self, key: &KeyHash) -> Option<LicenceId> {
        let mut licences = self.licences.iter();
        let found = licences.find(|(_, licence)| licence.key.as_ref() == Some(key));
        found.map(|(id, _)| *id)
    }

    pub(super) fn create_licence(&mut self, create: CreateLicence) -> Outcome {
        if let Some(id) = self.with_licence_key(&create.key) {
            return Outcome::LicenceCreated(id);
        }
        if create.expires_ms.is_some_and(|date| date <= self.wall_ms) {
            return no(Refusal::LicenceInactive);
        }
        if self.licences.len() >= LICENCES_MAX {
            return no(Refusal::LimitReached(Limit::Licences));
        }
        let period_ends_ms = match create.period {
            Period::None => None,
            Period::Month => Some(calendar::month(self.wall_ms).1),
        };
        let limit = create.limit.map(|limit| limit.min(ALLOWANCE_MAX));
        let licence = Licence::issued(
            create.identity,
            Some(create.key),
            limit,
            create.expires_ms,
            period_ends_ms,
        );
        Outcome::LicenceCreated(self.issue(licence))
    }

    pub(super) fn revoke(&mut self, id: LicenceId) -> Outcome {
        let Some(licence) = self.licences.get_mut(&id) else {
            return no(Refusal::LicenceNotFound);
        };
        if !licence.revoked {
            licence.revoked = true;
            if let Some(date) = licence.expires_ms {
                self.dates.remove(&(date, id));
            }
            self.cut_off_licence(id);
        }
        Outcome::Done
    }

    fn active_with(&self, key: &KeyHash) -> Result<LicenceId, Refusal> {
        let id = self.with_licence_key(key).ok_or(Refusal::LicenceUnknown)?;
        let active = self.is_active(id);
        active.then_some(id).ok_or(Refusal::LicenceInactive)
    }

    pub(super) fn create_key(&mut self, licence: &KeyHash, hash: KeyHash) -> Outcome {
        let licence = self.active_with(licence);
        match licence.and_then(|licence| self.add_key(licence, hash)) {
            Ok(id) => Outcome::ApiKeyCreated(id),
            Err(refusal) => no(refusal),
        }
    }

    fn add_key(&mut self, licence: LicenceId, hash: KeyHash) -> Result<KeyId, Refusal> {
        if !self.is_active(licence) {
            return Err(Refusal::LicenceInactive);
        }
        if let Some(id) = self.hashes.get(&hash) {
            let same = self.keys[id].licence == licence;
            return same.then_some(*id).ok_or(Refusal::ApiKeyNotFound);
        }
        if self.deleted.contains(&hash) {
            return Err(Refusal::ApiKeyNotFound);
        }
        let built_in = self.licences[&licence].key.is_none();
        if self.keys.len() >= API_KEYS_MAX && !built_in {
            return Err(Refusal::LimitReached(Limit::ApiKeys));
        }
        if self.keys_of(licence).len() >= API_KEYS_PER_LICENCE_MAX {
            return Err(Refusal::LimitReached(Limit::ApiKeysPerLicence));
        }
        self.keys_made += 1;
        let id = KeyId(self.keys_made);
        self.keys.insert(id, Key { licence, hash });
        self.hashes.insert(hash, id);
        Ok(id)
    }

    pub(super) fn delete_key(&mut self, licence: &KeyHash, hash: KeyHash) -> Outcome {
        let licence = match self.active_with(licence) {
            Ok(licence) => licence,
            Err(refusal) => return no(refusal),
        };
        let key = self.hashes.get(&hash).copied();
        match key.filter(|key| self.keys[key].licence == licence) {
            Some(key) => {
                self.forget_key(licence, key);
                Outcome::Done
            }
            None => self.deleted_before(licence, |(_, deleted)| *deleted == hash),
        }
    }

    pub(super) fn delete_key_by_id(&mut self, licence: LicenceId, key: KeyId) -> Outcome {
        if !self.licences.contains_key(&licence) {
            return no(Refusal::LicenceNotFound);
        }
        if self.keys.get(&key).is_some_and(|k| k.licence == licence) {
            self.forget_key(licence, key);
            return Outcome::Done;
        }
        self.deleted_before(licence, |(deleted, _)| *deleted == key)
    }

    /// Deleting again is no failure.
    fn deleted_before(
        &self,
        licence: LicenceId,
        is_it: impl Fn(&(KeyId, KeyHash)) -> bool,
    ) -> Outcome {
        if self.licences[&licence].deleted.iter().any(is_it) {
            Outcome::Done
        } else {
            no(Refusal::ApiKeyNotFound)
        }
    }

    fn forget_key(&mut self, licence: LicenceId, key: KeyId) {
        let hash = self.keys[&key].hash;
        if let Some(licence) = self.licences.get_mut(&licence) {
            let remembered = match licence.key {
                None => API_KEYS_PER_LICENCE_MAX,
                Some(_) => DELETED_KEYS_REMEMBERED,
            };
            if licence.deleted.len() >= remembered
                && let Some((_, oldest)) = licence.deleted.pop_front()
            {
                self.deleted.remove(&oldest);
            }
            licence.deleted.push_back((key, hash));
            self.deleted.insert(hash);
        }
        self.drop_key(key);
    }

    fn drop_key(&mut self, key: KeyId) {
        self.cut_off_key(key, CutOff::KeyDeleted);
        if let Some(dropped) = self.keys.remove(&key) {
            self.hashes.remove(&dropped.hash);
        }
    }
}

impl Licence {
    fn issued(
        identity: IdentityId,
        key: Option<KeyHash>,
        limit: Option<u64>,
        expires_ms: Option<u64>,
        period_ends_ms: Option<u64>,
    ) -> Self {
        Self {
            identity,
            key,
            limit,
            expires_ms,
            revoked: false,
            period_ends_ms,
            used: 0,
            used_ever: 0,
            deleted: VecDeque::new(),
        }
    }
}
