//! Disks whose power can be cut: an ext4 file system for each node on a loop device.
//!
//! ext4's forced shutdown (`EXT4_IOC_SHUTDOWN` without a flush of its journal) is the cut: from that
//! moment nothing reaches the device, and what was not synced is gone with the unmount.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use evermind_harness::cluster::NODES;

use crate::cleanup;
use crate::tool;

/// `ioctl(EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH)` from linux/fs/ext4: `_IOR('X', 125, u32)`
/// and 2. Perl is part of every Debian, and this crate forbids unsafe code.
const SHUT_DOWN: &str = "open(my $d, '<', $ARGV[0]) or die \"$!\"; my $flags = pack('L', 2); \
                         ioctl($d, 0x8004587d, $flags) or die \"$!\";";
/// Marks, one synced and one not, that show what a cut took.
const SYNCED: &str = "synced";
const UNSYNCED: &str = "unsynced";

/// One file system for each node, mounted at `node-<id>` of a run's directory.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    mounted: Mutex<Vec<u64>>,
}

impl Images {
    /// Makes and mounts them.
    pub(crate) fn make(dir: &Path, mib: u64) -> Self {
        let images = Self {
            dir: dir.to_owned(),
            mounted: Mutex::default(),
        };
        for id in NODES {
            let image = text(&images.image(id));
            let file = fs::File::create(&image).expect("an image file");
            file.set_len(mib << 20).expect("room for an image");
            tool::run("mkfs.ext4", &["-q", "-F", "-m", "0", &image]);
            fs::create_dir_all(images.mount_point(id)).expect("a mount point");
            images.mount(id);
            fs::write(images.mount_point(id).join(SYNCED), "made with the disk").expect("a mark");
            images.sync(id);
        }
        images
    }

    fn image(&self, id: u64) -> PathBuf {
        self.dir.join(format!("disk-{id}.img"))
    }

    /// Where a node's disk is.
    pub(crate) fn mount_point(&self, id: u64) -> PathBuf {
        self.dir.join(format!("node-{id}"))
    }

    fn mount(&self, id: u64) {
        let (image, point) = (text(&self.image(id)), text(&self.mount_point(id)));
        // Nothing is written back by itself within a run: only what was synced is on the device.
        tool::run("mount", &["-o", "loop,commit=300,noatime", &image, &point]);
        cleanup::remember("umount", &["-l", &point]);
        self.mounted.lock().expect("not poisoned").push(id);
    }

    fn unmount(&self, id: u64) -> Result<(), String> {
        let point = text(&self.mount_point(id));
        tool::attempt("umount", &[&point])?;
        cleanup::forget("umount", &["-l", &point]);
        self.mounted
            .lock()
            .expect("not poisoned")
            .retain(|mounted| *mounted != id);
        Ok(())
    }

    /// Cuts a disk off. The node that uses it sees errors from here on and must be killed.
    pub(crate) fn cut(&self, id: u64) {
        let point = self.mount_point(id);
        // Nothing may be synced here: that would write what the node has not synced, too.
        fs::write(point.join(UNSYNCED), "").expect("a mark");
        tool::run("perl", &["-e", SHUT_DOWN, &text(&point)]);
    }

    /// Gives power back. True where the cut was one: what was synced is there, what was not is gone.
    pub(crate) fn restore(&self, id: u64) -> bool {
        let point = self.mount_point(id);
        evermind_harness::until(
            "a disk without power is let go",
            std::time::Duration::from_secs(10),
            || self.unmount(id).ok(),
        );
        self.mount(id);
        point.join(SYNCED).exists() && !point.join(UNSYNCED).exists()
    }

    /// Syncs everything, as time would.
    pub(crate) fn sync(&self, id: u64) {
        tool::run("sync", &["-f", &text(&self.mount_point(id))]);
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let mounted = self.mounted.lock().map(|ids| ids.clone());
        for id in mounted.unwrap_or_default() {
            let point = text(&self.mount_point(id));
            let _ = tool::attempt("umount", &["-l", &point]);
            cleanup::forget("umount", &["-l", &point]);
        }
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("paths of a run are UTF-8").to_owned()
}
