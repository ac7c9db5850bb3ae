//! Keeps every segment of every node's log: a hard link for each, so that purging takes none away
//! from the checker.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A segment lives for seconds at least: it is filled, and then covered by a snapshot.
const LINK_EVERY: Duration = Duration::from_millis(50);

/// A thread that links until it is dropped.
#[derive(Debug)]
pub(crate) struct Archive {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Archive {
    /// `data_dirs` may come and go.
    pub(crate) fn start(data_dirs: Vec<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                for data_dir in &data_dirs {
                    link(data_dir);
                }
                thread::sleep(LINK_EVERY);
            }
            for data_dir in &data_dirs {
                link(data_dir);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Links what there is now, and no more.
    pub(crate) fn finish(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its only panics would be bugs of this file; the row fails with missing segments.
            let _ = thread.join();
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.join();
    }
}

/// Where the segments of a node are kept: beside its data, on the same file system.
pub(crate) fn place(data_dir: &Path) -> PathBuf {
    data_dir.with_file_name("archive")
}

/// Links every segment that is not linked yet. One of the same name that is another file takes the
/// place of the older: recovery writes the last segment anew, and means what it writes.
fn link(data_dir: &Path) {
    let archive = place(data_dir);
    let Ok(entries) = fs::read_dir(data_dir.join("log")) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|suffix| suffix != "log") {
            continue;
        }
        let kept = archive.join(entry.file_name());
        let (Ok(now), before) = (entry.metadata(), fs::metadata(&kept)) else {
            continue;
        };
        if before.is_ok_and(|before| before.ino() == now.ino()) {
            continue;
        }
        let _ = fs::create_dir_all(&archive);
        let _ = fs::remove_file(&kept);
        let _ = fs::hard_link(&path, &kept);
    }
}
