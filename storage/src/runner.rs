//! How steps that may block are run. Nothing that a simulation reaches starts a thread of its own:
//! production runs these steps on threads, a simulator as tasks of its one thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// Rings for a step that has work. A ring before the wait is not lost.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    thread: Condvar,
    task: Notify,
}

impl Bell {
    /// There is work.
    pub fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = !std::mem::replace(&mut *rung, true);
        // Who is woken takes this lock first: it must find it free.
        drop(rung);
        if silent {
            self.thread.notify_one();
            self.task.notify_one();
        }
    }

    /// Blocks the thread until rung.
    pub fn wait(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            rung = self
                .thread
                .wait(rung)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *rung = false;
    }

    /// Waits, as a task, until rung.
    pub async fn rung(&self) {
        loop {
            let notified = self.task.notified();
            if std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner)) {
                return;
            }
            notified.await;
        }
    }
}

/// Whether a step is to be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// At the next ring.
    Continue,
    /// Never.
    Stop,
}

/// Runs steps.
pub trait Runner: Send + Sync + 'static {
    /// Calls `step` once after each ring of `bell` until it says stop. A step does all the work
    /// there is.
    fn drive(&self, name: &'static str, bell: Arc<Bell>, step: Box<dyn FnMut() -> Flow + Send>);
    /// Runs one job that may block.
    fn once(&self, name: &'static str, job: Box<dyn FnOnce() + Send>);
    /// What a long job that nobody waits for calls again and again: it rests meanwhile, so that who is
    /// waited for has the processors and the disk.
    fn rests(&self) -> Box<dyn FnMut() + Send> {
        Box::new(|| {})
    }
}

/// What nobody waits for.
const BACKGROUND: [&str; 2] = ["checkpoint", "snapshot-build"];

/// Its niceness. Where all processors are busy with the rest it still gets a tenth of one.
const BACKGROUND_NICE: i32 = 10;

/// How many times as long as it worked a long job rests: where there is nothing else to do it takes four
/// times as long as it would.
const REST_FOR_WORK: u32 = 3;

/// It rests no longer than this at a time, however slow the disk, or long ago the last rest.
const REST_MAX: Duration = Duration::from_millis(30);

/// What the calling thread has had of the processors. Waits, for them or for a disk, are rest enough.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Lets all others go first. On Linux alone, where it is the calling thread that this is about.
fn step_back(name: &str) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        tracing::debug!(%error, name, "runs at the priority of the rest");
    }
    #[cfg(not(target_os = "linux"))]
    tracing::debug!(
        name,
        nice = BACKGROUND_NICE,
        "runs at the priority of the rest"
    );
}

/// Each step on a thread of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Threads;

impl Runner for Threads {
    fn drive(
        &self,
        name: &'static str,
        bell: Arc<Bell>,
        mut step: Box<dyn FnMut() -> Flow + Send>,
    ) {
        self.once(
            name,
            Box::new(move || {
                loop {
                    bell.wait();
                    if step() == Flow::Stop {
                        return;
                    }
                }
            }),
        );
    }

    fn once(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        // Out of threads is out of the means to keep any promise: there is nothing to fall back to.
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                if BACKGROUND.contains(&name) {
                    step_back(name);
                }
                job();
            })
            .expect("the system gives a thread");
    }

    fn rests(&self) -> Box<dyn FnMut() + Send> {
        let mut rested = processor_time();
        Box::new(move || {
            let worked = processor_time().saturating_sub(rested);
            std::thread::sleep((worked * REST_FOR_WORK).min(REST_MAX));
            rested = processor_time();
        })
    }
}

/// Each step as a task of the current tokio runtime: for simulations on one thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tasks;

impl Runner for Tasks {
    fn drive(
        &self,
        _name: &'static str,
        bell: Arc<Bell>,
        mut step: Box<dyn FnMut() -> Flow + Send>,
    ) {
        tokio::spawn(async move {
            loop {
                bell.rung().await;
                if step() == Flow::Stop {
                    return;
                }
            }
        });
    }

    fn once(&self, _name: &'static str, job: Box<dyn FnOnce() + Send>) {
        tokio::spawn(async move { job() });
    }
}
