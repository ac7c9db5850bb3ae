//! Histories, drawn at random.

use proptest::prelude::*;

/// One step of a history, before it has a place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// Cluster ms since the step before.
    pub(crate) after_ms: u64,
    /// Wall ms since the step before.
    pub(crate) wall_after_ms: u64,
    pub(crate) server: usize,
    pub(crate) how: How,
    pub(crate) what: What,
}

/// How a step gets into the log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// As a new operation that says that everything but so many before it is answered.
    New(u64),
    /// As an operation that was there before, so many back.
    Again(usize),
    /// Under a new boot of its server.
    Reboot,
    /// With a stamp that says nothing in its term.
    ForeignStamp,
    /// Without a name.
    Nameless,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Acquire {
        caller: u64,
        key: usize,
        holder: usize,
        lease_ms: u64,
        retry_attempts: u32,
        window_ms: u64,
        named: Option<usize>,
    },
    Extend {
        caller: u64,
        key: usize,
        holder: usize,
        by_ms: u64,
        named: Option<usize>,
    },
    Release {
        caller: u64,
        key: usize,
        holder: usize,
        named: Option<usize>,
    },
    /// Of the acquire so many back.
    Abandon(usize),
    /// Goes on with the acquire so many back, so long after it came, charged for so many attempts.
    Resume(usize, u64, u32),
    Reattach(usize),
    DetachNode {
        server: usize,
        boots_back: u64,
    },
    Expire,
    AddConfigured(u8, usize),
    CreateLicence(u8, Option<u64>, bool, Option<u64>),
    Revoke(u64),
    CreateKey(u8, u8),
    DeleteKey(u8, u8),
    DeleteKeyById(u64, u64),
    Member(u64),
}

fn named() -> impl Strategy<Value = Option<usize>> {
    proptest::option::weighted(0.3, 0..5_usize)
}

fn what() -> impl Strategy<Value = What> {
    let caller = || prop_oneof![8 => 1..=2_u64, 3 => 3..=5_u64, 1 => 6..=12_u64];
    let window = prop_oneof![2 => Just(0), 5 => 1..3_000_u64, 1 => 3_000..20_000_u64];
    let acquire = (
        caller(),
        0..3_usize,
        0..5_usize,
        prop_oneof![1..4_000_u64, Just(86_400_000), Just(60_000)],
        prop_oneof![0..5_u32, Just(1000)],
        window,
        named(),
    )
        .prop_map(
            |(caller, key, holder, lease_ms, retry_attempts, window_ms, named)| What::Acquire {
                caller,
                key,
                holder,
                lease_ms,
                retry_attempts,
                window_ms,
                named,
            },
        );
    let by = prop_oneof![1..5_000_u64, Just(86_400_000), Just(86_399_000)];
    let extend = (caller(), 0..3_usize, 0..5_usize, by, named()).prop_map(
        |(caller, key, holder, by_ms, named)| What::Extend {
            caller,
            key,
            holder,
            by_ms,
            named,
        },
    );
    let release =
        (caller(), 0..3_usize, 0..5_usize, named()).prop_map(|(caller, key, holder, named)| {
            What::Release {
                caller,
                key,
                holder,
                named,
            }
        });
    let date = proptest::option::weighted(0.4, 1..200_000_u64);
    prop_oneof![
        30 => acquire,
        6 => extend,
        12 => release,
        4 => (0..12_usize).prop_map(What::Abandon),
        4 => (0..12_usize).prop_map(What::Reattach),
        5 => (0..8_usize, 0..20_000_u64, 0..8_u32)
            .prop_map(|(back, waited_ms, attempts)| What::Resume(back, waited_ms, attempts)),
        3 => (0..3_usize, 0..2_u64).prop_map(|(server, boots_back)| What::DetachNode { server, boots_back }),
        5 => Just(What::Expire),
        1 => (0..6_u8, 0..2_usize).prop_map(|(hash, identity)| What::AddConfigured(hash, identity)),
        1 => (0..3_u8, proptest::option::of(0..12_u64), any::<bool>(), date)
            .prop_map(|(key, limit, month, date)| What::CreateLicence(key, limit, month, date)),
        1 => (0..6_u64).prop_map(What::Revoke),
        2 => (0..4_u8, 6..14_u8).prop_map(|(licence, key)| What::CreateKey(licence, key)),
        1 => (0..3_u8, 6..14_u8).prop_map(|(licence, key)| What::DeleteKey(licence, key)),
        1 => (0..6_u64, 0..10_u64).prop_map(|(licence, key)| What::DeleteKeyById(licence, key)),
        1 => (1..4_u64).prop_map(What::Member),
    ]
}

pub(crate) fn planned() -> impl Strategy<Value = Planned> {
    let after =
        prop_oneof![4 => Just(0), 4 => 1..200_u64, 3 => 200..3_500_u64, 1 => 3_500..70_000_u64];
    let wall = prop_oneof![20 => 0..1_000_u64, 1 => 1..2_000_000_000_u64];
    let how = prop_oneof![
        20 => (0..40_u64).prop_map(How::New),
        3 => (1..8_usize).prop_map(How::Again),
        1 => Just(How::Reboot),
        1 => Just(How::ForeignStamp),
        1 => Just(How::Nameless),
    ];
    (after, wall, 0..3_usize, how, what()).prop_map(
        |(after_ms, wall_after_ms, server, how, what)| Planned {
            after_ms,
            wall_after_ms,
            server,
            how,
            what,
        },
    )
}
