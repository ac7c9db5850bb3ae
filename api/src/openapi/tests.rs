//! The document against the golden file and against the readers of requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::document;
use crate::problem::Code;
use crate::requests::{AcquireBody, ExtendBody, ReleaseBody};
use crate::{admin_routes, key_routes, query};

fn text() -> String {
    let mut text = document().to_pretty_json().unwrap();
    text.push('\n');
    text
}

fn value() -> Value {
    serde_json::from_str(&text()).unwrap()
}

#[test]
fn golden() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let now = text();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let pairs = before.lines().zip(now.lines()).enumerate();
    let differs = pairs.into_iter().find(|(_, (was, is))| was != is);
    let shown = differs.map_or_else(
        || "one is longer than the other".to_owned(),
        |(number, (was, is))| format!("line {}\n  - {was}\n  + {is}", number + 1),
    );
    assert!(
        now == before,
        "api/openapi.json is not what the sources say: {shown}\n\
         accept it: UPDATE_GOLDEN=1 cargo test -p evermind-api --lib openapi"
    );
}

#[test]
fn requests_have_the_fields_that_are_read() {
    let document = value();
    let read: [(&str, &[&str]); 6] = [
        ("AcquireRequest", &AcquireBody::FIELDS),
        ("ExtendRequest", &ExtendBody::FIELDS),
        ("ReleaseRequest", &ReleaseBody::FIELDS),
        ("ApiKeyRequest", &key_routes::CREATE_FIELDS),
        ("DeleteApiKeyRequest", &key_routes::DELETE_FIELDS),
        ("CreateLicenceRequest", &admin_routes::FIELDS),
    ];
    let mut bodies = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let schema = operation.pointer("/requestBody/content/application~1json/schema/$ref");
            bodies.extend(schema.map(|name| name.as_str().unwrap().to_owned()));
        }
    }
    for (name, fields) in read {
        let schema = &document["components"]["schemas"][name];
        let properties = schema["properties"].as_object().unwrap();
        let documented: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(documented, fields.iter().copied().collect(), "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
        assert!(
            bodies.remove(&format!("#/components/schemas/{name}")),
            "{name}"
        );
    }
    assert!(bodies.is_empty(), "not compared: {bodies:?}");
}

#[test]
fn queries_have_the_parameters_that_are_read() {
    let document = value();
    for (path, read) in [
        ("/v1/locks", &query::LOCKS_PARAMETERS[..]),
        ("/v1/locks/{key}", &query::LOCK_PARAMETERS),
        ("/admin/licences", &query::LICENCES_PARAMETERS),
    ] {
        let parameters = document["paths"][path]["get"]["parameters"]
            .as_array()
            .unwrap();
        let documented: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(documented, read.iter().copied().collect(), "{path}");
    }
}

#[test]
fn every_code_is_told_with_its_status() {
    let schema = &value()["components"]["schemas"]["ProblemCode"];
    let words: BTreeSet<&str> = schema["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.row().code).collect();
    assert_eq!(words, codes);
    let about = schema["description"].as_str().unwrap();
    for row in Code::ALL.iter().map(|code| code.row()) {
        let told = format!("| `{}` | {} |", row.code, row.status.as_u16());
        assert!(about.contains(&told), "{told}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    let text = text();
    let document = value();
    let components = document["components"].as_object().unwrap();
    for (kind, named) in components {
        if kind == "securitySchemes" {
            continue;
        }
        for name in named.as_object().unwrap().keys() {
            assert!(
                text.contains(&format!("\"#/components/{kind}/{name}\"")),
                "{kind} {name}"
            );
        }
    }
    for (at, _) in text.match_indices("\"$ref\": \"#") {
        let pointer: String = text[at + "\"$ref\": \"#".len()..]
            .chars()
            .take_while(|c| *c != '"')
            .collect();
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
}
