//! Shows that licences and API keys are the same on every node at once, that no two identities ever
//! share a lock, and that no key is ever written down.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::cluster::NODES;
use crate::harness::history::History;
use crate::harness::http::{Answer, Connection, Request};
use crate::harness::licence::Licence;
use crate::harness::load::under_load;
use crate::harness::{TestCluster, until};

/// Takes and gives back a lock of its own; the answer to the first.
fn try_key(client: &Client) -> Answer {
    let name = uuid::Uuid::now_v7().to_string();
    let body = json!({"key": name, "uuid": "u", "lease": 5_000, "retryAttempts": 0});
    let answer = client.acquire(&body);
    if answer.status == 200 {
        client.release(&name, "u");
    }
    answer
}

#[test]
fn a_key_made_on_one_node_works_on_the_others_at_once_and_a_deleted_one_nowhere() {
    let cluster = TestCluster::start();
    let licence = cluster.licence("team", &json!({}));
    let history = History::default();
    let ((), report) = under_load(&cluster, 4, &history, |load| {
        until("the load runs", Duration::from_secs(20), || {
            (load.cycles() > 50).then_some(())
        });
        for round in 0..6 {
            let maker = round % 3 + 1;
            let key = cluster.make_key(maker, &licence);
            for node in NODES {
                let answer = try_key(&cluster.client_with(node, &key));
                assert_eq!(
                    answer.status, 200,
                    "made at {maker}, used at {node}: {answer}"
                );
            }
            let deleted = cluster.delete_key(maker % 3 + 1, &licence, &key);
            assert_eq!(deleted.status, 204, "{deleted}");
            for node in NODES {
                let client = cluster.client_with(node, &key);
                let answer = try_key(&client);
                assert_eq!(answer.status, 401, "deleted, used at {node}: {answer}");
                assert_eq!(client.get("/v1/locks/k").status, 401, "read at {node}");
            }
        }
    });
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    a_paused_follower_learns_before_it_answers(&cluster, &licence);
}

/// A follower that slept through it all has not applied it when the first request comes.
fn a_paused_follower_learns_before_it_answers(cluster: &TestCluster, licence: &Licence) {
    for _ in 0..3 {
        let sleeper = cluster.followers()[0];
        let awake = cluster.leader();
        let old = cluster.make_key(awake, licence);
        assert_eq!(try_key(&cluster.client_with(sleeper, &old)).status, 200);
        // Opened before, so that the requests are there when it wakes.
        let mut calls: Vec<_> = (0..3)
            .map(|_| Connection::open(cluster.node(sleeper).http).unwrap())
            .collect();
        cluster.pause(sleeper);
        let new = cluster.make_key(awake, licence);
        assert_eq!(cluster.delete_key(awake, licence, &old).status, 204);
        let acquire = |key: &str| {
            let name = uuid::Uuid::now_v7().to_string();
            Request::json("/lock/acquire", &json!({"key": name, "retryAttempts": 0})).bearer(key)
        };
        let read = Request::get("/v1/locks/free").bearer(&old);
        let requests = [acquire(&new), acquire(&old), read];
        for (call, request) in calls.iter_mut().zip(&requests) {
            call.send(&request.bytes()).unwrap();
        }
        cluster.resume(sleeper);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let answers: Vec<Answer> = calls
            .iter_mut()
            .map(|call| call.receive(deadline).unwrap())
            .collect();
        assert_eq!(answers[0].status, 200, "new: {}", answers[0]);
        assert_eq!(answers[1].status, 401, "deleted: {}", answers[1]);
        assert_eq!(answers[2].status, 401, "deleted, read: {}", answers[2]);
        cluster.await_ready();
    }
}

#[test]
fn a_wait_ends_with_its_key_and_with_its_licence() {
    let cluster = TestCluster::start();
    for (ends, status, code) in [
        ("key", 401, "unauthorized"),
        ("licence", 403, "licence_inactive"),
    ] {
        let licence = cluster.licence("team", &json!({"identity": format!("for-{ends}")}));
        let other = cluster.licence("other", &json!({"identity": format!("for-{ends}")}));
        let holder = cluster.client_with(1, &cluster.make_key(1, &other));
        holder.take("k", "holder", 60_000);
        let key = cluster.make_key(2, &licence);
        let waiting = cluster.client_with(3, &key);
        let wait = json!({"key": "k", "uuid": "w", "retryAttempts": 100, "retryDelay": 500});
        let answer = thread::scope(|scope| {
            let call = scope.spawn(|| waiting.acquire(&wait));
            until("it stands in line", Duration::from_secs(10), || {
                (holder.waiting("k") == Some(1)).then_some(())
            });
            let ended = if ends == "key" {
                cluster.delete_key(1, &licence, &key)
            } else {
                let path = format!("/admin/licences/{}", licence.id);
                cluster.admin(1, "DELETE", &path, &Value::Null)
            };
            assert_eq!(ended.status, 204, "{ended}");
            call.join().unwrap()
        });
        assert_eq!((answer.status, &*answer.code()), (status, code), "{answer}");
        assert_eq!(holder.waiting("k"), Some(0));
        let attempts = answer.number("lockAcquisitionAttempts");
        assert_eq!(cluster.used(2, &licence), attempts, "{answer}");
        assert_eq!(try_key(&waiting).status, status);
    }
}

#[test]
fn a_spent_allowance_is_402_on_every_node_and_can_be_softened() {
    let cluster = TestCluster::start();
    let licence = cluster.licence("small", &json!({"limit": 3, "period": "none"}));
    let key = cluster.make_key(1, &licence);
    for node in NODES {
        cluster
            .client_with(node, &key)
            .take(&format!("k-{node}"), "u", 60_000);
    }
    for node in NODES {
        let client = cluster.client_with(node, &key);
        let answer = client.acquire(&json!({"key": "more"}));
        assert_eq!(
            (answer.status, &*answer.code()),
            (402, "quota_exceeded"),
            "{answer}"
        );
        let soft = client.acquire(&json!({"key": "more", "softFail": true}));
        assert_eq!(
            (soft.status, &*soft.code()),
            (200, "quota_exceeded"),
            "{soft}"
        );
        // What is held can be kept and given back.
        assert_eq!(client.extend(&format!("k-{node}"), "u", 1_000).status, 200);
        assert_eq!(client.release(&format!("k-{node}"), "u").status, 200);
    }
    assert_eq!(cluster.used(3, &licence), 3);
}

#[test]
fn no_choice_of_characters_makes_two_identities_share_a_lock() {
    let cluster = TestCluster::start();
    let keys: Vec<(&str, Client)> = ["a", "a-b", "b", "Evermind"]
        .map(|identity| {
            let licence = cluster.licence("team", &json!({ "identity": identity }));
            (
                identity,
                cluster.client_with(1, &cluster.make_key(1, &licence)),
            )
        })
        .into();
    let crafted = [
        "c",
        "b:c",
        "a:b:c",
        ":c",
        "::c",
        "c:",
        ":",
        "a",
        "b",
        "Evermind:a:c",
        "Evermind:a:b:c",
        "a-b:c",
        "-b:c",
        "/c",
        "%3Ac",
        "a%3Ac",
        "\u{e9}",
        "e\u{301}",
        "\u{fb01}",
        "fi",
        " c",
        "c ",
        "\u{200b}c",
        "C",
    ];
    for key in crafted {
        for (identity, client) in &keys {
            let answer = client.take(key, identity, 60_000);
            assert_eq!(answer.json()["config"]["key"], key, "as it was written");
        }
    }
    // Each holds each: none is another's, and none stands for another of its own.
    for (identity, client) in &keys {
        let held = client.get("/v1/locks?limit=1000").json();
        let held: Vec<&str> = held["locks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lock| lock["key"].as_str().unwrap())
            .collect();
        let mut expected = crafted.to_vec();
        expected.sort_unstable();
        assert_eq!(held, expected, "{identity}");
        for (other, _) in keys.iter().filter(|(other, _)| other != identity) {
            let answer = client.release("c", other);
            assert_eq!((answer.status, &*answer.code()), (409, "not_owner"));
        }
    }
}

#[test]
fn no_key_is_ever_written_down() {
    let cluster = TestCluster::prepare_with(&["--log-level", "debug", "--log-bytes-kept", "20000"]);
    for id in NODES {
        cluster.node(id).start();
    }
    cluster.await_ready();
    let mut secrets = vec![cluster.api_key.clone(), cluster.admin_token.clone()];
    let licence = cluster.licence("team", &json!({}));
    secrets.push(licence.key.clone());
    let wrong = "evk_wrong-but-secret-all-the-same";
    secrets.push(wrong.to_owned());
    for round in 0..30 {
        let key = cluster.make_key(round % 3 + 1, &licence);
        for node in NODES {
            let client = cluster.client_with(node, &key);
            assert_eq!(try_key(&client).status, 200);
            // Refused, and answered with what was wrong: not with the key.
            client.post("/lock/acquire", &json!({"key": "k", "lease": 0}));
        }
        if round % 2 == 0 {
            cluster.delete_key(1, &licence, &key);
            cluster.delete_key(2, &licence, &format!("{key}x"));
        }
        secrets.push(key);
    }
    cluster.client_with(1, wrong).get("/v1/cluster");
    until("every node has a snapshot", Duration::from_secs(30), || {
        NODES
            .iter()
            .all(|id| has_snapshot(&cluster, *id))
            .then_some(())
    });
    let search = Search::new(&secrets);
    for id in NODES {
        // SIGTERM writes a last checkpoint.
        cluster.terminate(id, Duration::from_secs(20)).unwrap();
        let node = cluster.node(id);
        let mut files = files_under(&node.data_dir);
        assert!(files.len() >= 4, "{files:?}");
        files.push(node.log.clone());
        for file in files {
            let found = search.first_in(&fs::read(&file).unwrap());
            assert!(!found, "{} holds a key in clear", file.display());
        }
    }
    // The search finds what is there: the file that the operator wrote the key to.
    let control = fs::read(cluster.dir().join("api-key")).unwrap();
    assert!(search.first_in(&control));
}

/// Looks for many texts at once, each by its first bytes: a look at each place for each text would
/// take minutes.
struct Search(HashMap<[u8; SEED], Vec<u8>>);

const SEED: usize = 8;

impl Search {
    /// For what stands after each key's prefix, so that no other way of writing that hides it.
    fn new(keys: &[String]) -> Self {
        let parts = keys.iter().map(|key| {
            let part = key.trim_start_matches("evk_").trim_start_matches("evl_");
            (part.as_bytes()[..SEED].try_into().unwrap(), part.into())
        });
        Self(parts.collect())
    }

    fn first_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(SEED).enumerate().any(|(at, seed)| {
            // Files are made ahead of time: most of them is nothing.
            seed[0] != 0
                && self
                    .0
                    .get(seed)
                    .is_some_and(|text| bytes[at..].starts_with(text))
        })
    }
}

fn has_snapshot(cluster: &TestCluster, id: u64) -> bool {
    let files = files_under(&cluster.node(id).data_dir.join("snapshot"));
    files
        .iter()
        .any(|file| file.extension().is_some_and(|end| end == "built"))
}

fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files
}
