//! `/admin/licences`.

use evermind_lock::limits::{ALLOWANCE_MAX, IDENTITY_BYTES_MAX, LICENCE_NAME_BYTES_MAX};
use serde_json::json;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{Object, Schema};

use super::locks::soft_fail;
use super::looking::{cursor, limit};
use super::operation::{ADMIN, Access, BODY, Endpoint, query, segment};
use super::schema::{
    Named, PRINTABLE, WORD, Words, choice, count, flag, list, moment, name, named, object, text,
    whole,
};
use crate::calendar::DATE_FORMS;
use crate::problem::Code;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let one = || {
        vec![segment(
            "id",
            text("The licence's name in lists, as in lic_7."),
        )]
    };
    vec![
        Endpoint {
            parameters: vec![
                query(
                    "cursor",
                    text("The `cursor` of the page before, as it was."),
                ),
                limit(),
            ],
            ..endpoint(
                "/admin/licences",
                HttpMethod::Get,
                "listLicences",
                (
                    "List the licences",
                    "In the order they were issued in, revoked ones included.",
                ),
                (200, "A page of licences", Some("LicencesPage")),
                &[Code::InvalidRequest],
            )
        },
        Endpoint {
            body: Some("CreateLicenceRequest"),
            logged: true,
            failures: vec![ADMIN, BODY, &[Code::LimitReached]],
            ..endpoint(
                "/admin/licences",
                HttpMethod::Post,
                "createLicence",
                (
                    "Issue a licence",
                    "Never replayed: the licence key is in this answer and nowhere else.",
                ),
                (
                    201,
                    "The licence, its key shown this once",
                    Some("CreateLicenceResponse"),
                ),
                &[],
            )
        },
        Endpoint {
            parameters: one(),
            ..endpoint(
                "/admin/licences/{id}",
                HttpMethod::Get,
                "getLicence",
                (
                    "Look at a licence and its API keys",
                    "Keys are shown by their names, never themselves.",
                ),
                (200, "The licence", Some("Licence")),
                &[Code::LicenceNotFound],
            )
        },
        Endpoint {
            parameters: one(),
            logged: true,
            ..endpoint(
                "/admin/licences/{id}",
                HttpMethod::Delete,
                "revokeLicence",
                (
                    "Take a licence back",
                    "Its keys are refused at once, on every node, and its waits end. Its usage stays. For good.",
                ),
                (204, "The licence is revoked", None),
                &[Code::LicenceNotFound],
            )
        },
        delete_key(),
        Endpoint {
            parameters: one(),
            ..endpoint(
                "/admin/licences/{id}/usage",
                HttpMethod::Get,
                "getLicenceUsage",
                (
                    "See what a licence has used",
                    "Exact: never lost, never counted twice.",
                ),
                (200, "The usage", Some("Usage")),
                &[Code::LicenceNotFound],
            )
        },
    ]
}

fn endpoint(
    path: &'static str,
    method: HttpMethod,
    id: &'static str,
    (summary, about): (&'static str, &'static str),
    success: (u16, &'static str, Option<&'static str>),
    failures: &'static [Code],
) -> Endpoint {
    Endpoint {
        path,
        method,
        id,
        tag: "admin",
        summary,
        about,
        access: Access::AdminToken,
        parameters: vec![],
        body: None,
        success,
        logged: false,
        failures: vec![ADMIN, failures],
    }
}

fn delete_key() -> Endpoint {
    Endpoint {
        parameters: vec![
            segment("id", text("The licence's name in lists, as in lic_7.")),
            segment("key", text("The API key's name in lists, as in key_12.")),
        ],
        logged: true,
        ..endpoint(
            "/admin/licences/{id}/keys/{key}",
            HttpMethod::Delete,
            "deleteLicenceApiKey",
            (
                "Delete an API key of a licence",
                "By its name, as the operator has no keys: also one whose text nobody has any more, and one of the built-in licence, which configuration does not bring back. Refused at once, on every node; its waits end.",
            ),
            (204, "The API key is deleted", None),
            &[Code::LicenceNotFound, Code::ApiKeyNotFound],
        )
    }
}

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("CreateLicenceRequest", create_licence_request()),
        ("CreateLicenceResponse", create_licence_response()),
        ("Licence", licence()),
        ("LicenceApiKey", api_key()),
        ("LicencesPage", licences_page()),
        ("Usage", usage()),
        ("PastUsage", past_usage()),
    ]
}

fn id() -> Object {
    text("Its name in lists, as in lic_7.")
}

fn licence_name() -> Object {
    name(
        "What the operator calls it: 1 to 128 bytes of UTF-8 without control characters.",
        LICENCE_NAME_BYTES_MAX,
        PRINTABLE,
    )
}

fn identity(about: &str) -> Object {
    name(about, IDENTITY_BYTES_MAX, WORD)
}

fn allowance(about: &str) -> Object {
    whole(about, 0..=ALLOWANCE_MAX).or_null()
}

fn period() -> Object {
    choice(
        "When the allowance begins anew: with each month in UTC, or never.",
        &["month", "none"],
    )
}

fn create_licence_request() -> Schema {
    object("Null is as good as left out, but for `name`.")
        .must("name", licence_name())
        .may(
            "identity",
            identity("Whose locks its keys open; several licences may share one. Left out, a new one is made.").or_null(),
        )
        .may("limit", allowance("How many attempts it allows in a period. Left out, there is no limit."))
        .may("period", period().or_null().default_to("month"))
        .may(
            "expires",
            text(&format!("When it ends, by wall clocks: {DATE_FORMS}, in the future. Left out, never.")).or_null(),
        )
        .may("softFail", soft_fail())
        .closed()
        .example(json!({ "name": "acme", "limit": 100_000 }))
        .into()
}

fn create_licence_response() -> Schema {
    object("A licence just issued: the only answer that has its key.")
        .must("id", id())
        .must("identity", identity("Whose locks its keys open."))
        .must(
            "licenceKey",
            text("The licence's key, as in evl_…: what makes and deletes API keys."),
        )
        .into()
}

fn licence() -> Schema {
    let date = |about: &str| moment(about).or_null();
    object("A licence.")
        .must("id", id())
        .must("name", licence_name())
        .must("identity", identity("Whose locks its keys open."))
        .must(
            "status",
            choice(
                "Only an active one opens anything.",
                &["active", "expired", "revoked"],
            ),
        )
        .must(
            "builtIn",
            flag("Whether it is the one of the bootstrap API key, which nobody issued."),
        )
        .must(
            "limit",
            allowance("How many attempts it allows in a period; null for no limit."),
        )
        .must("period", period())
        .must("used", count("How many attempts were used in this period."))
        .must("periodStart", date("When this period began."))
        .must("created", date("When it was issued."))
        .must("expires", date("When it ends; null for never."))
        .must("revoked", date("When it was revoked; null if it was not."))
        .must("apiKeys", count("How many API keys it has."))
        .may(
            "keys",
            list(
                "Its API keys. Of one licence only, not in lists.",
                named("LicenceApiKey"),
            ),
        )
        .into()
}

fn api_key() -> Schema {
    object("An API key of a licence.")
        .must("id", text("Its name in lists, as in key_7."))
        .must("created", moment("When it was made.").or_null())
        .must(
            "lastUsed",
            moment("When it was last used, to about a minute; null for never.").or_null(),
        )
        .into()
}

fn licences_page() -> Schema {
    object("Some of the licences.")
        .must(
            "licences",
            list("In the order they were issued in.", named("Licence")),
        )
        .must("cursor", cursor())
        .into()
}

fn usage() -> Schema {
    let date = |about: &str| moment(about).or_null();
    object("What a licence has used.")
        .must("used", count("How many attempts were used in this period."))
        .must("limit", allowance("How many it allows in a period; null for no limit."))
        .must("periodStart", date("When this period began."))
        .must("periodEnd", date("When the next one begins; null for never."))
        .must(
            "forecast",
            count("How many will have been used at the period's end if it goes on as since its start; null for a \
                period without an end.")
                .or_null(),
        )
        .must("previous", list("Earlier periods in which anything was used.", named("PastUsage")))
        .into()
}

fn past_usage() -> Schema {
    object("What was used in an earlier period.")
        .must("periodStart", moment("When it began.").or_null())
        .must("used", count("How many attempts were used in it."))
        .into()
}
