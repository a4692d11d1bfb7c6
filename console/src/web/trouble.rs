//! Requests that fail, as pages and as JSON (RFC 9457): what happened and what to do.

use super::access::Denied;
use super::site::Shared;
use super::words::Lang;
use askama::Template;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use control::access::{Role, UserError};
use control::state::Refusal;
use serde_json::json;

/// Why a request fails.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Nobody is signed in.
    SignIn,
    /// The role does not allow it; the least that does.
    Role(Role),
    /// The change does not come from a page of this console.
    Foreign,
    /// There is no such page or thing.
    NotFound(String),
    /// The request makes no sense.
    Bad(String),
    /// What is there forbids it.
    Conflict(String),
    /// Too many guesses; seconds to wait.
    Wait(u64),
    /// The daemon refuses.
    Refused(Refusal),
    /// Something in the console failed.
    Inner(String),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Denied> for Trouble {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Wait(seconds) => Self::Wait(seconds),
            Denied::Wrong => Self::SignIn,
            Denied::Store(error) => Self::Refused(Refusal::Store(error)),
            Denied::Password => Self::Bad("the password is too short or too long".to_owned()),
            Denied::Name => Self::Bad(UserError::BadName.to_string()),
            Denied::SetUp => Self::Bad("the console is set up already".to_owned()),
        }
    }
}

impl From<UserError> for Trouble {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Unknown => Self::NotFound(error.to_string()),
            UserError::BadName => Self::Bad(error.to_string()),
            UserError::Taken | UserError::LastAdministrator | UserError::TooMany => {
                Self::Conflict(error.to_string())
            }
        }
    }
}

impl From<askama::Error> for Trouble {
    fn from(error: askama::Error) -> Self {
        Self::Inner(error.to_string())
    }
}

impl Trouble {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::Role(_) | Self::Foreign => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(refusal) => {
                let status = super::api::Failure::from(refusal.clone()).status;
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Inner(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What happened, where the words of the status do not say it.
    fn detail(&self, lang: Lang) -> String {
        match self {
            Self::SignIn => lang.say("error-sign-in"),
            Self::Role(role) => lang.say_with("error-role", &[("role", &lang.say(role_id(*role)))]),
            Self::Foreign => lang.say("error-foreign"),
            Self::Wait(seconds) => lang.count("error-wait", *seconds),
            Self::NotFound(what) | Self::Bad(what) | Self::Conflict(what) | Self::Inner(what) => {
                what.clone()
            }
            Self::Refused(refusal) => refusal.to_string(),
        }
    }
}

/// The id of a role's name.
pub fn role_id(role: Role) -> &'static str {
    match role {
        Role::Viewer => "role-viewer",
        Role::Operator => "role-operator",
        Role::Administrator => "role-administrator",
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if let Self::Wait(seconds) = &self {
            response.headers_mut().insert(RETRY_AFTER, (*seconds).into());
        }
        // The page is made on the way out, where the language and the kind of client are known.
        response.extensions_mut().insert(self);
        response
    }
}

/// Marks a failure that has a page of its own.
#[derive(Clone, Copy, Debug)]
pub struct Told;

/// Gives every failure its page or its JSON.
pub async fn explain(State(site): State<Shared>, request: Request, next: Next) -> Response {
    let lang = super::shell::language(&site, request.headers());
    let is_api = request.uri().path().starts_with("/api/");
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || response.extensions().get::<Told>().is_some() {
        return response;
    }
    let trouble = response.extensions().get::<Trouble>().cloned();
    let trouble = trouble.unwrap_or_else(|| match status {
        StatusCode::NOT_FOUND => Trouble::NotFound(path.clone()),
        _ => Trouble::Bad(String::new()),
    });
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    let (kind, body) = if is_api {
        let detail = trouble.detail(Lang::En);
        let title = status.canonical_reason().unwrap_or_default();
        let problem = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        ("application/problem+json", problem.to_string())
    } else {
        ("text/html; charset=utf-8", page(lang, status, &trouble))
    };
    let kind = axum::http::HeaderValue::from_static(kind);
    parts.headers.insert(CONTENT_TYPE, kind);
    Response::from_parts(parts, body.into())
}

#[derive(Template)]
#[template(path = "pages/trouble.html")]
struct Page {
    l: Lang,
    css: &'static str,
    status: u16,
    title: String,
    detail: String,
    remedy: String,
    sign_in: bool,
}

fn page(lang: Lang, status: StatusCode, trouble: &Trouble) -> String {
    let (title, remedy) = match status.as_u16() {
        400 | 405 | 415 | 422 => ("error-400", "error-400-remedy"),
        401 => ("error-401", "error-401-remedy"),
        403 => ("error-403", "error-403-remedy"),
        404 => ("error-404", "error-404-remedy"),
        409 | 412 => ("error-409", "error-409-remedy"),
        413 | 431 => ("error-413", "error-413-remedy"),
        429 => ("error-429", "error-429-remedy"),
        503 => ("error-503", "error-503-remedy"),
        507 => ("error-507", "error-507-remedy"),
        _ => ("error-500", "error-500-remedy"),
    };
    let page = Page {
        l: lang,
        css: super::assets::css(),
        status: status.as_u16(),
        title: lang.say(title),
        detail: trouble.detail(lang),
        remedy: lang.say(remedy),
        sign_in: status == StatusCode::UNAUTHORIZED,
    };
    page.render().unwrap_or_else(|_| status.to_string())
}

/// A page as an answer.
pub fn html(page: &impl Template) -> Result<Response, Trouble> {
    Ok(Html(page.render()?).into_response())
}
