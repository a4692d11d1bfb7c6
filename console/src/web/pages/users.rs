//! Users and tokens, for administrators.

use crate::web::access::{SHORTEST_PASSWORD, new_secret, unix_now};
use crate::web::shell::{Choice, Shell, Visit, choices};
use crate::web::trouble::{Trouble, html, role_id};
use crate::web::words::{Lang, Moment, moment};
use askama::Template;
use axum::Form;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use control::access::{Role, Token, User, fingerprint};
use serde::Deserialize;

/// A user in the list.
struct Line {
    name: String,
    path: String,
    roles: Vec<Choice>,
    second_factor: bool,
    last: Option<Moment>,
    address: String,
    sessions: usize,
    own: bool,
}

/// A token in the list.
struct TokenLine {
    name: String,
    path: String,
    role: String,
    author: String,
    since: Moment,
}

#[derive(Template)]
#[template(path = "pages/users.html")]
struct Page {
    s: Shell,
    l: Lang,
    users: Vec<Line>,
    tokens: Vec<TokenLine>,
    roles: Vec<Choice>,
    shortest: usize,
    made: Option<(String, String)>,
}

/// What can be chosen.
const ROLES: [(&str, &str); 3] = [
    ("viewer", "role-viewer"),
    ("operator", "role-operator"),
    ("administrator", "role-administrator"),
];

fn shown(visit: &Visit, made: Option<(String, String)>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let now = unix_now();
    let accounts = visit.site.access.accounts();
    let sessions =
        |name: &str| accounts.sessions(now).filter(|(_, session)| session.user == name).count();
    let line = |(name, user): (&str, &User)| Line {
        name: name.to_owned(),
        path: format!("/users/{}", super::services::segment(name)),
        roles: choices(l, user.role.name(), &ROLES),
        second_factor: user.totp.is_some(),
        last: user.last.map(|(at, _)| moment(at * 1000, now * 1000)),
        address: user.last.map(|(_, address)| address.to_string()).unwrap_or_default(),
        sessions: sessions(name),
        own: visit.actor.name == name,
    };
    let token = |(name, token): (&str, &Token)| TokenLine {
        name: name.to_owned(),
        path: format!("/tokens/{}", super::services::segment(name)),
        role: l.say(role_id(token.role)),
        author: token.author.clone(),
        since: moment(token.since * 1000, now * 1000),
    };
    html(&Page {
        s: visit.shell("/users", l.say("menu-users")),
        l,
        users: accounts.users().map(line).collect(),
        tokens: accounts.tokens().map(token).collect(),
        roles: choices(l, "viewer", &ROLES),
        shortest: SHORTEST_PASSWORD,
        made,
    })
}

/// `GET /users`.
pub async fn page(visit: Visit) -> Result<Response, Trouble> {
    shown(&visit, None)
}

/// A user to add.
#[derive(Deserialize)]
pub struct NewUser {
    name: String,
    role: String,
    password: String,
}

/// A role to give.
#[derive(Deserialize)]
pub struct NewRole {
    role: String,
}

fn role(name: &str) -> Result<Role, Trouble> {
    Role::named(name).ok_or_else(|| Trouble::Bad(format!("no role {name:?}")))
}

/// `POST /users`: adds a user.
pub async fn add(visit: Visit, Form(form): Form<NewUser>) -> Result<Response, Trouble> {
    let access = &visit.site.access;
    let user = access.new_user(role(&form.role)?, &form.password).await?;
    let name = form.name.trim();
    access.change(|accounts| accounts.add_user(name, user).map_err(Trouble::from)).await?;
    tracing::info!("{} added the user {name}", visit.actor.name);
    Ok(Redirect::to("/users").into_response())
}

/// `POST /users/{user}/role`.
pub async fn change_role(
    visit: Visit,
    Path(name): Path<String>,
    Form(form): Form<NewRole>,
) -> Result<Response, Trouble> {
    let role = role(&form.role)?;
    let change = |user: &mut User| user.role = role;
    let access = &visit.site.access;
    access
        .change(|accounts| accounts.change_user(&name, None, change).map_err(Trouble::from))
        .await?;
    tracing::info!("{} made {name} {}", visit.actor.name, role.name());
    Ok(Redirect::to("/users").into_response())
}

/// `POST /users/{user}/remove`.
pub async fn remove(visit: Visit, Path(name): Path<String>) -> Result<Response, Trouble> {
    let access = &visit.site.access;
    access.change(|accounts| accounts.remove_user(&name).map_err(Trouble::from)).await?;
    tracing::info!("{} removed the user {name}", visit.actor.name);
    Ok(Redirect::to("/users").into_response())
}

/// A token to make.
#[derive(Deserialize)]
pub struct NewToken {
    name: String,
    role: String,
}

/// `POST /tokens`: makes a token and shows it, once.
pub async fn add_token(visit: Visit, Form(form): Form<NewToken>) -> Result<Response, Trouble> {
    let secret = new_secret()?;
    let token = Token {
        secret: fingerprint(secret.as_bytes()),
        role: role(&form.role)?,
        since: unix_now(),
        author: visit.actor.name.clone(),
    };
    let name = form.name.trim();
    let access = &visit.site.access;
    access.change(|accounts| accounts.add_token(name, token).map_err(Trouble::from)).await?;
    tracing::info!("{} made the token {name}", visit.actor.name);
    shown(&visit, Some((name.to_owned(), secret)))
}

/// `POST /tokens/{token}/remove`.
pub async fn remove_token(visit: Visit, Path(name): Path<String>) -> Result<Response, Trouble> {
    let access = &visit.site.access;
    access.change(|accounts| accounts.remove_token(&name).map_err(Trouble::from)).await?;
    tracing::info!("{} removed the token {name}", visit.actor.name);
    Ok(Redirect::to("/users").into_response())
}
