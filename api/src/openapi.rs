//! The API as an `OpenAPI` 3.1 document.
//!
//! Written by hand beside the readers and the bodies that it describes, because those are written by
//! hand too; the bounds are theirs. What is served is `api/openapi.json`, which a test here compares
//! with this, so that a change of the contract shows in a diff; the tests over HTTP compare it with
//! what the server does.

mod admin;
mod keys;
mod locks;
mod looking;
mod operation;
mod problem;
mod schema;
mod tests;

use utoipa::openapi::path::{PathItem, Paths, PathsBuilder};
use utoipa::openapi::schema::{Components, ComponentsBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};

const ABOUT: &str = "A lock server: leases, waiting in line, fencing tokens. Any node of the cluster \
    answers. Times are whole milliseconds.\n\nRequests are read strictly: an unknown or repeated field, a \
    wrong type, or a value out of range is 400 `invalid_request`, and the message names it. A body is \
    at most 64 KiB of JSON. Failures are `application/problem+json` with a `code` that programs can act on; \
    those with `softFail: true` in the request are HTTP 200 with the same body. Answers may get more fields, \
    never fewer.\n\nBeside what is listed, any request can be answered 400 (no `Host`), 404, 405 or 431.";

fn document() -> OpenApi {
    let licence = LicenseBuilder::new()
        .name("Apache-2.0 OR MIT")
        .identifier(Some("Apache-2.0 OR MIT"));
    let info = InfoBuilder::new()
        .title("Evermind")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(licence.build()));
    OpenApiBuilder::new()
        .info(info)
        .tags(Some(tags()))
        .paths(paths())
        .components(Some(components()))
        .build()
}

fn tags() -> Vec<Tag> {
    let tag = |name: &str, about| {
        TagBuilder::new()
            .name(name)
            .description(Some(about))
            .build()
    };
    vec![
        tag("locks", "Take, keep and give back locks."),
        tag("looking", "See what is held, and by which cluster."),
        tag(
            "keys",
            "A team makes and deletes its own API keys, with its licence key.",
        ),
        tag(
            "admin",
            "The operator issues licences. Off where a node has no admin token.",
        ),
        tag("health", "For whatever starts and stops nodes."),
    ]
}

fn paths() -> Paths {
    let mut paths = PathsBuilder::new();
    let all = [
        locks::endpoints(),
        looking::endpoints(),
        keys::endpoints(),
        admin::endpoints(),
    ];
    for endpoint in all.into_iter().flatten() {
        let (path, method) = (endpoint.path, endpoint.method.clone());
        paths = paths.path(path, PathItem::new(method, endpoint.operation()));
    }
    paths.build()
}

fn components() -> Components {
    let bearer = |about: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        SecurityScheme::Http(scheme.description(Some(about)).build())
    };
    let mut components = ComponentsBuilder::new()
        .security_scheme("apiKey", bearer("An API key, as in evk_…"))
        .security_scheme("adminToken", bearer("The token of --admin-token-file."));
    let schemas = [
        locks::schemas(),
        looking::schemas(),
        keys::schemas(),
        admin::schemas(),
        problem::schemas(),
    ];
    for (name, schema) in schemas.into_iter().flatten() {
        components = components.schema(name, schema);
    }
    for (name, parameter) in operation::parameters() {
        components = components.parameter(name, parameter);
    }
    for (name, header) in operation::headers() {
        components = components.header(name, header);
    }
    components.build()
}
