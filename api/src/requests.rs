//! The bodies of lock requests, as types that cannot be wrong.

use evermind_lock::command::Idempotency;
use evermind_lock::limits::{LEASE_MS_MAX, RETRY_ATTEMPTS_MAX, WINDOW_MS_MAX};
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use evermind_lock::names::{Holder, IdempotencyKey, Key, NameError};
use http::HeaderMap;
use http::HeaderName;
use sha2::{Digest, Sha256};

use crate::fields::{Fields, SOFT_FAIL};
use crate::problem::Problem;

const KEY: &str = "key";
const LEASE: &str = "lease";
const RETRY_ATTEMPTS: &str = "retryAttempts";
const RETRY_DELAY: &str = "retryDelay";
const RETRY_JITTER: &str = "retryJitter";
const UUID: &str = "uuid";
const FIFO: &str = "fifo";
const EXTEND_BY: &str = "extendBy";

/// The longest `retryDelay` and `retryJitter`.
pub(crate) const RETRY_STEP_MS_MAX: u64 = 60_000;
/// `lease` where nothing is said.
pub(crate) const LEASE_MS_DEFAULT: u64 = 10_000;
/// `retryAttempts` where nothing is said.
pub(crate) const RETRY_ATTEMPTS_DEFAULT: u64 = 10;
/// `retryDelay` where nothing is said.
pub(crate) const RETRY_DELAY_MS_DEFAULT: u64 = 500;
/// `retryJitter` where nothing is said.
pub(crate) const RETRY_JITTER_MS_DEFAULT: u64 = 0;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The body of `POST /lock/acquire`.
#[derive(Debug)]
pub(crate) struct AcquireBody {
    pub(crate) key: Key,
    pub(crate) lease_ms: u64,
    pub(crate) retry_attempts: u32,
    pub(crate) retry_delay_ms: u64,
    pub(crate) retry_jitter_ms: u64,
    pub(crate) uuid: Option<Holder>,
    pub(crate) soft_fail: bool,
    pub(crate) fifo: bool,
}

impl AcquireBody {
    pub(crate) const FIELDS: [&str; 8] = [
        KEY,
        LEASE,
        RETRY_ATTEMPTS,
        RETRY_DELAY,
        RETRY_JITTER,
        UUID,
        SOFT_FAIL,
        FIFO,
    ];

    pub(crate) fn read(fields: &Fields<'_, 8>) -> Result<Self, Problem> {
        fields.only_known_once()?;
        let retry_attempts = fields.number_or(
            RETRY_ATTEMPTS,
            RETRY_ATTEMPTS_DEFAULT,
            0..=u64::from(RETRY_ATTEMPTS_MAX),
        )?;
        let step = 0..=RETRY_STEP_MS_MAX;
        let body = Self {
            key: key(fields)?,
            lease_ms: fields.number_or(LEASE, LEASE_MS_DEFAULT, 1..=LEASE_MS_MAX)?,
            retry_attempts: u32::try_from(retry_attempts).expect("at most 1000"),
            retry_delay_ms: fields.number_or(RETRY_DELAY, RETRY_DELAY_MS_DEFAULT, step.clone())?,
            retry_jitter_ms: fields.number_or(RETRY_JITTER, RETRY_JITTER_MS_DEFAULT, step)?,
            uuid: fields
                .optional_text(UUID, &NameError::Holder)?
                .map(|text| Holder::new(&text).map_err(|error| named(UUID, &error)))
                .transpose()?,
            soft_fail: fields.flag(SOFT_FAIL)?,
            fifo: fields.flag(FIFO)?,
        };
        // By the longest window that could be drawn: whether a request is valid is not a matter
        // of luck.
        let window_ms = retry_attempts * (body.retry_delay_ms + body.retry_jitter_ms);
        if window_ms > WINDOW_MS_MAX {
            return Err(Problem::invalid(format!(
                "retryAttempts x (retryDelay + retryJitter) must be at most {WINDOW_MS_MAX} ms (10 min); it is {window_ms}"
            )));
        }
        Ok(body)
    }

    pub(crate) fn fingerprint(&self) -> [u8; 16] {
        Fingerprint::new("acquire")
            .text(Some(self.key.as_str()))
            .number(self.lease_ms)
            .number(u64::from(self.retry_attempts))
            .number(self.retry_delay_ms)
            .number(self.retry_jitter_ms)
            .text(self.uuid.as_ref().map(Holder::text).as_deref())
            .number(u64::from(self.soft_fail))
            .number(u64::from(self.fifo))
            .finish()
    }
}

/// The body of `POST /lock/extend`.
#[derive(Debug)]
pub(crate) struct ExtendBody {
    pub(crate) key: Key,
    pub(crate) uuid: Holder,
    pub(crate) extend_by_ms: u64,
    pub(crate) soft_fail: bool,
}

impl ExtendBody {
    pub(crate) const FIELDS: [&str; 4] = [KEY, UUID, EXTEND_BY, SOFT_FAIL];

    pub(crate) fn read(fields: &Fields<'_, 4>) -> Result<Self, Problem> {
        fields.only_known_once()?;
        Ok(Self {
            key: key(fields)?,
            uuid: uuid(fields)?,
            extend_by_ms: fields.required_number(EXTEND_BY, 1..=LEASE_MS_MAX)?,
            soft_fail: fields.flag(SOFT_FAIL)?,
        })
    }

    pub(crate) fn fingerprint(&self) -> [u8; 16] {
        Fingerprint::new("extend")
            .text(Some(self.key.as_str()))
            .text(Some(&self.uuid.text()))
            .number(self.extend_by_ms)
            .number(u64::from(self.soft_fail))
            .finish()
    }
}

/// The body of `POST /lock/release`.
#[derive(Debug)]
pub(crate) struct ReleaseBody {
    pub(crate) key: Key,
    pub(crate) uuid: Holder,
    pub(crate) soft_fail: bool,
}

impl ReleaseBody {
    pub(crate) const FIELDS: [&str; 3] = [KEY, UUID, SOFT_FAIL];

    pub(crate) fn read(fields: &Fields<'_, 3>) -> Result<Self, Problem> {
        fields.only_known_once()?;
        Ok(Self {
            key: key(fields)?,
            uuid: uuid(fields)?,
            soft_fail: fields.flag(SOFT_FAIL)?,
        })
    }

    pub(crate) fn fingerprint(&self) -> [u8; 16] {
        Fingerprint::new("release")
            .text(Some(self.key.as_str()))
            .text(Some(&self.uuid.text()))
            .number(u64::from(self.soft_fail))
            .finish()
    }
}

fn key<const N: usize>(fields: &Fields<'_, N>) -> Result<Key, Problem> {
    let text = fields.required_text(KEY, &NameError::Key)?;
    Key::new(&text).map_err(|error| named(KEY, &error))
}

fn uuid<const N: usize>(fields: &Fields<'_, N>) -> Result<Holder, Problem> {
    let text = fields.required_text(UUID, &NameError::Holder)?;
    Holder::new(&text).map_err(|error| named(UUID, &error))
}

pub(crate) fn named(field: &str, error: &NameError) -> Problem {
    Problem::invalid(format!("{field} {error}"))
}

/// The request's `Idempotency-Key`, if it has one, with the digest of what it asks for.
pub(crate) fn idempotency(
    headers: &HeaderMap,
    fingerprint: impl FnOnce() -> [u8; 16],
) -> Result<Option<Idempotency>, Problem> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::invalid(
            "the header Idempotency-Key is allowed once",
        ));
    }
    let key = value
        .to_str()
        .map_err(|_| NameError::IdempotencyKey)
        .and_then(IdempotencyKey::new)
        .map_err(|error| named("the header Idempotency-Key", &error))?;
    #[cfg(evermind_mutants)]
    if mutant::is(Mutant::NameWithoutBody) {
        let fingerprint = [0; 16];
        return Ok(Some(Idempotency { key, fingerprint }));
    }
    Ok(Some(Idempotency {
        key,
        fingerprint: fingerprint(),
    }))
}

/// A digest of a request as its caller meant it: defaults filled in, nothing drawn yet. Texts are
/// written with their length, so that no two requests are written alike.
struct Fingerprint(Sha256);

impl Fingerprint {
    fn new(endpoint: &str) -> Self {
        Self(Sha256::new()).text(Some(endpoint))
    }

    fn text(mut self, text: Option<&str>) -> Self {
        match text {
            None => self.0.update([0]),
            Some(text) => {
                self.0.update([1]);
                self.0.update((text.len() as u64).to_be_bytes());
                self.0.update(text);
            }
        }
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    fn finish(self) -> [u8; 16] {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        first
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn print(body: &str) -> [u8; 16] {
        let fields = Fields::parse(body.as_bytes(), &AcquireBody::FIELDS).unwrap();
        AcquireBody::read(&fields).unwrap().fingerprint()
    }

    #[test]
    fn a_fingerprint_is_of_what_is_meant_not_of_how_it_is_written() {
        assert_eq!(
            print(r#"{"key":"a"}"#),
            print(r#" {"lease":10000, "key":"\u0061"} "#)
        );
        assert_eq!(print(r#"{"key":"a","uuid":null}"#), print(r#"{"key":"a"}"#));
    }

    #[test]
    fn every_field_counts_in_a_fingerprint() {
        let plain = print(r#"{"key":"a"}"#);
        for other in [
            r#"{"key":"b"}"#,
            r#"{"key":"a","lease":1}"#,
            r#"{"key":"a","retryAttempts":1}"#,
            r#"{"key":"a","retryDelay":1}"#,
            r#"{"key":"a","retryJitter":1}"#,
            r#"{"key":"a","uuid":"u"}"#,
            r#"{"key":"a","softFail":true}"#,
            r#"{"key":"a","fifo":true}"#,
        ] {
            assert_ne!(plain, print(other), "{other}");
        }
    }

    #[test]
    fn no_byte_in_the_wrong_place_breaks_the_reader() {
        let good = br#"{"key":"a\u00e9","lease":1000,"uuid":"u","softFail":true,"fifo":null}"#;
        let (mut read, mut refused) = (0, 0);
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut body = good.to_vec();
                body[at] = byte;
                let fields = Fields::parse(&body, &AcquireBody::FIELDS);
                match fields.and_then(|fields| AcquireBody::read(&fields)) {
                    Ok(_) => read += 1,
                    Err(_) => refused += 1,
                }
            }
            assert!(Fields::parse(&good[..at], &AcquireBody::FIELDS).is_err());
        }
        assert!(
            read > good.len() && refused > 10 * read,
            "{read} read, {refused} refused"
        );
    }
}
