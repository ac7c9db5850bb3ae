//! `evermind cluster`: what each node knows.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use evermind_client::{Answer, Client, ClusterInfo, Endpoint, Error};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::exit::Failure;
use crate::{output, table};

/// A node that has hung must not hold up what the others say.
const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// Show what each node knows of the cluster
///
/// Each node's own view: they may differ while a leader is chosen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Print the nodes' answers as JSON
    #[arg(long)]
    json: bool,
}

type View = (Endpoint, Result<Answer<ClusterInfo>, Error>);

/// Fails only if no node answered.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = args.connection.client()?.with_answer_grace(ANSWER_GRACE);
    let mut views = crate::single_threaded()?.block_on(ask_all(&client));
    if views.iter().all(|(_, view)| view.is_err()) {
        // A node that refuses is one that answers: that says more than another which is down.
        let refused = |(_, view): &View| matches!(view, Err(Error::Refused(_)));
        let which = views.iter().position(refused).unwrap_or(0);
        if let (_, Err(error)) = views.swap_remove(which) {
            return Err(error.into());
        }
    }
    if args.json {
        output::line(&Value::Array(views.iter().map(as_json).collect()).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["NODE", "ROLE", "LEADER", "TERM", "APPLIED", "HTTP"];
    let nodes = table::render(&header, &views.iter().map(row).collect::<Vec<_>>());
    let members = table::render(&["MEMBER", "VOTES", "HTTP", "PEER"], &members(&views));
    output::write(&format!("{nodes}\n{members}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn ask_all(client: &Client) -> Vec<View> {
    let mut views = Vec::new();
    for endpoint in client.endpoints() {
        views.push((endpoint.clone(), client.cluster(endpoint).await));
    }
    views
}

fn row((endpoint, view): &View) -> Vec<String> {
    match view {
        Ok(Answer { value, .. }) => vec![
            value.id.to_string(),
            value.role.clone(),
            value
                .leader
                .map_or_else(|| "-".to_owned(), |leader| leader.to_string()),
            value.term.to_string(),
            value.applied_index.to_string(),
            endpoint.to_string(),
        ],
        Err(error) => {
            let dash = || "-".to_owned();
            vec![
                "?".into(),
                dash(),
                dash(),
                dash(),
                dash(),
                format!("{endpoint} ({error})"),
            ]
        }
    }
}

/// The members as the node that has applied most knows them.
fn members(views: &[View]) -> Vec<Vec<String>> {
    let known = views.iter().filter_map(|(_, view)| view.as_ref().ok());
    let newest = known.max_by_key(|answer| answer.value.applied_index);
    let members: BTreeMap<u64, _> = newest
        .into_iter()
        .flat_map(|answer| &answer.value.members)
        .map(|m| (m.id, m))
        .collect();
    let row = |member: &evermind_client::MemberInfo| {
        let votes = if member.voter { "yes" } else { "no" };
        vec![
            member.id.to_string(),
            votes.into(),
            member.http.clone(),
            member.peer.clone(),
        ]
    };
    members.into_values().map(row).collect()
}

fn as_json((endpoint, view): &View) -> Value {
    let endpoint = endpoint.to_string();
    match view {
        Ok(answer) => match serde_json::from_str::<Value>(&answer.body) {
            Ok(cluster) => json!({ "endpoint": endpoint, "cluster": cluster }),
            Err(error) => json!({ "endpoint": endpoint, "error": error.to_string() }),
        },
        Err(error) => json!({ "endpoint": endpoint, "error": error.to_string() }),
    }
}
