//! Shows `evermind lock run` against a node that follows a script.

use std::time::Duration;

use serde_json::json;

use crate::harness::command::{Ended, run};
use crate::harness::process::evermind;
use crate::scripted::{Node, granted, obliging};

const ENDS_WITHIN: Duration = Duration::from_secs(40);
const NOT_ACQUIRED: i32 = 75;
const LOST: i32 = 76;

impl Node {
    fn run(&self, words: &[&str]) -> Ended {
        let mut command = evermind();
        let front = ["lock", "run", "k", "--api-key", "evk", "--url", &self.url];
        command.args(front).args(words);
        run(command, ENDS_WITHIN)
    }
}

#[test]
fn the_command_knows_its_lock_and_its_code_is_ours() {
    let node = Node::new(obliging);
    let script = "test $EVERMIND_FENCING_TOKEN = 42 && test $EVERMIND_LOCK_KEY = k && exit 7";
    let ended = node.run(&["--", "sh", "-c", script]);
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    assert_eq!(node.paths(), ["acquire", "release"]);
    let seen = node.seen.lock().unwrap();
    assert_eq!(seen[0].1["uuid"], seen[1].1["uuid"]);
}

#[test]
fn the_lock_is_extended_by_what_was_used() {
    let node = Node::new(obliging);
    let ended = node.run(&["--lease", "1s", "--", "sleep", "1.5"]);
    assert!(ended.status.success(), "{ended:?}");
    let seen = node.seen.lock().unwrap();
    let extends: Vec<u64> = seen
        .iter()
        .filter(|(path, _)| path == "/lock/extend")
        .map(|(_, body)| body["extendBy"].as_u64().unwrap())
        .collect();
    assert!(extends.len() >= 3, "{extends:?}");
    // About a third of the lease, and never more than the whole.
    assert!(
        extends.iter().all(|by| (200..=1000).contains(by)),
        "{extends:?}"
    );
}

#[test]
fn a_silent_cluster_ends_the_command_before_the_deadline() {
    let node = Node::new(|path, body| match path {
        "/lock/acquire" => Some(granted(body)),
        _ => None,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    // Writes the time for as long as it lives, whatever it is asked.
    let path = file.path().display();
    let script = format!("trap '' TERM; while :; do date +%s%3N >> {path}; done");
    let ended = node.run(&["--lease", "2s", "--", "sh", "-c", &script]);
    ended.failed(LOST, "the lock was lost: ");
    let written = std::fs::read_to_string(file.path()).unwrap();
    let last: u128 = written.lines().last().unwrap().parse().unwrap();
    // The node counts the lease from the request's arrival at the earliest.
    let deadline_ms = node.first_ms.lock().unwrap().unwrap() + 2000;
    assert!(last < deadline_ms, "wrote at {last}, after {deadline_ms}");
}

#[test]
fn a_lock_that_is_gone_ends_the_command() {
    let node = Node::new(|path, body| {
        Some(match path {
            "/lock/acquire" => granted(body),
            _ => (404, json!({ "code": "lock_not_found", "message": "gone" })),
        })
    });
    let ended = node.run(&["--lease", "1s", "--", "sleep", "600"]);
    ended.failed(LOST, "error: the lock was lost: gone");
    assert_eq!(node.paths(), ["acquire", "extend", "release"]);
}

#[test]
fn a_lock_that_another_caller_ended_just_before_the_command_did_is_reported() {
    let node = Node::new(|path, body| {
        Some(match path {
            "/lock/release" => (404, json!({ "code": "lock_not_found", "message": "gone" })),
            _ => return obliging(path, body),
        })
    });
    node.run(&["--", "true"]).failed(
        LOST,
        "error: the lock was lost: another caller ended it: gone",
    );
}

#[test]
fn without_the_lock_nothing_runs() {
    let node = Node::new(|_, _| Some((423, json!({ "code": "lock_held", "message": "held" }))));
    let file = tempfile::tempdir().unwrap();
    let made = file.path().join("made");
    let ended = node.run(&["--", "touch", made.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(NOT_ACQUIRED), "{ended:?}");
    assert!(!made.exists());
    assert_eq!(node.paths(), ["acquire"]);
}

#[test]
fn what_cannot_start_gives_the_lock_back() {
    let node = Node::new(obliging);
    node.run(&["--", "/nowhere/command"])
        .failed(127, "cannot run /nowhere/command");
    assert_eq!(node.paths(), ["acquire", "release"]);
    node.run(&["--", "/"]).failed(126, "cannot run /");
}

#[test]
fn a_lease_that_is_mostly_gone_is_extended_before_the_start() {
    let node = Node::new(|path, body| match path {
        "/lock/acquire" => {
            let (status, mut answer) = granted(body);
            answer["expiresIn"] = 100.into();
            Some((status, answer))
        }
        _ => obliging(path, body),
    });
    let ended = node.run(&["--lease", "1s", "--", "true"]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(node.paths(), ["acquire", "extend", "release"]);
}

#[test]
fn one_uuid_given_twice_is_two_holders_unless_adopted() {
    let uuid = |flags: &[&str]| {
        let node = Node::new(obliging);
        let mut command = evermind();
        command
            .args([
                "lock",
                "run",
                "k",
                "--url",
                &node.url,
                "--uuid",
                "backup@host",
            ])
            .args(["--api-key", "evk"])
            .args(flags)
            .args(["--", "true"]);
        assert_eq!(run(command, ENDS_WITHIN).status.code(), Some(0));
        let seen = node.seen.lock().unwrap();
        seen[0].1["uuid"].as_str().unwrap().to_owned()
    };
    let (first, second) = (uuid(&[]), uuid(&[]));
    assert_ne!(first, second);
    assert!(first.starts_with("backup@host."), "{first}");
    assert_eq!(uuid(&["--adopt"]), "backup@host");
}

#[test]
fn credentials_are_not_handed_down_unless_asked_for() {
    let node = Node::new(obliging);
    let script =
        "echo ${EVERMIND_API_KEY-none} ${EVERMIND_LICENCE_KEY-none} ${EVERMIND_ADMIN_TOKEN-none}";
    for (flags, printed) in [
        (
            &[][..],
            "none none none
",
        ),
        (
            &["--pass-api-key"],
            "evk l a
",
        ),
    ] {
        let mut command = evermind();
        command
            .args(["lock", "run", "k", "--url", &node.url])
            .args(flags);
        command.args(["--", "sh", "-c", script]);
        command.env("EVERMIND_API_KEY", "evk");
        command
            .env("EVERMIND_LICENCE_KEY", "l")
            .env("EVERMIND_ADMIN_TOKEN", "a");
        assert_eq!(run(command, ENDS_WITHIN).stdout, printed);
    }
}
