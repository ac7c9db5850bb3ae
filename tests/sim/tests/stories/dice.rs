//! One seed decides everything, and no part's draws move another's.

use evermind_sim::dice::Dice;

fn draws(dice: &Dice) -> Vec<u64> {
    (0..100).map(|_| dice.number()).collect()
}

#[test]
fn equal_seeds_are_equal_streams_and_others_are_not() {
    assert_eq!(draws(&Dice::new(7)), draws(&Dice::new(7)));
    assert_ne!(draws(&Dice::new(7)), draws(&Dice::new(8)));
}

#[test]
fn every_kind_of_draw_repeats() {
    let all = |dice: &Dice| {
        let mut bytes = [0; 13];
        dice.fill(&mut bytes);
        let picked = dice.pick(&["a", "b", "c", "d"]);
        (bytes, picked, dice.between(3, 9_000), dice.chance(500))
    };
    let (one, other) = (Dice::new(3), Dice::new(3));
    for _ in 0..100 {
        assert_eq!(all(&one), all(&other));
    }
}

#[test]
fn a_named_stream_is_its_seeds_and_its_names_alone() {
    let dice = Dice::new(7);
    let before = draws(&dice.named("net"));
    // Whatever the others draw.
    draws(&dice);
    draws(&dice.named("disk 1"));
    assert_eq!(draws(&dice.named("net")), before);
    assert_eq!(draws(&Dice::new(7).named("net")), before);
    assert_ne!(draws(&dice.named("disk 1")), before);
    assert_ne!(draws(&Dice::new(8).named("net")), before);
    assert_ne!(draws(&Dice::new(7)), before);
    assert_ne!(draws(&dice.named("net").named("net")), before);
}

#[test]
fn drawing_from_a_named_stream_leaves_its_parent_alone() {
    let (quiet, busy) = (Dice::new(7), Dice::new(7));
    draws(&busy.named("net"));
    assert_eq!(draws(&busy), draws(&quiet));
}

#[test]
fn clones_are_the_same_stream() {
    let (dice, plain) = (Dice::new(7), Dice::new(7));
    let clone = dice.clone();
    let shared: Vec<u64> = (0..50)
        .flat_map(|_| [dice.number(), clone.number()])
        .collect();
    assert_eq!(shared, draws(&plain));
}

#[test]
fn both_bounds_are_drawn_and_nothing_beyond() {
    let dice = Dice::new(7);
    let mut drawn: Vec<u64> = (0..1_000).map(|_| dice.between(4, 6)).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, [4, 5, 6]);
    assert_eq!(dice.between(9, 9), 9);
}

#[test]
fn a_chance_is_of_a_thousand() {
    let dice = Dice::new(7);
    let how_often = |per_mille: u64| (0..10_000).filter(|_| dice.chance(per_mille)).count();
    assert_eq!(how_often(0), 0);
    assert_eq!(how_often(1_000), 10_000);
    assert!((2_700..3_300).contains(&how_often(300)));
}

#[test]
#[should_panic(expected = "one of at least one")]
fn nothing_is_picked_from_nothing() {
    Dice::new(7).pick::<u64>(&[]);
}
