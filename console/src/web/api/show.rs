//! What goes on.

use super::Failure;
use axum::Json;
use axum::extract::{Query, State};
use control::handle::Handle;
use control::health::task::CheckView;
use control::model::Protocol;
use control::record::Record;
use control::time::TimeView;
use control::view::{
    ConnectionFilter, ConnectionsView, DropView, ExplanationView, InterfaceView, ServiceView,
    StatusView,
};
use dataplane::packet_path::explain::Question;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

type Answer<T> = Result<Json<T>, Failure>;

/// Records in an answer unless more or fewer are asked for.
const EVENTS: usize = 100;

/// Connections in an answer unless more or fewer are asked for.
const CONNECTIONS: usize = 1000;

/// Records, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventsView {
    /// The last ones.
    pub events: Vec<Record>,
}

/// Query parameters of `GET /v1/events`.
#[derive(Debug, Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

/// Which connections, and where to start.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    service: Option<String>,
    real: Option<String>,
    client: Option<String>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

/// `GET /v1/status`.
pub(super) async fn status(State(handle): State<Handle>) -> Answer<StatusView> {
    Ok(Json(handle.status(&host_name(), env!("CARGO_PKG_VERSION")).await?))
}

/// The host's name, as far as it has one.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname();
    name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// `GET /v1/checks`: the health checks in detail.
pub(super) async fn checks(State(handle): State<Handle>) -> Json<Vec<CheckView>> {
    Json(handle.checks().await)
}

/// `GET /v1/services`.
pub(super) async fn services(State(handle): State<Handle>) -> Answer<Vec<ServiceView>> {
    Ok(Json(handle.services().await?))
}

/// `GET /v1/connections`.
pub(super) async fn connections(
    State(handle): State<Handle>,
    Query(page): Query<Page>,
) -> Answer<ConnectionsView> {
    let Page { service, real, client, cursor, limit } = page;
    let filter = ConnectionFilter { service, real, client };
    let limit = limit.unwrap_or(CONNECTIONS);
    Ok(Json(handle.connections(&filter, cursor.unwrap_or(0), limit).await?))
}

/// `GET /v1/time`: all clocks.
pub(super) async fn time(State(handle): State<Handle>) -> Answer<TimeView> {
    Ok(Json(handle.clocks().await?))
}

/// A flow to explain.
#[derive(Debug, Deserialize)]
pub(super) struct Flow {
    from: SocketAddr,
    to: SocketAddr,
    protocol: Option<String>,
}

/// `GET /v1/explain`.
pub(super) async fn explain(
    State(handle): State<Handle>,
    Query(flow): Query<Flow>,
) -> Answer<ExplanationView> {
    let Flow { from, to, protocol } = flow;
    let protocol = match protocol.as_deref() {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("sctp") => Protocol::Sctp,
        Some(_) => return Err(Failure::bad_request("protocol should be tcp, udp or sctp")),
    };
    if from.is_ipv4() != to.is_ipv4() {
        return Err(Failure::bad_request("from and to should be of the same family"));
    }
    Ok(Json(handle.explain(&Question { protocol, from, to })))
}

/// `GET /v1/drops`.
pub(super) async fn drops(State(handle): State<Handle>) -> Json<Vec<DropView>> {
    Json(handle.drops())
}

/// `GET /v1/interfaces`.
pub(super) async fn interfaces(State(handle): State<Handle>) -> Answer<Vec<InterfaceView>> {
    Ok(Json(handle.interfaces().await?))
}

/// `GET /v1/events`.
pub(super) async fn events(
    State(handle): State<Handle>,
    Query(limit): Query<Limit>,
) -> Answer<EventsView> {
    let records = handle.recent(limit.limit.unwrap_or(EVENTS)).await?;
    Ok(Json(EventsView { events: records.into_iter().map(Arc::unwrap_or_clone).collect() }))
}
