//! Everything that happened, in order, as a digest; and as text where somebody wants to read it.

use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use twox_hash::XxHash3_128;

/// A trace. Clones are the same one. Two runs of one seed have equal digests, or something other
/// than the seed had a say.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    now_us: u64,
    digest: XxHash3_128,
    lines: u64,
    /// Where to write each line.
    out: Option<Box<dyn std::io::Write + Send>>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace that writes its lines to `out`, if there is one.
    pub fn new(out: Option<Box<dyn std::io::Write + Send>>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                now_us: 0,
                digest: XxHash3_128::new(),
                lines: 0,
                out,
            })),
        }
    }

    /// What follows happens at this moment.
    pub fn at(&self, now_us: u64) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now_us = now_us;
    }

    /// Something happened.
    pub fn line(&self, what: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:>10} us  {what}\n", inner.now_us);
        inner.digest.write(line.as_bytes());
        inner.lines += 1;
        if let Some(out) = &mut inner.out {
            // A trace is for reading: where it cannot be written, the run goes on.
            let _ = out.write_all(line.as_bytes());
        }
    }

    /// Of everything so far: how many lines, and their digest.
    pub fn digest(&self) -> (u64, u128) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(out) = &mut inner.out {
            let _ = out.flush();
        }
        (inner.lines, inner.digest.finish_128())
    }
}

/// One line of the trace, as `println!` would take it.
#[macro_export]
macro_rules! trace {
    ($trace:expr, $($what:tt)*) => { $trace.line(format_args!($($what)*)) };
}
