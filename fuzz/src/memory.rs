//! How much memory a reader takes.

use evermind_storage::codec;
use peak_alloc::PeakAlloc;

/// Bytes that decoding may take whatever came. The decoder makes room for a text by the length that
/// stands before it, up to the most that a value may have, and only then sees that the bytes are
/// not there; it then stops, so there is one such text at a time. Of everything else serde believes
/// a length up to 1 MiB of memory.
pub(crate) const BELIEVED_BYTES: usize = codec::VALUE_BYTES_MAX + (1 << 20);

/// The memory of this process, from some moment on.
pub(crate) struct Memory {
    before: usize,
}

impl Memory {
    /// From now on.
    pub(crate) fn watch() -> Self {
        PeakAlloc.reset_peak_usage();
        Self {
            before: PeakAlloc.current_usage(),
        }
    }

    /// Panics if more than `bytes` were ever allocated at a time since.
    pub(crate) fn at_most(&self, bytes: usize) {
        let most = PeakAlloc.peak_usage().saturating_sub(self.before);
        assert!(most <= bytes, "{most} bytes at a time, {bytes} are allowed");
    }
}
