//! What the server does, against `api/openapi.json`: every answer of every test here is compared with
//! what is written of its operation.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use evermind_api::{Access, App, Limits};
use serde_json::{Value, json};

use crate::fake::{Answer, Fake};
use crate::server::{ADMIN_TOKEN, Reply, Server};

pub(crate) const DOCUMENT: &str = include_str!("../../openapi.json");

static VALUE: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(DOCUMENT).unwrap());

/// Paths about the document, which it leaves out.
const ABOUT: [&str; 4] = ["/openapi.json", "/docs", "/docs/", "/docs/{file}"];

/// The operation that a request goes to, if there is one.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let (mut parts, mut own) = (template.split('/'), path.split('/'));
        loop {
            match (parts.next(), own.next()) {
                (None, None) => return true,
                (Some(part), Some(own)) if part == own => {}
                (Some(part), Some(own)) if part.starts_with('{') && !own.is_empty() => {}
                _ => return false,
            }
        }
    };
    let paths = VALUE["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(template, _)| fits(template))?;
    item.get(method.to_lowercase())
}

/// Panics if an answer is not as it is documented.
pub(crate) fn check(method: &str, path: &str, reply: &Reply) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let shown = format!("{method} {path}: {reply:?}");
    let media = reply.header("content-type");
    let written = match &operation["responses"][reply.status.to_string()] {
        // A fake node refuses what a real one would not: it is a problem all the same.
        Value::Null if reply.status >= 400 => {
            assert_eq!(media, Some("application/problem+json"), "{shown}");
            return fits("Problem", &reply.json(), &shown);
        }
        Value::Null => panic!("an undocumented status: {shown}"),
        written => written,
    };
    for (name, _) in &reply.headers {
        let common = [
            "allow",
            "cache-control",
            "connection",
            "content-length",
            "content-type",
            "date",
            "server",
            "vary",
        ];
        let is_cors = name.starts_with("access-control-");
        let mut headers = written["headers"].as_object().unwrap().keys();
        let is_written = headers.any(|written| written.eq_ignore_ascii_case(name));
        assert!(
            common.contains(&name.as_str()) || is_cors || is_written,
            "{name}: {shown}"
        );
    }
    match written["content"].as_object() {
        None => assert_eq!(reply.body, "", "{shown}"),
        Some(content) => {
            let (written, schema) = content.iter().next().unwrap();
            assert_eq!(media, Some(written.as_str()), "{shown}");
            is(&schema["schema"], &reply.json(), &shown);
        }
    }
}

fn fits(name: &str, value: &Value, shown: &str) {
    is(
        &json!({ "$ref": format!("#/components/schemas/{name}") }),
        value,
        shown,
    );
}

fn is(schema: &Value, value: &Value, shown: &str) {
    if let Err(why) = valid(schema, value) {
        panic!("{why}: {shown}");
    }
}

/// Those words of JSON Schema that the document uses; and no property that it does not have.
fn valid(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = VALUE.pointer(reference.trim_start_matches('#'));
        return valid(target.unwrap(), value).map_err(|why| format!("{reference}: {why}"));
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let whys: Vec<_> = either
            .iter()
            .filter_map(|one| valid(one, value).err())
            .collect();
        return match either.len() - whys.len() {
            1 => Ok(()),
            fitting => Err(format!("{fitting} of the schemas fit: {whys:?}")),
        };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = &schema["type"];
    let one_of = |kinds: &Vec<Value>| kinds.iter().any(|known| known == kind);
    if allowed != kind && !allowed.as_array().is_some_and(one_of) {
        return Err(format!("{value} is no {allowed}"));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|values| !values.contains(value))
    {
        return Err(format!("{value} is not in {}", schema["enum"]));
    }
    let above = |bound: &str, of: u64| schema[bound].as_u64().is_some_and(|bound| of > bound);
    let below = |bound: &str, of: u64| schema[bound].as_u64().is_some_and(|bound| of < bound);
    if let Some(number) = value.as_u64()
        && (above("maximum", number) || below("minimum", number))
    {
        return Err(format!("{number} is out of bounds"));
    }
    if let Some(length) = value.as_str().map(|text| text.chars().count() as u64)
        && (above("maxLength", length) || below("minLength", length))
    {
        return Err(format!("{value} is too long or too short"));
    }
    for item in value.as_array().into_iter().flatten() {
        valid(&schema["items"], item)?;
    }
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, value) in object {
        let schema = schema["properties"].get(name);
        let schema = schema.ok_or_else(|| format!("{name} is not documented"))?;
        valid(schema, value).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

#[test]
fn what_is_not_documented_is_noticed() {
    let grant = json!({"released": true, "message": null});
    let either = json!({"oneOf": [
        {"$ref": "#/components/schemas/ReleaseResponse"},
        {"$ref": "#/components/schemas/Problem"},
    ]});
    assert_eq!(valid(&either, &grant), Ok(()));
    for (field, wrong) in [
        ("released", json!(false)),
        ("released", json!("true")),
        ("message", json!("so")),
        ("more", json!(1)),
    ] {
        let mut answer = grant.clone();
        answer[field] = wrong;
        assert!(valid(&either, &answer).is_err(), "{answer}");
    }
    assert!(valid(&either, &json!({"released": true})).is_err());
}

#[tokio::test]
async fn what_is_served_is_what_is_documented() {
    let app = App::new(
        Fake::new(Answer::Grant),
        Limits::default(),
        Access::default(),
    );
    let all: BTreeSet<&str> = app
        .paths()
        .iter()
        .copied()
        .filter(|path| !ABOUT.contains(path))
        .collect();
    let paths = VALUE["paths"].as_object().unwrap();
    assert_eq!(all, paths.keys().map(String::as_str).collect());

    let server = Server::start(Answer::Grant).await;
    for (path, item) in paths {
        // A path tells its methods to whoever asks for one that it has not.
        let reply = server.call("OPTIONS", path, ADMIN_TOKEN, None).await;
        let methods: BTreeSet<String> = reply
            .header("allow")
            .unwrap()
            .split(',')
            .map(str::to_lowercase)
            .collect();
        let mut documented: BTreeSet<String> = item.as_object().unwrap().keys().cloned().collect();
        if documented.contains("get") {
            documented.insert("head".into());
        }
        assert_eq!(methods, documented, "{path}");
    }
}

/// Those that may be left out too, which [`check`] would not miss.
#[tokio::test]
async fn every_documented_property_of_a_success_is_there() {
    let server = Server::start(Answer::Grant).await;
    let licence = r#"{"name":"a"}"#;
    for (method, path, bearer, body, name) in [
        (
            "POST",
            "/lock/acquire",
            crate::fake::API_KEY,
            Some(r#"{"key":"k"}"#),
            "AcquireResponse",
        ),
        (
            "POST",
            "/lock/extend",
            crate::fake::API_KEY,
            Some(r#"{"key":"k","uuid":"u","extendBy":1}"#),
            "ExtendResponse",
        ),
        (
            "POST",
            "/lock/release",
            crate::fake::API_KEY,
            Some(r#"{"key":"k","uuid":"u"}"#),
            "ReleaseResponse",
        ),
        ("GET", "/v1/locks", crate::fake::API_KEY, None, "LocksPage"),
        ("GET", "/v1/locks/k", crate::fake::API_KEY, None, "LockView"),
        (
            "GET",
            "/v1/cluster",
            crate::fake::API_KEY,
            None,
            "ClusterStatus",
        ),
        ("GET", "/livez", "", None, "Liveness"),
        ("GET", "/readyz", "", None, "Readiness"),
        (
            "POST",
            "/api-key",
            "",
            Some(r#"{"licenceKey":"evl_right"}"#),
            "ApiKeyResponse",
        ),
        (
            "POST",
            "/admin/licences",
            ADMIN_TOKEN,
            Some(licence),
            "CreateLicenceResponse",
        ),
        ("GET", "/admin/licences", ADMIN_TOKEN, None, "LicencesPage"),
        ("GET", "/admin/licences/lic_1", ADMIN_TOKEN, None, "Licence"),
        (
            "GET",
            "/admin/licences/lic_1/usage",
            ADMIN_TOKEN,
            None,
            "Usage",
        ),
    ] {
        let reply = server.call(method, path, bearer, body).await;
        let shown = format!("{method} {path}: {reply:?}");
        assert!(reply.status < 300, "{shown}");
        let answer = reply.json();
        fits(name, &answer, &shown);
        let documented = VALUE["components"]["schemas"][name]["properties"]
            .as_object()
            .unwrap();
        let documented: BTreeSet<_> = documented.keys().collect();
        assert_eq!(
            answer.as_object().unwrap().keys().collect::<BTreeSet<_>>(),
            documented,
            "{shown}"
        );
    }
}

/// Each number, at its documented bounds and just past them.
#[tokio::test]
async fn bounds_are_where_they_are_documented() {
    let server = Server::start(Answer::Grant).await;
    for (path, bearer, name, plain) in [
        // The waiting window has a bound of its own, far below that of its parts together.
        (
            "/lock/acquire",
            crate::fake::API_KEY,
            "AcquireRequest",
            json!({"key": "k", "retryAttempts": 1, "retryDelay": 0}),
        ),
        (
            "/lock/extend",
            crate::fake::API_KEY,
            "ExtendRequest",
            json!({"key": "k", "uuid": "u", "extendBy": 1}),
        ),
        (
            "/lock/release",
            crate::fake::API_KEY,
            "ReleaseRequest",
            json!({"key": "k", "uuid": "u"}),
        ),
        (
            "/admin/licences",
            ADMIN_TOKEN,
            "CreateLicenceRequest",
            json!({"name": "n"}),
        ),
    ] {
        let schema = &VALUE["components"]["schemas"][name];
        let ask = async |field: &str, value: Value| {
            let mut body = plain.clone();
            body[field] = value;
            server
                .call("POST", path, bearer, Some(&body.to_string()))
                .await
                .status
                < 300
        };
        for (field, written) in schema["properties"].as_object().unwrap() {
            let shown = format!("{name} {field}");
            let required = schema["required"]
                .as_array()
                .unwrap()
                .contains(&json!(field));
            assert_eq!(ask(field, Value::Null).await, !required, "{shown}");
            if let Some(default) = written.get("default") {
                assert!(ask(field, default.clone()).await, "{shown}");
            }
            if let (Some(min), Some(max)) =
                (written["minimum"].as_u64(), written["maximum"].as_u64())
            {
                assert!(
                    ask(field, json!(min)).await && ask(field, json!(max)).await,
                    "{shown}"
                );
                assert!(!ask(field, json!(max + 1)).await, "{shown}");
                assert!(min == 0 || !ask(field, json!(min - 1)).await, "{shown}");
            }
            if let Some(max) = written["maxLength"].as_u64() {
                let long = |length: u64| json!("a".repeat(usize::try_from(length).unwrap()));
                assert!(ask(field, long(max)).await, "{shown}");
                assert!(
                    !ask(field, long(max + 1)).await && !ask(field, long(0)).await,
                    "{shown}"
                );
            }
            for word in written["enum"].as_array().into_iter().flatten() {
                assert!(ask(field, word.clone()).await, "{shown} {word}");
            }
        }
    }
}
