use super::*;

const MADE: &str = r#"{"apiKey":"evk_1","id":"key_7"}"#;
const NO_LEADER: &str = r#"{"code":"no_leader","message":"nothing was done"}"#;
const UNKNOWN: &str = r#"{"code":"outcome_unknown","message":"nobody knows"}"#;
const NO_SUCH_KEY: &str = r#"{"code":"api_key_not_found","message":"no such API key"}"#;

fn keyless(urls: &[&str]) -> Client {
    Client::without_key(urls)
        .unwrap()
        .in_order()
        .with_answer_grace(Duration::from_millis(300))
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_key_is_asked_for_again_where_nothing_was_done() {
    let leaderless = Node::new(vec![Step::Answer(503, NO_LEADER)]).await;
    let busy = Node::new(vec![Step::ComeAgain(0)]).await;
    let good = Node::new(vec![Step::Answer(200, MADE)]).await;
    let client = keyless(&[&nobody().await, &leaderless.url, &busy.url, &good.url]);
    let made = client.create_api_key("evl_1").await.unwrap();
    assert_eq!(
        (made.value.api_key, made.value.id),
        ("evk_1".into(), "key_7".into())
    );
    let seen = &good.seen()[0];
    assert_eq!(seen.line, "POST /api-key HTTP/1.1");
    assert_eq!(seen.body, json!({ "licenceKey": "evl_1" }));
    assert_eq!(seen.header("authorization"), "");
    assert_eq!(seen.header("idempotency-key"), "");
}

#[tokio::test]
async fn a_key_that_may_have_been_made_is_not_asked_for_again() {
    for step in [
        Step::Answer(504, UNKNOWN),
        Step::Answer(500, "{}"),
        Step::Proxy(502),
        Step::Proxy(503),
        Step::Hang,
        Step::Silence,
    ] {
        let unsure = Node::new(vec![step]).await;
        let other = Node::new(vec![Step::Answer(200, MADE)]).await;
        let client = keyless(&[&unsure.url, &other.url]);
        let Err(error) = client.create_api_key("evl_1").await else {
            panic!("nobody may say that it was made");
        };
        assert!(matches!(error, Error::MayBeMade { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("an API key may have been made"),
            "{error}"
        );
        assert!(other.seen().is_empty());
    }
}

#[tokio::test]
async fn a_refusal_says_that_nothing_was_made() {
    let body = r#"{"code":"licence_inactive","message":"revoked"}"#;
    let node = Node::new(vec![Step::Answer(403, body)]).await;
    let error = keyless(&[&node.url]).create_api_key("evl_1").await.err();
    assert_eq!(error.unwrap().code(), Some(&Code::LicenceInactive));
}

#[tokio::test]
async fn a_deletion_is_repeated_whatever_happened() {
    let steps = [
        Step::Hang,
        Step::Answer(504, UNKNOWN),
        Step::Answer(204, ""),
    ];
    let node = Node::new(steps.into()).await;
    keyless(&[&node.url])
        .delete_api_key("evl_1", "evk_1")
        .await
        .unwrap();
    let seen = node.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].line, "DELETE /api-key HTTP/1.1");
    let body = json!({ "licenceKey": "evl_1", "apiKey": "evk_1" });
    assert!(seen.iter().all(|seen| seen.body == body));
}

#[tokio::test]
async fn a_key_of_another_licence_is_not_there() {
    let node = Node::new(vec![Step::Answer(404, NO_SUCH_KEY)]).await;
    let deleting = keyless(&[&node.url]).delete_api_key("evl_1", "evk_1").await;
    assert_eq!(deleting.unwrap_err().code(), Some(&Code::ApiKeyNotFound));
}

#[tokio::test]
async fn licences_are_the_operators() {
    let made = r#"{"id":"lic_2","identity":"id-1","licenceKey":"evl_1"}"#;
    let page = r#"{"licences":[],"cursor":"lic_2"}"#;
    let steps = [
        Step::Answer(201, made),
        Step::Answer(200, page),
        Step::Answer(204, ""),
        Step::Hang,
    ];
    let node = Node::new(steps.into()).await;
    let client = Client::admin([&node.url], "a-token").unwrap();
    let licence = NewLicence {
        name: "a".into(),
        limit: Some(5),
        ..NewLicence::default()
    };
    let answer = client.create_licence(&licence).await.unwrap();
    assert_eq!(answer.value.licence_key, "evl_1");
    let page = client.licences(Some("lic_1")).await.unwrap();
    assert_eq!(page.value.cursor.as_deref(), Some("lic_2"));
    client.revoke_licence("lic/2").await.unwrap();
    let error = client.create_licence(&licence).await.err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("a licence may have been made"),
        "{error}"
    );

    let seen = node.seen();
    assert_eq!(seen[0].line, "POST /admin/licences HTTP/1.1");
    assert_eq!(seen[0].body, json!({ "name": "a", "limit": 5 }));
    assert_eq!(
        seen[1].line,
        "GET /admin/licences?limit=1000&cursor=lic_1 HTTP/1.1"
    );
    assert_eq!(seen[2].line, "DELETE /admin/licences/lic%2F2 HTTP/1.1");
    assert!(
        seen.iter()
            .all(|seen| seen.header("authorization") == "Bearer a-token")
    );
    assert!(matches!(
        Client::admin(["http://a:1"], ""),
        Err(Error::AdminToken)
    ));
}
