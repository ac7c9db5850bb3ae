//! A machine's time: how it passes, stands still and runs fast, and what a kill leaves.
//!
//! What falls due at the very end of a tick is computed at the beginning of the next, and finds no
//! more time to have passed: so stories look one tick later.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evermind_raft::node::Clocks as _;
use evermind_sim::clock::HostClock;
use evermind_sim::dice::Dice;
use evermind_sim::host::{Host, Pause};
use tokio::time::{Instant, sleep};

use crate::again::Again;

/// What tasks have written down.
type Notes = Arc<Mutex<Vec<(&'static str, u128)>>>;

struct Machine {
    host: Host,
    notes: Notes,
    _again: Again,
}

impl Machine {
    /// A machine whose process does nothing but live.
    fn new() -> Self {
        let mut host = Host::new(Dice::new(1), HostClock::default());
        host.start(pending());
        Self {
            host,
            notes: Notes::default(),
            _again: Again,
        }
    }

    /// After so many ms a timer writes down how many it finds to have passed.
    fn timer(&self, name: &'static str, ms: u64) {
        let notes = Arc::clone(&self.notes);
        self.host.spawn(async move {
            let began = Instant::now();
            sleep(Duration::from_millis(ms)).await;
            let found_ms = began.elapsed().as_millis();
            notes.lock().unwrap().push((name, found_ms));
        });
    }

    /// So many ms of real time pass.
    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.host.tick(1_000);
        }
    }

    fn noted(&self) -> Vec<(&'static str, u128)> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }

    /// How much time has passed by its own clock. That is asked of a machine on which nothing runs:
    /// only its own process can read a clock that goes.
    fn own_time(mut self) -> Duration {
        self.host.kill();
        self.host.clock().since_boot()
    }
}

#[test]
fn time_passes_by_ticks_alone() {
    let mut machine = Machine::new();
    machine.timer("5 ms", 5);
    machine.pass_ms(5);
    assert_eq!(machine.noted(), []);
    machine.pass_ms(1);
    assert_eq!(machine.noted(), [("5 ms", 5)]);
    assert_eq!(machine.own_time(), Duration::from_millis(6));
}

#[test]
fn ticks_of_less_than_a_millisecond_add_up() {
    let mut machine = Machine::new();
    machine.timer("1 ms", 1);
    for _ in 0..19 {
        machine.host.tick(100);
    }
    assert_eq!(machine.noted(), []);
    machine.host.tick(100);
    assert_eq!(machine.noted(), [("1 ms", 1)]);
}

#[test]
fn a_stopped_process_computes_nothing_and_then_its_timers_find_the_time_passed() {
    let mut machine = Machine::new();
    machine.timer("100 ms", 100);
    machine.timer("250 ms", 250);
    machine.timer("2 s", 2_000);
    machine.pass_ms(50);
    machine.host.pause(Pause::Process);
    assert!(machine.host.is_paused());
    machine.pass_ms(1_000);
    assert_eq!(machine.noted(), []);
    machine.host.resume();
    assert!(!machine.host.is_paused());
    machine.pass_ms(1);
    // All at once: neither finds the time that it asked for.
    let mut noted = machine.noted();
    noted.sort_unstable();
    assert_eq!(noted.len(), 2, "{noted:?}");
    for (name, found_ms) in noted {
        assert!((1_050..=1_051).contains(&found_ms), "{name}: {found_ms}");
    }
    machine.pass_ms(949);
    assert_eq!(machine.noted(), []);
    machine.pass_ms(1);
    assert_eq!(machine.noted(), [("2 s", 2_000)]);
    assert_eq!(machine.own_time(), Duration::from_millis(2_001));
}

#[test]
fn the_clock_of_a_frozen_machine_stands_still() {
    let mut machine = Machine::new();
    machine.timer("100 ms", 100);
    machine.pass_ms(50);
    machine.host.pause(Pause::Machine);
    machine.pass_ms(60_000);
    assert_eq!(machine.noted(), []);
    machine.host.resume();
    machine.pass_ms(50);
    assert_eq!(machine.noted(), []);
    machine.pass_ms(1);
    assert_eq!(machine.noted(), [("100 ms", 100)]);
    assert_eq!(machine.own_time(), Duration::from_millis(101));
}

#[test]
fn a_clock_that_runs_a_tenth_fast_or_slow_does_so_to_the_millisecond() {
    for (rate_ppm, own_ms) in [(100_000, 11_000), (-100_000, 9_000), (0, 10_000)] {
        let mut machine = Machine::new();
        machine.host.set_rate_ppm(rate_ppm);
        machine.pass_ms(10_000);
        assert_eq!(machine.own_time(), Duration::from_millis(own_ms));
    }
}

#[test]
fn the_timers_of_a_fast_machine_fire_early_and_find_nothing_amiss() {
    let mut machine = Machine::new();
    machine.host.set_rate_ppm(100_000);
    machine.timer("11 s", 11_000);
    machine.pass_ms(10_000);
    assert_eq!(machine.noted(), []);
    machine.pass_ms(1);
    assert_eq!(machine.noted(), [("11 s", 11_000)]);
}

#[test]
fn a_rate_that_ends_leaves_what_it_has_gained() {
    let mut machine = Machine::new();
    machine.host.set_rate_ppm(100_000);
    machine.pass_ms(1_000);
    machine.host.set_rate_ppm(0);
    machine.pass_ms(1_000);
    assert_eq!(machine.own_time(), Duration::from_millis(2_100));
}

/// Writes down that it was dropped.
struct Dropped(Notes, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.lock().unwrap().push((self.1, 0));
    }
}

#[test]
fn a_kill_drops_everything_and_computes_nothing_more() {
    let mut machine = Machine::new();
    for name in ["a task", "another"] {
        let held = Dropped(Arc::clone(&machine.notes), name);
        machine.host.spawn(async move {
            // With a task of its own.
            let of_its_own = Dropped(Arc::clone(&held.0), "a task's task");
            tokio::spawn(async move {
                let _held = of_its_own;
                pending::<()>().await;
            });
            let _held = held;
            pending::<()>().await;
        });
    }
    machine.timer("never", 10);
    machine.pass_ms(9);
    assert_eq!(machine.noted(), []);
    machine.host.kill();
    assert!(!machine.host.is_running());
    let mut noted = machine.noted();
    noted.sort_unstable();
    let dropped: Vec<&str> = noted.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        dropped,
        ["a task", "a task's task", "a task's task", "another"]
    );
    machine.pass_ms(1_000);
    assert_eq!(machine.noted(), [], "the timer was part of it");
}

#[test]
fn a_killed_process_that_stood_still_has_a_successor_that_runs() {
    let mut machine = Machine::new();
    machine.host.pause(Pause::Process);
    machine.pass_ms(5_000);
    machine.host.kill();
    assert!(!machine.host.is_paused());
    machine.pass_ms(1);
    machine.host.start(pending());
    machine.timer("10 ms", 10);
    machine.pass_ms(11);
    assert_eq!(machine.noted(), [("10 ms", 10)]);
    assert_eq!(machine.own_time(), Duration::from_millis(5_012));
}

#[test]
#[should_panic(expected = "one process on one machine")]
fn a_machine_has_one_process() {
    let mut host = Host::new(Dice::new(1), HostClock::default());
    host.start(pending());
    host.start(pending());
}
