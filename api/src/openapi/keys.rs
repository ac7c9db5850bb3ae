//! `POST /api-key`, `DELETE /api-key`.

use serde_json::json;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{Object, Schema};

use super::locks::soft_fail;
use super::operation::{Access, BODY, Endpoint};
use super::schema::{Named, VISIBLE, Words, name, object, text};
use crate::limits::API_KEY_BYTES_MAX;
use crate::problem::Code;

pub(super) fn endpoints() -> Vec<Endpoint> {
    const KEYS: &[Code] = &[
        Code::LicenceUnknown,
        Code::LicenceInactive,
        Code::RateLimited,
        Code::NoLeader,
        Code::OutcomeUnknown,
    ];
    let endpoint = |method, id, summary, about, body, success, more| Endpoint {
        path: "/api-key",
        method,
        id,
        tag: "keys",
        summary,
        about,
        access: Access::Anyone,
        parameters: vec![],
        body: Some(body),
        success,
        logged: true,
        failures: vec![KEYS, BODY, more],
    };
    vec![
        endpoint(
            HttpMethod::Post,
            "createApiKey",
            "Make an API key",
            "The licence key in the body is what opens this. Never replayed: the key is in this answer and \
            nowhere else.",
            "ApiKeyRequest",
            (200, "The key, shown this once", Some("ApiKeyResponse")),
            &[Code::LimitReached],
        ),
        endpoint(
            HttpMethod::Delete,
            "deleteApiKey",
            "Delete an API key",
            "A licence deletes only its own keys. The key's waits end; what it holds stays held until its lease \
            ends, and any key of the identity can release it.",
            "DeleteApiKeyRequest",
            (204, "The key opens nothing any more", None),
            &[Code::ApiKeyNotFound],
        ),
    ]
}

pub(super) fn schemas() -> Vec<Named> {
    vec![
        ("ApiKeyRequest", api_key_request()),
        ("ApiKeyResponse", api_key_response()),
        ("DeleteApiKeyRequest", delete_api_key_request()),
    ]
}

fn secret(about: &str) -> Object {
    name(about, API_KEY_BYTES_MAX, VISIBLE)
}

fn api_key_request() -> Schema {
    object("Which licence the key is for.")
        .must("licenceKey", secret("The licence's key, as in evl_…"))
        .may("softFail", soft_fail())
        .closed()
        .example(json!({ "licenceKey": "evl_licence-key" }))
        .into()
}

fn api_key_response() -> Schema {
    object("A key just made: the only answer that has it.")
        .must("apiKey", secret("The key, as in evk_…"))
        .must("id", text("Its name in lists, as in key_7."))
        .into()
}

fn delete_api_key_request() -> Schema {
    object("Which key to delete.")
        .must(
            "licenceKey",
            secret("The key of the licence that it is of, as in evl_…"),
        )
        .must("apiKey", secret("The key to delete, as in evk_…"))
        .may("softFail", soft_fail())
        .closed()
        .example(json!({ "licenceKey": "evl_licence-key", "apiKey": "evk_api-key" }))
        .into()
}
