//! Failures as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
pub use control::model::Problem;
use control::state::Refusal;
use serde::{Deserialize, Serialize};

/// What went wrong, as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The reason, for people.
    pub error: String,
    /// Of a document: every problem with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
}

impl Failure {
    /// A request that makes no sense.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self { error: error.into(), problems: Vec::new(), status: 400 }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Invalid(_) | Refusal::Emptied(_) | Refusal::TooLarge(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Refusal::Conflict | Refusal::Unconfirmed(_) | Refusal::NothingToConfirm => {
                StatusCode::CONFLICT
            }
            Refusal::NoRevision(_)
            | Refusal::NoService(_)
            | Refusal::NoInstance(_)
            | Refusal::NoReal { .. } => StatusCode::NOT_FOUND,
            Refusal::NotDrained(_) | Refusal::Peer(_) => StatusCode::CONFLICT,
            Refusal::BadFilter(_) => StatusCode::BAD_REQUEST,
            Refusal::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let error = refusal.to_string();
        let problems = match refusal {
            Refusal::Invalid(problems) => problems,
            Refusal::Emptied(_)
            | Refusal::Conflict
            | Refusal::Unconfirmed(_)
            | Refusal::NothingToConfirm
            | Refusal::NoRevision(_)
            | Refusal::NoService(_)
            | Refusal::NoReal { .. }
            | Refusal::NoInstance(_)
            | Refusal::Peer(_)
            | Refusal::NotDrained(_)
            | Refusal::BadFilter(_)
            | Refusal::TooLarge(_)
            | Refusal::Store(_)
            | Refusal::Unavailable(_) => Vec::new(),
        };
        Self { error, problems, status: status.as_u16() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self)).into_response()
    }
}

/// A path that is none of the API's.
pub(super) async fn no_such_route(uri: axum::http::Uri) -> Failure {
    Failure { error: format!("there is no {}", uri.path()), problems: Vec::new(), status: 404 }
}
