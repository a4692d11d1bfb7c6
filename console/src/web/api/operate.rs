//! What operators do besides configuring.

use super::config::Applied;
use super::{Caller, Failure};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use control::handle::Handle;
use control::ipvs;
use control::model::PersistentClients;
use control::view::ConnectionFilter;
use serde::{Deserialize, Serialize};

type Answer<T> = Result<Json<T>, Failure>;

/// A real server to take out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainWish {
    /// The service, by name or address.
    pub service: String,
    /// The real server, by address.
    pub real: String,
    /// Reason, shown with the drain.
    #[serde(default)]
    pub reason: String,
    /// The time after which its connections are ended, such as `10m`.
    pub within: Option<String>,
    /// What becomes of its persistent clients: `move`, as usual, or `keep`.
    #[serde(default)]
    pub persistent: PersistentClients,
}

/// A real server to put back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UndrainWish {
    /// The service, by name or address.
    pub service: String,
    /// The real server, by address.
    pub real: String,
}

/// How many connections were ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Killed {
    /// Number of connections that were ended.
    pub connections: u64,
}

/// `POST /v1/ipvs`.
pub(super) async fn ipvs(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<ipvs::Request>,
) -> Answer<ipvs::Reply> {
    Ok(Json(handle.ipvs(request, &caller.name).await?))
}

/// `POST /v1/drain`.
pub(super) async fn drain(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<DrainWish>,
) -> Answer<Applied> {
    let within = match &wish.within {
        None => None,
        Some(text) => Some(control::model::parse_duration(text).ok_or_else(|| {
            Failure::bad_request("within should be a duration with its unit, such as 10m")
        })?),
    };
    let DrainWish { service, real, reason, persistent, .. } = &wish;
    handle.drain(service, real, &caller.name, reason, within, *persistent).await?;
    Ok(Json(Applied { revision: None }))
}

/// `POST /v1/undrain`.
pub(super) async fn undrain(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<UndrainWish>,
) -> Answer<Applied> {
    handle.undrain(&wish.service, &wish.real, &caller.name).await?;
    Ok(Json(Applied { revision: None }))
}

/// `POST /v1/connections/kill`.
pub(super) async fn kill(
    State(handle): State<Handle>,
    Json(filter): Json<ConnectionFilter>,
) -> Answer<Killed> {
    Ok(Json(Killed { connections: handle.kill(&filter).await? }))
}

/// `GET /v1/backup`: everything as one file.
pub(super) async fn backup(State(handle): State<Handle>) -> Result<Response, Failure> {
    let bytes = handle.backup().await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// `PUT /v1/restore`: a backup back.
pub(super) async fn restore(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    bytes: Bytes,
) -> Answer<Applied> {
    Ok(Json(Applied { revision: handle.restore(bytes.to_vec(), &caller.name).await? }))
}
