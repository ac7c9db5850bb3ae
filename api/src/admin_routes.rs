//! `/admin/licences`: the operator issues licences, looks at them, takes them back.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use evermind_lock::command::{CreateLicence, LicenceId};
use evermind_lock::licence::Period;
use evermind_lock::limits::ALLOWANCE_MAX;
use evermind_lock::names::{IdentityId, LicenceName, NameError};
use evermind_lock::outcome::{Outcome, Refusal};
use http::request::Parts;
use http::{Request, Response, StatusCode};

use crate::app::{Edge, id_in};
use crate::calendar;
use crate::fields::{Fields, SOFT_FAIL};
use crate::key_routes::no_random;
use crate::licence_replies::{LicenceReply, LicencesReply, NewLicenceReply, UsageReply, is_past};
use crate::lock_routes::{decided, gone, unmet, within};
use crate::locks::Backend;
use crate::look_routes::answer;
use crate::problem::{Asked, Operation, Problem};
use crate::public_id::{key_of, licence_id, licence_of};
use crate::query::LicenceListing;
use crate::replies::{json_bytes, ok};
use crate::requests::named;
use crate::secrets::{Secret, SecretKind, new_identity};
use crate::{auth, body};

const NAME: &str = "name";
const IDENTITY: &str = "identity";
const LIMIT: &str = "limit";
const PERIOD: &str = "period";
const EXPIRES: &str = "expires";
/// The fields of `POST /admin/licences`.
pub(crate) const FIELDS: [&str; 6] = [NAME, IDENTITY, LIMIT, PERIOD, EXPIRES, SOFT_FAIL];

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
    auth::admin(edge, head)?;
    let bytes = body::read(&head.headers, body, edge.limits.body_timeout).await?;
    let fields = Fields::parse(&bytes, &FIELDS)?;
    asked.soft_fail = fields.soft_fail()?;
    let secret = Secret::new(SecretKind::LicenceKey).map_err(no_random)?;
    let create = read(&fields, &secret)?;
    let identity = create.identity.clone();
    let creating = edge.backend.create_licence(create);
    let decision = within(edge.limits.answer_margin, creating).await?;
    let Outcome::LicenceCreated(id) = decision.outcome else {
        return Err(unmet(decision.log_index, decision.outcome));
    };
    let reply = NewLicenceReply {
        id: licence_id(id),
        identity: identity.as_str(),
        licence_key: secret.text(),
    };
    let mut response = ok(Body::from(json_bytes(&reply)));
    *response.status_mut() = StatusCode::CREATED;
    Ok(decided(decision.log_index, response))
}

fn read(fields: &Fields<'_, 6>, secret: &Secret) -> Result<CreateLicence, Problem> {
    fields.only_known_once()?;
    let name = fields.required_text(NAME, &NameError::LicenceName)?;
    let identity = match fields.optional_text(IDENTITY, &NameError::Identity)? {
        Some(text) => text.into_owned(),
        None => new_identity().map_err(no_random)?,
    };
    let limit = fields.optional_number(LIMIT, 0..=ALLOWANCE_MAX)?;
    let period = match fields.optional_text(PERIOD, &"month or none")?.as_deref() {
        None | Some("month") => Period::Month,
        Some("none") => Period::None,
        Some(_) => return Err(Problem::invalid("period must be month or none")),
    };
    let expires_ms = match fields.optional_text(EXPIRES, &calendar::DATE_FORMS)? {
        None => None,
        Some(text) => {
            let expires_ms = calendar::read(&text).ok_or_else(|| {
                Problem::invalid(format!("expires must be {}", calendar::DATE_FORMS))
            })?;
            if is_past(expires_ms, SystemTime::now()) {
                return Err(Problem::invalid(
                    "expires must be in the future, by this node's wall clock",
                ));
            }
            Some(expires_ms)
        }
    };
    Ok(CreateLicence {
        name: LicenceName::new(&name).map_err(|error| named(NAME, &error))?,
        identity: IdentityId::new(&identity)
            .map_err(|error| Problem::invalid(format!("{IDENTITY}: {error}")))?,
        key: secret.hash(),
        limit,
        period,
        expires_ms,
    })
}

pub(crate) async fn list<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_list(&edge, &head).await, &head)
}

async fn try_list<B: Backend>(edge: &Edge<B>, head: &Parts) -> Result<Response<Body>, Problem> {
    auth::admin(edge, head)?;
    let LicenceListing { after, limit } = LicenceListing::read(head.uri.query())?;
    // One more than asked for tells whether there is another page.
    let looking = edge.backend.licences(after, limit + 1);
    let mut licences = within(edge.limits.answer_margin, looking).await?;
    let more = licences.len() > limit;
    licences.truncate(limit);
    let cursor = licences
        .last()
        .filter(|_| more)
        .map(|last| licence_id(last.id));
    let licences = licences.iter().map(|view| LicenceReply::new(view, None));
    let reply = LicencesReply {
        licences: licences.collect(),
        cursor,
    };
    Ok(ok(Body::from(json_bytes(&reply))))
}

pub(crate) async fn show<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_show(&edge, &head).await, &head)
}

async fn try_show<B: Backend>(edge: &Edge<B>, head: &Parts) -> Result<Response<Body>, Problem> {
    auth::admin(edge, head)?;
    let id = id_of(head.uri.path())?;
    let looking = edge.backend.licence(id);
    let found = within(edge.limits.answer_margin, looking).await?;
    let (view, keys) = found.ok_or(Refusal::LicenceNotFound)?;
    let reply = LicenceReply::new(&view, Some(&keys));
    Ok(ok(Body::from(json_bytes(&reply))))
}

pub(crate) async fn usage<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_usage(&edge, &head).await, &head)
}

async fn try_usage<B: Backend>(edge: &Edge<B>, head: &Parts) -> Result<Response<Body>, Problem> {
    auth::admin(edge, head)?;
    let path = head.uri.path();
    let id = id_of(path.strip_suffix("/usage").unwrap_or(path))?;
    let looking = edge.backend.licence(id);
    let found = within(edge.limits.answer_margin, looking).await?;
    let (view, _) = found.ok_or(Refusal::LicenceNotFound)?;
    Ok(ok(Body::from(json_bytes(&UsageReply::new(&view)))))
}

pub(crate) async fn revoke<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_revoke(&edge, &head).await, &head)
}

async fn try_revoke<B: Backend>(edge: &Edge<B>, head: &Parts) -> Result<Response<Body>, Problem> {
    auth::admin(edge, head)?;
    let id = id_of(head.uri.path())?;
    let revoking = edge.backend.revoke_licence(id);
    gone(within(edge.limits.answer_margin, revoking).await?)
}

pub(crate) async fn delete_key<B: Backend>(
    State(edge): State<Arc<Edge<B>>>,
    request: Request<Body>,
) -> Response<Body> {
    let head = request.into_parts().0;
    answer(try_delete_key(&edge, &head).await, &head)
}

async fn try_delete_key<B: Backend>(
    edge: &Edge<B>,
    head: &Parts,
) -> Result<Response<Body>, Problem> {
    auth::admin(edge, head)?;
    let (licence, key) = head.uri.path().rsplit_once("/keys/").unwrap_or_default();
    let licence = id_of(licence)?;
    let key = key_of(key).ok_or(Refusal::ApiKeyNotFound)?;
    let deleting = edge.backend.delete_api_key_by_id(licence, key);
    gone(within(edge.limits.answer_margin, deleting).await?)
}

fn id_of(path: &str) -> Result<LicenceId, Problem> {
    let id = licence_of(path.rsplit('/').next().unwrap_or_default());
    id.ok_or_else(|| Refusal::LicenceNotFound.into())
}
