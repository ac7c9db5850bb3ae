//! Licences, their API keys, and what attempts cost.

use std::collections::{BTreeMap, BTreeSet};

use super::{LockTable, refused};
use crate::command::{CreateLicence, KeyHash, KeyId, LicenceId, OpId};
use crate::licence::{ApiKey, Licence, Period, Usage};
use crate::limits::{
    ALLOWANCE_MAX, API_KEYS_MAX, API_KEYS_PER_LICENCE_MAX, LAST_USE_EVERY_MS, LICENCES_MAX,
};
use crate::names::{IdentityId, LicenceName, Resource};
use crate::outcome::{CutOff, Limit, Outcome, Refusal};
use crate::queue::Waiter;
use crate::record::RecordKey;

/// What follows from the licences and API keys, so as not to search for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) keys: BTreeMap<KeyId, KnownKey>,
    /// Every licence that has a licence key.
    pub(super) by_key: BTreeMap<KeyHash, LicenceId>,
    /// The licences whose API keys come from configuration.
    pub(super) built_in: BTreeMap<IdentityId, LicenceId>,
    pub(super) keys_of: BTreeMap<LicenceId, BTreeSet<KeyId>>,
    /// Deleted keys that some licence remembers: not even configuration brings them back.
    pub(super) deleted: BTreeSet<KeyHash>,
    /// Active licences that have a date, by it.
    pub(super) expiries: BTreeSet<(u64, LicenceId)>,
    /// Every request that waits or may come back to its wait, by its API key: its wait's resource
    /// and place.
    pub(super) callers: BTreeMap<(KeyId, OpId), (Resource, u64)>,
}

/// What a command's API key means, without reading its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownKey {
    hash: KeyHash,
    licence: LicenceId,
    used_ms: Option<u64>,
}

/// Who asks.
pub(super) struct Caller {
    pub(super) key: KeyId,
    pub(super) licence: LicenceId,
    pub(super) identity: IdentityId,
}

impl Accounts {
    pub(super) fn add_key(&mut self, hash: KeyHash, key: &ApiKey) {
        let known = KnownKey {
            hash,
            licence: key.licence,
            used_ms: key.used_ms,
        };
        self.keys.insert(key.id, known);
        self.keys_of.entry(key.licence).or_default().insert(key.id);
    }

    pub(super) fn add_licence(&mut self, id: LicenceId, licence: &Licence, wall_ms: u64) {
        match licence.key {
            Some(key) => self.by_key.insert(key, id),
            None => self.built_in.insert(licence.identity.clone(), id),
        };
        self.deleted
            .extend(licence.deleted.iter().map(|key| key.hash));
        if let Some(expires_ms) = licence.expires_ms
            && licence.standing(wall_ms).is_active()
        {
            self.expiries.insert((expires_ms, id));
        }
    }

    pub(super) fn hash_of(&self, id: KeyId) -> Option<KeyHash> {
        self.keys.get(&id).map(|known| known.hash)
    }

    pub(super) fn licence_of(&self, id: KeyId) -> Option<LicenceId> {
        self.keys.get(&id).map(|known| known.licence)
    }

    fn remove_key(&mut self, id: KeyId) -> Option<KnownKey> {
        let known = self.keys.remove(&id)?;
        if let Some(keys) = self.keys_of.get_mut(&known.licence) {
            keys.remove(&id);
            if keys.is_empty() {
                self.keys_of.remove(&known.licence);
            }
        }
        Some(known)
    }
}

impl LockTable {
    /// Whose command this is. Notes that the key was used.
    pub(super) fn caller(&mut self, key: KeyId) -> Result<Caller, Refusal> {
        let wall_ms = self.state.meta.wall_ms;
        let known = self.index.accounts.keys.get_mut(&key);
        let known = known.ok_or(Refusal::Unauthorized)?;
        let licence = self.state.licences.get(&known.licence);
        let licence = licence.ok_or(Refusal::Unauthorized)?;
        if !licence.standing(wall_ms).is_active() {
            return Err(Refusal::LicenceInactive);
        }
        let caller = Caller {
            key,
            licence: known.licence,
            identity: licence.identity.clone(),
        };
        if known
            .used_ms
            .is_none_or(|ms| wall_ms.saturating_sub(ms) >= LAST_USE_EVERY_MS)
        {
            known.used_ms = Some(wall_ms);
            let hash = known.hash;
            if let Some(key) = self.state.api_keys.get_mut(&hash) {
                key.used_ms = Some(wall_ms);
            }
            self.touched.insert(RecordKey::ApiKey(hash));
        }
        Ok(caller)
    }

    /// Whether a licence allows one more attempt to begin. With credit, it has been allowed already.
    pub(super) fn allows(&self, licence: LicenceId, credit: u32) -> Result<(), Refusal> {
        if credit > 0 {
            return Ok(());
        }
        let Some(licence) = self.state.licences.get(&licence) else {
            return Err(Refusal::Unauthorized);
        };
        match licence.limit {
            Some(limit) if !licence.has_allowance(self.wall_ms()) => Err(Refusal::QuotaExceeded {
                limit,
                next_period_ms: licence.usage.at(self.wall_ms()).end_ms,
            }),
            _ => Ok(()),
        }
    }

    /// Charges attempts to a licence, in the period that this entry is in. Never refuses: who was
    /// admitted may overrun.
    pub(super) fn charge(&mut self, id: LicenceId, attempts: u32) {
        if attempts == 0 {
            return;
        }
        let wall_ms = self.wall_ms();
        if let Some(licence) = self.state.licences.get_mut(&id) {
            licence.usage.charge(wall_ms, u64::from(attempts));
            self.touched.insert(RecordKey::Licence(id));
        }
    }

    /// Charges what a wait that is over has cost beyond its first attempt.
    pub(super) fn charge_rest(&mut self, waiter: &Waiter, attempts: u32) {
        let rest = (attempts - 1).saturating_sub(waiter.credit);
        self.charge(waiter.licence, rest);
    }

    /// The operator's configuration is the truth about its own keys: when there are too many, the
    /// oldest goes.
    pub(super) fn add_api_key(&mut self, hash: KeyHash, identity: IdentityId) -> Outcome {
        if self.state.api_keys.get(&hash).is_some() {
            return Outcome::Done;
        }
        if self.index.accounts.deleted.contains(&hash) {
            return refused(Refusal::ApiKeyNotFound);
        }
        let licence = match self.index.accounts.built_in.get(&identity) {
            Some(licence) => *licence,
            None => match self.issue(built_in(identity, self.wall_ms())) {
                Ok(licence) => licence,
                Err(refusal) => return refused(refusal),
            },
        };
        let added = match self.add_key(licence, hash) {
            Err(Refusal::LimitReached(Limit::ApiKeysPerLicence)) => {
                let keys = self.index.accounts.keys_of.get(&licence);
                if let Some(oldest) = keys.and_then(BTreeSet::first).copied() {
                    self.drop_key(oldest);
                }
                self.add_key(licence, hash)
            }
            added => added,
        };
        match added {
            Ok(_) => Outcome::Done,
            Err(refusal) => refused(refusal),
        }
    }

    pub(super) fn create_licence(&mut self, create: CreateLicence) -> Outcome {
        if let Some(id) = self.index.accounts.by_key.get(&create.key) {
            return Outcome::LicenceCreated(*id);
        }
        let wall_ms = self.wall_ms();
        if create
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= wall_ms)
        {
            return refused(Refusal::LicenceInactive);
        }
        let issued = self.issue(Licence {
            name: create.name,
            identity: create.identity,
            key: Some(create.key),
            limit: create.limit.map(|limit| limit.min(ALLOWANCE_MAX)),
            period: create.period,
            expires_ms: create.expires_ms,
            created_ms: wall_ms,
            revoked_ms: None,
            usage: Usage::new(create.period, wall_ms),
            deleted: Vec::new(),
        });
        match issued {
            Ok(id) => Outcome::LicenceCreated(id),
            Err(refusal) => refused(refusal),
        }
    }

    /// The operator's own licence is never in want of room.
    fn issue(&mut self, licence: Licence) -> Result<LicenceId, Refusal> {
        if self.state.licences.len() >= LICENCES_MAX && licence.key.is_some() {
            return Err(Refusal::LimitReached(Limit::Licences));
        }
        let id = LicenceId(self.state.meta.next_licence);
        self.state.meta.next_licence += 1;
        self.touched.insert(RecordKey::Meta);
        self.touched.insert(RecordKey::Licence(id));
        let wall_ms = self.wall_ms();
        self.index.accounts.add_licence(id, &licence, wall_ms);
        self.state.licences.insert(id, licence);
        Ok(id)
    }

    pub(super) fn revoke_licence(&mut self, id: LicenceId) -> Outcome {
        let wall_ms = self.wall_ms();
        let Some(licence) = self.state.licences.get_mut(&id) else {
            return refused(Refusal::LicenceNotFound);
        };
        if licence.revoked_ms.is_some() {
            return Outcome::Done;
        }
        licence.revoked_ms = Some(wall_ms);
        if let Some(expires_ms) = licence.expires_ms {
            self.index.accounts.expiries.remove(&(expires_ms, id));
        }
        self.touched.insert(RecordKey::Licence(id));
        self.cut_off_licence(id);
        Outcome::Done
    }

    /// The active licence with this licence key.
    fn licence_with(&self, key: &KeyHash) -> Result<LicenceId, Refusal> {
        let id = self.index.accounts.by_key.get(key);
        let id = *id.ok_or(Refusal::LicenceUnknown)?;
        self.check_active(id).map(|()| id)
    }

    fn check_active(&self, id: LicenceId) -> Result<(), Refusal> {
        let licence = self.state.licences.get(&id);
        let licence = licence.ok_or(Refusal::LicenceUnknown)?;
        let is_active = licence.standing(self.wall_ms()).is_active();
        is_active.then_some(()).ok_or(Refusal::LicenceInactive)
    }

    pub(super) fn create_api_key(&mut self, licence: &KeyHash, hash: KeyHash) -> Outcome {
        let created = self
            .licence_with(licence)
            .and_then(|licence| self.add_key(licence, hash));
        match created {
            Ok(id) => Outcome::ApiKeyCreated(id),
            Err(refusal) => refused(refusal),
        }
    }

    fn add_key(&mut self, licence: LicenceId, hash: KeyHash) -> Result<KeyId, Refusal> {
        self.check_active(licence)?;
        if let Some(known) = self.state.api_keys.get(&hash) {
            // 256 random bits do not meet by chance: another licence's key was sent as a new one.
            let same = known.licence == licence;
            return same.then_some(known.id).ok_or(Refusal::ApiKeyNotFound);
        }
        if self.index.accounts.deleted.contains(&hash) {
            return Err(Refusal::ApiKeyNotFound);
        }
        let is_built_in = |licence: &Licence| licence.key.is_none();
        let built_in = self.state.licences.get(&licence).is_some_and(is_built_in);
        if self.state.api_keys.len() >= API_KEYS_MAX && !built_in {
            return Err(Refusal::LimitReached(Limit::ApiKeys));
        }
        let keys = self.index.accounts.keys_of.get(&licence);
        if keys.is_some_and(|keys| keys.len() >= API_KEYS_PER_LICENCE_MAX) {
            return Err(Refusal::LimitReached(Limit::ApiKeysPerLicence));
        }
        let id = KeyId(self.state.meta.next_key);
        self.state.meta.next_key += 1;
        self.touched.insert(RecordKey::Meta);
        self.touched.insert(RecordKey::ApiKey(hash));
        let key = ApiKey {
            id,
            licence,
            created_ms: self.wall_ms(),
            used_ms: None,
        };
        self.index.accounts.add_key(hash, &key);
        self.state.api_keys.insert(hash, key);
        Ok(id)
    }

    pub(super) fn delete_api_key(&mut self, licence: &KeyHash, hash: KeyHash) -> Outcome {
        let licence_id = match self.licence_with(licence) {
            Ok(id) => id,
            Err(refusal) => return refused(refusal),
        };
        let Some(licence) = self.state.licences.get(&licence_id) else {
            return refused(Refusal::LicenceUnknown);
        };
        let key = self.state.api_keys.get(&hash);
        let Some(id) = key.filter(|key| key.licence == licence_id).map(|k| k.id) else {
            let again = licence.deleted.iter().any(|deleted| deleted.hash == hash);
            return if again {
                Outcome::Done
            } else {
                refused(Refusal::ApiKeyNotFound)
            };
        };
        self.delete_key(licence_id, id, hash);
        Outcome::Done
    }

    /// The operator deletes a key by its public number: also one whose text nobody has.
    pub(super) fn delete_api_key_by_id(&mut self, licence: LicenceId, id: KeyId) -> Outcome {
        let Some(found) = self.state.licences.get(&licence) else {
            return refused(Refusal::LicenceNotFound);
        };
        let again = found.deleted.iter().any(|deleted| deleted.id == id);
        match self.index.accounts.keys.get(&id) {
            Some(known) if known.licence == licence => {
                let hash = known.hash;
                self.delete_key(licence, id, hash);
                Outcome::Done
            }
            _ if again => Outcome::Done,
            _ => refused(Refusal::ApiKeyNotFound),
        }
    }

    fn delete_key(&mut self, licence: LicenceId, id: KeyId, hash: KeyHash) {
        if let Some(licence) = self.state.licences.get_mut(&licence) {
            let forgotten = licence.remember_deleted(id, hash);
            if let Some(forgotten) = forgotten {
                self.index.accounts.deleted.remove(&forgotten);
            }
            self.index.accounts.deleted.insert(hash);
        }
        self.touched.insert(RecordKey::Licence(licence));
        self.drop_key(id);
    }

    fn drop_key(&mut self, id: KeyId) {
        let Some(known) = self.index.accounts.remove_key(id) else {
            return;
        };
        self.state.api_keys.remove(&known.hash);
        self.touched.insert(RecordKey::ApiKey(known.hash));
        self.cut_off(id, CutOff::KeyDeleted);
    }
}

/// The licence of the keys that an operator configures.
fn built_in(identity: IdentityId, wall_ms: u64) -> Licence {
    Licence {
        name: LicenceName::new("built-in").expect("a constant that is allowed"),
        identity,
        key: None,
        limit: None,
        period: Period::Month,
        expires_ms: None,
        created_ms: wall_ms,
        revoked_ms: None,
        usage: Usage::new(Period::Month, wall_ms),
        deleted: Vec::new(),
    }
}
