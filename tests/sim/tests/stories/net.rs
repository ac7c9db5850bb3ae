//! The network while both machines are there: latency, cuts, windows, loss.

use std::task::Poll;
use std::time::Duration;

use evermind_sim::net::Link;

use crate::wire::{A, B, Heard, LATENCY_US, RESENT_US, Wire, heard};

/// What a sender may have under way, and a receiver unread.
const WINDOW_BYTES: usize = 256 << 10;

#[test]
fn bytes_arrive_in_order_after_the_latency_and_not_before() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    a.says("one ");
    wire.pass_us(500);
    a.says("two");
    wire.pass_us(LATENCY_US - 501);
    assert_eq!(b.hears(), Heard::Silence);
    wire.pass_us(1);
    assert_eq!(b.hears(), heard("one "));
    wire.pass_us(499);
    assert_eq!(b.hears(), Heard::Silence);
    wire.pass_us(1);
    assert_eq!(b.hears(), heard("two"));
    assert_eq!(a.hears(), Heard::Silence);
}

#[test]
fn whoever_waits_for_bytes_is_woken_when_they_arrive() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    assert_eq!(b.hears(), Heard::Silence);
    a.says("now");
    wire.pass_us(LATENCY_US - 1);
    assert!(!b.was_woken());
    wire.pass_us(1);
    assert!(b.was_woken());
    assert_eq!(b.hears(), heard("now"));
}

#[test]
fn a_latency_that_varies_keeps_the_order() {
    let mut wire = Wire::of(&Link {
        cut: false,
        latency_us: (100, 20_000),
        loss_per_mille: 0,
    });
    let (mut a, mut b) = wire.connected();
    let mut said = Vec::new();
    let mut got = Vec::new();
    for number in 0..200 {
        let word = format!("{number} ");
        a.says(&word);
        said.extend(word.into_bytes());
        wire.pass_us(100);
        if let Heard::Bytes(bytes) = b.hears() {
            got.extend(bytes);
            assert!(said.starts_with(&got));
        }
    }
    assert!(got.len() < said.len(), "nothing was under way any more");
    wire.pass_us(20_000);
    if let Heard::Bytes(bytes) = b.hears() {
        got.extend(bytes);
    }
    assert_eq!(got, said);
}

#[test]
fn a_cut_is_silence_and_after_the_heal_everything_arrives_in_order() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    a.says("under way, ");
    wire.pass_us(LATENCY_US / 2);
    wire.cut_both();
    for word in ["during ", "the ", "cut, "] {
        a.says(word);
        wire.pass_us(20_000_000);
        assert_eq!(b.hears(), Heard::Silence);
        assert_eq!(a.hears(), Heard::Silence);
    }
    wire.heal_both();
    a.says("after");
    assert_eq!(b.hears(), Heard::Silence);
    wire.pass_us(RESENT_US + LATENCY_US);
    assert_eq!(b.hears(), heard("under way, during the cut, after"));
    b.says("all of it");
    wire.pass_us(LATENCY_US);
    assert_eq!(a.hears(), heard("all of it"));
}

#[test]
fn a_second_cut_before_the_first_is_made_good_holds_up_everything_again() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    wire.cut(A, B);
    a.says("one ");
    wire.heal(A, B);
    a.says("two ");
    wire.cut(A, B);
    a.says("three");
    wire.pass_us(10_000_000);
    assert_eq!(b.hears(), Heard::Silence);
    wire.heal(A, B);
    wire.pass_us(RESENT_US);
    assert_eq!(b.hears(), heard("one two three"));
}

#[test]
fn a_cut_of_one_way_cuts_one_way() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    wire.cut(A, B);
    a.says("lost in silence");
    b.says("heard");
    wire.pass_us(5_000_000);
    assert_eq!(b.hears(), Heard::Silence);
    assert_eq!(a.hears(), heard("heard"));
    wire.heal(A, B);
    wire.pass_us(RESENT_US);
    assert_eq!(b.hears(), heard("lost in silence"));
}

#[test]
fn a_full_window_makes_the_writer_wait_for_the_reader() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    assert_eq!(a.fills(), WINDOW_BYTES);
    wire.pass_us(LATENCY_US);
    assert!(a.was_woken(), "everything arrived, and the sender knows");
    // Arrived, and nobody has read it: there is no room at the other end.
    assert_eq!(a.fills(), 0);
    wire.pass_us(60_000_000);
    assert!(!a.was_woken());
    assert_eq!(b.hears(), Heard::Bytes(vec![7; WINDOW_BYTES]));
    wire.pass_us(LATENCY_US);
    assert!(a.was_woken(), "there is room, and nobody tells the writer");
    assert_eq!(a.fills(), WINDOW_BYTES);
}

#[test]
fn a_cut_of_the_acknowledgements_fills_the_window() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    wire.cut(B, A);
    let mut got = 0;
    for _ in 0..WINDOW_BYTES / 1_024 {
        assert!(matches!(a.writes(&[1; 1_024]), Poll::Ready(Ok(1_024))));
        wire.pass_us(LATENCY_US);
        // B reads all of it, and its acknowledgements reach nobody.
        if let Heard::Bytes(bytes) = b.hears() {
            got += bytes.len();
        }
    }
    assert_eq!(got, WINDOW_BYTES);
    assert!(a.writes(b"x").is_pending());
    wire.pass_us(60_000_000);
    assert!(a.writes(b"x").is_pending() && !a.was_woken());
    wire.heal(B, A);
    wire.pass_us(LATENCY_US);
    assert!(a.was_woken());
    a.says("room again");
    wire.pass_us(LATENCY_US);
    assert_eq!(b.hears(), heard("room again"));
}

#[test]
fn loss_delays_and_loses_nothing() {
    let mut wire = Wire::of(&Link {
        cut: false,
        latency_us: (LATENCY_US, LATENCY_US),
        loss_per_mille: 300,
    });
    let (mut a, mut b) = wire.connected();
    let mut got = Vec::new();
    let mut late = 0;
    for number in 0..100_u8 {
        let written = a.writes(&[number]);
        assert!(matches!(written, Poll::Ready(Ok(1))), "{written:?}");
        wire.pass_us(LATENCY_US);
        match b.hears() {
            Heard::Bytes(bytes) => got.extend(bytes),
            other => {
                assert_eq!(other, Heard::Silence);
                late += 1;
            }
        }
    }
    // Ten losses in a row, the next twice as far away each time: under four minutes.
    wire.pass_us(240_000_000);
    if let Heard::Bytes(bytes) = b.hears() {
        got.extend(bytes);
    }
    assert_eq!(got, (0..100).collect::<Vec<u8>>());
    let effects = wire.net.effects();
    assert!(late > 0 && effects.lost > 0, "{late} late, {effects:?}");
    assert_eq!(effects.delivered, 100);
}

#[test]
fn no_loss_and_no_cut_count_as_none() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    a.says("plain");
    wire.pass_us(LATENCY_US);
    b.says("answer");
    wire.pass_us(LATENCY_US);
    let effects = wire.net.effects();
    let harm = (effects.swallowed, effects.lost, effects.resets);
    assert_eq!((effects.delivered, harm), (2, (0, 0, 0)));
}

#[test]
fn what_a_cut_swallows_is_counted() {
    let mut wire = Wire::new();
    let (mut a, mut b) = wire.connected();
    a.says("under way");
    wire.cut(A, B);
    assert_eq!(wire.net.effects().swallowed, 1);
    a.says("into it");
    b.says("past it");
    wire.pass_us(LATENCY_US);
    let effects = wire.net.effects();
    assert_eq!((effects.swallowed, effects.delivered), (2, 1));
    // The first SYN and one each second.
    let (_, dialed) = wire.dial(Duration::from_millis(2_500), async {});
    assert!(dialed.is_none());
    assert_eq!(wire.net.effects().swallowed, 5);
}
