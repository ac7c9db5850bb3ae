//! Every path that is served.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};

use crate::app::Edge;
use crate::locks::Backend;
use crate::{admin_routes, docs, key_routes, lock_routes, look_routes};

/// A router, and its paths as a list, because a router does not tell them.
pub(crate) struct Routes<S> {
    pub(crate) router: Router<S>,
    /// As axum writes them: `/v1/locks/{key}`.
    pub(crate) paths: Vec<&'static str>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    fn at(mut self, path: &'static str, methods: MethodRouter<S>) -> Self {
        self.paths.push(path);
        self.router = self.router.route(path, methods);
        self
    }
}

pub(crate) fn routes<B: Backend>() -> Routes<Arc<Edge<B>>> {
    let none = Routes {
        router: Router::new(),
        paths: Vec::new(),
    };
    none.at("/lock/acquire", post(lock_routes::acquire::<B>))
        .at("/lock/extend", post(lock_routes::extend::<B>))
        .at("/lock/release", post(lock_routes::release::<B>))
        .at("/v1/locks", get(look_routes::locks::<B>))
        .at("/v1/locks/{key}", get(look_routes::lock::<B>))
        .at("/v1/cluster", get(look_routes::cluster::<B>))
        .at(
            "/api-key",
            post(key_routes::create::<B>).delete(key_routes::delete::<B>),
        )
        .at(
            "/admin/licences",
            get(admin_routes::list::<B>).post(admin_routes::create::<B>),
        )
        .at(
            "/admin/licences/{id}",
            get(admin_routes::show::<B>).delete(admin_routes::revoke::<B>),
        )
        .at(
            "/admin/licences/{id}/keys/{key}",
            delete(admin_routes::delete_key::<B>),
        )
        .at("/admin/licences/{id}/usage", get(admin_routes::usage::<B>))
        .at("/livez", get(look_routes::livez))
        .at("/readyz", get(look_routes::readyz::<B>))
        .at("/openapi.json", get(docs::document))
        .at("/docs", get(docs::redirect))
        .at("/docs/", get(docs::page))
        .at("/docs/{file}", get(docs::asset))
}
