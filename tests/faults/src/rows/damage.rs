//! What a stopped node finds changed on its disk when it starts again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evermind_harness::until::until_or;

use crate::rows::disk::{last_segment, written_bytes};
use crate::scene::Scene;

/// Long enough to open what there is; a node that refuses says so within a second.
const REFUSES_WITHIN: Duration = Duration::from_secs(15);

/// Places in one segment, one after the other.
const FLIPS_EACH: usize = 3;

/// One bit of the log flips: refused. One of a snapshot, or of the checkpoint: repaired.
pub(crate) fn flips(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    // A snapshot there must be, on every node.
    let snapshot = |id: u64| newest_file(&cluster.node(id).data_dir.join("snapshot"));
    while scene.goes_on() {
        scene.work();
        let victim = scene.any_node();
        let data = cluster.node(victim).data_dir.clone();
        cluster.kill(victim);
        let segment = last_segment(&data.join("log"));
        // Anywhere in what is written, but not in the last batch, which a crash may have torn.
        for _ in 0..FLIPS_EACH {
            let at = scene.below(written_bytes(&segment) / 2);
            let bit = flip(&segment, at, scene.below(8));
            scene.inject();
            refuses(scene, victim, "damaged");
            unflip(&segment, at, bit);
        }
        cluster.restart(victim);

        scene.work();
        let had = until_or(Duration::from_secs(30), || snapshot(victim));
        cluster.kill(victim);
        let Some(path) = had.and(snapshot(victim)) else {
            scene.require(false, || format!("node {victim} never made a snapshot"));
            return;
        };
        let length = fs::metadata(&path).expect("a snapshot").len();
        let bit = flip(&path, length / 2, scene.below(8));
        scene.inject();
        let said = count(scene, victim, "a damaged snapshot is set aside");
        // Whether it can do without the snapshot is the checkpoint's to say: it has that.
        let started = starts_or_refuses(scene, victim);
        let now = count(scene, victim, "a damaged snapshot is set aside");
        scene.effect(
            "damaged snapshots noticed",
            (now - said) as u64 + u64::from(!started),
        );
        if !started {
            // Found for itself that it cannot do without; the rest is the operator's.
            unflip(&path, length / 2, bit);
            cluster.restart(victim);
        }

        scene.work();
        cluster.kill(victim);
        let aside = count(
            scene,
            victim,
            "the checkpoint of the lease table cannot be used",
        );
        for path in files(&data.join("table")) {
            let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            for part in 1..length.min(64) {
                flip(&path, length * part / 64, part % 8);
            }
        }
        scene.inject();
        cluster.restart(victim);
        let now = count(
            scene,
            victim,
            "the checkpoint of the lease table cannot be used",
        );
        scene.effect("damaged checkpoints set aside", (now - aside) as u64);
    }
}

/// The last segment ends in the middle.
pub(crate) fn truncated(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        scene.work();
        let victim = scene.any_node();
        cluster.kill(victim);
        let segment = last_segment(&cluster.node(victim).data_dir.join("log"));
        let whole = fs::read(&segment).expect("a segment");
        let written = written_bytes(&segment);
        let file = File::options()
            .write(true)
            .open(&segment)
            .expect("a segment");
        file.set_len(written / 2).expect("a shorter segment");
        scene.inject();
        refuses(scene, victim, "damaged");
        file.write_all_at(&whole, 0).expect("the segment as it was");
        file.sync_all().expect("the segment as it was");
        cluster.restart(victim);
    }
}

/// A node comes back with nothing under its old id: its peers do not let it vote, and it says what
/// to do.
pub(crate) fn wiped(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    scene.spell(1_000);
    while scene.goes_on() {
        scene.work();
        let victim = scene.any_node();
        let data = cluster.node(victim).data_dir.clone();
        let aside = data.with_file_name("aside");
        cluster.kill(victim);
        fs::rename(&data, &aside).expect("a directory that is moved");
        scene.inject();
        refuses(scene, victim, "leave this node off");
        fs::remove_dir_all(&data).expect("what it made");
        fs::rename(&aside, &data).expect("a directory that is moved back");
        cluster.restart(victim);
    }
}

/// The checkpoint is deleted, or garbage: it is made again from the log.
pub(crate) fn checkpoint(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        scene.work();
        let victim = scene.any_node();
        let table = cluster.node(victim).data_dir.join("table");
        cluster.kill(victim);
        let before = cluster.term();
        fs::remove_dir_all(&table).expect("a checkpoint");
        scene.inject();
        cluster.restart(victim);
        scene.effect("deleted checkpoints made again", u64::from(table.is_dir()));

        scene.work();
        cluster.kill(victim);
        let aside = count(
            scene,
            victim,
            "the checkpoint of the lease table cannot be used",
        );
        for path in files(&table) {
            fs::write(&path, [0xa5; 5_000]).expect("garbage");
        }
        scene.inject();
        cluster.restart(victim);
        let now = count(
            scene,
            victim,
            "the checkpoint of the lease table cannot be used",
        );
        scene.effect("garbage set aside", (now - aside) as u64);
        scene.require(cluster.term() >= before, || "a term went back".to_owned());
    }
}

/// Starts a node that must not go on, and must say why; counts it.
fn refuses(scene: &Scene<'_>, id: u64, says: &str) {
    let cluster = scene.cluster;
    let said = count(scene, id, says);
    cluster.launch(id);
    let status = cluster.node(id).exit(REFUSES_WITHIN);
    let refused = status.is_some_and(|status| !status.success()) && count(scene, id, says) > said;
    scene.require(refused, || {
        format!(
            "node {id} did not refuse with '{says}': {status:?}, {}",
            cluster.last_words(id)
        )
    });
    scene.effect("starts refused", u64::from(refused));
    cluster.kill(id);
}

/// Starts a node that may either go on or refuse; which it did.
fn starts_or_refuses(scene: &Scene<'_>, id: u64) -> bool {
    let cluster = scene.cluster;
    cluster.launch(id);
    let answer = until_or(REFUSES_WITHIN, || {
        if !cluster.node(id).is_running() {
            return Some(false);
        }
        scene.serves(id).then_some(true)
    });
    let started = answer.unwrap_or_default();
    if !started {
        cluster.kill(id);
    }
    started
}

fn count(scene: &Scene<'_>, id: u64, what: &str) -> usize {
    scene.cluster.node(id).log_text().matches(what).count()
}

/// Flips a bit of a byte; which.
fn flip(path: &Path, at: u64, bit: u64) -> u64 {
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("a file of the node's");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte of it");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).expect("a byte of it");
    bit
}

fn unflip(path: &Path, at: u64, bit: u64) {
    flip(path, at, bit);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn newest_file(dir: &Path) -> Option<PathBuf> {
    let mut found = files(dir);
    found.retain(|path| path.extension().is_none_or(|suffix| suffix != "tmp"));
    found.into_iter().max()
}
