//! Disks without power, with errors, full, or slow.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use evermind_checker::history::Ask;
use evermind_harness::cluster::NODES;
use evermind_harness::until;
use evermind_harness::until::until_or;

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
/// Locks of each hoarder: a snapshot of megabytes, so that half of one is there to be seen for a while.
const HOARDED: u64 = 1_000;

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
    // All at once, under the running processes.
    for id in ids {
        images(scene).cut(*id);
        scene.inject();
    }
    for id in ids {
        scene.cluster.kill(*id);
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
        // Every sync that begins from here on takes 2 s. The first batch is a small one; behind its
        // sync a larger one gathers, which is written and not synced when the node is killed.
        let rule = "fdatasync,fsync:delay_enter=2000000";
        let trace = Trace::attach(cluster.node(victim).pid(), rule, cluster.dir());
        let log = cluster.node(victim).data_dir.join("log");
        let segment = last_segment(&log);
        let grows = |from: u64| {
            until_or(Duration::from_secs(5), || {
                (written_bytes(&segment) > from).then_some(())
            })
        };
        grows(written_bytes(&segment));
        scene.spell(200);
        let synced = written_bytes(&segment);
        let came = grows(synced);
        cluster.kill(victim);
        drop(trace);
        scene.inject();
        let after = written_bytes(&segment);
        // One sector alone would be no torn batch, but none.
        if came.is_some() && last_segment(&log) == segment && after > synced + 512 {
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

/// What raft/src/node/start.rs keeps of the log behind a snapshot, and the batch in which it purges.
const BEHIND: u64 = 20_000;

/// A follower falls behind what the log keeps, and is killed while it receives the snapshot.
pub(crate) fn install(scene: &Scene<'_>) {
    let cluster = scene.cluster;
    hoard(scene);
    while scene.goes_on() {
        scene.work();
        let victim = cluster.followers()[usize::from(scene.below(2) == 1)];
        let applied = cluster.view(victim).map_or(0, |view| view.applied);
        kill::kill(scene, victim);
        let data = cluster.node(cluster.leader()).data_dir.clone();
        let purged = || newest_snapshot(&data).is_some_and(|upto| upto > applied + BEHIND);
        hurry(scene, &purged);
        scene.require(purged(), || {
            "the log was never purged beyond a follower".to_owned()
        });
        scene.spell(500);
        let dir = cluster.node(victim).data_dir.join("snapshot");
        for _ in 0..5 {
            cluster.launch(victim);
            let half = receives_within(&dir, Duration::from_secs(5));
            cluster.kill(victim);
            scene.inject();
            scene.effect(
                "killed with half a snapshot",
                u64::from(half && is_receiving(&dir)),
            );
            if !half {
                break;
            }
        }
        cluster.restart(victim);
    }
}

/// Locks that stay for long, so that a snapshot has some size.
fn hoard(scene: &Scene<'_>) {
    let filling = "x".repeat(400);
    at_once(|part| {
        let mut caller = scene.caller(HOARDERS + part, part % 3 + 1);
        for n in 0..HOARDED {
            let (key, uuid) = (format!("hoard-{part}-{n}-{filling}"), format!("{part}-{n}"));
            caller.surely(&Operation::take(&key, &uuid, HOARD_MS, 0));
        }
    });
}

/// Makes entries as fast as the cluster takes them, until there are enough.
fn hurry(scene: &Scene<'_>, enough: &(impl Fn() -> bool + Sync)) {
    let ends = Instant::now() + Duration::from_mins(2);
    at_once(|part| {
        let mut caller = scene.caller(HOARDERS + part, part % 3 + 1);
        while !enough() && Instant::now() < ends {
            for _ in 0..50 {
                let name = format!("hurry-{part}-{}", scene.load.timeline.now().0);
                caller.surely(&Operation::take(&name, &name, 5_000, 0));
                caller.surely(&Operation::of(&name, &name, Ask::Release));
            }
        }
    });
}

/// Eight clients, each with its number.
fn at_once(part: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for number in 0..8 {
            let part = &part;
            scope.spawn(move || part(number));
        }
    });
}

/// The last entry that a node's newest snapshot covers.
fn newest_snapshot(data: &Path) -> Option<u64> {
    let entries = fs::read_dir(data.join("snapshot")).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter_map(|name| name.split_once('-')?.0.parse().ok())
        .max()
}

/// Looks far more often than other conditions are: a snapshot of this size comes in milliseconds.
fn receives_within(dir: &Path, within: Duration) -> bool {
    let ends = Instant::now() + within;
    while Instant::now() < ends {
        if is_receiving(dir) {
            return true;
        }
        thread::sleep(Duration::from_micros(200));
    }
    false
}

/// Whether a snapshot is being received; one that is being built has another name.
fn is_receiving(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.into_iter().any(|name| name.starts_with("receiving"))
}
