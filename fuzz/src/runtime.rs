//! One thread's worth of tasks.

use std::cell::RefCell;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    /// Kept from input to input: to make one takes longer than most inputs.
    static RUNTIME: RefCell<Runtime> = RefCell::new(make());
}

fn make() -> Runtime {
    // Time stands still until nothing is left to do: no timeout depends on this machine.
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().expect("one thread and no sockets")
}

/// Runs to the end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| runtime.borrow().block_on(future))
}
