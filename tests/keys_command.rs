//! Shows `evermind licences` and `evermind keys`: from a licence to a lock and back, and what they say
//! when something is wrong.

use std::fs;
use std::process::Command;
use std::time::Duration;

use evermind_api::{Secret, SecretKind};
use serde_json::Value;

use crate::harness::TestCluster;
use crate::harness::client::Client;
use crate::harness::command::{Ended, run};
use crate::harness::process::{EVERMIND, evermind};

const ENDS_WITHIN: Duration = Duration::from_secs(40);
/// The documented codes of `evermind keys --help`.
const USAGE: i32 = 2;
const NO_SUCH: i32 = 3;
const REFUSED: i32 = 77;

/// `evermind` as an operator runs it.
fn operator(cluster: &TestCluster, arguments: &[&str]) -> Ended {
    let mut command = asking(cluster, arguments);
    command.env("EVERMIND_ADMIN_TOKEN", &cluster.admin_token);
    run(command, ENDS_WITHIN)
}

/// `evermind` as a team runs it.
fn team(cluster: &TestCluster, licence_key: &str, arguments: &[&str]) -> Ended {
    let mut command = asking(cluster, arguments);
    command.env("EVERMIND_LICENCE_KEY", licence_key);
    run(command, ENDS_WITHIN)
}

fn asking(cluster: &TestCluster, arguments: &[&str]) -> Command {
    let mut command = evermind();
    command
        .args(arguments)
        .env("EVERMIND_BASE_URL", cluster.urls());
    command
}

/// What a command that went well said, without the line's end.
#[track_caller]
fn said(ended: &Ended) -> String {
    assert!(ended.status.success(), "{ended:?}");
    ended.stdout.trim_end().to_owned()
}

fn only_licence(cluster: &TestCluster, name: &str) -> Value {
    let listed = operator(cluster, &["licences", "list", "--json"]).json();
    let licences = listed["licences"].as_array().expect("licences");
    let mut named = licences.iter().filter(|licence| licence["name"] == name);
    let licence = named
        .next()
        .unwrap_or_else(|| panic!("no {name}: {listed}"));
    assert!(named.next().is_none(), "two of {name}: {listed}");
    licence.clone()
}

#[test]
fn from_a_licence_to_a_lock_and_back() {
    let cluster = TestCluster::start();
    let create = ["licences", "create", "--name", "team a", "--limit", "1000"];
    let created = operator(&cluster, &create);
    let licence_key = said(&created);
    assert!(licence_key.starts_with("evl_") && !licence_key.contains('\n'));
    let licence = only_licence(&cluster, "team a");
    let id = licence["id"].as_str().expect("an id");
    assert!(created.stderr.contains(id), "{created:?}");
    assert!(!created.stderr.contains(&licence_key), "{created:?}");

    let made = team(&cluster, &licence_key, &["keys", "create"]);
    let api_key = said(&made);
    assert!(api_key.starts_with("evk_") && !api_key.contains('\n'));
    let again = team(
        &cluster,
        "",
        &["keys", "create", "-l", &licence_key, "--json"],
    )
    .json();
    assert_ne!(again["apiKey"], api_key);

    let mut acquire = asking(&cluster, &["lock", "acquire", "job", "--lease", "60s"]);
    acquire.env("EVERMIND_API_KEY", &api_key);
    said(&run(acquire, ENDS_WITHIN));
    let shown = operator(&cluster, &["licences", "show", id, "--json"]).json();
    assert_eq!(shown["usage"]["used"], 1, "{shown}");
    assert_eq!(shown["usage"]["limit"], 1000, "{shown}");
    let keys = shown["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 2, "{shown}");
    assert!(
        keys[0]["lastUsed"].is_string() && keys[1]["lastUsed"].is_null(),
        "{shown}"
    );
    let text = said(&operator(&cluster, &["licences", "show", id]));
    assert!(text.contains("1 of 1000 since"), "{text}");
    for secret in [&api_key, &licence_key] {
        assert!(!text.contains(secret) && !shown.to_string().contains(secret.as_str()));
    }

    // As one deletes a key that nobody is to see.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "printf '%s\\n' \"$KEY\" | \"$EVERMIND\" keys delete -",
    ]);
    shell
        .env("KEY", &api_key)
        .env("EVERMIND", &*EVERMIND)
        .env("EVERMIND_LICENCE_KEY", &licence_key);
    shell.env(
        "EVERMIND_BASE_URL",
        format!("http://{}", cluster.addresses()[1]),
    );
    said(&run(shell, ENDS_WITHIN));
    for id in [1, 2, 3] {
        let deleted = Client {
            api_key: api_key.clone(),
            ..cluster.client(id)
        };
        assert_eq!(deleted.get("/v1/locks/job").status, 401, "on node {id}");
    }
    // Once more is no failure: whoever lost the answer asks again.
    said(&team(&cluster, &licence_key, &["keys", "delete", &api_key]));
    let others = team(
        &cluster,
        &licence_key,
        &["keys", "delete", &cluster.api_key],
    );
    others.failed(NO_SUCH, "no such API key");

    let revoked = said(&operator(&cluster, &["licences", "revoke", id]));
    assert!(revoked.contains(id), "{revoked}");
    let mut list = asking(&cluster, &["licences", "list", "--admin-token-file"]);
    list.arg(cluster.dir().join("admin-token"));
    let listed = said(&run(list, ENDS_WITHIN));
    assert!(listed.starts_with("ID "), "{listed}");
    let line = listed
        .lines()
        .find(|line| line.starts_with(id))
        .expect("its line");
    assert!(
        line.contains("team a") && line.contains("revoked"),
        "{listed}"
    );
    team(&cluster, &licence_key, &["keys", "create"]).failed(REFUSED, "revoked");
    let ended = run(
        {
            let mut show = asking(&cluster, &["lock", "show", "job"]);
            show.env("EVERMIND_API_KEY", again["apiKey"].as_str().expect("a key"));
            show
        },
        ENDS_WITHIN,
    );
    ended.failed(REFUSED, "licence");
}

#[test]
fn keys_are_made_and_deleted_while_a_leader_is_lost() {
    let cluster = TestCluster::start();
    let created = operator(&cluster, &["licences", "create", "--name", "a"]);
    let licence_key = said(&created);
    cluster.kill(cluster.leader());
    let api_key = said(&team(&cluster, &licence_key, &["keys", "create"]));
    for id in cluster.running() {
        let made = Client {
            api_key: api_key.clone(),
            ..cluster.client(id)
        };
        assert_eq!(made.get("/v1/cluster").status, 200, "on node {id}");
    }
    // One of three cannot be reached, whichever is asked first.
    said(&team(&cluster, &licence_key, &["keys", "delete", &api_key]));
    let id = only_licence(&cluster, "a")["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = operator(&cluster, &["licences", "show", &id, "--json"]).json();
    assert_eq!(shown["apiKeys"], 0, "one was made, and deleted: {shown}");
}

#[test]
fn what_is_wrong_is_said_before_anybody_is_asked() {
    // Nobody listens there: asking would take 30 s and end with 69.
    let nobody = |arguments: &[&str]| {
        let mut command = evermind();
        command
            .args(arguments)
            .env("EVERMIND_BASE_URL", "http://127.0.0.1:1");
        run(command, Duration::from_secs(10))
    };
    let licence = Secret::new(SecretKind::LicenceKey).unwrap();
    let api_key = Secret::new(SecretKind::ApiKey).unwrap();
    let mistyped = |key: &str| format!("{}8", &key[..key.len() - 1]);
    let (bad_licence, bad_key) = (mistyped(licence.text()), mistyped(api_key.text()));
    for (arguments, what) in [
        (&["keys", "create"][..], "no licence key"),
        (
            &["keys", "create", "--licenceKey", &bad_licence],
            "mistyped",
        ),
        (
            &["keys", "create", "--licence-key", api_key.text()],
            "this is an API key",
        ),
        (
            &["keys", "delete", &bad_key, "-l", licence.text()],
            "mistyped",
        ),
        (&["keys", "delete", "-", "-l", licence.text()], "stdin"),
        (&["licences", "list"], "no admin token"),
        (
            &["licences", "list", "--admin-token", "a-short-one"],
            "admin token",
        ),
        (
            &["licences", "list", "--admin-token-file", "/nowhere/token"],
            "/nowhere/token",
        ),
    ] {
        let ended = nobody(arguments);
        ended.failed(USAGE, what);
        assert!(ended.stdout.is_empty(), "{ended:?}");
        for secret in [bad_licence.as_str(), &bad_key, "a-short-one"] {
            assert!(!ended.stderr.contains(secret), "{ended:?}");
        }
    }
    let ended = nobody(&["keys", "create", "--licensekey", licence.text()]);
    assert_eq!(ended.status.code(), Some(USAGE), "{ended:?}");
    assert!(
        ended.stderr.contains("--licenceKey"),
        "a near miss is named: {ended:?}"
    );
}

#[test]
fn what_the_cluster_refuses_says_what_to_do() {
    let cluster = TestCluster::start();
    let stranger = "0123456789abcdef0123456789abcdef";
    let ended = run(
        asking(&cluster, &["licences", "list", "--admin-token", stranger]),
        ENDS_WITHIN,
    );
    ended.failed(REFUSED, "admin token");
    let ended = operator(&cluster, &["licences", "show", "lic_9999"]);
    ended.failed(NO_SUCH, "no licence");
    for arguments in [
        &["--name", ""][..],
        &["--name", "a", "--identity", "no:colons"],
        &["--name", "a", "--expires", "tomorrow"],
        &["--name", "a", "--expires", "2020-01-01"],
    ] {
        let create = [&["licences", "create"][..], arguments].concat();
        operator(&cluster, &create).failed(USAGE, "error: ");
    }
    let unknown = Secret::new(SecretKind::LicenceKey).unwrap();
    let ended = team(&cluster, unknown.text(), &["keys", "create", "--json"]);
    ended.failed(REFUSED, "licence key");
    assert_eq!(ended.json()["code"], "licence_inactive");
    assert!(!format!("{ended:?}").contains(unknown.text()));
}

#[test]
fn a_weak_admin_token_starts_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "admin\n").unwrap();
    let mut command = evermind();
    command.args([
        "serve",
        "--node-id",
        "1",
        "--initial-cluster",
        "1=127.0.0.1:1",
    ]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    command.arg("--admin-token-file").arg(&file);
    let ended = run(command, ENDS_WITHIN);
    ended.failed(USAGE, "openssl rand -hex 32");
    assert!(!dir.path().join("data").exists(), "nothing was opened");
}
