//! Shows `evermind lock`: a command that runs only while its lock is held, and the lock API from a
//! shell.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::command::{Running, run};
use crate::harness::process::{evermind, has_ended};
use crate::harness::{TestCluster, until};

const ENDS_WITHIN: Duration = Duration::from_secs(40);
/// The documented codes of `evermind lock --help`.
const NOT_HELD: i32 = 3;
const NOT_ACQUIRED: i32 = 75;
const LOST: i32 = 76;
const REFUSED: i32 = 77;

fn lock(cluster: &TestCluster, arguments: &[&str]) -> Command {
    let mut command = asking(cluster, "lock");
    command.args(arguments);
    command
}

fn asking(cluster: &TestCluster, what: &str) -> Command {
    let mut command = evermind();
    command
        .arg(what)
        .env("EVERMIND_BASE_URL", cluster.urls())
        .env("EVERMIND_API_KEY", &cluster.api_key);
    command
}

/// `evermind lock run KEY … -- sh -c SCRIPT`.
fn lock_run(cluster: &TestCluster, key: &str, flags: &[&str], script: &str) -> Command {
    let mut arguments = vec!["run", key];
    arguments.extend(flags);
    arguments.extend(["--", "sh", "-c", script]);
    lock(cluster, &arguments)
}

/// Waits for a file that a script writes, with this many lines.
fn lines_of(file: &Path, count: usize) -> Vec<String> {
    until(
        "the script has written its lines",
        Duration::from_secs(20),
        || {
            let text = fs::read_to_string(file).ok()?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (text.ends_with('\n') && lines.len() >= count).then_some(lines)
        },
    )
}

#[test]
fn run_passes_the_token_in_and_the_exit_code_out() {
    let cluster = TestCluster::start();
    let file = cluster.dir().join("token");
    let script = format!(
        "echo $EVERMIND_FENCING_TOKEN > {0}; echo $EVERMIND_LOCK_KEY >> {0}; \
         while [ ! -e {0}.go ]; do sleep 0.02; done; exit 7",
        file.display()
    );
    let running = Running::start(lock_run(&cluster, "job", &["--lease", "5s"], &script));
    let lines = lines_of(&file, 2);
    let seen = cluster.client(1).get("/v1/locks/job");
    assert_eq!(seen.status, 200, "held while the command runs: {seen}");
    assert_eq!(lines, [seen.token().to_string(), "job".to_owned()]);
    fs::write(cluster.dir().join("token.go"), "").unwrap();
    let ended = running.end(ENDS_WITHIN);
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    assert_eq!(
        cluster.client(2).get("/v1/locks/job").status,
        404,
        "released at the end"
    );
}

#[test]
fn contenders_never_overlap() {
    let cluster = TestCluster::start();
    let file = cluster.dir().join("diary");
    let script = format!(
        "echo in $$ >> {0}; sleep 0.05; echo out $$ >> {0}",
        file.display()
    );
    let flags = ["--lease", "5s", "--wait", "60s"];
    let contenders: Vec<Running> = (0..8)
        .map(|_| Running::start(lock_run(&cluster, "job", &flags, &script)))
        .collect();
    for contender in contenders {
        let ended = contender.end(ENDS_WITHIN);
        assert!(ended.status.success(), "{ended:?}");
    }
    let diary = lines_of(&file, 16);
    for pair in diary.chunks(2) {
        let (inside, outside) = (pair[0].strip_prefix("in "), pair[1].strip_prefix("out "));
        assert!(
            inside.is_some() && inside == outside,
            "two at once: {diary:#?}"
        );
    }
}

#[test]
fn a_command_runs_on_through_a_failover() {
    let cluster = TestCluster::start();
    let file = cluster.dir().join("started");
    let script = format!("echo > {0}; sleep 6; exit 5", file.display());
    let running = Running::start(lock_run(&cluster, "job", &["--lease", "4s"], &script));
    lines_of(&file, 1);
    let token = cluster.client(1).get("/v1/locks/job").token();
    cluster.kill(cluster.leader());
    let survivor = cluster.leader();
    assert_eq!(cluster.client(survivor).get("/v1/locks/job").token(), token);
    // It takes longer than its lease, so it was extended by the new leader.
    let ended = running.end(ENDS_WITHIN);
    assert_eq!(ended.status.code(), Some(5), "{ended:?}");
}

#[test]
fn a_lock_that_cannot_be_kept_ends_the_whole_group_in_time() {
    let cluster = TestCluster::start();
    let file = cluster.dir().join("pids");
    // Neither the shell nor its child can be asked nicely.
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait; sleep 1000",
        file.display()
    );
    let lease = Duration::from_secs(4);
    let running = Running::start(lock_run(&cluster, "job", &["--lease", "4s"], &script));
    let pids: Vec<u32> = lines_of(&file, 2)
        .iter()
        .map(|pid| pid.parse().unwrap())
        .collect();
    for id in [1, 2, 3] {
        cluster.kill(id);
    }
    // No extension was sent after this, so the lease ends at most this much later.
    let lost = Instant::now();
    until("the command and its child are dead", lease, || {
        pids.iter().all(|pid| has_ended(*pid)).then_some(())
    });
    assert!(lost.elapsed() <= lease);
    let ended = running.end(ENDS_WITHIN);
    assert_eq!(ended.status.code(), Some(LOST), "{ended:?}");
    assert!(ended.stderr.contains("lost"), "{ended:?}");
}

#[test]
fn a_lock_that_is_held_by_another_is_not_run_under() {
    let cluster = TestCluster::start();
    cluster.client(1).take("job", "another", 60_000);
    let file = cluster.dir().join("ran");
    let script = format!("echo > {}", file.display());
    let ended = run(
        lock_run(&cluster, "job", &["--wait", "2500ms"], &script),
        ENDS_WITHIN,
    );
    assert_eq!(ended.status.code(), Some(NOT_ACQUIRED), "{ended:?}");
    assert!(!file.exists(), "it ran without the lock");
    let told = ended.stderr.starts_with("evermind: waiting for job: ");
    assert!(told, "not told what it waits for: {}", ended.stderr);
}

#[test]
fn the_lock_api_from_a_shell() {
    let cluster = TestCluster::start();
    let ask = |arguments: &[&str]| run(lock(&cluster, arguments), ENDS_WITHIN);
    let json = |arguments: &[&str]| -> Value {
        let ended = ask(arguments);
        assert!(ended.status.success(), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"))
    };
    let taken = json(&["acquire", "k", "--lease", "60s", "--uuid", "u", "--json"]);
    assert_eq!(taken["acquired"], true);
    assert_eq!(taken["config"]["lease"], 60_000);
    let extended = json(&["extend", "k", "--uuid", "u", "--by", "10s", "--json"]);
    assert_eq!(extended["fencingToken"], taken["fencingToken"]);
    let shown = json(&["show", "k", "--json"]);
    assert_eq!(shown["fencingToken"], taken["fencingToken"]);
    let listed = json(&["list", "--prefix", "k", "--json"]);
    assert_eq!(listed["locks"][0]["key"], "k");
    assert_eq!(
        ask(&["release", "k", "--uuid", "another"]).status.code(),
        Some(NOT_HELD)
    );
    assert!(ask(&["release", "k", "--uuid", "u"]).status.success());
    let free = ask(&["show", "k"]);
    assert_eq!(free.status.code(), Some(NOT_HELD), "{free:?}");
    assert!(free.stderr.contains("hint: "), "{free:?}");

    let mut stranger = lock(&cluster, &["show", "k"]);
    stranger.env(
        "EVERMIND_API_KEY",
        "evk_0000000000000000000000000000000000000000",
    );
    let ended = run(stranger, ENDS_WITHIN);
    assert_eq!(ended.status.code(), Some(REFUSED), "{ended:?}");
}

#[test]
fn what_each_node_knows_is_shown_though_one_is_down() {
    let cluster = TestCluster::start();
    cluster.kill(3);
    let shown = run(asking(&cluster, "cluster"), ENDS_WITHIN);
    assert!(shown.status.success(), "{shown:?}");
    let down = cluster.node(3).http.to_string();
    let row = shown.stdout.lines().find(|line| line.contains(&down));
    assert!(row.is_some_and(|row| row.starts_with('?')), "{shown:?}");

    let mut stranger = asking(&cluster, "cluster");
    stranger.env("EVERMIND_API_KEY", "evk_wrong");
    run(stranger, ENDS_WITHIN).failed(REFUSED, "");
}
