//! Whether the disk is about to be full.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::time::{MissedTickBehavior, interval};

/// A node writes 16 MiB of log at a time, and a snapshot beside the one before: with less than this
/// it may soon have to stop.
const LOW_BYTES: u64 = 1 << 30;

const LOOK_EVERY: Duration = Duration::from_mins(1);

/// While space is low, one look in so many says so.
const SAY_EVERY: u32 = 10;

/// Warns while less than 1 GiB is free where the data is. Never returns.
pub(super) async fn watch(data_dir: PathBuf) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut low_for = 0;
    loop {
        looks.tick().await;
        let path = data_dir.clone();
        // A file system may take its time.
        let free = tokio::task::spawn_blocking(move || free_bytes(&path)).await;
        let Ok(Some(free_bytes)) = free else { continue };
        if free_bytes >= LOW_BYTES {
            if low_for > 0 {
                tracing::info!(free_bytes, "there is space on the disk again");
            }
            low_for = 0;
            continue;
        }
        if low_for % SAY_EVERY == 0 {
            tracing::warn!(
                free_bytes,
                data_dir = %data_dir.display(),
                "the disk is almost full: a node that cannot write its log stops; make room, or give it a larger disk"
            );
        }
        low_for += 1;
    }
}

/// What this process may still write there; `None` if the file system does not say.
fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    // Their widths differ between systems.
    #[allow(clippy::useless_conversion, reason = "not useless everywhere")]
    let (blocks, size) = (
        u64::from(found.blocks_available()),
        u64::from(found.fragment_size()),
    );
    blocks.checked_mul(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_space_of_a_directory_is_known() {
        assert!(free_bytes(&std::env::temp_dir()).is_some_and(|bytes| bytes > 0));
        assert_eq!(free_bytes("/no/such/place".as_ref()), None);
    }
}
