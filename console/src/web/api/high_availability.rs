//! The two directors: who is master, and how far the other one is behind.

use super::Failure;
use super::config::Applied;
use axum::Json;
use axum::extract::State;
use control::handle::Handle;
use control::view::VrrpView;
use serde::{Deserialize, Serialize};

type Answer<T> = Result<Json<T>, Failure>;

/// Which mastership to give away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailoverWish {
    /// That of this instance and its group; of all instances when absent.
    pub instance: Option<String>,
}

/// `GET /v1/vrrp`.
pub(super) async fn vrrp(State(handle): State<Handle>) -> Json<Vec<VrrpView>> {
    Json(handle.vrrp())
}

/// `POST /v1/failover`.
pub(super) async fn failover(
    State(handle): State<Handle>,
    Json(wish): Json<FailoverWish>,
) -> Answer<Applied> {
    handle.failover(wish.instance.as_deref())?;
    Ok(Json(Applied { revision: None }))
}
