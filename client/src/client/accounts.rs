//! API keys and licences.

use http::Method;
use serde_json::json;

use super::{Call, Client, Reply, answer, encode, refused};
use crate::error::Error;
use crate::licences::{LicenceInfo, LicencesPage, NewApiKey, NewLicence, NewLicenceKey, UsageInfo};
use crate::messages::Answer;

impl Client {
    /// Makes an API key. It is in the answer and nowhere else: a call whose outcome is not known is
    /// not repeated, and fails with [`Error::MayBeMade`].
    pub async fn create_api_key(&self, licence_key: &str) -> Result<Answer<NewApiKey>, Error> {
        let body = json!({ "licenceKey": licence_key });
        let call = Call {
            makes: Some("an API key"),
            ..Call::new(Method::POST, "/api-key").body(body.to_string())
        };
        answer(self.call(call).await?)
    }

    /// Deletes an API key of the licence. One deleted before is
    /// no failure; one that is not its own is [`crate::Code::ApiKeyNotFound`].
    pub async fn delete_api_key(&self, licence_key: &str, api_key: &str) -> Result<(), Error> {
        let body = json!({ "licenceKey": licence_key, "apiKey": api_key });
        let call = Call::new(Method::DELETE, "/api-key").body(body.to_string());
        done(&self.call(call).await?)
    }

    /// Issues a licence. Its key is in the answer and nowhere else: a call whose outcome is not known
    /// is not repeated, and fails with [`Error::MayBeMade`].
    pub async fn create_licence(
        &self,
        licence: &NewLicence,
    ) -> Result<Answer<NewLicenceKey>, Error> {
        let body = serde_json::to_vec(licence).map_err(|e| Error::Request(e.to_string()))?;
        let call = Call {
            makes: Some("a licence"),
            ..Call::new(Method::POST, "/admin/licences").body(body)
        };
        answer(self.call(call).await?)
    }

    /// One page of all licences, in the order of their ids.
    pub async fn licences(&self, cursor: Option<&str>) -> Result<Answer<LicencesPage>, Error> {
        let cursor = cursor.map(|cursor| format!("&cursor={}", encode(cursor)));
        let cursor = cursor.unwrap_or_default();
        self.look(format!("/admin/licences?limit=1000{cursor}"))
            .await
    }

    /// A licence and its API keys.
    pub async fn licence(&self, id: &str) -> Result<Answer<LicenceInfo>, Error> {
        self.look(format!("/admin/licences/{}", encode(id))).await
    }

    /// What a licence has used, and what it will have.
    pub async fn usage(&self, id: &str) -> Result<Answer<UsageInfo>, Error> {
        self.look(format!("/admin/licences/{}/usage", encode(id)))
            .await
    }

    /// Deletes an API key by its name, as in `key_12`. One that was deleted before stays so.
    pub async fn delete_licence_key(&self, licence: &str, key: &str) -> Result<(), Error> {
        let path = format!("/admin/licences/{}/keys/{}", encode(licence), encode(key));
        done(&self.call(Call::new(Method::DELETE, path)).await?)
    }

    /// Takes a licence back. One that was taken back before stays so.
    pub async fn revoke_licence(&self, id: &str) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, format!("/admin/licences/{}", encode(id)));
        done(&self.call(call).await?)
    }
}

fn done(reply: &Reply) -> Result<(), Error> {
    match reply.status {
        204 => Ok(()),
        _ => Err(refused(reply)),
    }
}
