//! Every route of the console with the least role that may use it, in one table.

use super::guard::guard;
use super::pages::{
    account, availability, config, connections, events, overview, own, services, trace, users,
};
use super::site::Shared;
use super::{assets, headers, metrics, trouble};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};
use control::access::Role;

/// The largest form, in bytes.
const LARGEST_FORM: usize = 64 << 10;

/// The largest edited configuration, in bytes, as a form encodes it.
const LARGEST_DOCUMENT: usize = 16 << 20;

/// One route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// The least role; `None`: everybody, without signing in.
    pub role: Option<Role>,
    handler: fn() -> MethodRouter<Shared>,
}

const VIEWER: Option<Role> = Some(Role::Viewer);
const ADMINISTRATOR: Option<Role> = Some(Role::Administrator);
const OPERATOR: Option<Role> = Some(Role::Operator);

const fn see(
    path: &'static str,
    role: Option<Role>,
    handler: fn() -> MethodRouter<Shared>,
) -> Route {
    Route { method: Method::GET, path, role, handler }
}

const fn act(
    path: &'static str,
    role: Option<Role>,
    handler: fn() -> MethodRouter<Shared>,
) -> Route {
    Route { method: Method::POST, path, role, handler }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    see("/assets/{name}", None, || get(assets::serve)),
    see("/healthz", None, || get(metrics::healthy)),
    see("/ready", None, || get(metrics::ready)),
    see("/metrics", VIEWER, || get(metrics::scrape)),
    see("/setup", None, || get(account::set_up_page)),
    act("/setup", None, || post(account::set_up)),
    see("/login", None, || get(account::sign_in_page)),
    act("/login", None, || post(account::sign_in)),
    act("/language", None, || post(account::language)),
    act("/logout", VIEWER, || post(account::sign_out)),
    see("/", VIEWER, || get(overview::page)),
    see("/events", VIEWER, || get(events::page)),
    see("/services", VIEWER, || get(services::list::page)),
    see("/services/{service}", VIEWER, || get(services::one::page)),
    act("/services/{service}/servers/{real}/weight", OPERATOR, || post(services::act::weigh)),
    see("/services/{service}/servers/{real}/drain", OPERATOR, || get(services::act::drain_page)),
    act("/services/{service}/servers/{real}/drain", OPERATOR, || post(services::act::drain)),
    see("/services/{service}/servers/{real}/force-out", OPERATOR, || {
        get(services::act::force_out_page)
    }),
    act("/services/{service}/servers/{real}/force-out", OPERATOR, || {
        post(services::act::force_out)
    }),
    act("/services/{service}/servers/{real}/put-back", OPERATOR, || post(services::act::put_back)),
    see("/connections", VIEWER, || get(connections::page)),
    see("/connections/end", OPERATOR, || get(connections::end_page)),
    act("/connections/end", OPERATOR, || post(connections::end)),
    see("/explain", VIEWER, || get(trace::explain)),
    see("/drops", VIEWER, || get(trace::drops)),
    see("/ha", VIEWER, || get(availability::page)),
    see("/ha/failover", OPERATOR, || get(availability::failover_page)),
    act("/ha/failover", OPERATOR, || post(availability::failover)),
    act("/ha/keep", ADMINISTRATOR, || post(availability::keep)),
    see("/account", VIEWER, || get(own::page)),
    act("/account/password", VIEWER, || post(own::change_password)),
    act("/account/second-factor", VIEWER, || post(own::offer)),
    act("/account/second-factor/confirm", VIEWER, || post(own::confirm)),
    act("/account/second-factor/remove", VIEWER, || post(own::remove)),
    see("/users", ADMINISTRATOR, || get(users::page)),
    act("/users", ADMINISTRATOR, || post(users::add)),
    act("/users/{name}/role", ADMINISTRATOR, || post(users::change_role)),
    act("/users/{name}/remove", ADMINISTRATOR, || post(users::remove)),
    act("/tokens", ADMINISTRATOR, || post(users::add_token)),
    act("/tokens/{name}/remove", ADMINISTRATOR, || post(users::remove_token)),
    see("/config", VIEWER, || get(config::page)),
    act("/config/confirm", OPERATOR, || post(config::confirm)),
    act("/config/take-back", OPERATOR, || post(config::take_back)),
    see("/config/revisions/{number}", VIEWER, || get(config::revision)),
    act("/config/revisions/{number}", ADMINISTRATOR, || post(config::go_back)),
    see("/config/edit", ADMINISTRATOR, || get(config::edit_page)),
    act("/config/edit", ADMINISTRATOR, || {
        post(config::edit).layer(DefaultBodyLimit::max(LARGEST_DOCUMENT))
    }),
];

/// The console as a service.
pub fn router(site: &Shared) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let mut handler = (route.handler)();
        if let Some(role) = route.role {
            handler = handler.route_layer(from_fn_with_state((site.clone(), role), guard));
        }
        router = router.route(route.path, handler);
    }
    router
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .layer(from_fn_with_state(site.clone(), trouble::explain))
        .layer(from_fn(headers::add))
        .with_state(site.clone())
}
