//! How often somebody may ask: a token bucket each (GCRA), kept by this node for itself.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use evermind_lock::command::LicenceId;
use evermind_lock::limits::LICENCES_MAX;
use governor::clock::{Clock as _, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::auth::Allowance;
use crate::problem::{Code, Problem};

/// How many addresses are remembered; all others share one bucket. Those that have not asked for so
/// long that they may do everything again are forgotten first.
const ADDRESSES_MAX: usize = 10_000;

/// How often, at most, the forgotten are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A limit for each of many.
struct Rate<K: Hash + Eq + Clone> {
    per_second: NonZeroU32,
    policy: &'static str,
    buckets: RateLimiter<K, HashMapStateStore<K>, MonotonicClock>,
    buckets_max: usize,
    swept: Mutex<Instant>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `per_second` on the long run, and as many at once.
    fn new(per_second: NonZeroU32, policy: &'static str, buckets_max: usize) -> Self {
        Self {
            per_second,
            policy,
            buckets_max,
            swept: Mutex::new(Instant::now()),
            buckets: RateLimiter::hashmap_with_clock(Quota::per_second(per_second), MonotonicClock),
        }
    }

    /// Whether there is no room for one more bucket, once the full ones are forgotten.
    fn is_crowded(&self) -> bool {
        if self.buckets.len() < self.buckets_max {
            return false;
        }
        let now = Instant::now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*swept) >= SWEEP_EVERY {
            *swept = now;
            self.buckets.retain_recent();
        }
        drop(swept);
        self.buckets.len() >= self.buckets_max
    }

    fn ask(&self, key: &K) -> Result<(), Problem> {
        let refused = match self.buckets.check_key(key) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let wait = refused.wait_time_from(MonotonicClock.now());
        let of = match self.policy {
            "licence" => "for each licence, extend and release not counted",
            "licence-holding" => "for each licence to extend and to release",
            _ => "from each address",
        };
        let detail = format!(
            "at most {} requests a second are taken here {of}",
            self.per_second
        );
        Err(Problem::new(Code::RateLimited, detail)
            .retry_after(wait)
            .rate_limit(self.policy, self.per_second.get(), wait))
    }
}

/// How much more often a licence may extend and release than ask for locks. Whoever may ask for
/// one a second must be able to keep it: that takes three extensions in each of its leases, for as
/// long as it is held, and a release.
const HOLDING_FACTOR: NonZeroU32 = NonZeroU32::new(10).expect("10 is not 0");
/// And at least this often: under a low limit too, a few locks with short leases can be kept.
const HOLDING_MIN: NonZeroU32 = NonZeroU32::new(100).expect("100 is not 0");

/// Two limits for each licence, as API keys are free to make. The operator's own keys for an identity
/// have one built-in licence together.
pub(crate) struct LicenceRate {
    asking: Rate<LicenceId>,
    holding: Rate<LicenceId>,
}

impl LicenceRate {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let holding = per_second.saturating_mul(HOLDING_FACTOR).max(HOLDING_MIN);
        Self {
            asking: Rate::new(per_second, "licence", LICENCES_MAX),
            holding: Rate::new(holding, "licence-holding", LICENCES_MAX),
        }
    }

    /// 429, or nothing.
    pub(crate) fn ask(&self, licence: LicenceId, allowance: Allowance) -> Result<(), Problem> {
        let rate = match allowance {
            Allowance::Asking => &self.asking,
            Allowance::Holding => &self.holding,
        };
        // Crowded or not: those that can ask are bounded.
        rate.is_crowded();
        rate.ask(&licence)
    }
}

/// One limit for each address.
pub(crate) struct AddressRate(Rate<IpAddr>);

impl AddressRate {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self(Rate::new(per_second, "address", ADDRESSES_MAX))
    }

    /// 429, or nothing.
    pub(crate) fn ask(&self, address: IpAddr) -> Result<(), Problem> {
        let address = if self.0.is_crowded() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            network(address)
        };
        self.0.ask(&address)
    }
}

/// Who has one IPv6 address has its whole /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !0 << 64)),
    }
}

/// What a 429 says of its limit, in the words of draft-ietf-httpapi-ratelimit-headers-10.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimited {
    policy: &'static str,
    per_second: u32,
    wait: Duration,
}

impl RateLimited {
    pub(crate) fn new(policy: &'static str, per_second: u32, wait: Duration) -> Self {
        Self {
            policy,
            per_second,
            wait,
        }
    }

    /// The header `RateLimit-Policy`: how many in how many seconds.
    pub(crate) fn policy(&self) -> String {
        format!("\"{}\";q={};w=1", self.policy, self.per_second)
    }

    /// The header `RateLimit`: nothing is left, and in how many seconds there is more.
    pub(crate) fn limit(&self) -> String {
        let seconds = self.wait.as_millis().div_ceil(1000).max(1);
        format!("\"{}\";r=0;t={seconds}", self.policy)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_empty_after_its_second() {
        let rate = LicenceRate::new(NonZeroU32::new(3).unwrap());
        let asked = |licence, allowance| {
            let ask = |_: &i32| rate.ask(LicenceId(licence), allowance).is_ok();
            (0..200).filter(ask).count()
        };
        // One more may have come in while this ran.
        assert!((3..=4).contains(&asked(1, Allowance::Asking)));
        assert!(
            (3..=4).contains(&asked(2, Allowance::Asking)),
            "each has its own"
        );
        let holding = asked(1, Allowance::Holding);
        assert!(
            (100..=120).contains(&holding),
            "{holding}: of its own, and larger"
        );
    }

    #[test]
    fn an_address_stands_for_its_network() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.1.2.3"), "10.1.2.3");
    }

    #[test]
    fn no_crowd_of_addresses_takes_more_memory_than_this() {
        let rate = AddressRate::new(NonZeroU32::new(1).unwrap());
        for number in 0..20_000_u32 {
            let _ = rate.ask(IpAddr::V4(number.into()));
        }
        assert!(rate.0.buckets.len() <= ADDRESSES_MAX + 1);
    }
}
