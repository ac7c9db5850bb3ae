//! The licence of the development cluster.

use evermind_api::{Secret, SecretKind};
use evermind_client::{Client, Code, Error, NewLicence};

use super::directory::Directory;
use super::node::Node;
use crate::exit::Failure;

/// Under which it stands in `evermind licences list`.
const NAME: &str = "dev";

/// The licence key of an earlier start if it still works, or one made now.
pub(super) async fn of_dev(
    nodes: &[(Node, u32)],
    directory: &Directory,
    admin_token: &str,
) -> Result<String, Failure> {
    let urls = || nodes.iter().map(|(node, _)| &node.http);
    if let Some(key) = directory.licence_key()
        && works(&Client::without_key(urls())?, &key).await?
    {
        return Ok(key);
    }
    let licence = NewLicence {
        name: NAME.to_owned(),
        // The printed API key's: the same key under either is the same lock.
        identity: Some(crate::serve::BOOTSTRAP_IDENTITY.to_owned()),
        ..NewLicence::default()
    };
    let admin = Client::admin(urls(), admin_token)?;
    let key = admin.create_licence(&licence).await?.value.licence_key;
    directory.write_licence_key(&key)?;
    Ok(key)
}

/// Whether the cluster takes a licence key. Nothing asks just that, so it is to delete an API key
/// that cannot be there: whether it comes to look for it depends on the licence key alone.
async fn works(client: &Client, licence_key: &str) -> Result<bool, Failure> {
    let nobodys = Secret::new(SecretKind::ApiKey).map_err(|error| {
        Failure::new(format!("cannot get random bits: {error}")).hint("the kernel must give them")
    })?;
    match client.delete_api_key(licence_key, nobodys.text()).await {
        Ok(()) => Ok(true),
        Err(Error::Refused(problem)) if problem.code == Code::ApiKeyNotFound => Ok(true),
        // Revoked, of a cluster whose data is gone, or spoilt in its file.
        Err(Error::Refused(problem))
            if matches!(problem.code, Code::LicenceInactive | Code::InvalidRequest) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
