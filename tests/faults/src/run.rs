//! One run of one row: a fresh cluster, its load, the faults, the heal, the checks.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use evermind_checker::history::{History, Told};
use evermind_checker::{Check, Violation};
use evermind_harness::cluster::NODES;
use evermind_harness::until;

use crate::archive::Archive;
use crate::checks;
use crate::cluster::Cluster;
use crate::load::Load;
use crate::matrix::Row;
use crate::outcome::{Outcome, Result};
use crate::scene::Scene;
use crate::setup::Expect;

/// Leases run out, the longest after a minute, and lines dissolve.
const SETTLES_WITHIN: Duration = Duration::from_mins(2);
/// Longer than the second in which a leader ticks and a checkpoint is written.
const STILL_FOR: Duration = Duration::from_millis(2_500);
/// As many accounts as the table shows of one row.
const WHYS_SHOWN: usize = 8;

/// What the story of a run leaves, whether or not it came to its end.
#[derive(Debug, Default)]
struct Story {
    injected: u64,
    observed: u64,
    effects: Vec<(&'static str, u64)>,
    notes: Vec<String>,
    served_after: Duration,
    /// What every node has applied, once they rest in agreement.
    applied: Option<u64>,
    why: Vec<String>,
}

/// Runs a row for `seconds`, in an empty directory that stays if the run fails.
pub(crate) fn run(row: &Row, seconds: u64, dir: &Path, seed: u64) -> Outcome {
    let began = Instant::now();
    fs::create_dir_all(dir).expect("a directory for the run");
    let load = Load::new();
    let mut story = Story::default();
    let mut panics = Vec::new();
    let mut verdict = None;
    let finished = attempt(&mut story.why, || {
        let cluster = Cluster::prepare(&row.setup, dir);
        let archive = Archive::start(NODES.map(|id| cluster.node(id).data_dir.clone()).into());
        let told = attempt(&mut panics, || tell(row, seconds, &cluster, &load, seed));
        let applied = told.as_ref().and_then(|told| told.applied);
        archive.finish();
        for id in NODES {
            cluster.kill(id);
        }
        let mut told = told.unwrap_or_default();
        told.why.extend(unexpected_panics(row, &cluster));
        let found = load
            .recorder
            .with(|history| checks::check(history, &load, &cluster, &row.setup, applied));
        (told, found)
    });
    if let Some((told, found)) = finished {
        story = told;
        verdict = Some(found);
    }
    story.why.append(&mut panics);
    let outcome = judge(row, story, verdict, &load, began.elapsed());
    keep_or_remove(&outcome, dir, &load);
    outcome
}

/// What happens while the clients run, and until the nodes agree.
fn tell(row: &Row, seconds: u64, cluster: &Cluster, load: &Load, seed: u64) -> Story {
    cluster.start();
    let scene = Scene::new(cluster, load, Duration::from_secs(seconds), seed);
    let mut why = Vec::new();
    let served_after = attempt(&mut why, || {
        load.run(cluster, row.setup.clients, || {
            let calm = row.setup.expect == Expect::NoRetry;
            scene.work();
            if calm {
                load.calm.begins(&load.timeline);
            }
            (row.inject)(&scene);
            load.calm.ends(&load.timeline);
            let mended = load.timeline.now();
            let served_after = scene.heal();
            scene.work();
            if row.setup.expect != Expect::Loss {
                load.calm.watch_healed(mended, &load.timeline);
            }
            load.calm.ends(&load.timeline);
            served_after
        })
    });
    let applied = match served_after {
        Some(_) => attempt(&mut why, || settle(cluster)),
        None => None,
    };
    if applied.is_some() {
        why.extend(load.watch.at_rest(cluster).err());
    }
    why.extend(scene.faults());
    if scene.injected() == 0 || scene.effects().is_empty() {
        why.push("no fault was injected, or nothing was observed of it".to_owned());
    }
    if scene.observed() == 0 {
        why.push("no fault was seen to do anything".to_owned());
    }
    for (what, times) in scene.effects() {
        if times == 0 {
            why.push(format!("the fault showed no effect: {what} is 0"));
        }
    }
    let failures = load.failures();
    let may_fail = !matches!(row.setup.expect, Expect::NoFailure | Expect::NoRetry);
    if row.setup.expect == Expect::NoRetry && load.retries() > 0 {
        why.push(format!(
            "{} requests were sent again, and nothing was wrong",
            load.retries()
        ));
    }
    if !may_fail && !failures.is_empty() {
        why.push(format!(
            "{} operations failed: {}",
            failures.len(),
            failures[0]
        ));
    }
    Story {
        injected: scene.injected(),
        observed: scene.observed(),
        effects: scene.effects(),
        notes: scene.notes(),
        served_after: served_after.unwrap_or_default(),
        applied,
        why,
    }
}

/// Waits until all nodes have applied the same, and nothing more comes.
fn settle(cluster: &Cluster) -> u64 {
    let mut since = (Instant::now(), None);
    until("the nodes agree and rest", SETTLES_WITHIN, || {
        let applied = NODES.map(|id| cluster.view(id).map(|view| view.applied));
        let equal = applied[0].is_some() && applied.iter().all(|index| *index == applied[0]);
        if !equal || since.1 != applied[0] {
            since = (Instant::now(), applied[0]);
        }
        let rests = equal && since.0.elapsed() >= STILL_FOR;
        applied[0].filter(|_| rests)
    })
}

/// Runs a part that may fail by panicking, and keeps what it said.
fn attempt<R>(why: &mut Vec<String>, part: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(done) => Some(done),
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
            why.push(text.unwrap_or_else(|| "a panic without words".to_owned()));
            None
        }
    }
}

fn unexpected_panics(row: &Row, cluster: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    for id in NODES {
        let text = cluster.node(id).log_text();
        let lines = text.lines().filter(|line| line.contains("panicked at"));
        let unexpected = lines.filter(|line| !row.setup.panics.iter().any(|p| line.contains(p)));
        found.extend(unexpected.map(|line| format!("node {id} panicked: {line}")));
    }
    found
}

fn judge(
    row: &Row,
    story: Story,
    verdict: Option<evermind_checker::Verdict>,
    load: &Load,
    took: Duration,
) -> Outcome {
    let checked = verdict.is_some();
    let verdict = verdict.unwrap_or_default();
    let mut why = story.why;
    let lost = loss(&verdict, &why);
    let caught = lost.is_some();
    if !checked || !verdict.is_clean() {
        let text = verdict.to_string();
        why.extend(text.lines().skip(1).map(str::to_owned));
    }
    let shown = story.effects.iter().all(|(_, times)| *times > 0) && !story.effects.is_empty();
    let result = match (row.setup.expect == Expect::Loss, why.is_empty()) {
        (true, _) if caught && shown => Result::FailedAsItMust,
        (true, _) => {
            why.push("nothing was found lost where something must be".to_owned());
            Result::Failed
        }
        (false, true) => Result::Passed,
        (false, false) => Result::Failed,
    };
    if row.setup.expect == Expect::Loss {
        why.splice(0..0, lost.map(|lost| format!("lost: {lost}")));
    }
    why.truncate(WHYS_SHOWN);
    Outcome {
        row: row.number,
        fault: row.fault,
        runs: 1,
        injected: story.injected,
        observed: story.observed,
        effects: story.effects,
        notes: story.notes,
        operations: verdict.operations,
        ambiguous: verdict.ambiguous,
        resolved: verdict.resolved,
        took_effect: verdict.took_effect,
        without_effect: verdict.without_effect,
        windows: verdict.windows,
        live_views: verdict.live_views,
        retries: load.retries(),
        calm_ms: load.calm.lasted_ms(),
        violations: verdict.violations.len(),
        undecided: verdict.undecided.len(),
        longest_gap_ms: load.recorder.with(|history| longest_gap_ms(history)),
        served_after_ms: u64::try_from(story.served_after.as_millis()).unwrap_or(u64::MAX),
        took_s: took.as_secs(),
        result,
        why,
        kept: Vec::new(),
    }
}

/// What was lost: an acknowledged operation that no log has, logs or tables that do not fit
/// together, or a log that its own node found too short. That a run came to nothing, or broke some
/// other rule, shows no loss.
fn loss(verdict: &evermind_checker::Verdict, why: &[String]) -> Option<String> {
    let is_loss = |violation: &&Violation| matches!(violation.check, Check::W0 | Check::W5);
    let found = verdict.violations.iter().find(is_loss);
    let refused = why.iter().find(|why| refuses(why));
    found.map(ToString::to_string).or_else(|| refused.cloned())
}

/// Whether a node did not start because it has found for itself that something is gone.
fn refuses(why: &str) -> bool {
    let ended = why.contains("ended while it started") || why.contains("ended after the heal");
    let gone = ["vanished", "is gone", "damaged", "leave this node off"];
    ended && why.contains("cannot start") && gone.iter().any(|gone| why.contains(gone))
}

fn longest_gap_ms(history: &History) -> u64 {
    let certain = |told: &Told| match told {
        Told::Unknown => false,
        Told::Refused { status, .. } => *status < 500,
        _ => true,
    };
    let mut moments: Vec<u64> = history
        .records
        .iter()
        .filter(|record| certain(&record.told))
        .map(|record| record.returned.0)
        .collect();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default() / 1_000_000
}

fn keep_or_remove(outcome: &Outcome, dir: &Path, load: &Load) {
    if outcome.result != Result::Failed {
        let _ = fs::remove_dir_all(dir);
        return;
    }
    let history = load.recorder.with(|history| serde_json::to_vec(&*history));
    let written = history.map(|bytes| fs::write(dir.join("history.json"), bytes));
    if !matches!(written, Ok(Ok(()))) {
        eprintln!("the history could not be written to {}", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use evermind_checker::Verdict;

    use super::*;

    fn found(check: Check) -> Verdict {
        Verdict {
            violations: vec![Violation::new(check, "what there was")],
            ..Verdict::default()
        }
    }

    #[test]
    fn the_negative_control_wants_a_loss_and_no_other_failure() {
        for check in Check::ALL {
            let due = matches!(check, Check::W0 | Check::W5);
            assert_eq!(loss(&found(check), &[]).is_some(), due, "{check}");
        }
        let shows = |why: &str| loss(&Verdict::default(), &[why.to_owned()]).is_some();
        let start = "node 2 ended while it started: error: the node cannot start";
        assert!(shows(&format!(
            "{start}: entries that were on disk have vanished"
        )));
        assert!(!shows(&format!("{start}: the address is in use")));
        assert!(!shows("the clients are answered: not within 30 s"));
    }
}
