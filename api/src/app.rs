//! From one request to one answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{CACHE_CONTROL, CONNECTION, HOST, SERVER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use tower_service::Service;
use uuid::Uuid;

use crate::cors::{Cors, Origin};
use crate::key_routes::PeerAddress;
use crate::limits::{Limits, NAME_HEADER_BYTES_MAX};
use crate::lock_routes::LockRoutes;
use crate::locks::Backend;
use crate::pages::Pages;
use crate::problem::{Asked, Code, Operation, Problem};
use crate::rates::{AddressRate, LicenceRate};
use crate::request_log::RequestLog;
use crate::routes::{Routes, routes};
use crate::secrets::AdminToken;
use crate::shares::Shares;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every handler has.
pub(crate) struct Edge<B> {
    pub(crate) backend: B,
    pub(crate) limits: Limits,
    /// `None`: the admin routes are off.
    pub(crate) admin: Option<AdminToken>,
    pub(crate) licence_rate: Option<LicenceRate>,
    pub(crate) address_rate: AddressRate,
    pub(crate) shares: Shares,
    pub(crate) pages: Arc<Pages>,
}

/// Who may come in, besides whoever has an API key or a licence key.
#[derive(Default)]
pub struct Access {
    /// Opens the admin routes; without one they are off.
    pub admin: Option<AdminToken>,
    /// Pages of these may call from browsers; the admin routes never.
    pub origins: Vec<Origin>,
}

/// The HTTP API of one node. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Past the router, which costs each request a dozen allocations.
    locks: Arc<dyn LockRoutes>,
    router: Router,
    limits: Arc<Limits>,
    /// `None`: no page may call.
    cors: Option<Arc<Cors>>,
    paths: Arc<[&'static str]>,
}

impl App {
    /// The API over `backend`.
    pub fn new<B: Backend>(backend: B, limits: Limits, access: Access) -> Self {
        let edge = Arc::new(Edge {
            backend,
            admin: access.admin,
            licence_rate: (limits.licence_requests_per_second).map(LicenceRate::new),
            shares: Shares::new(limits.connections_max),
            pages: Arc::default(),
            address_rate: AddressRate::new(limits.address_requests_per_second),
            limits: limits.clone(),
        });
        let Routes { router, paths } = routes::<B>();
        let router = router
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(&edge));
        Self {
            locks: edge,
            router,
            limits: Arc::new(limits),
            cors: Cors::new(access.origins).map(Arc::new),
            paths: paths.into(),
        }
    }

    /// Every path that is served, parameters as in `/v1/locks/{key}`.
    pub fn paths(&self) -> &[&'static str] {
        &self.paths
    }

    pub(crate) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Answers a request on a connection beyond the limit: the health paths alone.
    pub(crate) async fn call_beyond_limit(
        &self,
        request: Request<Body>,
        from: IpAddr,
    ) -> Response<Body> {
        let mut response = if matches!(request.uri().path(), "/livez" | "/readyz") {
            self.call(request, from).await
        } else {
            let asked = Asked::new(Operation::of(&request));
            let id = request_id(request.headers());
            let detail = "this node has as many connections as it can serve: use another node, or come back later";
            let mut full = Problem::new(Code::NoLeader, detail)
                .answer(&asked, id.to_str().unwrap_or_default());
            let headers = full.headers_mut();
            headers.insert(SERVER, HeaderValue::from_static("evermind"));
            headers.insert(REQUEST_ID, id);
            full
        };
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// Answers one request that came from this address. Dropping the future is how a caller's
    /// hang-up shows: an acquire that stands in line is given up then.
    pub async fn call(&self, mut request: Request<Body>, from: IpAddr) -> Response<Body> {
        let id = request_id(request.headers());
        // Handlers find the id where a caller's own would be.
        request.headers_mut().insert(REQUEST_ID, id.clone());
        let log = RequestLog::new(&request, id);
        // Hyper reads a request with both lengths by its chunks and drops `Content-Length`, so
        // that one cannot be told from an honest one: neither may be followed by another request
        // on the same connection (RFC 9112, section 6.1).
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let visit = self.cors.as_ref().map(|cors| cors.visit(&request));
        let mut response = match one_host(&request).and_then(|()| plain_chunks(&request)) {
            Ok(()) => match Operation::of(&request) {
                Operation::Other => {
                    request.extensions_mut().insert(PeerAddress(from));
                    // The router is a service that is always ready.
                    match self.router.clone().call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    }
                }
                operation => Arc::clone(&self.locks).answer(operation, request).await,
            },
            Err(problem) => problem
                .closing()
                .answer(&Asked::new(Operation::Other), log.id()),
        };
        if let Some(visit) = visit {
            response = visit.answer(response);
        }
        let id = log.answered(response.status());
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        headers.insert(SERVER, HeaderValue::from_static("evermind"));
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        if chunked {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The id under which a request is answered and logged.
pub(crate) fn id_in(headers: &HeaderMap) -> &str {
    // Checked or made by `request_id`, and text.
    let id = headers.get(REQUEST_ID).map(HeaderValue::to_str);
    id.and_then(Result::ok).unwrap_or_default()
}

/// The caller's own id if it is fit to be repeated, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut values = headers.get_all(REQUEST_ID).iter();
    if let (Some(value), None) = (values.next(), values.next()) {
        let bytes = value.as_bytes();
        let length = 1..=NAME_HEADER_BYTES_MAX;
        if length.contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic) {
            return value.clone();
        }
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("a uuid is hex digits and hyphens")
}

/// RFC 9112, section 3.2: HTTP/1.1 requests name their host, and no request names two.
fn one_host(request: &Request<Body>) -> Result<(), Problem> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match hosts {
        1 => Ok(()),
        0 if request.version() < Version::HTTP_11 => Ok(()),
        _ => Err(Problem::invalid("the header Host must be there once")),
    }
}

/// Hyper takes any list of codings that ends in `chunked`, and decodes that one alone.
fn plain_chunks(request: &Request<Body>) -> Result<(), Problem> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let (coding, more) = (codings.next(), codings.next());
    let is_plain = coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if is_plain && more.is_none() {
        return Ok(());
    }
    Err(Problem::invalid(
        "the header Transfer-Encoding may be chunked, and nothing else: send the body as it is",
    ))
}

pub(crate) async fn not_found(request: Request<Body>) -> Response<Body> {
    Problem::new(
        Code::NotFound,
        "there is nothing at this path; GET /docs lists what there is",
    )
    .answer(&Asked::new(Operation::Other), id_in(request.headers()))
}

/// The router adds the header `Allow`.
async fn method_not_allowed(request: Request<Body>) -> Response<Body> {
    Problem::new(
        Code::MethodNotAllowed,
        "this path has other methods: see the header Allow",
    )
    .answer(&Asked::new(Operation::Other), id_in(request.headers()))
}
