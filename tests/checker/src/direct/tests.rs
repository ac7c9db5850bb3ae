//! Each rule: what it lets pass, and what it must see.

mod beliefs;
mod f1;
mod f2;
mod l;
mod m;
mod q;
mod w1;
mod w4;
mod x;

use super::*;
use crate::grants::grants;
use crate::history::{Ask, Moment, Told};
use crate::script::{ACQUIRE, Script, granted, ms, refused};
use crate::verdict::Check;

const TEN_PERCENT: ClockBound<'_> = ClockBound {
    rate_per_mille: 100,
    spells: &[],
};

/// Which rules the script breaks, by a checker that takes all clocks for equal.
fn broken(script: &Script) -> Vec<Check> {
    let verdict = check_direct(&script.history, ClockBound::EXACT, None);
    verdict.violations.iter().map(|v| v.check).collect()
}

#[track_caller]
fn passes(script: &Script) {
    check_direct(&script.history, ClockBound::EXACT, None).assert_clean();
}

fn believed(script: &Script, clocks: ClockBound<'_>) -> Vec<(Moment, Moment)> {
    let grants = grants(&script.history, clocks);
    grants.iter().map(|g| (g.acked, g.until)).collect()
}
