//! One method of one path, and how it fails.

use std::collections::BTreeMap;

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{OneOfBuilder, Schema};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};

use super::schema::{VISIBLE, count, name, named, text};
use crate::limits::NAME_HEADER_BYTES_MAX;
use crate::problem::{Code, Soft};

pub(super) const IDEMPOTENCY_KEY: &str = "IdempotencyKey";
const REQUEST_ID: &str = "RequestId";

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Anyone,
    ApiKey,
    AdminToken,
}

/// What can be wrong with a request that has a body.
pub(super) const BODY: &[Code] = &[
    Code::InvalidRequest,
    Code::UnsupportedMediaType,
    Code::BodyTooLarge,
    Code::RequestTimeout,
];
/// What can be wrong with a request that carries an API key.
pub(super) const KEY: &[Code] = &[
    Code::Unauthorized,
    Code::LicenceInactive,
    Code::RateLimited,
    Code::NoLeader,
];
/// What can be wrong with a request that carries the admin token.
pub(super) const ADMIN: &[Code] = &[
    Code::NotFound,
    Code::Unauthorized,
    Code::RateLimited,
    Code::NoLeader,
    Code::OutcomeUnknown,
];

pub(super) struct Endpoint {
    pub(super) path: &'static str,
    pub(super) method: HttpMethod,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) access: Access,
    pub(super) parameters: Vec<RefOr<Parameter>>,
    /// The schema of the request's body. One that has a body also has `softFail`.
    pub(super) body: Option<&'static str>,
    /// Status, what it means, and the schema of its body.
    pub(super) success: (u16, &'static str, Option<&'static str>),
    /// Whether the answer comes of a log entry.
    pub(super) logged: bool,
    pub(super) failures: Vec<&'static [Code]>,
}

impl Endpoint {
    pub(super) fn operation(self) -> Operation {
        let mut operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag(self.tag)
            .summary(Some(self.summary))
            .description(Some(self.about))
            .securities(Some(match self.access {
                Access::Anyone => vec![],
                Access::ApiKey => vec![SecurityRequirement::new("apiKey", [""; 0])],
                Access::AdminToken => vec![SecurityRequirement::new("adminToken", [""; 0])],
            }));
        let request_id = Ref::new(format!("#/components/parameters/{REQUEST_ID}"));
        for parameter in self.parameters.iter().cloned() {
            operation = match parameter {
                RefOr::Ref(reference) => operation.parameter_ref(reference),
                RefOr::T(parameter) => operation.parameter(parameter),
            };
        }
        operation = operation.parameter_ref(request_id);
        if let Some(body) = self.body {
            let content = ContentBuilder::new().schema(Some(named(body)));
            let body = RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", content.build());
            operation = operation.request_body(Some(body.build()));
        }
        for (status, response) in self.responses() {
            operation = operation.response(status.to_string(), response);
        }
        operation.build()
    }

    fn responses(&self) -> BTreeMap<u16, Response> {
        let (status, about, schema) = self.success;
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in self.failures.iter().copied().flatten().copied() {
            let codes = by_status.entry(code.row().status.as_u16()).or_default();
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        let mut responses: BTreeMap<u16, Response> = by_status
            .into_iter()
            .map(|(status, codes)| (status, self.failure(&codes)))
            .collect();
        let softens = self.body.is_some();
        let mut yes = self.plain(about);
        let mut schema = schema.map(named);
        if softens && status == 200 {
            let soft = "; or, with `softFail`, a failure";
            yes = self
                .plain(&format!("{about}{soft}"))
                .header_ref("Retry-After", header("RetryAfter"));
            let either = OneOfBuilder::new()
                .item(schema.expect("what answers 200 has a body"))
                .item(named("Problem"));
            schema = Some(Schema::from(either).into());
        } else if softens {
            let soft = self
                .plain("With `softFail`: a failure")
                .header_ref("Retry-After", header("RetryAfter"));
            responses.insert(200, json(soft, "application/json", named("Problem")));
        }
        let yes = match schema {
            Some(schema) => json(yes, "application/json", schema),
            None => yes.build(),
        };
        responses.insert(status, yes);
        responses
    }

    /// A response with the headers that any of this endpoint's may have.
    fn plain(&self, about: &str) -> ResponseBuilder {
        let response = ResponseBuilder::new()
            .description(about)
            .header_ref("X-Request-Id", header("RequestId"));
        if self.logged {
            return response.header_ref("Evermind-Log-Index", header("LogIndex"));
        }
        response
    }

    fn failure(&self, codes: &[Code]) -> Response {
        let told = codes.iter().map(|code| {
            let row = code.row();
            let soft = match row.soft {
                Soft::Yes if self.body.is_some() => " (200 with `softFail`)",
                _ => "",
            };
            format!("`{}`: {}{soft}", row.code, row.title)
        });
        let mut response = self.plain(&told.collect::<Vec<_>>().join("; "));
        if matches!(codes[0].row().status.as_u16(), 402 | 423 | 429 | 503) {
            response = response.header_ref("Retry-After", header("RetryAfter"));
        }
        if codes.contains(&Code::RateLimited) {
            response = response
                .header_ref("RateLimit", header("RateLimit"))
                .header_ref("RateLimit-Policy", header("RateLimitPolicy"));
        }
        if codes[0].row().status.as_u16() == 401 {
            response = response.header_ref("WWW-Authenticate", header("WwwAuthenticate"));
        }
        json(response, "application/problem+json", named("Problem"))
    }
}

fn json(response: ResponseBuilder, media: &str, schema: impl Into<RefOr<Schema>>) -> Response {
    let content = ContentBuilder::new().schema(Some(schema));
    response.content(media, content.build()).build()
}

fn header(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// A reference to the parameter of this name.
pub(super) fn parameter(name: &str) -> RefOr<Parameter> {
    RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")))
}

/// A parameter of the query.
pub(super) fn query(name: &str, schema: utoipa::openapi::Object) -> RefOr<Parameter> {
    inline(name, ParameterIn::Query, schema)
}

/// A part of the path.
pub(super) fn segment(name: &str, schema: utoipa::openapi::Object) -> RefOr<Parameter> {
    inline(name, ParameterIn::Path, schema)
}

fn inline(name: &str, place: ParameterIn, mut schema: utoipa::openapi::Object) -> RefOr<Parameter> {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    let about = schema.description.take();
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(about)
        .schema(Some(schema));
    RefOr::T(parameter.build())
}

/// The headers of requests, under the names that endpoints refer to them by.
pub(super) fn parameters() -> Vec<(&'static str, RefOr<Parameter>)> {
    let max = NAME_HEADER_BYTES_MAX;
    let once = "Makes the operation once-only: sent again within 60 s of its answer, it changes nothing and \
        reports the present. Scoped to the identity and the endpoint; the same key with another body is 422 \
        `idempotency_mismatch`. 1 to 128 visible ASCII characters.";
    let id = "Comes back in the answer and stands in the server's log. 1 to 128 visible ASCII characters; \
        anything else is replaced.";
    vec![
        (
            IDEMPOTENCY_KEY,
            inline(
                "Idempotency-Key",
                ParameterIn::Header,
                name(once, max, VISIBLE),
            ),
        ),
        (
            REQUEST_ID,
            inline("X-Request-Id", ParameterIn::Header, name(id, max, VISIBLE)),
        ),
    ]
}

/// The headers of answers, under the names that endpoints refer to them by.
pub(super) fn headers() -> Vec<(&'static str, Header)> {
    let whole = |about: &str| count(about);
    let said = |about: &str| text(about);
    let schemas = vec![
        (
            "RequestId",
            said("The request's own X-Request-Id, or one that was made for it."),
        ),
        (
            "LogIndex",
            whole("The log entry that this answer came of; absent where it came of none."),
        ),
        (
            "RetryAfter",
            whole("In how many seconds it is worth asking again."),
        ),
        (
            "RateLimit",
            said(
                "What is left of the limit in force, as in `\"licence\";r=0;t=1`: nothing, for one more \
                second (draft-ietf-httpapi-ratelimit-headers-10). With `rate_limited` only.",
            ),
        ),
        (
            "RateLimitPolicy",
            said(
                "The limit in force, as in `\"licence\";q=100;w=1`: 100 requests in 1 second. With \
                `rate_limited` only.",
            ),
        ),
        ("WwwAuthenticate", said("Always `Bearer`.")),
    ];
    schemas
        .into_iter()
        .map(|(name, mut schema)| {
            let about = schema.description.take();
            let header = HeaderBuilder::new().schema(Some(schema)).description(about);
            (name, header.build())
        })
        .collect()
}
