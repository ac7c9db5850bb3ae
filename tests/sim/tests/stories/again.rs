//! How a failure is seen again.

use std::thread;

/// Dropped by a panic, it prints the command that runs this story alone.
pub(crate) struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        let this = thread::current();
        if let (true, Some(story)) = (thread::panicking(), this.name()) {
            eprintln!("--- again: cargo nextest run -p evermind-sim -E 'test(={story})'");
        }
    }
}
