//! When the cluster is ready.

use std::time::Duration;

use evermind_client::{Client, Code};

use super::node::Node;
use crate::exit::Failure;

const POLL: Duration = Duration::from_millis(25);
/// Any name will do: it is looked up, not taken, so that the first token is the newcomer's.
const PROBE: &str = "evermind-dev-ready";

/// Returns when every node is ready and, asked for what takes a majority to answer (a linearizable
/// read), knows the key.
pub(super) async fn wait(
    nodes: &[(Node, u32)],
    key: &str,
    admin_token: &str,
) -> Result<(), Failure> {
    for (node, _) in nodes {
        let client = Client::new([&node.http], key)?;
        let admin = Client::admin([&node.http], admin_token)?;
        while !is_ready(&client, &admin).await? {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

async fn is_ready(client: &Client, admin: &Client) -> Result<bool, Failure> {
    let Some(endpoint) = client.endpoints().first() else {
        return Ok(false);
    };
    if !matches!(client.is_ready(endpoint).await, Ok(true)) {
        return Ok(false);
    }
    let Err(error) = client.show(PROBE, false).await else {
        return Ok(true);
    };
    match error.code() {
        // Free is the expected answer.
        Some(Code::LockNotFound) => Ok(true),
        // A key that is not known yet is on its way, or never will be.
        Some(Code::Unauthorized | Code::LicenceInactive) => {
            key_may_come(admin).await?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Kept data may say that keys of the nodes' own are taken no longer: waiting is of no use then.
async fn key_may_come(admin: &Client) -> Result<(), Failure> {
    let Ok(answer) = admin.licences(None).await else {
        return Ok(());
    };
    let licences = answer.value.licences;
    match licences.iter().find(|l| l.built_in && l.status != "active") {
        None => Ok(()),
        Some(licence) => Err(Failure::new(format!(
            "in this data the built-in licence, {}, was revoked, and the API key of dev would be one of its keys",
            licence.id
        ))
        .hint("start on other data: another --data-dir, or none")),
    }
}
