//! Names and values in a request's path and query.

use evermind_lock::command::LicenceId;
use evermind_lock::names::Key;
use evermind_raft::api::Consistency;

use crate::problem::Problem;
use crate::public_id::licence_of;
use crate::requests::named;

/// Entries on a page where nothing is said.
pub(crate) const PAGE_DEFAULT: usize = 100;
/// Entries on a page at most.
pub(crate) const PAGE_MAX: usize = 1000;

/// What the query of `GET /v1/locks/{key}` may hold.
pub(crate) const LOCK_PARAMETERS: [&str; 1] = ["consistency"];
/// What the query of `GET /v1/locks` may hold.
pub(crate) const LOCKS_PARAMETERS: [&str; 5] = ["key", "prefix", "cursor", "limit", "consistency"];
/// What the query of `GET /admin/licences` may hold.
pub(crate) const LICENCES_PARAMETERS: [&str; 2] = ["cursor", "limit"];

/// The key that is a path's last segment, percent-encoded.
pub(crate) fn key_of(segment: &str) -> Result<Key, Problem> {
    let text = decode(segment, Plus::Itself)
        .ok_or_else(|| Problem::invalid("key must be percent-encoded UTF-8"))?;
    Key::new(&text).map_err(|error| named("key", &error))
}

/// The query of `GET /v1/locks/{key}`.
pub(crate) fn one_lock(query: Option<&str>) -> Result<Consistency, Problem> {
    let [consistency] = parameters(query, &LOCK_PARAMETERS)?;
    consistency_of(consistency.as_deref())
}

/// What `GET /v1/locks` asks for.
#[derive(Debug)]
pub(crate) enum Looking {
    /// One lock, by `key`. Its other address, `/v1/locks/{key}`, cannot carry every key: clients and
    /// proxies resolve `.` and `..`, and proxies decode `%2F`.
    One(Key, Consistency),
    Listing(Listing),
}

impl Looking {
    pub(crate) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let [key, prefix, cursor, limit, consistency] = parameters(query, &LOCKS_PARAMETERS)?;
        let consistency = consistency_of(consistency.as_deref())?;
        let Some(key) = key else {
            return Ok(Self::Listing(Listing {
                prefix: prefix.unwrap_or_default(),
                after: cursor.as_deref().map(key_of_cursor).transpose()?,
                limit: limit.as_deref().map_or(Ok(PAGE_DEFAULT), limit_of)?,
                consistency,
            }));
        };
        let beside = [("prefix", &prefix), ("cursor", &cursor), ("limit", &limit)];
        if let Some((name, _)) = beside.iter().find(|(_, value)| value.is_some()) {
            return Err(Problem::invalid(format!(
                "key asks for one lock: leave out {name}, or leave out key"
            )));
        }
        let key = Key::new(&key).map_err(|error| named("key", &error))?;
        Ok(Self::One(key, consistency))
    }
}

/// A page of locks to list.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) prefix: String,
    pub(crate) after: Option<Key>,
    pub(crate) limit: usize,
    pub(crate) consistency: Consistency,
}

/// The query of `GET /admin/licences`.
#[derive(Debug)]
pub(crate) struct LicenceListing {
    pub(crate) after: Option<LicenceId>,
    pub(crate) limit: usize,
}

impl LicenceListing {
    pub(crate) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let [cursor, limit] = parameters(query, &LICENCES_PARAMETERS)?;
        let after = cursor.as_deref().map(|cursor| {
            licence_of(cursor)
                .ok_or_else(|| Problem::invalid("cursor must be one that an earlier page gave"))
        });
        Ok(Self {
            after: after.transpose()?,
            limit: limit.as_deref().map_or(Ok(PAGE_DEFAULT), limit_of)?,
        })
    }
}

/// Where a listing goes on, as text that callers hand back unread.
pub(crate) fn cursor_of(after: &Key) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = after.as_str().bytes();
    bytes
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn key_of_cursor(cursor: &str) -> Result<Key, Problem> {
    let pairs = cursor.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    });
    let key = pairs
        .collect::<Option<Vec<u8>>>()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| Key::new(&text).ok());
    key.ok_or_else(|| Problem::invalid("cursor must be one that an earlier page gave"))
}

fn limit_of(text: &str) -> Result<usize, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(limit) if digits && (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        _ => Err(Problem::invalid(format!(
            "limit must be a whole number from 1 to {PAGE_MAX}"
        ))),
    }
}

fn consistency_of(text: Option<&str>) -> Result<Consistency, Problem> {
    match text {
        None | Some("linearizable") => Ok(Consistency::Linearizable),
        Some("stale") => Ok(Consistency::Stale),
        Some(_) => Err(Problem::invalid(
            "consistency must be linearizable or stale",
        )),
    }
}

/// The values of the allowed parameters, each at most once.
fn parameters<const N: usize>(
    query: Option<&str>,
    names: &[&str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(at) = names.iter().position(|known| *known == name) else {
            return Err(Problem::invalid(format!(
                "the query may hold {}, and nothing else",
                names.join(", ")
            )));
        };
        if values[at].is_some() {
            return Err(Problem::invalid(format!(
                "{name} is allowed once in the query"
            )));
        }
        let value = decode(value, Plus::Space)
            .ok_or_else(|| Problem::invalid(format!("{name} must be percent-encoded UTF-8")))?;
        values[at] = Some(value);
    }
    Ok(values)
}

/// What `+` stands for: a space in a query, as HTML forms and `URLSearchParams` write it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Space,
}

fn decode(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    // At most 15.
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_key() {
        for text in ["a", "a/b c", "ключ", "%2F"] {
            let key = Key::new(text).unwrap();
            assert_eq!(key_of_cursor(&cursor_of(&key)).unwrap(), key);
        }
        for wrong in ["", "6", "6g", "ff", "00", "é"] {
            assert!(key_of_cursor(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_in_a_path_is_percent_encoded() {
        assert_eq!(key_of("a%2Fb+c%20d").unwrap().as_str(), "a/b+c d");
        for wrong in ["%", "%2", "%zz", "%ff", "%00", "%+1"] {
            assert!(key_of(wrong).is_err(), "{wrong}");
        }
    }
}
