//! What the edge needs of a node to serve licences and API keys.

use std::future::Future;

use evermind_lock::command::{CreateLicence, KeyHash, KeyId, LicenceId};
use evermind_lock::licence::{ApiKeyView, LicenceView, Standing};
use evermind_lock::outcome::Decision;
use evermind_raft::api::NodeError;
use evermind_raft::node::Node;

/// The operations of a node on licences and API keys. See [`Node`].
pub trait Accounts: Clone + Send + Sync + 'static {
    /// How a licence key's licence stands; `None` if there is none.
    fn licence_key(
        &self,
        hash: KeyHash,
    ) -> impl Future<Output = Result<Option<Standing>, NodeError>> + Send;

    /// Issues a licence.
    fn create_licence(
        &self,
        create: CreateLicence,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// Takes a licence back.
    fn revoke_licence(
        &self,
        id: LicenceId,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// Makes an API key.
    fn create_api_key(
        &self,
        licence: KeyHash,
        hash: KeyHash,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// Deletes an API key.
    fn delete_api_key(
        &self,
        licence: KeyHash,
        hash: KeyHash,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// Deletes an API key by its number.
    fn delete_api_key_by_id(
        &self,
        licence: LicenceId,
        key: KeyId,
    ) -> impl Future<Output = Result<Decision, NodeError>> + Send;

    /// Licences after `after`, at most `limit`.
    fn licences(
        &self,
        after: Option<LicenceId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<LicenceView>, NodeError>> + Send;

    /// A licence and its API keys.
    fn licence(
        &self,
        id: LicenceId,
    ) -> impl Future<Output = Result<Option<(LicenceView, Vec<ApiKeyView>)>, NodeError>> + Send;
}

impl Accounts for Node {
    async fn licence_key(&self, hash: KeyHash) -> Result<Option<Standing>, NodeError> {
        Node::licence_key(self, hash).await
    }

    async fn create_licence(&self, create: CreateLicence) -> Result<Decision, NodeError> {
        Node::create_licence(self, create).await
    }

    async fn revoke_licence(&self, id: LicenceId) -> Result<Decision, NodeError> {
        Node::revoke_licence(self, id).await
    }

    async fn create_api_key(&self, licence: KeyHash, hash: KeyHash) -> Result<Decision, NodeError> {
        Node::create_api_key(self, licence, hash).await
    }

    async fn delete_api_key(&self, licence: KeyHash, hash: KeyHash) -> Result<Decision, NodeError> {
        Node::delete_api_key(self, licence, hash).await
    }

    async fn delete_api_key_by_id(
        &self,
        licence: LicenceId,
        key: KeyId,
    ) -> Result<Decision, NodeError> {
        Node::delete_api_key_by_id(self, licence, key).await
    }

    async fn licences(
        &self,
        after: Option<LicenceId>,
        limit: usize,
    ) -> Result<Vec<LicenceView>, NodeError> {
        Node::licences(self, after, limit).await
    }

    async fn licence(
        &self,
        id: LicenceId,
    ) -> Result<Option<(LicenceView, Vec<ApiKeyView>)>, NodeError> {
        Node::licence(self, id).await
    }
}
