//! Who makes room for whom.

use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn lost(place: &Place) -> bool {
    place.standing.phase() == LOST
}

#[test]
fn the_longest_idle_without_a_key_makes_room() {
    let places = Arc::new(Places::new(8));
    // All of one address, as after a failover behind one proxy.
    let mut taken: Vec<Place> = (0..8).map(|_| places.take(address(0))).collect();
    assert!(!taken.iter().any(lost), "there is room for all");
    drop(taken[0].begin());
    for other in 1..=3 {
        taken.push(places.take(address(other)));
    }
    assert!(!taken.iter().any(Place::is_health));
    let gone: Vec<bool> = taken.iter().map(lost).collect();
    assert_eq!(
        gone[..5],
        [false, true, true, true, false],
        "not the one that asked last"
    );
    // Five of the first address, one each of three: those that have most go on paying, and of those
    // that have as many the one that is idle for longest.
    for other in [1, 1, 2] {
        taken.push(places.take(address(other)));
    }
    let of_first = taken[..8].iter().filter(|place| !lost(place)).count();
    assert_eq!(of_first, 2);
    // Three of the second address too: now its own pays.
    taken.push(places.take(address(1)));
    assert!(lost(&taken[8]));
}

#[test]
fn of_addresses_with_as_many_the_longest_idle_goes_wherever_it_is() {
    let places = Arc::new(Places::new(4));
    let taken: Vec<Place> = [9, 1, 2, 3].map(|n| places.take(address(n))).into();
    drop(taken[0].begin());
    let beyond: Vec<Place> = (4..6).map(|n| places.take(address(n))).collect();
    let gone: Vec<bool> = taken.iter().chain(&beyond).map(lost).collect();
    assert_eq!(gone, [false, true, true, false, false, false]);
}

#[test]
fn so_many_that_are_being_closed_stop_accepting() {
    let places = Arc::new(Places::new(1));
    let mut taken = Vec::new();
    while !places.is_clearing() {
        taken.push(places.take(address(1)));
        assert!(taken.len() <= LEAVING_MAX + 1);
    }
    taken.swap_remove(0);
    assert!(!places.is_clearing());
}

/// A request with a valid key comes, and is in work from here on.
fn shows_key(place: &Place) {
    match place.begin() {
        Begun::Keyless(keyless) => keyless.shows_key(),
        Begun::Keyed => {}
        Begun::Lost => panic!("it has lost its place"),
    }
}

fn assert_empty(places: &Places) {
    let state = places.state();
    assert_eq!((state.taken, state.leaving), (0, 0));
    for crowd in [&state.keyless, &state.health] {
        assert!(crowd.of.is_empty() && crowd.sizes.is_empty() && crowd.count == 0);
    }
    assert!(state.keyed.is_empty());
}

#[test]
fn a_key_that_is_shown_too_late_keeps_no_place() {
    let places = Arc::new(Places::new(1));
    let first = places.take(address(1));
    let Begun::Keyless(request) = first.begin() else {
        panic!("it has shown no key");
    };
    let second = places.take(address(1));
    assert!(lost(&first));
    request.shows_key();
    assert!(!first.has_key());
    drop((first, second));
    assert_empty(&places);
}

#[test]
fn a_connection_in_work_keeps_its_place_and_health_has_a_reserve() {
    let places = Arc::new(Places::new(4));
    let mut taken: Vec<Place> = (0..4).map(|n| places.take(address(n))).collect();
    taken.iter().for_each(shows_key);
    let probe = places.take(address(8));
    let beyond: Vec<Place> = (0..64).map(|_| places.take(address(9))).collect();
    assert!(taken.iter().all(|place| !lost(place)));
    assert!(beyond.iter().all(Place::is_health));
    assert!(lost(&beyond[0]) && !lost(&beyond[1]));
    assert!(!lost(&probe), "another address's crowd costs it nothing");
    drop(taken.pop());
    assert!(!places.take(address(1)).is_health());
    drop((taken, beyond, probe));
    assert_empty(&places);
}

#[test]
fn of_connections_with_a_key_the_one_that_is_idle_for_longest_makes_room() {
    let places = Arc::new(Places::new(4));
    let taken: Vec<Place> = (0..4).map(|n| places.take(address(n))).collect();
    taken.iter().for_each(shows_key);
    for place in &taken[..3] {
        place.end(StatusCode::OK);
    }
    let first = places.take(address(9));
    assert!(lost(&taken[0]));
    // Used after it was looked out as the next to go.
    shows_key(&taken[1]);
    taken[1].end(StatusCode::OK);
    shows_key(&first);
    let second = places.take(address(9));
    assert!(lost(&taken[2]) && !lost(&taken[1]));
    shows_key(&second);
    let third = places.take(address(9));
    assert!(lost(&taken[1]));
    shows_key(&third);
    assert!(places.take(address(9)).is_health());
    assert!(!lost(&taken[3]), "all have work");
    for at in 0..64 {
        let turned_away = places.take(address(9));
        assert!(turned_away.is_health(), "{at}");
    }
    third.end(StatusCode::OK);
    assert!(!places.take(address(9)).is_health(), "looked at again");
    drop((taken, first, second, third));
    assert_empty(&places);
}

#[test]
fn a_connection_whose_key_is_refused_by_now_is_as_one_without() {
    let places = Arc::new(Places::new(2));
    let [revoked, idle] = [1, 2].map(|n| places.take(address(n)));
    shows_key(&idle);
    idle.end(StatusCode::OK);
    shows_key(&revoked);
    revoked.end(StatusCode::OK);
    shows_key(&revoked);
    revoked.end(StatusCode::FORBIDDEN);
    assert!(!revoked.has_key());
    let newcomer = places.take(address(3));
    assert!(lost(&revoked) && !lost(&idle));
    drop((revoked, idle, newcomer));
    assert_empty(&places);
}
