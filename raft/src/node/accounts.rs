//! Licences and API keys, as the node's users ask for them.

use evermind_lock::command::{Action, CreateLicence, KeyHash, KeyId, LicenceId};
use evermind_lock::licence::{ApiKeyView, LicenceView, Standing};
use evermind_lock::outcome::Decision;

use super::Node;
use crate::api::{Consistency, NodeError};

impl Node {
    /// How the licence of a licence key stands. A key not found waits for one linearizable read,
    /// shared with whoever asks meanwhile, and is then remembered as unknown for a second.
    /// `Ok(None)`: no such licence.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] if no read could be confirmed within 5 s.
    pub async fn licence_key(&self, hash: KeyHash) -> Result<Option<Standing>, NodeError> {
        self.inner.keys.licence(hash).await
    }

    /// Issues a licence: [`evermind_lock::outcome::Outcome::LicenceCreated`].
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn create_licence(&self, create: CreateLicence) -> Result<Decision, NodeError> {
        self.decide(Action::CreateLicence(create)).await
    }

    /// Takes a licence back, for good: [`evermind_lock::outcome::Outcome::Done`], also when it was
    /// revoked before.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn revoke_licence(&self, id: LicenceId) -> Result<Decision, NodeError> {
        self.decide(Action::RevokeLicence(id)).await
    }

    /// Makes an API key: [`evermind_lock::outcome::Outcome::ApiKeyCreated`].
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn create_api_key(
        &self,
        licence: KeyHash,
        hash: KeyHash,
    ) -> Result<Decision, NodeError> {
        self.decide(Action::CreateApiKey { licence, hash }).await
    }

    /// Deletes an API key of a licence: [`evermind_lock::outcome::Outcome::Done`], also when it was
    /// deleted before and the licence remembers it.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn delete_api_key(
        &self,
        licence: KeyHash,
        hash: KeyHash,
    ) -> Result<Decision, NodeError> {
        self.decide(Action::DeleteApiKey { licence, hash }).await
    }

    /// Deletes an API key by its number, for the operator: [`evermind_lock::outcome::Outcome::Done`],
    /// also when it was deleted before and the licence remembers it.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] after 5 s, [`NodeError::Unknown`] after 10 s.
    pub async fn delete_api_key_by_id(
        &self,
        licence: LicenceId,
        key: KeyId,
    ) -> Result<Decision, NodeError> {
        self.decide(Action::DeleteApiKeyById { licence, key }).await
    }

    /// The licences after `after`, in the order in which they were created, at most `limit`, as of
    /// a linearizable read.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] if the read could not be confirmed within 5 s.
    pub async fn licences(
        &self,
        after: Option<LicenceId>,
        limit: usize,
    ) -> Result<Vec<LicenceView>, NodeError> {
        self.catch_up(Consistency::Linearizable).await?;
        let core = &self.inner.core;
        let wall_ms = core.wall_ms();
        Ok(core
            .table
            .read(|table| table.licences(after, limit, wall_ms)))
    }

    /// A licence and its API keys, as of a linearizable read; `None` if there is none.
    ///
    /// # Errors
    /// [`NodeError::NoLeader`] if the read could not be confirmed within 5 s.
    pub async fn licence(
        &self,
        id: LicenceId,
    ) -> Result<Option<(LicenceView, Vec<ApiKeyView>)>, NodeError> {
        self.catch_up(Consistency::Linearizable).await?;
        let core = &self.inner.core;
        let wall_ms = core.wall_ms();
        Ok(core.table.read(|table| {
            let licence = table.licence(id, wall_ms)?;
            Some((licence, table.api_keys_of(id)))
        }))
    }
}
