//! What a machine believes the time to be: since boot, and the date.

use std::future::pending;
use std::time::Duration;

use evermind_checker::Spell;
use evermind_checker::history::Moment;
use evermind_raft::node::Clocks as _;
use evermind_sim::clock::HostClock;
use evermind_sim::dice::Dice;
use evermind_sim::fast::Fast;
use evermind_sim::host::Host;
use tokio::time::{Instant, advance};

const HOUR: Duration = Duration::from_hours(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_time_since_boot_goes_with_the_process() {
    let clock = HostClock::up_for(HOUR);
    assert_eq!(clock.since_boot(), HOUR);
    clock.started(Instant::now());
    advance(seconds(5)).await;
    assert_eq!(clock.since_boot(), HOUR + seconds(5));
    assert_eq!(clock.clone().since_boot(), HOUR + seconds(5));
}

#[tokio::test(start_paused = true)]
async fn the_time_since_boot_goes_on_over_a_kill() {
    let clock = HostClock::up_for(HOUR);
    clock.started(Instant::now());
    advance(seconds(5)).await;
    clock.stopped(Instant::now());
    clock.passed(seconds(2));
    assert_eq!(clock.since_boot(), HOUR + seconds(7));
    clock.started(Instant::now());
    assert_eq!(clock.since_boot(), HOUR + seconds(7));
    advance(seconds(1)).await;
    assert_eq!(clock.since_boot(), HOUR + seconds(8));
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_it_starts_at_nothing_and_the_date_goes_on() {
    let clock = HostClock::up_for(HOUR);
    let began_ms = clock.wall_ms();
    clock.started(Instant::now());
    advance(seconds(5)).await;
    clock.stopped(Instant::now());
    clock.rebooted();
    assert_eq!(clock.since_boot(), Duration::ZERO);
    assert_eq!(clock.wall_ms(), began_ms + 5_000);
    clock.started(Instant::now());
    advance(seconds(1)).await;
    assert_eq!(clock.since_boot(), seconds(1));
    assert_eq!(clock.wall_ms(), began_ms + 6_000);
}

#[test]
fn how_long_a_machine_was_up_is_not_part_of_its_date() {
    let up = HostClock::up_for(HOUR);
    assert_eq!(up.wall_ms(), HostClock::default().wall_ms());
}

#[tokio::test(start_paused = true)]
async fn the_date_can_be_set_and_moves_nothing_else() {
    let clock = HostClock::up_for(HOUR);
    let began_ms = clock.wall_ms();
    clock.started(Instant::now());
    for (off_ms, wall_ms) in [
        (-3_600_000, began_ms - 3_600_000),
        (31_536_000_000, began_ms + 31_536_000_000),
        (0, began_ms),
        (i64::MIN, 0),
    ] {
        clock.set_wall_off_ms(off_ms);
        assert_eq!(clock.wall_ms(), wall_ms);
        assert_eq!(clock.since_boot(), HOUR);
    }
    clock.set_wall_off_ms(-1);
    advance(seconds(1)).await;
    assert_eq!(clock.wall_ms(), began_ms + 999);
}

#[test]
fn a_machine_tells_its_clock_of_every_process_and_of_the_time_between() {
    let mut host = Host::new(Dice::new(1), HostClock::up_for(HOUR));
    let pass_ms = |host: &mut Host, ms: u64| (0..ms).for_each(|_| host.tick(1_000));
    host.start(pending());
    pass_ms(&mut host, 30);
    host.kill();
    assert_eq!(host.clock().since_boot(), HOUR + Duration::from_millis(30));
    pass_ms(&mut host, 4);
    host.start(pending());
    pass_ms(&mut host, 6);
    host.kill();
    assert_eq!(host.clock().since_boot(), HOUR + Duration::from_millis(40));
    host.clock().rebooted();
    host.start(pending());
    pass_ms(&mut host, 7);
    host.kill();
    assert_eq!(host.clock().since_boot(), Duration::from_millis(7));
}

#[test]
fn the_checker_is_told_when_a_clock_ran_fast_and_of_no_other_time() {
    let spell = |from_us: u64, until_us: u64| Spell {
        from: Moment(from_us * 1_000),
        until: Moment(until_us * 1_000),
        rate_per_mille: 100,
    };
    let mut fast = Fast::default();
    assert_eq!(fast.spells(1_000), []);
    fast.set(2, 100_000, 1_000);
    assert_eq!(fast.spells(4_000), [spell(1_000, 4_000)]);
    fast.set(2, 0, 5_000);
    // A slow clock outruns nobody.
    fast.set(1, -100_000, 6_000);
    fast.set(1, 0, 8_000);
    fast.set(3, 100_000, 9_000);
    fast.set(3, 0, 9_500);
    let spells = [spell(1_000, 5_000), spell(9_000, 9_500)];
    assert_eq!(fast.spells(20_000), spells);
}
