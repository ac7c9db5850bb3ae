//! Licences for people.

use std::fmt::Write as _;

use evermind_client::{LicenceInfo, UsageInfo};

use crate::table;

const NOTHING: &str = "-";

/// One line a licence.
pub(super) fn list(licences: &[LicenceInfo]) -> String {
    let header = [
        "ID", "NAME", "IDENTITY", "STATUS", "USED", "LIMIT", "PERIOD", "EXPIRES",
    ];
    let row = |licence: &LicenceInfo| {
        vec![
            licence.id.clone(),
            licence.name.clone(),
            licence.identity.clone(),
            licence.status.clone(),
            licence.used.to_string(),
            (licence.limit).map_or_else(|| NOTHING.to_owned(), |limit| limit.to_string()),
            licence.period.clone(),
            moment(licence.expires.as_deref(), NOTHING),
        ]
    };
    table::render(&header, &licences.iter().map(row).collect::<Vec<_>>())
}

/// Everything about one.
pub(super) fn show(licence: &LicenceInfo, usage: &UsageInfo) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<9} {value}").expect("writing to a string cannot fail");
    };
    let kind = if licence.built_in {
        " (made by the cluster, for its bootstrap key)"
    } else {
        ""
    };
    line("licence", &format!("{}{kind}", licence.id));
    line("name", &licence.name);
    line("identity", &licence.identity);
    line("status", &licence.status);
    line("created", &moment(licence.created.as_deref(), NOTHING));
    line("expires", &moment(licence.expires.as_deref(), "never"));
    if let Some(revoked) = &licence.revoked {
        line("revoked", &moment(Some(revoked), NOTHING));
    }
    let of_limit = usage
        .limit
        .map_or_else(String::new, |limit| format!(" of {limit}"));
    let since = moment(usage.period_start.as_deref(), NOTHING);
    line(
        "attempts",
        &format!("{}{of_limit} since {since}", usage.used),
    );
    if let Some(forecast) = usage.forecast {
        let end = moment(usage.period_end.as_deref(), NOTHING);
        let over = usage.limit.is_some_and(|limit| forecast > limit);
        let over = if over { ", more than its limit" } else { "" };
        line("forecast", &format!("{forecast} by {end}{over}"));
    }
    for past in &usage.previous {
        let since = moment(past.period_start.as_deref(), NOTHING);
        line(
            "before",
            &format!("{} in the period from {since}", past.used),
        );
    }
    if licence.keys.is_empty() {
        text.push_str("\nno API keys\n");
        return text;
    }
    let row = |key: &evermind_client::ApiKeyInfo| {
        vec![
            key.id.clone(),
            moment(key.created.as_deref(), NOTHING),
            moment(key.last_used.as_deref(), "never"),
        ]
    };
    let rows: Vec<_> = licence.keys.iter().map(row).collect();
    text.push('\n');
    text.push_str(&table::render(&["API KEY", "CREATED", "LAST USED"], &rows));
    text
}

/// `2027-01-31` for a midnight, else `2027-01-31 12:00:05Z`; parts of seconds help nobody.
fn moment(text: Option<&str>, absent: &str) -> String {
    let Some(text) = text else {
        return absent.to_owned();
    };
    match text.strip_suffix('Z').and_then(|text| text.split_once('T')) {
        Some((date, "00:00:00")) => date.to_owned(),
        Some((date, time)) => {
            let seconds = time.split_once('.').map_or(time, |(seconds, _)| seconds);
            format!("{date} {seconds}Z")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    fn licence() -> LicenceInfo {
        serde_json::from_value(json!({
            "id": "lic_2", "name": "team a", "identity": "id-1", "status": "active",
            "builtIn": false, "limit": 1000, "period": "month", "used": 12,
            "periodStart": "2026-11-01T00:00:00Z", "created": "2026-11-24T15:51:37.5Z",
            "expires": null, "revoked": null, "apiKeys": 2,
            "keys": [
                {"id": "key_3", "created": "2026-11-24T15:52:00Z", "lastUsed": null},
                {"id": "key_4", "created": "2026-11-25T00:00:00Z", "lastUsed": "2026-11-26T01:02:03.004Z"},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_line_a_licence() {
        let mut other = licence();
        other.expires = Some("2027-01-31T00:00:00Z".into());
        other.limit = None;
        assert_eq!(
            list(&[licence(), other]),
            "ID     NAME    IDENTITY  STATUS  USED  LIMIT  PERIOD  EXPIRES\n\
             lic_2  team a  id-1      active  12    1000   month   -\n\
             lic_2  team a  id-1      active  12    -      month   2027-01-31\n"
        );
    }

    #[test]
    fn one_licence_in_full() {
        let usage = serde_json::from_value(json!({
            "used": 13, "limit": 1000, "periodStart": "2026-11-01T00:00:00Z",
            "periodEnd": "2026-12-01T00:00:00Z", "forecast": 1500,
            "previous": [{"periodStart": "2026-10-01T00:00:00Z", "used": 55}],
        }))
        .unwrap();
        assert_eq!(
            show(&licence(), &usage),
            "licence   lic_2\n\
             name      team a\n\
             identity  id-1\n\
             status    active\n\
             created   2026-11-24 15:51:37Z\n\
             expires   never\n\
             attempts  13 of 1000 since 2026-11-01\n\
             forecast  1500 by 2026-12-01, more than its limit\n\
             before    55 in the period from 2026-10-01\n\
             \n\
             API KEY  CREATED               LAST USED\n\
             key_3    2026-11-24 15:52:00Z  never\n\
             key_4    2026-11-25            2026-11-26 01:02:03Z\n"
        );
    }
}
