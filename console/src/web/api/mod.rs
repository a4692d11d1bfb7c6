//! `/v1`: what the command line and the console ask of the daemon. JSON over HTTP.

mod accounts;
mod answer;
mod caller;
mod config;
mod high_availability;
mod operate;
mod show;

pub use accounts::{Done, Secret, TokenView, TokenWish, UserView, UserWish};
pub use answer::{Failure, Problem};
pub use caller::Caller;
pub use config::{Applied, Compared, RollbackWish};
pub use high_availability::{FailoverWish, Invitation, JoinWish, Joined, KeepWish};
pub use operate::{DrainWish, Killed, UndrainWish};
pub use show::{EventsView, host_name};

use super::access::Access;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use control::handle::Handle;
use std::sync::Arc;

/// The largest document or backup, in bytes.
const LARGEST_BODY: usize = 256 << 20;

/// The routes.
pub fn router(handle: Handle, access: Arc<Access>) -> Router {
    Router::new()
        .route("/v1/status", get(show::status))
        .route("/v1/services", get(show::services))
        .route("/v1/connections", get(show::connections))
        .route("/v1/checks", get(show::checks))
        .route("/v1/time", get(show::time))
        .route("/v1/explain", get(show::explain))
        .route("/v1/drops", get(show::drops))
        .route("/v1/interfaces", get(show::interfaces))
        .route("/v1/events", get(show::events))
        .route("/v1/config", get(config::export).put(config::apply))
        .route("/v1/config/check", post(config::check))
        .route("/v1/config/diff", post(config::diff))
        .route("/v1/config/confirm", post(config::confirm))
        .route("/v1/config/rollback", post(config::roll_back))
        .route("/v1/revisions", get(config::history))
        .route("/v1/revisions/{number}", get(config::revision))
        .route("/v1/ipvs", post(operate::ipvs))
        .route("/v1/drain", post(operate::drain))
        .route("/v1/undrain", post(operate::undrain))
        .route("/v1/connections/kill", post(operate::kill))
        .route("/v1/vrrp", get(high_availability::vrrp))
        .route("/v1/sync", get(high_availability::sync))
        .route("/v1/sync/keep", post(high_availability::keep))
        .route("/v1/pair", post(high_availability::pair))
        .route("/v1/join", post(high_availability::join))
        .route("/v1/failover", post(high_availability::failover))
        .route("/v1/backup", get(operate::backup))
        .route("/v1/restore", put(operate::restore))
        .fallback(answer::no_such_route)
        .with_state(handle)
        .merge(accounts::router(access))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}
