//! `POST /api-key`, `DELETE /api-key`: a team makes and deletes its own API keys with its licence key.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use evermind_lock::command::KeyHash;
use evermind_lock::outcome::{Outcome, Refusal};
use http::request::Parts;
use http::{Request, Response};

use crate::app::{Edge, id_in};
use crate::body;
use crate::fields::{Fields, SOFT_FAIL};
use crate::limits::API_KEY_BYTES_MAX;
use crate::lock_routes::{decided, gone, unmet, within};
use crate::locks::Backend;
use crate::problem::{Asked, Code, Operation, Problem};
use crate::public_id::key_id;
use crate::replies::{ApiKeyReply, json_bytes, ok};
use crate::secrets::{Secret, SecretKind, hash};

const LICENCE_KEY: &str = "licenceKey";
const API_KEY: &str = "apiKey";
/// The fields of `POST /api-key`.
pub(crate) const CREATE_FIELDS: [&str; 2] = [LICENCE_KEY, SOFT_FAIL];
/// The fields of `DELETE /api-key`.
pub(crate) const DELETE_FIELDS: [&str; 3] = [LICENCE_KEY, API_KEY, SOFT_FAIL];

/// From which address a request came, as the accept loop saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

pub(crate) async fn create<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut asked = Asked::new(Operation::Other);
    match try_create(&edge, &head, body, &mut asked).await {
        Ok(response) => response,
        Err(problem) => problem.answer(&asked, id_in(&head.headers)),
    }
}

async fn try_create<B: Backend>(
    edge: &Edge<B>,
    head: &Parts,
    body: Body,
    asked: &mut Asked,
) -> Result<Response<Body>, Problem> {
    ask_address(edge, head)?;
    let bytes = body::read(&head.headers, body, edge.limits.body_timeout).await?;
    let fields = fields(&bytes, &CREATE_FIELDS, asked)?;
    let licence = licence_key(edge, &fields).await?;
    let secret = Secret::new(SecretKind::ApiKey).map_err(no_random)?;
    let creating = edge.backend.create_api_key(licence, secret.hash());
    let decision = within(edge.limits.answer_margin, creating).await?;
    match decision.outcome {
        Outcome::ApiKeyCreated(id) => {
            let reply = ApiKeyReply {
                api_key: secret.text(),
                id: key_id(id),
            };
            let body = Body::from(json_bytes(&reply));
            Ok(decided(decision.log_index, ok(body)))
        }
        other => Err(unmet(decision.log_index, other)),
    }
}

pub(crate) async fn delete<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut asked = Asked::new(Operation::Other);
    match try_delete(&edge, &head, body, &mut asked).await {
        Ok(response) => response,
        Err(problem) => problem.answer(&asked, id_in(&head.headers)),
    }
}

async fn try_delete<B: Backend>(
    edge: &Edge<B>,
    head: &Parts,
    body: Body,
    asked: &mut Asked,
) -> Result<Response<Body>, Problem> {
    ask_address(edge, head)?;
    let bytes = body::read(&head.headers, body, edge.limits.body_timeout).await?;
    let fields = fields(&bytes, &DELETE_FIELDS, asked)?;
    let api_key = secret_field(&fields, API_KEY, SecretKind::ApiKey)?;
    if let Some(fault) = SecretKind::ApiKey.fault(&api_key) {
        return Err(Problem::new(Code::ApiKeyNotFound, fault));
    }
    let licence = licence_key(edge, &fields).await?;
    let deleting = edge
        .backend
        .delete_api_key(licence, hash(api_key.as_bytes()));
    gone(within(edge.limits.answer_margin, deleting).await?)
}

/// The body's fields. No message repeats anything of it: a key may stand in the wrong place.
fn fields<'a, const N: usize>(
    bytes: &'a [u8],
    names: &'static [&'static str; N],
    asked: &mut Asked,
) -> Result<Fields<'a, N>, Problem> {
    let wrong = |_| {
        Problem::invalid(format!(
            "the body must be one JSON object that may have {} and nothing else, each once",
            names.join(", ")
        ))
    };
    let fields = Fields::parse(bytes, names).map_err(wrong)?;
    asked.soft_fail = fields.soft_fail().map_err(wrong)?;
    fields.only_known_once().map_err(wrong)?;
    Ok(fields)
}

/// These routes need no API key, so their callers are counted by address.
fn ask_address<B: Backend>(edge: &Edge<B>, head: &Parts) -> Result<(), Problem> {
    match head.extensions.get::<PeerAddress>() {
        Some(PeerAddress(address)) => edge.address_rate.ask(*address),
        None => Ok(()),
    }
}

/// The licence key's hash, if it may be that of an active licence: what is not is proposed to nobody.
async fn licence_key<B: Backend, const N: usize>(
    edge: &Edge<B>,
    fields: &Fields<'_, N>,
) -> Result<KeyHash, Problem> {
    let text = secret_field(fields, LICENCE_KEY, SecretKind::LicenceKey)?;
    if let Some(fault) = SecretKind::LicenceKey.fault(&text) {
        return Err(Problem::new(Code::LicenceUnknown, fault));
    }
    let hash = hash(text.as_bytes());
    let looking = edge.backend.licence_key(hash);
    match within(edge.limits.answer_margin, looking).await? {
        Some(standing) if standing.is_active() => Ok(hash),
        Some(_) => Err(Refusal::LicenceInactive.into()),
        None => Err(Problem::new(
            Code::LicenceUnknown,
            format!(
                "the licence key is unknown{}",
                SecretKind::LicenceKey.advice(&text)
            ),
        )),
    }
}

fn secret_field<const N: usize>(
    fields: &Fields<'_, N>,
    name: &str,
    kind: SecretKind,
) -> Result<String, Problem> {
    let allowed = match kind {
        SecretKind::ApiKey => "an API key, 1 to 256 visible ASCII characters",
        SecretKind::LicenceKey => "a licence key, 1 to 256 visible ASCII characters",
    };
    let text = fields.required_secret(name, &allowed)?;
    let is_one = (1..=API_KEY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one {
        return Ok(text.into_owned());
    }
    Err(Problem::invalid(format!("{name} must be {allowed}")))
}

pub(crate) fn no_random(error: getrandom::Error) -> Problem {
    tracing::error!(%error, "the kernel gives no random bits");
    Problem::new(
        Code::NoLeader,
        "this node cannot make keys right now; nothing was done",
    )
}
