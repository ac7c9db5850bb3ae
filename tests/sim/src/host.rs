//! A machine: one tokio runtime whose time the simulator moves, at a rate of its own.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::clock::HostClock;
use crate::dice::Dice;

/// A machine. It computes in no time at all; time passes only in [`Host::tick`].
pub struct Host {
    runtime: Option<Runtime>,
    dice: Dice,
    clock: HostClock,
    /// How much faster than real time its clocks run, in parts per million.
    rate_ppm: i64,
    /// Local time that has passed and has not been given to the runtime: it counts in whole ms.
    owed_us: u64,
    /// How far its time is ahead of what passed, over all rates that it had.
    ahead_us: i64,
    paused: Option<Pause>,
}

/// How a machine stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// SIGSTOP: its clocks go on, and its timers find that much time has passed.
    Process,
    /// A virtual machine that its host froze, and whose clocks stood still too.
    Machine,
    /// A machine that slept: the clock since boot counts that, and timers do not.
    Suspended,
}

impl Host {
    /// A machine that is off.
    pub fn new(dice: Dice, clock: HostClock) -> Self {
        Self {
            runtime: None,
            dice,
            clock,
            rate_ppm: 0,
            owed_us: 0,
            ahead_us: 0,
            paused: None,
        }
    }

    /// Its clock.
    pub fn clock(&self) -> &HostClock {
        &self.clock
    }

    /// Whether something runs on it.
    pub fn is_running(&self) -> bool {
        self.runtime.is_some()
    }

    /// How far its time is ahead of what passed while it had any, in microseconds.
    pub fn ahead_us(&self) -> i64 {
        self.ahead_us
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Starts a process.
    ///
    /// # Panics
    /// If one runs already, or the system gives no runtime.
    pub fn start(&mut self, software: impl Future<Output = ()> + Send + 'static) {
        assert!(self.runtime.is_none(), "one process on one machine");
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        let mut seed = [0; 32];
        self.dice.fill(&mut seed);
        #[cfg(tokio_unstable)]
        {
            builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed));
            builder.unhandled_panic(tokio::runtime::UnhandledPanic::ShutdownRuntime);
        }
        let runtime = builder.build().expect("the system gives a runtime");
        {
            let _context = runtime.enter();
            self.clock.started(Instant::now());
        }
        runtime.spawn(software);
        self.runtime = Some(runtime);
        self.paused = None;
    }

    /// Runs something more in the present process, if there is one.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// SIGKILL: nothing more is computed, not one line.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let context = runtime.enter();
            self.clock.stopped(Instant::now());
            drop(context);
            drop(runtime);
        }
        self.paused = None;
    }

    /// From here on its clocks run this much faster.
    pub fn set_rate_ppm(&mut self, rate_ppm: i64) {
        self.rate_ppm = rate_ppm;
    }

    /// Stands still.
    pub fn pause(&mut self, how: Pause) {
        self.paused = Some(how);
    }

    /// Goes on.
    pub fn resume(&mut self) {
        let paused = self.paused.take();
        if paused == Some(Pause::Suspended) {
            self.clock.passed(Duration::from_micros(self.owed_us));
            self.owed_us = 0;
        }
        if paused == Some(Pause::Process)
            && let Some(runtime) = &self.runtime
        {
            let jump = Duration::from_millis(self.owed_us / 1_000);
            self.owed_us %= 1_000;
            // All at once, not timer by timer: that is how it looks from inside.
            runtime.block_on(async { tokio::time::advance(jump).await });
        }
    }

    /// Real time passes.
    pub fn tick(&mut self, us: u64) {
        if self.paused == Some(Pause::Machine) {
            return;
        }
        let faster = i64::try_from(us).expect("a tick is short") * self.rate_ppm / 1_000_000;
        let local_us = us.checked_add_signed(faster).expect("time goes forward");
        self.owed_us += local_us;
        self.ahead_us += faster;
        let Some(runtime) = &self.runtime else {
            // Its hardware clock goes on.
            self.clock.passed(Duration::from_micros(self.owed_us));
            self.owed_us = 0;
            return;
        };
        if self.paused.is_some() {
            return;
        }
        let ms = self.owed_us / 1_000;
        self.owed_us %= 1_000;
        if ms > 0 {
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
        }
    }
}
