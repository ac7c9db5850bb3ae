//! W4: one effect.

use super::*;

/// `left_ms` after one extension by 50 ms of a lease of 100 ms.
fn extended(name: Option<&str>, left_ms: u64) -> Script {
    let lost = Script::new().grant("a", (0, 1), 1, 99).add(
        Ask::Extend { extend_by_ms: 50 },
        "a",
        (2, 3),
        Told::Unknown,
    );
    match name {
        Some(name) => {
            let lost = lost.named(name);
            lost.extend("a", (4, 5), 1, left_ms - 1).named(name)
        }
        None => lost.extend("a", (4, 5), 1, left_ms - 1),
    }
}

#[test]
fn an_extension_that_came_twice_under_one_name_extends_once() {
    passes(&extended(Some("e"), 150));
    assert_eq!(broken(&extended(Some("e"), 151)), [Check::W4]);
}

#[test]
fn two_extensions_extend_twice() {
    passes(&extended(None, 200));
    assert_eq!(broken(&extended(None, 201)), [Check::W4]);
}

#[test]
fn a_look_shows_no_more_either() {
    let look = |left_ms| {
        let told = Told::Held {
            token: 1,
            expires_in_ms: left_ms,
            waiting: 0,
            fifo: true,
        };
        Script::new()
            .grant("a", (0, 1), 1, 99)
            .add(Ask::Look, "", (2, 3), told)
    };
    passes(&look(100));
    assert_eq!(broken(&look(101)), [Check::W4]);
}
