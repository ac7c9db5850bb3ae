//! How much memory a reader takes.

use peak_alloc::PeakAlloc;

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
