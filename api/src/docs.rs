//! `GET /openapi.json`, and `GET /docs/`: a page to read it on, which asks nobody but this node.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Request, Response, StatusCode};
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::app::not_found;
use crate::replies::ok;

/// A test compares it with what the sources say.
const DOCUMENT: &str = include_str!("../openapi.json");
const PAGE: &str = include_str!("docs/page.html");
const START: &str = include_str!("docs/start.js");

/// What of Swagger UI the page asks for.
const PARTS: [&str; 3] = [
    "favicon-32x32.png",
    "swagger-ui-bundle.js",
    "swagger-ui.css",
];

/// Nothing from elsewhere, and no script or style but the files above. Swagger UI has icons in
/// `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The checksum of all files, in the page's links: a file under it never changes.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut crc = crc32fast::Hasher::new();
    crc.update(START.as_bytes());
    for part in PARTS.into_iter().filter_map(part) {
        crc.update(&part.bytes);
    }
    format!("{:08x}", crc.finalize())
});

pub(crate) async fn document() -> Response<Body> {
    ok(Body::from(DOCUMENT))
}

/// The page's links are relative to `/docs/`.
pub(crate) async fn redirect() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("docs/"));
    response
}

pub(crate) async fn page() -> Response<Body> {
    let page = PAGE.replace("{version}", &VERSION);
    let mut response = file(page.into(), "text/html; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// One of the files that the page asks for.
pub(crate) async fn asset(request: Request<Body>) -> Response<Body> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let mut response = if name == "start.js" {
        file(START.into(), "text/javascript; charset=utf-8")
    } else if let Some(part) = PARTS.contains(&name).then(|| part(name)).flatten() {
        let mut response = file(bytes(part.bytes), &part.content_type);
        if part.gzpipped {
            // Whatever the caller says it takes: all that show a page take this.
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    } else {
        return not_found(request).await;
    };
    if request.uri().query() == Some(VERSION.as_str()) {
        let for_ever = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(CACHE_CONTROL, for_ever);
    }
    response
}

fn part(name: &str) -> Option<SwaggerFile<'static>> {
    // Only its own initializer, which is not asked for, is made from the configuration.
    let config = Arc::new(Config::default());
    utoipa_swagger_ui::serve(name, config).ok().flatten()
}

fn bytes(part: Cow<'static, [u8]>) -> Bytes {
    match part {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

fn file(bytes: Bytes, media: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    if let Ok(media) = HeaderValue::from_str(media) {
        headers.insert(CONTENT_TYPE, media);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
