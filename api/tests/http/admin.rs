//! `/admin/licences`: the operator's.

use evermind_api::SecretKind;
use evermind_lock::outcome::{Outcome, Refusal};
use serde_json::json;

use crate::fake::{API_KEY, Answer};
use crate::server::{ADMIN_TOKEN, Reply, Server};

async fn admin(server: &Server, method: &str, path: &str, body: Option<&str>) -> Reply {
    server.call(method, path, ADMIN_TOKEN, body).await
}

#[tokio::test]
async fn a_licence_is_issued_and_its_key_told_once() {
    let server = Server::start(Answer::Grant).await;
    let body = r#"{"name":"acme team","identity":"acme","limit":1000,"period":"none","expires":"2999-01-31"}"#;
    let reply = admin(&server, "POST", "/admin/licences", Some(body)).await;
    assert_eq!(reply.status, 201);
    let issued = reply.json();
    assert_eq!(
        (&issued["id"], &issued["identity"]),
        (&json!("lic_7"), &json!("acme"))
    );
    let key = issued["licenceKey"].as_str().unwrap();
    assert!(key.starts_with("evl_"));
    assert_eq!(SecretKind::LicenceKey.fault(key), None);

    // What is left out: an identity of its own, no limit, by month, without end.
    let issued = admin(&server, "POST", "/admin/licences", Some(r#"{"name":"b"}"#)).await;
    let identity = issued.json()["identity"].as_str().unwrap().to_owned();
    assert_eq!(identity.len(), "id-".len() + 16);
    assert_eq!(
        server.fake.commands(),
        [
            "create licence acme team acme Some(1000) None Some(32474736000000)".to_owned(),
            format!("create licence b {identity} None Month None"),
        ]
    );
}

#[tokio::test]
async fn what_a_licence_cannot_be() {
    let server = Server::start(Answer::Grant).await;
    for (body, words) in [
        ("{}", "name is required"),
        (r#"{"name":""}"#, "name must be 1 to 128 bytes"),
        (r#"{"name":"a","identity":"a b"}"#, "identity"),
        (r#"{"name":"a","limit":-1}"#, "limit must be a whole number"),
        (
            r#"{"name":"a","limit":9007199254740992}"#,
            "limit must be a whole number",
        ),
        (
            r#"{"name":"a","period":"week"}"#,
            "period must be month or none",
        ),
        (
            r#"{"name":"a","expires":"2001-01-01"}"#,
            "expires must be in the future",
        ),
        (r#"{"name":"a","expires":"soon"}"#, "expires must be a date"),
        (r#"{"name":"a","key":"k"}"#, "not a field"),
    ] {
        let reply = admin(&server, "POST", "/admin/licences", Some(body)).await;
        assert_eq!(
            (reply.status, &*reply.code()),
            (400, "invalid_request"),
            "{body}"
        );
        assert!(
            reply.message().contains(words),
            "{body}: {}",
            reply.message()
        );
    }
    assert!(server.fake.commands().is_empty());
}

#[tokio::test]
async fn a_page_of_licences_leads_to_the_next() {
    let server = Server::start(Answer::Grant).await;
    let page = admin(&server, "GET", "/admin/licences?limit=2", None)
        .await
        .json();
    assert_eq!(page["licences"].as_array().unwrap().len(), 2);
    assert_eq!(page["cursor"], "lic_2");
    assert!(page["licences"][0].get("keys").is_none());
    let last = admin(&server, "GET", "/admin/licences?cursor=lic_4", None)
        .await
        .json();
    assert_eq!(last["licences"][0]["id"], "lic_5");
    assert_eq!(last["cursor"], json!(null));
    for query in ["cursor=5", "limit=0", "limit=1001", "prefix=a"] {
        let reply = admin(&server, "GET", &format!("/admin/licences?{query}"), None).await;
        assert_eq!(reply.status, 400, "{query}");
    }
}

#[tokio::test]
async fn one_licence_its_keys_and_its_usage() {
    let server = Server::start(Answer::Grant).await;
    let shown = admin(&server, "GET", "/admin/licences/lic_3", None).await;
    assert_eq!(
        shown.json(),
        json!({
            "id": "lic_3", "name": "acme team", "identity": "acme", "status": "active",
            "builtIn": false, "limit": 1000, "period": "month", "used": 310,
            "periodStart": "1970-01-01T00:00:00Z", "created": "1970-01-01T00:00:00Z",
            "expires": null, "revoked": null, "apiKeys": 1,
            "keys": [{"id": "key_12", "created": "1970-01-01T00:00:00Z", "lastUsed": "1970-01-02T00:00:00Z"}]
        })
    );
    let usage = admin(&server, "GET", "/admin/licences/lic_3/usage", None).await;
    assert_eq!(
        usage.json(),
        json!({
            "used": 310, "limit": 1000, "periodStart": "1970-01-01T00:00:00Z",
            "periodEnd": "1970-02-01T00:00:00Z", "forecast": 961, "previous": []
        })
    );
    for path in ["lic_9", "lic_9/usage", "3", "lic_03"] {
        let reply = admin(&server, "GET", &format!("/admin/licences/{path}"), None).await;
        assert_eq!(
            (reply.status, &*reply.code()),
            (404, "licence_not_found"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_licence_is_revoked() {
    let server = Server::start(Answer::Grant).await;
    let reply = admin(&server, "DELETE", "/admin/licences/lic_3", None).await;
    assert_eq!((reply.status, &*reply.body), (204, ""));
    assert_eq!(server.fake.commands(), ["revoke 3"]);
    let unknown = Outcome::Refused(Refusal::LicenceNotFound);
    server.fake.answer(Answer::Outcome(unknown));
    let reply = admin(&server, "DELETE", "/admin/licences/lic_99", None).await;
    assert_eq!((reply.status, &*reply.code()), (404, "licence_not_found"));
}

#[tokio::test]
async fn a_key_is_deleted_by_its_name() {
    let server = Server::start(Answer::Grant).await;
    let reply = admin(&server, "DELETE", "/admin/licences/lic_3/keys/key_12", None).await;
    assert_eq!((reply.status, &*reply.body), (204, ""));
    assert_eq!(server.fake.commands(), ["delete key 12 of 3"]);
    for (path, code) in [
        ("lic_3/keys/12", "api_key_not_found"),
        ("3/keys/key_12", "licence_not_found"),
    ] {
        let path = format!("/admin/licences/{path}");
        let reply = admin(&server, "DELETE", &path, None).await;
        assert_eq!((reply.status, &*reply.code()), (404, code), "{path}");
    }
}

#[tokio::test]
async fn only_the_admin_token_opens_these_routes() {
    let server = Server::start(Answer::Grant).await;
    for path in [
        "/admin/licences",
        "/admin/licences/lic_1",
        "/admin/licences/lic_1/usage",
    ] {
        for bearer in ["", API_KEY, "fedcba9876543210fedcba9876543210"] {
            let reply = server.call("GET", path, bearer, None).await;
            assert_eq!(
                (reply.status, &*reply.code()),
                (401, "unauthorized"),
                "{path}"
            );
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    // And it opens no others.
    let reply = server.call("GET", "/v1/cluster", ADMIN_TOKEN, None).await;
    assert_eq!(reply.status, 401);
    assert!(server.fake.looks().is_empty() && server.fake.commands().is_empty());
}
