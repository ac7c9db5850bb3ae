//! File work off the async threads.

use std::future::Future;

use tokio::sync::oneshot;

use crate::runner::Runner;

/// Runs a job that may block, and waits for what comes of it as a task.
///
/// # Panics
/// If the job does.
pub(super) fn offload<T: Send + 'static>(
    runner: &dyn Runner,
    name: &'static str,
    job: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> + Send + 'static {
    let (done, result) = oneshot::channel();
    runner.once(
        name,
        Box::new(move || {
            // Nobody may be waiting any more.
            let _ = done.send(job());
        }),
    );
    async move { result.await.expect("a job runs to its end") }
}
