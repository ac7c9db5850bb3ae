//! What the newcomer sees.

use std::fmt::Write as _;

use serde::Serialize;

use super::directory::Directory;
use super::node::Node;
use crate::exit::Failure;
use crate::quote;

/// What opens the cluster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secrets {
    pub(super) api_key: String,
    pub(super) licence_key: String,
    pub(super) admin_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Announcement<'a> {
    endpoints: Vec<&'a str>,
    #[serde(flatten)]
    secrets: &'a Secrets,
    nodes: Vec<AnnouncedNode<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnnouncedNode<'a> {
    id: u16,
    pid: u32,
    http: &'a str,
    peer: &'a str,
    data_dir: &'a str,
    command: &'a [String],
}

/// One line for programs.
pub(super) fn json(nodes: &[(Node, u32)], secrets: &Secrets) -> Result<String, Failure> {
    let announcement = Announcement {
        endpoints: nodes.iter().map(|(node, _)| node.http.as_str()).collect(),
        secrets,
        nodes: nodes
            .iter()
            .map(|(node, pid)| AnnouncedNode {
                id: node.id,
                pid: *pid,
                http: &node.http,
                peer: &node.peer,
                // Checked to be UTF-8 when the command was made.
                data_dir: node.data_dir.to_str().unwrap_or_default(),
                command: &node.command,
            })
            .collect(),
    };
    let line = serde_json::to_string(&announcement)
        .map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?;
    Ok(format!("{line}\n"))
}

/// A screen for people.
pub(super) fn text(nodes: &[(Node, u32)], secrets: &Secrets, directory: &Directory) -> String {
    let mut text = String::new();
    let kept = if directory.is_temporary() {
        "removed at exit"
    } else {
        "kept"
    };
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("writing to a string cannot fail");
    };
    line(format_args!(
        "Evermind: three nodes on this machine. Ctrl-C stops them.\n"
    ));
    line(format_args!("API key      {}", secrets.api_key));
    line(format_args!("licence key  {}", secrets.licence_key));
    line(format_args!("admin token  {}", secrets.admin_token));
    line(format_args!(
        "data         {} ({kept})\n",
        directory.path().display()
    ));
    for (node, pid) in nodes {
        line(format_args!("node {}   {}   pid {pid}", node.id, node.http));
    }
    line(format_args!("\nTake a lock:\n"));
    line(format_args!("  {}", curl(&nodes[0].0, &secrets.api_key)));
    line(format_args!(
        "\nMake another API key, and see what the licence has used:\n"
    ));
    for tool in tools(nodes, secrets) {
        line(format_args!("  {tool}"));
    }
    line(format_args!(
        "\nKill a node (kill -9 and its pid), and start it again in another terminal:\n"
    ));
    for (node, _) in nodes {
        line(format_args!("  {}", quote::line(&node.command)));
    }
    text
}

/// Commands that read where and by what right from variables: so they are short, and the secrets on
/// no command line.
fn tools(nodes: &[(Node, u32)], secrets: &Secrets) -> [String; 3] {
    let (node, _) = &nodes[0];
    let program = quote::line(&node.command[..1]);
    let urls: Vec<&str> = nodes.iter().map(|(node, _)| node.http.as_str()).collect();
    [
        format!(
            "export EVERMIND_BASE_URL={} EVERMIND_LICENCE_KEY={} EVERMIND_ADMIN_TOKEN={}",
            urls.join(","),
            secrets.licence_key,
            secrets.admin_token
        ),
        format!("{program} keys create"),
        format!("{program} licences list"),
    ]
}

fn curl(node: &Node, key: &str) -> String {
    quote::line(&[
        "curl",
        "-sS",
        &format!("{}/lock/acquire", node.http),
        "-H",
        &format!("Authorization: Bearer {key}"),
        "-H",
        "Content-Type: application/json",
        "-d",
        r#"{"key":"hello","lease":30000}"#,
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets {
            api_key: "evk_1".into(),
            licence_key: "evl_1".into(),
            admin_token: "t-1".into(),
        }
    }

    fn nodes(directory: &Directory) -> Vec<(Node, u32)> {
        (1..=3)
            .map(|id| {
                (
                    Node::new(id, 7600, None, &[], directory).unwrap(),
                    100 + u32::from(id),
                )
            })
            .collect()
    }

    #[test]
    fn json_is_one_line_in_the_agreed_shape() {
        let directory = Directory::open(None).unwrap();
        let nodes = nodes(&directory);
        let line = json(&nodes, &secrets()).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["endpoints"][2], "http://127.0.0.1:7603");
        assert_eq!(read["apiKey"], "evk_1");
        assert_eq!(read["licenceKey"], "evl_1");
        assert_eq!(read["adminToken"], "t-1");
        assert_eq!(read["nodes"][0]["id"], 1);
        assert_eq!(read["nodes"][0]["pid"], 101);
        assert_eq!(read["nodes"][0]["http"], "http://127.0.0.1:7601");
        assert_eq!(read["nodes"][0]["peer"], "127.0.0.1:7611");
        assert_eq!(
            read["nodes"][0]["dataDir"],
            nodes[0].0.data_dir.to_str().unwrap()
        );
        assert_eq!(read["nodes"][0]["command"][1], "serve");
        directory.close();
    }

    #[test]
    fn the_screen_has_lines_to_paste() {
        let directory = Directory::open(None).unwrap();
        let text = text(&nodes(&directory), &secrets(), &directory);
        assert!(text.contains(
            "curl -sS http://127.0.0.1:7601/lock/acquire -H 'Authorization: Bearer evk_1' \
             -H 'Content-Type: application/json' -d '{\"key\":\"hello\",\"lease\":30000}'"
        ));
        assert!(text.contains(
            "export EVERMIND_BASE_URL=http://127.0.0.1:7601,http://127.0.0.1:7602,http://127.0.0.1:7603 \
             EVERMIND_LICENCE_KEY=evl_1 EVERMIND_ADMIN_TOKEN=t-1\n"
        ));
        assert!(text.contains(" keys create\n") && text.contains(" licences list\n"));
        directory.close();
    }
}
