//! The configuration: apply, compare, confirm, go back.

use super::{Caller, Failure};
use axum::Json;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use control::handle::Handle;
use control::model::{Change, Difference, Document, differences};
use control::store::RevisionInfo;
use serde::{Deserialize, Serialize};

type Answer<T> = Result<Json<T>, Failure>;

/// What came of a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// The new revision; absent when nothing differed.
    pub revision: Option<RevisionInfo>,
}

/// How a document is to be applied.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApplyWish {
    /// Roll back unless confirmed within this time, such as `60s`.
    confirm_within: Option<String>,
    /// Comment for the history.
    comment: Option<String>,
    /// What to call the text in problems.
    file: Option<String>,
}

/// What to compare with.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CompareWish {
    /// A revision instead of what runs.
    revision: Option<u64>,
    /// What to call the text in problems.
    file: Option<String>,
}

/// Where to go back to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RollbackWish {
    /// The revision; the one before the last when absent.
    pub revision: Option<u64>,
}

/// One difference with what it costs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// The difference.
    #[serde(flatten)]
    pub difference: Difference,
    /// Of something that goes: how many connections it has.
    pub connections: Option<u64>,
}

/// `GET /v1/config`: the running configuration as TOML.
pub(super) async fn export(State(handle): State<Handle>) -> Response {
    toml(handle.snapshot().head.to_toml())
}

fn toml(text: String) -> Response {
    ([(CONTENT_TYPE, "application/toml; charset=utf-8")], text).into_response()
}

/// `PUT /v1/config`: makes the document in the body the running one.
pub(super) async fn apply(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(wish): Query<ApplyWish>,
    text: String,
) -> Answer<Applied> {
    let document = parse(&text, wish.file.as_deref())?;
    let within = match &wish.confirm_within {
        None => None,
        Some(text) => Some(control::model::parse_duration(text).ok_or_else(|| {
            Failure::bad_request("confirm_within should be a duration with its unit, such as 60s")
        })?),
    };
    let comment = wish.comment.unwrap_or_default();
    let revision = handle.apply(document, &caller.name, &comment, within).await?;
    // What is on trial may be taken back, and the file with it.
    if within.is_none()
        && let Err(error) = handle.applied(text).await
    {
        tracing::warn!(%error, "the configuration file will be applied again");
    }
    Ok(Json(Applied { revision }))
}

fn parse(text: &str, file: Option<&str>) -> Result<Document, Failure> {
    Document::parse(text, file.unwrap_or("request"))
        .map_err(|problems| control::state::Refusal::Invalid(problems).into())
}

/// `POST /v1/config/check`: 200 when the document is good.
pub(super) async fn check(Query(wish): Query<CompareWish>, text: String) -> Answer<Applied> {
    parse(&text, wish.file.as_deref())?;
    Ok(Json(Applied { revision: None }))
}

/// `POST /v1/config/diff`: what applying the document would change.
pub(super) async fn diff(
    State(handle): State<Handle>,
    Query(wish): Query<CompareWish>,
    text: String,
) -> Answer<Vec<Compared>> {
    let document = parse(&text, wish.file.as_deref())?;
    let before = match wish.revision {
        None => handle.snapshot().head.clone(),
        Some(number) => {
            let revision = handle.revision(number).await?;
            let read = revision.document().map_err(|error| Failure {
                error: error.to_string(),
                problems: Vec::new(),
                status: 500,
            })?;
            read.into()
        }
    };
    let found = differences(&before, &document);
    let compared = handle.query(move |state, packets| {
        let cost = |difference: &Difference| {
            let goes = difference.change == Change::Removed;
            let service = state.running.service(difference.service.as_deref()?)?;
            let of_real = |address| {
                let load = packets.load(state.ids.real_id(&(service.address, address))?);
                Some(u64::from(load.active) + u64::from(load.inactive))
            };
            if !goes {
                return None;
            }
            match difference.real.as_deref() {
                Some(real) => of_real(real.parse().ok()?),
                None => service.reals.iter().map(|real| of_real(real.address)).sum(),
            }
        };
        let with_cost = |difference: Difference| {
            let connections = cost(&difference);
            Compared { difference, connections }
        };
        found.into_iter().map(with_cost).collect()
    });
    Ok(Json(compared.await?))
}

/// `POST /v1/config/confirm`.
pub(super) async fn confirm(State(handle): State<Handle>) -> Answer<Applied> {
    Ok(Json(Applied { revision: handle.confirm().await? }))
}

/// `POST /v1/config/rollback`.
pub(super) async fn roll_back(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<RollbackWish>,
) -> Answer<Applied> {
    Ok(Json(Applied { revision: handle.roll_back(wish.revision, &caller.name).await? }))
}

/// `GET /v1/revisions`: the kept revisions, oldest first.
pub(super) async fn history(State(handle): State<Handle>) -> Json<Vec<RevisionInfo>> {
    Json(handle.snapshot().history.to_vec())
}

/// `GET /v1/revisions/N`: a revision as TOML.
pub(super) async fn revision(
    State(handle): State<Handle>,
    Path(number): Path<u64>,
) -> Result<Response, Failure> {
    Ok(toml(handle.revision(number).await?.text))
}
