//! `/v1/users`, `/v1/tokens`, `/v1/setup-code`: who may use the console and the API.

use super::{Caller, Failure};
use crate::web::access::{Access, Denied, new_secret, unix_now};
use axum::extract::{ConnectInfo, Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use control::access::{Role, Token, UserError, fingerprint};
use control::state::Refusal;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

type Answer<T> = Result<Json<T>, Failure>;

/// A user, as others see them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether a second factor is set up.
    pub second_factor: bool,
    /// When they signed in last, in seconds since 1970.
    pub last: Option<u64>,
    /// Open sessions.
    pub sessions: usize,
}

/// A token, as everybody but its owner sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub since: u64,
    /// Who made it.
    pub author: String,
}

/// A user to be added, or a password to be changed.
#[derive(Serialize, Deserialize)]
pub struct UserWish {
    /// The name.
    pub name: String,
    /// The role; of a user that exists it stays as it is when absent.
    pub role: Option<Role>,
    /// The password.
    pub password: String,
}

/// A token to be added.
#[derive(Serialize, Deserialize)]
pub struct TokenWish {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// What is shown once.
#[derive(Serialize, Deserialize)]
pub struct Secret {
    /// The set-up code, or the token.
    pub secret: String,
}

/// What has nothing to say but that it is done.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Done {}

/// The routes.
pub fn router(access: Arc<Access>) -> Router {
    Router::new()
        .route("/v1/setup-code", get(setup_code))
        .route("/v1/users", get(users).post(add_user))
        .route("/v1/users/{name}", delete(remove_user))
        .route("/v1/users/{name}/password", post(change_password))
        .route("/v1/tokens", get(tokens).post(add_token))
        .route("/v1/tokens/{name}", delete(remove_token))
        .with_state(access)
}

fn failure(status: u16, error: impl ToString) -> Failure {
    Failure { error: error.to_string(), problems: Vec::new(), status }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        let status = match error {
            UserError::Unknown => 404,
            UserError::BadName => 422,
            UserError::Taken | UserError::LastAdministrator | UserError::TooMany => 409,
        };
        failure(status, error)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Password => failure(422, "a password has 10 characters to 1,024 bytes"),
            Denied::Name => UserError::BadName.into(),
            Denied::Store(error) => Refusal::Store(error).into(),
            Denied::Wrong | Denied::Wait(_) | Denied::SetUp => failure(403, "refused"),
        }
    }
}

async fn setup_code(State(access): State<Arc<Access>>) -> Answer<Secret> {
    if access.is_set_up() {
        return Err(failure(409, "there is an administrator already; the console needs no code"));
    }
    Ok(Json(Secret { secret: access.set_up_code() }))
}

async fn users(State(access): State<Arc<Access>>) -> Json<Vec<UserView>> {
    let accounts = access.accounts();
    let sessions = |name: &str| {
        accounts.sessions(unix_now()).filter(|(_, session)| session.user == name).count()
    };
    let views = accounts.users().map(|(name, user)| UserView {
        name: name.to_owned(),
        role: user.role,
        second_factor: user.totp.is_some(),
        last: user.last.map(|(at, _)| at),
        sessions: sessions(name),
    });
    Json(views.collect())
}

async fn add_user(State(access): State<Arc<Access>>, Json(wish): Json<UserWish>) -> Answer<Done> {
    let user = access.new_user(wish.role.unwrap_or(Role::Viewer), &wish.password).await?;
    access.change(|accounts| accounts.add_user(&wish.name, user).map_err(Failure::from)).await?;
    Ok(Json(Done {}))
}

async fn change_password(
    State(access): State<Arc<Access>>,
    Path(name): Path<String>,
    Json(wish): Json<UserWish>,
) -> Answer<Done> {
    let password = access.hash(&wish.password).await?;
    let change = |user: &mut control::access::User| user.password = password;
    access
        .change(|accounts| accounts.change_user(&name, None, change).map_err(Failure::from))
        .await?;
    Ok(Json(Done {}))
}

async fn remove_user(State(access): State<Arc<Access>>, Path(name): Path<String>) -> Answer<Done> {
    access.change(|accounts| accounts.remove_user(&name).map_err(Failure::from)).await?;
    Ok(Json(Done {}))
}

async fn tokens(State(access): State<Arc<Access>>) -> Json<Vec<TokenView>> {
    let accounts = access.accounts();
    let views = accounts.tokens().map(|(name, token)| TokenView {
        name: name.to_owned(),
        role: token.role,
        since: token.since,
        author: token.author.clone(),
    });
    Json(views.collect())
}

async fn add_token(
    State(access): State<Arc<Access>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<TokenWish>,
) -> Answer<Secret> {
    let secret = new_secret()?;
    let token = Token {
        secret: fingerprint(secret.as_bytes()),
        role: wish.role,
        since: unix_now(),
        author: caller.name,
    };
    access.change(|accounts| accounts.add_token(&wish.name, token).map_err(Failure::from)).await?;
    Ok(Json(Secret { secret }))
}

async fn remove_token(State(access): State<Arc<Access>>, Path(name): Path<String>) -> Answer<Done> {
    access.change(|accounts| accounts.remove_token(&name).map_err(Failure::from)).await?;
    Ok(Json(Done {}))
}
