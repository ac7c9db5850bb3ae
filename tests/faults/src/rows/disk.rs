//! Disks without power, with errors, full, or slow.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evermind_harness::cluster::NODES;
use evermind_harness::until;

use crate::caller::Operation;
use crate::image::Images;
use crate::rows::kill;
use crate::scene::Scene;
use crate::trace::Trace;

/// How a node says that it stopped by itself.
const STOPPED: &str = "the node has stopped";

/// Clients that take locks and keep them are numbered from here on.
const HOARDERS: u64 = 1_300;
/// As long as the row lasts; the nodes rest when the last has run out.
const HOARD_MS: u64 = 60_000;

fn images<'a>(scene: &'a Scene<'_>) -> &'a Images {
    scene
        .cluster
        .images
        .as_ref()
        .expect("the row has disks of its own")
}

/// Power fails at one machine.
pub(crate) fn power_of_one(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        cut_power(scene, &[scene.any_node()]);
    }
}

/// Power fails everywhere at once.
pub(crate) fn power_of_all(scene: &Scene<'_>) {
    while scene.goes_on() {
        scene.work();
        cut_power(scene, &NODES);
    }
}

/// The same, where nothing that a node syncs is synced: what time would have written is there, and
/// what was acknowledged after that is not.
pub(crate) fn power_of_all_unsynced(scene: &Scene<'_>) {
    for id in NODES {
        images(scene).sync(id);
    }
    while scene.goes_on() {
        scene.work();
        scene.spell(1_000);
        cut_power(scene, &NODES);
    }
}

fn cut_power(scene: &Scene<'_>, ids: &[u64]) {
    for id in ids {
        scene.cluster.kill(*id);
        images(scene).cut(*id);
        scene.inject();
    }
    for id in ids {
        let real = images(scene).restore(*id);
        scene.effect("unsynced writes gone", u64::from(real));
        scene.cluster.launch(*id);
    }
    scene.cluster.await_ready();
}

/// The nth fdatasync of a node fails: it stops at once and acknowledges nothing more.
pub(crate) fn sync_error(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        scene.work();
        let victim = match scene.injected() % 2 {
            0 => cluster.leader(),
            _ => scene.any_node(),
        };
        let nth = 1 + scene.below(40);
        let rule = format!("fdatasync,fsync:error=EIO:when={nth}");
        let trace = Trace::attach(cluster.node(victim).pid(), &rule, cluster.dir());
        let status = cluster.node(victim).exit(Duration::from_secs(20));
        scene.inject();
        scene.effect("EIO returned", trace.injected());
        drop(trace);
        let stopped =
            status.is_some_and(|status| !status.success()) && cluster.says(victim, STOPPED);
        scene.require(stopped, || {
            format!(
                "node {victim} after EIO: {status:?}, {}",
                cluster.last_words(victim)
            )
        });
        scene.effect("nodes that stopped by themselves", u64::from(stopped));
        cluster.kill(victim);
        cluster.restart(victim);
    }
}

/// Each fdatasync of the leader takes half a second to five.
pub(crate) fn slow_sync(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        for delay_us in [500_000, 2_000_000, 5_000_000] {
            scene.work();
            let leader = cluster.leader();
            let rule = format!("fdatasync,fsync:delay_exit={delay_us}");
            let trace = Trace::attach(cluster.node(leader).pid(), &rule, cluster.dir());
            scene.inject();
            until("a slow fdatasync", Duration::from_secs(20), || {
                (trace.injected() > 0).then_some(())
            });
            scene.spell(4_000);
            scene.effect("fdatasyncs delayed", trace.injected());
        }
    }
}

/// No room: whatever a node needs room for fails, it says so, and starts again when there is room.
pub(crate) fn full(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    while scene.goes_on() {
        scene.work();
        let victim = scene.any_node();
        let filler = images(scene).mount_point(victim).join("filler");
        fill(&filler);
        scene.inject();
        // It may go on with what it has, or stop by itself; what it cannot do is start.
        scene.spell(2_000);
        cluster.kill(victim);
        cluster.launch(victim);
        let status = cluster.node(victim).exit(Duration::from_secs(20));
        let refused = status.is_some_and(|status| !status.success());
        scene.require(refused, || {
            format!(
                "node {victim} started on a full disk: {}",
                cluster.last_words(victim)
            )
        });
        let says = cluster.says(victim, "No space left");
        scene.require(says, || {
            format!("node {victim} says {}", cluster.last_words(victim))
        });
        scene.effect("nodes that had no space left", u64::from(refused && says));
        cluster.kill(victim);
        fs::remove_file(&filler).expect("the filler");
        cluster.restart(victim);
    }
}

/// Takes every byte that the file system gives.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a filler");
    for block in [1 << 20, 1 << 12, 1 << 9] {
        let bytes = vec![0x5a_u8; block];
        while file.write_all(&bytes).is_ok() {}
    }
    // Delayed allocation promises blocks that are only now looked for.
    let _ = file.sync_all();
}

/// The last sectors of a batch that was never synced are missing after a crash.
pub(crate) fn torn(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    let cut = "cut a batch that a crash tore";
    while scene.goes_on() || scene.effects().iter().all(|(_, times)| *times == 0) {
        scene.work();
        let victim = cluster.followers()[usize::from(scene.below(2) == 1)];
        let said = cluster.node(victim).log_text().matches(cut).count();
        // Every sync that begins from here on takes 5 s: a batch that is written is not synced.
        let rule = "fdatasync,fsync:delay_enter=5000000";
        let trace = Trace::attach(cluster.node(victim).pid(), rule, cluster.dir());
        let log = cluster.node(victim).data_dir.join("log");
        let segment = last_segment(&log);
        let before = written_bytes(&segment);
        let came = evermind_harness::until::until_or(Duration::from_secs(4), || {
            (written_bytes(&segment) > before).then_some(())
        });
        cluster.kill(victim);
        drop(trace);
        scene.inject();
        let after = written_bytes(&segment);
        // One sector alone would be no torn batch, but none.
        if came.is_some() && last_segment(&log) == segment && after > before + 512 {
            zero(&segment, (after - 1) / 512 * 512, 512);
        }
        cluster.restart(victim);
        let now = cluster.node(victim).log_text().matches(cut).count();
        scene.effect("torn batches cut", (now - said) as u64);
    }
}

/// The segment that a node writes to.
pub(crate) fn last_segment(log: &Path) -> PathBuf {
    let entries = fs::read_dir(log).expect("a log directory").flatten();
    let segments = entries.map(|entry| entry.path());
    let last = segments
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max();
    last.expect("a log has a segment")
}

/// Up to the last byte that is not zero: segments are filled with zeros ahead.
pub(crate) fn written_bytes(segment: &Path) -> u64 {
    let bytes = fs::read(segment).expect("a segment");
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}

fn zero(path: &Path, from: u64, length: usize) {
    use std::os::unix::fs::FileExt as _;
    let file = File::options().write(true).open(path).expect("a segment");
    file.write_all_at(&vec![0; length], from).expect("a sector");
}

/// A follower falls behind what the log keeps, and is killed while it receives the snapshot.
pub(crate) fn install(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    hoard(scene);
    while scene.goes_on() {
        scene.work();
        let victim = cluster.followers()[usize::from(scene.below(2) == 1)];
        kill::kill(scene, victim);
        let leader = cluster.leader();
        let data = cluster.node(leader).data_dir.clone();
        let newest = newest_snapshot(&data);
        // A snapshot made after the victim went, and the log below it purged.
        until(
            "the log is purged beyond the victim",
            Duration::from_mins(1),
            || (newest_snapshot(&data) > newest).then_some(()),
        );
        scene.spell(1_000);
        let incoming = cluster.node(victim).data_dir.join("snapshot");
        let mut seen = 0;
        for _ in 0..5 {
            cluster.launch(victim);
            let half = evermind_harness::until::until_or(Duration::from_secs(10), || {
                half_snapshot(&incoming)
            });
            cluster.kill(victim);
            scene.inject();
            seen += u64::from(half.is_some() && half_snapshot(&incoming).is_some());
        }
        scene.effect("killed with half a snapshot", seen);
        cluster.restart(victim);
    }
}

/// Locks that stay for long, so that a snapshot has some size.
fn hoard(scene: &Scene<'_>) {
    let filling = "x".repeat(400);
    std::thread::scope(|scope| {
        for part in 0..8_u64 {
            let (scene, filling) = (&*scene, &filling);
            scope.spawn(move || {
                let mut caller = scene.caller(HOARDERS + part, part % 3 + 1);
                for n in 0..400 {
                    let (key, uuid) =
                        (format!("hoard-{part}-{n}-{filling}"), format!("{part}-{n}"));
                    caller.surely(&Operation::take(&key, &uuid, HOARD_MS, 0));
                }
            });
        }
    });
}

fn newest_snapshot(data: &Path) -> Option<String> {
    let entries = fs::read_dir(data.join("snapshot")).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| Path::new(name).extension().is_none_or(|e| e != "tmp"))
        .max()
}

/// A snapshot that is being received.
fn half_snapshot(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|suffix| suffix == "tmp"))
}
