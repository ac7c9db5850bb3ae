//! What a caller can send: bodies, queries, path segments, headers.
//!
//! Each request goes through the whole edge to a node that records what reaches it. What a request
//! comes to is foretold by a reader of its own here, written from the contract and not from the
//! code; no answer is without its form, and no command without its bounds.

mod backend;
mod contract;

use std::net::IpAddr;

use arbitrary::{Arbitrary, Unstructured};
use axum::body::Body;
use evermind_api::{Access, AdminToken, App, Limits};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use self::backend::{API_KEY, Backend, LICENCE_KEY, Seen};
use self::contract::{Expected, key_text};
use crate::memory::Memory;
use crate::runtime;

const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The numbers at which a field's value becomes wrong.
const BOUNDS: [u64; 8] = [0, 1, 1_000, 60_000, 600_000, 86_400_000, 1 << 53, u64::MAX];
/// Bytes that answering one request may take, beside four times its own.
const ANSWERING_BYTES: usize = 1 << 20;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    route: Route<'a>,
    auth: Auth<'a>,
    content_type: ContentType<'a>,
    idempotency: Option<&'a [u8]>,
    body: Json<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Route<'a> {
    Acquire,
    Extend,
    Release,
    CreateKey,
    DeleteKey,
    CreateLicence,
    /// A key, encoded as it should be.
    Lock(&'a str),
    /// A path segment and a query as they are.
    LockRaw(&'a [u8], &'a [u8]),
    Locks(&'a [u8]),
    Licences(&'a [u8]),
    Licence(&'a [u8]),
    /// Any path.
    Path(&'a [u8]),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Auth<'a> {
    Right,
    None,
    Raw(&'a [u8]),
    Twice,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum ContentType<'a> {
    Json,
    JsonUtf8,
    None,
    Raw(&'a [u8]),
}

#[derive(Debug, Clone, Arbitrary)]
enum Json<'a> {
    Raw(&'a [u8]),
    Object(Vec<(Property<'a>, Is<'a>)>),
    /// So many bytes of blanks before an object.
    Long(u32),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Property<'a> {
    Key,
    Lease,
    RetryAttempts,
    RetryDelay,
    RetryJitter,
    Uuid,
    SoftFail,
    Fifo,
    ExtendBy,
    LicenceKey,
    ApiKey,
    LicenceName,
    Identity,
    Limit,
    Period,
    Expires,
    Other(&'a str),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Is<'a> {
    Text(&'a str),
    Number(u64),
    Small(u16),
    /// A bound of the contract, or some numbers from it.
    Near(u8, i8),
    Negative(i32),
    True,
    False,
    Null,
    Month,
    Date(u16, u8, u8),
    RightKey,
    RightLicence,
    /// Written as it is, quotes and all.
    Raw(&'a str),
}

impl Property<'_> {
    fn text(&self) -> &str {
        match self {
            Property::Key => "key",
            Property::Lease => "lease",
            Property::RetryAttempts => "retryAttempts",
            Property::RetryDelay => "retryDelay",
            Property::RetryJitter => "retryJitter",
            Property::Uuid => "uuid",
            Property::SoftFail => "softFail",
            Property::Fifo => "fifo",
            Property::ExtendBy => "extendBy",
            Property::LicenceKey => "licenceKey",
            Property::ApiKey => "apiKey",
            Property::LicenceName => "name",
            Property::Identity => "identity",
            Property::Limit => "limit",
            Property::Period => "period",
            Property::Expires => "expires",
            Property::Other(name) => name,
        }
    }
}

impl Is<'_> {
    fn text(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("a string");
        match self {
            Is::Text(text) => quoted(text),
            Is::Number(number) => number.to_string(),
            Is::Small(number) => number.to_string(),
            Is::Near(which, off) => {
                let bound = BOUNDS[usize::from(*which) % BOUNDS.len()];
                (i128::from(bound) + i128::from(off / 16)).to_string()
            }
            Is::Negative(number) => number.to_string(),
            Is::True => "true".into(),
            Is::False => "false".into(),
            Is::Null => "null".into(),
            Is::Month => quoted("month"),
            Is::Date(year, month, day) => quoted(&format!(
                "{:04}-{:02}-{:02}",
                year % 10_000,
                month % 14,
                day % 33
            )),
            Is::RightKey => quoted(API_KEY),
            Is::RightLicence => quoted(LICENCE_KEY),
            Is::Raw(text) => (*text).into(),
        }
    }
}

impl Json<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Json::Raw(bytes) => bytes.to_vec(),
            Json::Object(fields) => {
                let field = |(name, is): &(Property<'_>, Is<'_>)| {
                    let name = serde_json::to_string(name.text()).expect("a string");
                    format!("{name}:{}", is.text())
                };
                let fields: Vec<String> = fields.iter().map(field).collect();
                format!("{{{}}}", fields.join(",")).into_bytes()
            }
            Json::Long(blanks) => {
                let blanks = usize::try_from(blanks % 80_000).expect("64 bits");
                let mut bytes = vec![b' '; blanks];
                bytes.extend_from_slice(br#"{"key":"k"}"#);
                bytes
            }
        }
    }
}

impl Route<'_> {
    fn method(self) -> Method {
        match self {
            Route::DeleteKey => Method::DELETE,
            Route::Acquire
            | Route::Extend
            | Route::Release
            | Route::CreateKey
            | Route::CreateLicence => Method::POST,
            _ => Method::GET,
        }
    }

    fn uri(self) -> Vec<u8> {
        let with = |path: &str, query: &[u8]| [path.as_bytes(), b"?", query].concat();
        match self {
            Route::Acquire => b"/lock/acquire".to_vec(),
            Route::Extend => b"/lock/extend".to_vec(),
            Route::Release => b"/lock/release".to_vec(),
            Route::CreateKey | Route::DeleteKey => b"/api-key".to_vec(),
            Route::CreateLicence => b"/admin/licences".to_vec(),
            Route::Lock(key) => {
                let encoded = key.bytes().map(|byte| format!("%{byte:02X}"));
                format!("/v1/locks/{}", encoded.collect::<String>()).into_bytes()
            }
            Route::LockRaw(segment, query) => [b"/v1/locks/", segment, b"?", query].concat(),
            Route::Locks(query) => with("/v1/locks", query),
            Route::Licences(query) => with("/admin/licences", query),
            Route::Licence(id) => [b"/admin/licences/", id].concat(),
            Route::Path(path) => [b"/", path].concat(),
        }
    }

    fn is_admin(self) -> bool {
        matches!(
            self,
            Route::CreateLicence | Route::Licences(_) | Route::Licence(_)
        )
    }

    /// Whether it is one of the three whose every answer can be foretold.
    fn fields(self) -> Option<&'static [contract::Field]> {
        match self {
            Route::Acquire => Some(contract::ACQUIRE),
            Route::Extend => Some(contract::EXTEND),
            Route::Release => Some(contract::RELEASE),
            _ => None,
        }
    }
}

/// One input.
pub fn run(input: &[u8]) {
    let length = input.len();
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let body = input.body.bytes();
    let Some(request) = request(&input, &body) else {
        return;
    };
    let is_right = is_authorised(&input, request.headers());
    let is_json = matches!(
        input.content_type,
        ContentType::Json | ContentType::JsonUtf8
    );
    let idempotency = request.headers().get("idempotency-key").cloned();
    let sent = [body.as_slice(), request.uri().to_string().as_bytes()].concat();
    let may_repeat = String::from_utf8_lossy(&sent).into_owned();

    let backend = Backend::default();
    let memory = Memory::watch();
    let (status, headers, answer) = runtime::block_on(ask(&backend, request));
    memory.at_most(ANSWERING_BYTES + 8 * (length + body.len()));
    let seen = backend.seen();

    check_form(status, &headers, &answer);
    check_secrets(input.route, &may_repeat, &answer);
    for command in &seen {
        command.check();
    }
    if !is_right && needs_key(input.route) {
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{input:?}");
    }
    if status.is_client_error() {
        assert!(
            seen.is_empty(),
            "{status} of what was carried out: {input:?}"
        );
    }
    if let Route::Lock(key) = input.route
        && is_right
    {
        if key_text(key) {
            assert_eq!(seen, [Seen::Look(key.into())]);
        } else {
            // An empty segment is another path.
            assert!(status.is_client_error() && seen.is_empty());
        }
    }
    if let Some(fields) = input.route.fields()
        && is_right
        && is_json
    {
        foretold(fields, &body, idempotency.as_ref(), status, &answer, &seen);
    }
}

fn needs_key(route: Route<'_>) -> bool {
    let lock = matches!(route, Route::Acquire | Route::Extend | Route::Release);
    lock || matches!(
        route,
        Route::Locks(_) | Route::CreateLicence | Route::Licences(_)
    )
}

fn request(input: &Input<'_>, body: &[u8]) -> Option<Request<Body>> {
    let uri = input.route.uri();
    let mut request = Request::builder()
        .method(input.route.method())
        .uri(uri.as_slice())
        .header("host", "a");
    let secret = if input.route.is_admin() {
        ADMIN_TOKEN
    } else {
        API_KEY
    };
    let bearer = format!("Bearer {secret}");
    request = match input.auth {
        Auth::Right => request.header("authorization", bearer),
        Auth::None => request,
        Auth::Raw(value) => request.header("authorization", value),
        Auth::Twice => request
            .header("authorization", bearer.clone())
            .header("authorization", bearer),
    };
    request = match input.content_type {
        ContentType::Json => request.header("content-type", "application/json"),
        ContentType::JsonUtf8 => request.header("content-type", "Application/JSON; charset=UTF-8"),
        ContentType::None => request,
        ContentType::Raw(value) => request.header("content-type", value),
    };
    if let Some(key) = input.idempotency {
        request = request.header("idempotency-key", key);
    }
    request.body(Body::from(body.to_vec())).ok()
}

/// By the contract: `Authorization: Bearer <key>`, once.
fn is_authorised(input: &Input<'_>, headers: &HeaderMap) -> bool {
    let secret = if input.route.is_admin() {
        ADMIN_TOKEN
    } else {
        API_KEY
    };
    let values: Vec<&HeaderValue> = headers.get_all("authorization").iter().collect();
    let [value] = values[..] else {
        return false;
    };
    let value = value.as_bytes();
    value.len() > 7
        && value[..7].eq_ignore_ascii_case(b"bearer ")
        && &value[7..] == secret.as_bytes()
}

async fn ask(backend: &Backend, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let access = Access {
        admin: AdminToken::new(ADMIN_TOKEN).ok(),
        origins: Vec::new(),
    };
    let app = App::new(backend.clone(), Limits::default(), access);
    let (head, body) = app
        .call(request, IpAddr::from([127, 0, 0, 1]))
        .await
        .into_parts();
    let body = body.collect().await.expect("an answer has its body");
    (head.status, head.headers, body.to_bytes().to_vec())
}

/// Every answer is of one form: a failure says so twice, and alike.
fn check_form(status: StatusCode, headers: &HeaderMap, answer: &[u8]) {
    assert!(!status.is_server_error(), "{status}");
    assert!(headers.contains_key("x-request-id"));
    if status.is_client_error() {
        assert_eq!(headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(answer).expect("a problem is JSON");
        assert_eq!(problem["status"], status.as_u16());
        for field in ["type", "title", "detail", "code", "requestId"] {
            let text = problem[field].as_str();
            assert!(
                text.is_some_and(|text| !text.is_empty()),
                "{field}: {problem}"
            );
        }
        // RFC 9110, section 15.5.2.
        let is_challenged = headers.contains_key("www-authenticate");
        assert_eq!(is_challenged, status == StatusCode::UNAUTHORIZED);
        assert!(answer.len() < 4 << 10, "a message is short");
    }
}

/// No answer has a secret that its request carried where secrets belong. A caller that writes one
/// into a lock's key or another field has that field repeated to itself; where bodies carry secrets,
/// nothing of them is repeated.
fn check_secrets(route: Route<'_>, sent: &str, answer: &[u8]) {
    let is_strict = matches!(route, Route::CreateKey | Route::DeleteKey);
    let text = String::from_utf8_lossy(answer);
    for secret in [API_KEY, LICENCE_KEY, ADMIN_TOKEN] {
        let may_be_there = !is_strict && sent.contains(secret);
        assert!(may_be_there || !text.contains(secret), "a secret in {text}");
    }
}

/// A lock request with the right key and content type comes to what the contract says.
fn foretold(
    fields: &[contract::Field],
    body: &[u8],
    idempotency: Option<&HeaderValue>,
    status: StatusCode,
    answer: &[u8],
    seen: &[Seen],
) {
    let expected = contract::expected(fields, body, idempotency);
    match expected {
        Expected::TooLarge => assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE),
        Expected::Invalid { is_soft: false } => {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{}", shown(body, answer));
        }
        Expected::Invalid { is_soft: true } => {
            assert_eq!(status, StatusCode::OK, "{}", shown(body, answer));
            let answer: Value = serde_json::from_slice(answer).expect("JSON");
            assert_eq!(answer["status"], 400);
            assert!(seen.is_empty());
        }
        Expected::Valid(values) => {
            assert_eq!(status, StatusCode::OK, "{}", shown(body, answer));
            let [seen] = seen else {
                panic!("{seen:?} of one request");
            };
            seen.check_against(&values);
        }
    }
}

fn shown(body: &[u8], answer: &[u8]) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{} -> {}", text(body), text(answer))
}
