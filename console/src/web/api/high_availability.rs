//! The two directors: who is master, and how far the other one is behind.

use super::config::Applied;
use super::{Caller, Failure};
use axum::Json;
use axum::extract::{ConnectInfo, State};
use control::events::Choice;
use control::handle::Handle;
use control::view::{SyncView, VrrpView};
use serde::{Deserialize, Serialize};

type Answer<T> = Result<Json<T>, Failure>;

/// Which mastership to give away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailoverWish {
    /// That of this instance and its group; of all instances when absent.
    pub instance: Option<String>,
}

/// What the other director has to be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// Good for ten minutes and three tries.
    pub code: String,
}

/// Whom to be paired with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinWish {
    /// As the other director printed it.
    pub code: String,
}

/// Who this director is paired with from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The other director's key, shortened.
    pub key: String,
}

/// Whose configuration both directors are to have.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct KeepWish {
    /// `mine`, of the director that is asked, or `theirs`.
    pub keep: Choice,
}

/// `GET /v1/sync`.
pub(super) async fn sync(State(handle): State<Handle>) -> Answer<SyncView> {
    Ok(Json(handle.sync().await?))
}

/// `POST /v1/sync/keep`.
pub(super) async fn keep(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<KeepWish>,
) -> Answer<Applied> {
    Ok(Json(Applied { revision: handle.keep(wish.keep, &caller.name).await? }))
}

/// `POST /v1/pair`.
pub(super) async fn pair(State(handle): State<Handle>) -> Answer<Invitation> {
    Ok(Json(Invitation { code: handle.pair().await? }))
}

/// `POST /v1/join`.
pub(super) async fn join(
    State(handle): State<Handle>,
    Json(wish): Json<JoinWish>,
) -> Answer<Joined> {
    Ok(Json(Joined { key: handle.join(&wish.code).await? }))
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
