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
pub(super) async fn wait(nodes: &[(Node, u32)], key: &str) -> Result<(), Failure> {
    for (node, _) in nodes {
        let client = Client::new([&node.http], key)?;
        while !is_ready(&client).await {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

async fn is_ready(client: &Client) -> bool {
    let Some(endpoint) = client.endpoints().first() else {
        return false;
    };
    if !matches!(client.is_ready(endpoint).await, Ok(true)) {
        return false;
    }
    match client.show(PROBE, false).await {
        Ok(_) => true,
        // Free is the expected answer; a key that is not known yet is one that is on its way.
        Err(error) => error.code() == Some(&Code::LockNotFound),
    }
}
