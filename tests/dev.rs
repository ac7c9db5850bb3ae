//! Shows that `evermind dev` is one command for a real cluster: what it prints works, its children
//! die with it, and a data directory is continued.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::command::{Running, run};
use crate::harness::http::Request;
use crate::harness::ports::Ports;
use crate::harness::process::{evermind, has_ended};
use crate::harness::until;

const READY_WITHIN: Duration = Duration::from_secs(40);
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// A development cluster, and the line of JSON that it printed.
struct Dev {
    running: Running,
    said: Value,
}

fn dev(ports: &Ports, data_dir: Option<&Path>) -> Command {
    let mut command = evermind();
    command.args(["dev", "--json", "--port", &ports.port(0).to_string()]);
    if let Some(dir) = data_dir {
        command.arg("--data-dir").arg(dir);
    }
    command
}

impl Dev {
    fn start(ports: &Ports, data_dir: Option<&Path>) -> Self {
        Self::run(dev(ports, data_dir))
    }

    fn run(command: Command) -> Self {
        let mut running = Running::start(command);
        let Some(line) = running.line(READY_WITHIN) else {
            let status = running.exit(Duration::ZERO);
            panic!(
                "no line of JSON ({status:?}): {:?}",
                running.end(Duration::ZERO)
            );
        };
        let said = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        Self { running, said }
    }

    fn client(&self, index: usize) -> Client {
        let endpoint = self.said["endpoints"][index].as_str().expect("an endpoint");
        let address = endpoint
            .strip_prefix("http://")
            .expect("a URL")
            .parse()
            .expect("an address");
        Client {
            address,
            api_key: self.api_key(),
        }
    }

    fn api_key(&self) -> String {
        self.secret("apiKey")
    }

    /// What opens the cluster, as it was printed.
    fn secret(&self, field: &str) -> String {
        self.said[field].as_str().expect("a secret").to_owned()
    }

    /// Makes an API key with a licence key; the status of the answer.
    fn makes_key_with(&self, licence_key: &str) -> u16 {
        let body = json!({ "licenceKey": licence_key });
        self.client(2).post("/api-key", &body).status
    }

    fn pids(&self) -> Vec<u32> {
        let nodes = self.said["nodes"].as_array().expect("nodes");
        nodes
            .iter()
            .map(|node| u32::try_from(node["pid"].as_u64().unwrap()).unwrap())
            .collect()
    }

    /// Ctrl-C.
    fn stop(mut self) {
        let pids = self.pids();
        self.running.signal(Signal::SIGINT);
        let status = self.running.exit(ENDS_WITHIN).expect("it ends in time");
        assert!(status.success(), "{status}");
        assert!(pids.into_iter().all(has_ended), "a node outlived dev");
    }
}

fn kill_nine(pid: u32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        Signal::SIGKILL,
    )
    .unwrap();
    until("the process is gone", Duration::from_secs(5), || {
        has_ended(pid).then_some(())
    });
}

#[test]
fn one_line_of_json_says_everything() {
    let ports = Ports::reserve();
    let dev = Dev::start(&ports, None);
    let port = |offset| ports.port(offset);
    let endpoints: Vec<String> = (1..=3)
        .map(|n| format!("http://127.0.0.1:{}", port(n)))
        .collect();
    assert_eq!(dev.said["endpoints"], json!(endpoints));
    assert!(dev.api_key().starts_with("evk_"));
    let nodes = dev.said["nodes"].as_array().expect("nodes").clone();
    assert_eq!(nodes.len(), 3);
    for (n, node) in (1_u16..).zip(&nodes) {
        assert_eq!(node["id"], n);
        assert_eq!(node["http"], endpoints[usize::from(n) - 1]);
        assert_eq!(node["peer"], format!("127.0.0.1:{}", port(10 + n)));
        assert!(
            Path::new(node["dataDir"].as_str().unwrap()).is_dir(),
            "{node}"
        );
        assert!(
            node["command"]
                .as_array()
                .is_some_and(|words| words.len() > 1),
            "{node}"
        );
        let mut fields: Vec<&String> = node.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(fields, ["command", "dataDir", "http", "id", "peer", "pid"]);
    }
    // Ready when it says so: no waiting, no retries.
    assert_eq!(dev.makes_key_with(&dev.secret("licenceKey")), 200);
    let listing = Request::get("/admin/licences").bearer(&dev.secret("adminToken"));
    let listed = dev.client(1).send(&listing).json();
    assert!(
        listed["licences"]
            .as_array()
            .is_some_and(|all| all.iter().any(|licence| licence["name"] == "dev")),
        "{listed}"
    );
    let mut tokens = Vec::new();
    for index in 0..3 {
        let client = dev.client(index);
        tokens.push(client.take(&format!("k-{index}"), "u", 10_000).token());
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    let data_dir = nodes[0]["dataDir"].as_str().unwrap().to_owned();
    dev.stop();
    assert!(
        !Path::new(&data_dir).exists(),
        "a temporary directory goes with dev"
    );
}

#[test]
fn each_licence_may_ask_so_often_and_no_more() {
    let ports = Ports::reserve();
    let mut command = dev(&ports, None);
    command.args(["--rate-limit", "5/s"]);
    let dev = Dev::run(command);
    let answers: Vec<_> = (0..40).map(|_| dev.client(0).get("/v1/cluster")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429);
    let refused = refused.expect("40 requests at once are more than 5 a second");
    assert_eq!(refused.json()["code"], "rate_limited");
    assert!(refused.header("retry-after").is_some(), "{refused}");
    // A key made for another licence draws on that one's allowance.
    let body = json!({ "licenceKey": dev.secret("licenceKey") });
    let made = dev.client(0).post("/api-key", &body).json();
    let other = Client {
        api_key: made["apiKey"].as_str().expect("a key").to_owned(),
        ..dev.client(0)
    };
    assert_eq!(other.get("/v1/cluster").status, 200);
    // A second key of it is not a second allowance.
    let made = dev.client(0).post("/api-key", &body).json();
    let second = Client {
        api_key: made["apiKey"].as_str().expect("a key").to_owned(),
        ..dev.client(0)
    };
    let spent = (0..40).any(|_| other.get("/v1/cluster").status == 429);
    assert!(spent && second.get("/v1/cluster").status == 429);
    dev.stop();
}

#[test]
fn a_killed_node_comes_back_by_the_command_that_was_printed() {
    let ports = Ports::reserve();
    let dev = Dev::start(&ports, None);
    let token = dev.client(0).take("k", "u", 600_000).token();
    kill_nine(dev.pids()[1]);
    // Reported and not restarted; the other two go on.
    assert_eq!(dev.client(0).get("/v1/locks/k").token(), token);
    until(
        "the dead node's port is free",
        Duration::from_secs(5),
        || TcpListener::bind(dev.client(1).address).ok().map(drop),
    );

    let words: Vec<String> =
        serde_json::from_value(dev.said["nodes"][1]["command"].clone()).expect("words");
    let mut command = Command::new(&words[0]);
    // Complete in itself: neither variables nor a directory of this shell.
    command.args(&words[1..]).env_clear().current_dir("/");
    let node = Running::start(command);
    until("node 2 is ready again", READY_WITHIN, || {
        let ready = dev.client(1).try_send(&Request::get("/readyz")).ok()?;
        (ready.status == 200).then_some(())
    });
    assert_eq!(dev.client(1).get("/v1/locks/k").token(), token);
    drop(node);
    dev.stop();
}

#[test]
fn the_nodes_die_with_dev_even_by_kill_nine() {
    let ports = Ports::reserve();
    let dev = Dev::start(&ports, None);
    let pids = dev.pids();
    assert!(!pids.iter().any(|pid| has_ended(*pid)));
    let data_dir = Path::new(dev.said["nodes"][0]["dataDir"].as_str().unwrap()).to_owned();
    dev.running.signal(Signal::SIGKILL);
    until("every node is gone", ENDS_WITHIN, || {
        pids.iter().all(|pid| has_ended(*pid)).then_some(())
    });
    // Nobody was left to remove it.
    fs::remove_dir_all(data_dir.parent().expect("the directory of dev")).unwrap();
}

#[test]
fn a_taken_port_is_named_with_a_hint() {
    let ports = Ports::reserve();
    for offset in [2, 13] {
        let taken: SocketAddr = ([127, 0, 0, 1], ports.port(offset)).into();
        let _listener = TcpListener::bind(taken).unwrap();
        let ended = run(dev(&ports, None), ENDS_WITHIN);
        assert!(!ended.status.success(), "{ended:?}");
        assert!(
            ended.stderr.contains(&ports.port(offset).to_string()),
            "{ended:?}"
        );
        assert!(ended.stderr.contains("hint: "), "{ended:?}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_data_directory_is_continued_under_a_new_key() {
    let ports = Ports::reserve();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let first = Dev::start(&ports, Some(&data_dir));
    let token = first.client(0).take("k", "u", 600_000).token();
    let first_key = first.api_key();
    let (first_licence, first_token) = (first.secret("licenceKey"), first.secret("adminToken"));
    first.stop();
    assert!(data_dir.is_dir(), "a directory that was asked for stays");

    let second = Dev::start(&ports, Some(&data_dir));
    assert_ne!(second.api_key(), first_key, "a fresh key at every start");
    let again = second.client(1).take("k", "u", 600_000);
    assert_eq!(again.token(), token);
    assert!(second.client(2).take("k-2", "u", 1000).token() > token);
    assert_ne!(second.secret("adminToken"), first_token);
    assert_eq!(
        second.secret("licenceKey"),
        first_licence,
        "still works, so it is gone on with"
    );
    assert_eq!(second.makes_key_with(&first_licence), 200);
    second.stop();

    // A cluster that is new under the same files knows none of them.
    for id in 1..=3 {
        fs::remove_dir_all(data_dir.join(format!("node-{id}"))).unwrap();
    }
    let third = Dev::start(&ports, Some(&data_dir));
    assert_ne!(third.secret("licenceKey"), first_licence);
    assert_eq!(third.makes_key_with(&third.secret("licenceKey")), 200);
    let revoke = Request::new("DELETE", "/admin/licences/lic_1");
    let revoke = revoke.bearer(&third.secret("adminToken"));
    assert_eq!(third.client(0).send(&revoke).status, 204);
    third.stop();

    // The built-in licence, which would have the key that dev makes.
    let ended = run(dev(&ports, Some(&data_dir)), READY_WITHIN);
    assert!(!ended.status.success(), "{ended:?}");
    assert!(
        ended.stderr.contains("lic_1") && ended.stderr.contains("hint: "),
        "{ended:?}"
    );
}
