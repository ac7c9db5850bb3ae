//! What may happen, and how cluster time goes on.

use evermind_lock::command::{Idempotency, LicenceId};
use evermind_lock::limits::LEASE_MS_MAX;
use evermind_lock::names::{IdempotencyKey, IdentityId};
use proptest::prelude::*;

pub(super) const KEYS: u8 = 2;
pub(super) const HOLDERS: u8 = 4;
pub(super) const NODES: u8 = 3;
/// Retries of an acquire at most.
const RETRIES_MAX: u32 = 9;
/// API keys: the first two come from configuration.
pub(super) const CALLERS: u8 = 6;
/// The licence that allows so many attempts in all.
pub(super) const LIMITED: LicenceId = LicenceId(3);
pub(super) const LIMITED_TO: u64 = 12;
/// The licence that ends by its date.
pub(super) const DATED: LicenceId = LicenceId(4);
pub(super) const DATED_UNTIL_MS: u64 = 50 * DAY_MS;
pub(super) const DAY_MS: u64 = 86_400_000;

/// What happens next. Small numbers, so that things meet.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A new operation of a node.
    Operate {
        node: u8,
        answered: bool,
        what: What,
    },
    /// An entry of an earlier one, again.
    Again { which: prop::sample::Index },
    /// Of the cluster's own.
    Cluster(Own),
    /// A node is started again.
    Boot { node: u8 },
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Acquire {
        caller: u8,
        key: u8,
        holder: u8,
        lease_ms: u64,
        window_ms: u64,
        retries: u32,
        named: Option<(u8, u8)>,
    },
    Extend {
        caller: u8,
        key: u8,
        holder: u8,
        by_ms: u64,
        named: Option<(u8, u8)>,
    },
    Release {
        caller: u8,
        key: u8,
        holder: u8,
        named: Option<(u8, u8)>,
    },
    DeleteKey {
        caller: u8,
    },
    Revoke {
        caller: u8,
    },
    /// Of one of this node's acquires.
    Abandon(prop::sample::Index),
    Reattach(prop::sample::Index),
}

#[derive(Debug, Clone)]
pub(super) enum Own {
    Expire,
    DetachNode { node: u8, boots_ago: u64 },
}

/// How cluster time goes on.
#[derive(Debug, Clone)]
pub(super) enum Time {
    On(u64),
    /// By wall clock alone, in days.
    Days(u64),
    Back(u64),
    OtherTerm(u64),
    Unstamped,
}

pub(super) fn named() -> impl Strategy<Value = Option<(u8, u8)>> {
    prop::option::weighted(0.3, (0..3_u8, prop_oneof![9 => Just(0_u8), 1 => Just(1)]))
}

pub(super) fn what() -> impl Strategy<Value = What> {
    let place = || (1..=CALLERS, 0..KEYS, 0..HOLDERS);
    let lease_ms = prop_oneof![5 => 1..3000_u64, 1 => Just(LEASE_MS_MAX)];
    let window_ms = prop_oneof![1 => Just(0), 4 => 1..8000_u64];
    prop_oneof![
        6 => (place(), lease_ms, window_ms, 0..=RETRIES_MAX, named()).prop_map(
            |((caller, key, holder), lease_ms, window_ms, retries, named)| What::Acquire {
                caller, key, holder, lease_ms, window_ms, retries, named
            }
        ),
        1 => (place(), 1..LEASE_MS_MAX, named()).prop_map(
            |((caller, key, holder), by_ms, named)| What::Extend {
                caller, key, holder, by_ms, named
            }
        ),
        1 => (place(), 1..2000_u64, named()).prop_map(
            |((caller, key, holder), by_ms, named)| What::Extend {
                caller, key, holder, by_ms, named
            }
        ),
        3 => (place(), named()).prop_map(
            |((caller, key, holder), named)| What::Release { caller, key, holder, named }
        ),
        2 => any::<prop::sample::Index>().prop_map(What::Abandon),
        2 => any::<prop::sample::Index>().prop_map(What::Reattach),
    ]
}

/// Seldom, as it is for good.
fn ending() -> impl Strategy<Value = What> {
    prop_oneof![
        (3..=CALLERS).prop_map(|caller| What::DeleteKey { caller }),
        (3..=CALLERS).prop_map(|caller| What::Revoke { caller }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..=NODES, any::<bool>(), what())
            .prop_map(|(node, answered, what)| Step::Operate { node, answered, what }),
        1 => (1..=NODES, any::<bool>(), prop_oneof![3 => what(), 1 => ending()])
            .prop_map(|(node, answered, what)| Step::Operate { node, answered, what }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::Again { which }),
        1 => Just(Step::Cluster(Own::Expire)),
        1 => (1..=NODES, 0..2_u64)
            .prop_map(|(node, boots_ago)| Step::Cluster(Own::DetachNode { node, boots_ago })),
        1 => (1..=NODES).prop_map(|node| Step::Boot { node }),
    ]
}

pub(super) fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        4 => Just(Time::On(0)),
        6 => (0..1500_u64).prop_map(Time::On),
        1 => (0..70_000_u64).prop_map(Time::On),
        1 => (1..20_u64).prop_map(Time::Days),
        1 => (1..5000_u64).prop_map(Time::Back),
        1 => (1..100_000_u64).prop_map(Time::OtherTerm),
        1 => Just(Time::Unstamped),
    ]
}

pub(super) fn name(prefix: char, number: u8) -> String {
    format!("{prefix}{number}")
}

/// As at the HTTP edge, another request has another digest. The holder of an acquire is not part of
/// it here: its server may have made it.
pub(super) fn idempotency(named: Option<(u8, u8)>, on: u8, by: Option<u8>) -> Option<Idempotency> {
    let mut fingerprint = [0; 16];
    named.map(|(key, body)| {
        fingerprint[..3].copy_from_slice(&[body, on, by.map_or(0, |by| by + 1)]);
        Idempotency {
            key: IdempotencyKey::new(&name('i', key)).unwrap(),
            fingerprint,
        }
    })
}

/// Callers with odd numbers share their locks, and so do those with even ones.
pub(super) fn identity(caller: u8) -> IdentityId {
    IdentityId::new(&name('t', 2 - caller % 2)).unwrap()
}

/// The licence of an API key: callers 4 and 6 share one.
pub(super) fn licence_of(caller: u8) -> LicenceId {
    match caller {
        3 => LIMITED,
        4 | 6 => DATED,
        5 => LicenceId(5),
        other => LicenceId(u64::from(other)),
    }
}
