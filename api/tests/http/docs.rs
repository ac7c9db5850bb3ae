//! The document and the page to read it on.

use serde_json::Value;

use crate::documented::DOCUMENT;
use crate::fake::Answer;
use crate::server::Server;

/// Without a key.
async fn get(server: &Server, path: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    let bytes = server.raw(head).await;
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    });
    (status, headers.collect(), bytes[end + 4..].to_vec())
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn the_document_needs_no_key() {
    let server = Server::start(Answer::Grant).await;
    let (status, headers, body) = get(&server, "/openapi.json").await;
    assert_eq!(status, 200);
    assert_eq!(header(&headers, "content-type"), Some("application/json"));
    assert_eq!(body, DOCUMENT.as_bytes());
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_page_asks_for_nothing_that_is_not_here() {
    let server = Server::start(Answer::Grant).await;
    let (status, headers, _) = get(&server, "/docs").await;
    assert_eq!((status, header(&headers, "location")), (308, Some("docs/")));

    let (status, headers, page) = get(&server, "/docs/").await;
    assert_eq!(status, 200);
    assert_eq!(
        header(&headers, "content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(header(&headers, "cache-control"), Some("no-store"));
    let policy = header(&headers, "content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; "),
        "{policy}"
    );
    let page = String::from_utf8(page).unwrap();
    assert!(
        !page.contains("://") && !page.contains("<script>"),
        "{page}"
    );

    let mut links = 0;
    for link in page.split(['"', '\'']).filter(|text| text.contains('?')) {
        links += 1;
        let (name, _) = link.split_once('?').unwrap();
        let (status, headers, body) = get(&server, &format!("/docs/{link}")).await;
        assert_eq!(status, 200, "{link}");
        assert!(body.len() > 100, "{link}");
        assert_eq!(
            header(&headers, "x-content-type-options"),
            Some("nosniff"),
            "{link}"
        );
        // Kept for ever under this name, whose checksum another version would not have.
        let cache = header(&headers, "cache-control");
        assert_eq!(cache, Some("public, max-age=31536000, immutable"), "{link}");
        let (_, headers, _) = get(&server, &format!("/docs/{name}")).await;
        assert_eq!(
            header(&headers, "cache-control"),
            Some("no-store"),
            "{name}"
        );
    }
    assert_eq!(links, 4, "{page}");

    for path in [
        "/docs/index.html",
        "/docs/oauth2-redirect.html",
        "/docs/a/b",
        "/docs/%2e%2e",
    ] {
        assert_eq!(get(&server, path).await.0, 404, "{path}");
    }
}
