//! `evermind cluster`: what each node knows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use evermind_client::{Answer, Client, ClusterInfo, Endpoint, Error};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::exit::{Failure, UNAVAILABLE};
use crate::{output, table};

/// A node that has hung must not hold up what the others say.
const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// Show what each node knows of the cluster
///
/// Each node's own view: they may differ while a leader is chosen. Where every member is asked (give
/// all their addresses with --url), it fails with exit code 69 if no majority of those that vote
/// answers and names one leader, and warns if one more lost node would be too many.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Print the nodes' answers as JSON
    #[arg(long)]
    json: bool,
}

type View = (Endpoint, Result<Answer<ClusterInfo>, Error>);

/// Fails if no node answered, or no majority.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = args.connection.client()?.with_answer_grace(ANSWER_GRACE);
    let mut views = crate::single_threaded()?.block_on(ask_all(client));
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
        return verdict(&views);
    }
    let header = ["NODE", "ROLE", "LEADER", "TERM", "APPLIED", "HTTP"];
    let nodes = table::render(&header, &views.iter().map(row).collect::<Vec<_>>());
    let members = table::render(&["MEMBER", "VOTES", "HTTP", "PEER"], &members(&views));
    output::write(&format!("{nodes}\n{members}"))?;
    verdict(&views)
}

/// Asks all at once: a frozen node holds up no other's answer.
async fn ask_all(client: Client) -> Vec<View> {
    let client = Arc::new(client);
    let ask = |endpoint: &Endpoint| {
        let (client, endpoint) = (Arc::clone(&client), endpoint.clone());
        tokio::spawn(async move {
            let view = client.cluster(&endpoint).await;
            (endpoint, view)
        })
    };
    let asked: Vec<_> = client.endpoints().iter().map(ask).collect();
    let mut views = Vec::new();
    for view in asked {
        views.push(view.await.expect("it neither panics nor is cancelled"));
    }
    views
}

/// Whether the cluster can grant anything, as far as these views tell.
fn verdict(views: &[View]) -> Result<ExitCode, Failure> {
    let Some(Health {
        voters,
        agree,
        majority,
    }) = Health::of(views)
    else {
        return Ok(ExitCode::SUCCESS);
    };
    if agree < majority {
        return Err(Failure::new(format!(
            "no majority: {agree} of {voters} voting nodes answer and name one leader, {majority} are needed"
        ))
        .hint("nothing is granted until more of them are up and reach each other; their logs say what they miss")
        .code(UNAVAILABLE));
    }
    if agree == majority && voters > 1 {
        // To be silent is no reason to fail.
        let _ = writeln!(
            std::io::stderr(),
            "warning: one failure away from an outage: {agree} of {voters} voting nodes answer and name one leader, {majority} are needed"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// How many voting nodes there are, and how many of them follow one leader.
#[derive(Debug, PartialEq, Eq)]
struct Health {
    voters: usize,
    agree: usize,
    majority: usize,
}

impl Health {
    /// `None` if not every voting node was asked: then nobody can tell.
    fn of(views: &[View]) -> Option<Self> {
        let known: Vec<&ClusterInfo> = views
            .iter()
            .filter_map(|(_, view)| Some(&view.as_ref().ok()?.value))
            .collect();
        let newest = known.iter().max_by_key(|info| info.applied_index)?;
        let voters: BTreeSet<u64> = newest
            .members
            .iter()
            .filter_map(|member| member.voter.then_some(member.id))
            .collect();
        if views.len() < voters.len() {
            return None;
        }
        let mut following: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for info in known.iter().filter(|info| voters.contains(&info.id)) {
            if let Some(leader) = info.leader {
                following.entry(leader).or_default().insert(info.id);
            }
        }
        let agree = following.values().map(BTreeSet::len).max().unwrap_or(0);
        Some(Self {
            voters: voters.len(),
            agree,
            majority: voters.len() / 2 + 1,
        })
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use evermind_client::{MemberInfo, Moment};

    use super::*;

    /// A leader where a node knows of none.
    const NONE: u64 = 0;

    /// What node `id` of three says of its leader; `None`: it is down.
    fn view(id: u64, leader: Option<u64>) -> View {
        let endpoint: Endpoint = format!("http://n{id}:1").parse().unwrap();
        let member = |id| MemberInfo {
            id,
            http: String::new(),
            peer: String::new(),
            voter: true,
        };
        let down = || Error::Unreachable {
            endpoint: endpoint.to_string(),
            why: "down".to_owned(),
        };
        let view = leader.ok_or_else(down).map(|leader| Answer {
            value: ClusterInfo {
                id,
                role: "follower".to_owned(),
                leader: (leader != NONE).then_some(leader),
                term: 1,
                members: (1..=3).map(member).collect(),
                applied_index: 1,
            },
            body: String::new(),
            sent: Moment::now(),
            received: Moment::now(),
        });
        (endpoint, view)
    }

    #[test]
    fn a_majority_names_one_leader() {
        let agree = |leaders: [Option<u64>; 3]| {
            let views: Vec<View> = (1..).zip(leaders).map(|(id, l)| view(id, l)).collect();
            Health::of(&views).map(|health| health.agree)
        };
        let one = Some(1);
        assert_eq!(agree([one, one, one]), Some(3));
        assert_eq!(agree([one, one, None]), Some(2));
        assert_eq!(agree([one, Some(2), Some(NONE)]), Some(1));
        assert_eq!(agree([None, None, None]), None);
        // Two of three asked: the third may be well.
        assert_eq!(Health::of(&[view(1, one), view(2, None)]), None);
    }
}
