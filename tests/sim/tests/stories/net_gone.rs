//! The network where somebody is gone: nobody listens, a process was killed, a machine has no power.

use std::future::pending;
use std::io;
use std::time::Duration;

use evermind_sim::clock::HostClock;
use evermind_sim::dice::Dice;
use evermind_sim::host::Host;

use crate::wire::{A, B, End, Heard, LATENCY_US, PORT, Wire, heard};

/// What TCP waits before it tries again, at least.
const RESEND_US: u64 = 200_000;

fn dialed(wire: &Wire) -> io::Result<End> {
    let (_, dialed) = wire.dial(Duration::from_secs(10), async {});
    dialed.expect("nothing is cut")
}

#[test]
fn connecting_takes_a_round_trip() {
    let wire = Wire::new();
    let _listener = wire.listen();
    let (took, dialed) = wire.dial(Duration::from_secs(10), async {});
    assert!(dialed.unwrap().is_ok());
    assert_eq!(took, Duration::from_micros(2 * LATENCY_US));
}

#[test]
fn connecting_to_nobody_is_refused() {
    let wire = Wire::new();
    let refused = dialed(&wire).map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let listener = wire.listen();
    assert!(dialed(&wire).is_ok());
    drop(listener);
    let refused = dialed(&wire).map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_is_for_one() {
    let wire = Wire::new();
    let listener = wire.listen();
    let taken = wire.net.listen(B, PORT).map(drop).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    assert!(wire.net.listen(A, PORT).is_ok());
    drop(listener);
    assert!(wire.net.listen(B, PORT).is_ok());
}

#[test]
fn connecting_over_a_cut_waits_for_the_heal() {
    // The SYN does not get there, or its answer not back: the caller cannot tell.
    for (from, to) in [(A, B), (B, A)] {
        let wire = Wire::new();
        let _listener = wire.listen();
        wire.cut(from, to);
        let net = wire.net.clone();
        let (took, dialed) = wire.dial(Duration::from_mins(1), async move {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            net.change(from, to, |link| link.cut = false);
        });
        assert!(dialed.unwrap().is_ok());
        let third_try = Duration::from_secs(3) + Duration::from_micros(2 * LATENCY_US);
        assert_eq!(took, third_try);
    }
}

#[test]
fn connecting_to_a_machine_without_power_waits_until_it_is_back() {
    let wire = Wire::new();
    wire.net.power_off(B);
    let (_, dialed) = wire.dial(Duration::from_mins(1), async {});
    assert!(dialed.is_none(), "a machine without power refuses nothing");
    let net = wire.net.clone();
    let (_, dialed) = wire.dial(Duration::from_mins(1), async move {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        net.power_on(B);
    });
    let refused = dialed.unwrap().map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

/// A connection whose other end a process on B holds.
fn held_by_a_process(wire: &Wire) -> (End, Host) {
    let (a, b) = wire.connected();
    let mut host = Host::new(Dice::new(1), HostClock::default());
    host.start(async move {
        let _held = b;
        pending::<()>().await;
    });
    host.tick(1_000);
    (a, host)
}

#[test]
fn the_peer_of_a_killed_process_hears_the_end() {
    let mut wire = Wire::new();
    let (mut a, mut host) = held_by_a_process(&wire);
    assert_eq!(a.hears(), Heard::Silence);
    host.kill();
    wire.pass_us(LATENCY_US - 1);
    assert_eq!(a.hears(), Heard::Silence);
    wire.pass_us(1);
    assert!(a.was_woken());
    assert_eq!(a.hears(), Heard::End);
}

#[test]
fn the_peer_of_a_process_killed_with_bytes_unread_finds_a_reset() {
    let mut wire = Wire::new();
    let (mut a, mut host) = held_by_a_process(&wire);
    a.says("nobody reads this");
    wire.pass_us(LATENCY_US);
    host.kill();
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), Heard::Reset);
    assert!(a.is_refused());
}

#[test]
fn bytes_for_a_process_that_is_gone_are_answered_with_a_reset() {
    let mut wire = Wire::new();
    let (mut a, mut host) = held_by_a_process(&wire);
    host.kill();
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), Heard::End);
    a.says("is anybody there?");
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), Heard::Reset);
}

#[test]
fn what_a_killed_process_had_written_still_arrives() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    b.says("last words");
    drop(b);
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), heard("last words"));
    assert_eq!(a.hears(), Heard::End);
}

#[test]
fn a_kill_behind_a_cut_shows_after_the_heal() {
    let mut wire = Wire::new();
    let (mut a, mut host) = held_by_a_process(&wire);
    wire.cut_both();
    host.kill();
    wire.pass_us(60_000_000);
    assert_eq!(a.hears(), Heard::Silence);
    wire.heal_both();
    wire.pass_us(2 * RESEND_US);
    assert_eq!(a.hears(), Heard::End);
}

#[test]
fn who_has_no_more_to_say_still_listens() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    a.says("that is all");
    a.ends();
    wire.pass_us(LATENCY_US);
    assert_eq!(b.hears(), heard("that is all"));
    assert_eq!(b.hears(), Heard::End);
    b.says("then listen");
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), heard("then listen"));
    assert!(a.is_refused());
}

#[test]
fn a_machine_without_power_is_silent_and_when_it_is_back_resets_what_it_does_not_know() {
    let mut wire = Wire::new();
    let (mut a, mut host) = held_by_a_process(&wire);
    wire.net.power_off(B);
    host.kill();
    a.says("are you there?");
    wire.pass_us(60_000_000);
    assert_eq!(a.hears(), Heard::Silence);
    assert_eq!(wire.net.effects().resets, 0);
    wire.net.power_on(B);
    wire.pass_us(RESEND_US);
    assert!(a.was_woken());
    assert_eq!(a.hears(), Heard::Reset);
    assert!(a.is_refused());
    assert_eq!(wire.net.effects().resets, 1);
}

#[test]
fn whoever_asks_nothing_never_learns_that_the_other_machine_was_off() {
    let mut wire = Wire::new();
    let (mut a, mut host) = held_by_a_process(&wire);
    wire.net.power_off(B);
    host.kill();
    wire.pass_us(1_000_000);
    wire.net.power_on(B);
    wire.pass_us(600_000_000);
    assert_eq!(a.hears(), Heard::Silence);
    a.says("still there?");
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), Heard::Reset);
}
