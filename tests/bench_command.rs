//! Shows `evermind bench`: every workload gives its figures, and what is wrong is told with what to do.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::TestCluster;
use crate::harness::command::{Ended, run};
use crate::harness::ports::Ports;
use crate::harness::process::evermind;

const ENDS_WITHIN: Duration = Duration::from_mins(1);
/// A dozen cycles on a busy machine.
const SHORT: &str = "500ms";
/// The documented exit codes.
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 69;
const NOT_ACQUIRED: i32 = 75;
const REFUSED: i32 = 77;

fn bench(urls: &str, api_key: &str, arguments: &[&str]) -> Ended {
    let mut command: Command = evermind();
    command
        .args(["bench", "--clients", "4"])
        .args(arguments)
        .env("EVERMIND_BASE_URL", urls)
        .env("EVERMIND_API_KEY", api_key);
    run(command, ENDS_WITHIN)
}

#[track_caller]
fn figures(ended: &Ended) -> Value {
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stderr, "", "a program is shown no progress");
    ended.json()
}

#[test]
fn every_workload_gives_its_figures() {
    let cluster = TestCluster::start();
    let urls = cluster.urls();
    for (workload, keys, rows) in [
        ("cycle", "40", &["cycle", "acquire", "release"][..]),
        (
            "contended",
            "1",
            &["cycle", "acquire", "release", "handOff"],
        ),
        ("fifo", "2", &["cycle", "acquire", "release", "handOff"]),
        ("hold", "41", &["cycle", "acquire"]),
        ("extend", "40", &["cycle", "extend"]),
    ] {
        // `hold` is done when it holds them all.
        let duration = if workload == "hold" { "30s" } else { SHORT };
        let arguments = ["--json", "--workload", workload, "--keys", keys];
        let arguments = [&arguments[..], &["--duration", duration]].concat();
        let figures = figures(&bench(&urls, &cluster.api_key, &arguments));
        assert_eq!(figures["workload"], workload);
        assert!(figures["cycles"].as_u64() > Some(0), "{figures}");
        assert!(figures["cpuPerCycle"].as_f64() > Some(0.0), "{figures}");
        for row in ["cycle", "acquire", "extend", "release", "handOff"] {
            let has = rows.contains(&row);
            assert_eq!(figures[row].is_object(), has, "{row}: {figures}");
            for figure in ["count", "p50", "p90", "p99", "p99.9", "max"] {
                assert_eq!(figures[row][figure].is_u64(), has, "{row}: {figures}");
            }
        }
        if workload == "hold" {
            assert_eq!(figures["cycles"], 41, "every lock once: {figures}");
        }
    }

    let text = bench(
        &urls,
        &cluster.api_key,
        &["--workload", "fifo", "--duration", SHORT],
    );
    assert!(text.status.success() && text.stderr.is_empty(), "{text:?}");
    for what in ["cycles/s", "CPU", "P99.9", "acquire", "hand-off"] {
        assert!(text.stdout.contains(what), "{what}: {text:?}");
    }
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let cluster = TestCluster::start();
    let (urls, key) = (cluster.urls(), cluster.api_key.as_str());
    let unknown = format!("evk_{}", "0".repeat(43));
    bench(&urls, &unknown, &[]).failed(REFUSED, "the API key is unknown");
    bench(&urls, "", &[]).failed(USAGE, "no API key");
    bench(&urls, key, &["--keys", "3"]).failed(USAGE, "--keys");
    bench("http://", key, &[]).failed(USAGE, "http://");

    let ports = Ports::reserve();
    let nobody = format!("http://127.0.0.1:{}", ports.port(0));
    bench(&nobody, key, &[]).failed(UNAVAILABLE, &nobody);

    for arguments in [
        &["--any-mode"][..],
        &["--duration", "1ms"],
        &["--workload", "all"],
        &["--keys", "some"],
    ] {
        let ended = bench(&urls, key, arguments);
        assert_eq!(ended.status.code(), Some(USAGE), "{ended:?}");
        assert!(ended.stderr.contains(arguments[0]), "{ended:?}");
    }
}

#[test]
fn figures_with_failures_are_told_and_fail() {
    let cluster = TestCluster::prepare_with(&["--rate-limit", "20/s"]);
    for id in 1..=3 {
        cluster.node(id).start();
    }
    cluster.await_ready();
    let ended = bench(&cluster.urls(), &cluster.api_key, &["--duration", "1s"]);
    ended.failed(NOT_ACQUIRED, "requests failed, most of them: rate_limited");
    assert!(ended.stdout.contains("cycles/s"), "{ended:?}");
}
