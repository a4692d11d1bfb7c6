//! Set-up, sign-in, sign-out and language.

use crate::web::access::{Denied, Opened, SHORTEST_PASSWORD};
use crate::web::guard::{SESSION_COOKIE, is_own};
use crate::web::shell::{LANGUAGE_COOKIE, Visit};
use crate::web::trouble::{Trouble, html};
use crate::web::words::Lang;
use askama::Template;
use axum::Form;
use axum::extract::{ConnectInfo, Query};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::net::SocketAddr;

/// Where somebody wanted to go.
#[derive(Debug, Default, Deserialize)]
pub struct Then {
    #[serde(default)]
    then: String,
}

/// The sign-in form.
#[derive(Deserialize)]
pub struct SignIn {
    name: String,
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    then: String,
}

/// The set-up form.
#[derive(Deserialize)]
pub struct SetUp {
    code: String,
    name: String,
    password: String,
}

/// A language to change to, and the page to come back to.
#[derive(Debug, Deserialize)]
pub struct Language {
    language: String,
    #[serde(default)]
    then: String,
}

#[derive(Template)]
#[template(path = "pages/sign-in.html")]
struct SignInPage {
    l: Lang,
    other: Lang,
    css: &'static str,
    path: String,
    set_up: bool,
    name: String,
    code: String,
    then: String,
    shortest: usize,
    wrong: Option<String>,
}

impl SignInPage {
    fn new(visit: &Visit, set_up: bool) -> Self {
        Self {
            l: visit.lang,
            other: if visit.lang == Lang::En { Lang::Zh } else { Lang::En },
            css: crate::web::assets::css(),
            path: visit.path.clone(),
            set_up,
            name: String::new(),
            code: String::new(),
            then: String::new(),
            shortest: SHORTEST_PASSWORD,
            wrong: None,
        }
    }

    /// The form again, with what is wrong.
    fn again(mut self, denied: &Denied, visit: &Visit) -> Result<Response, Trouble> {
        let l = visit.lang;
        let (status, text) = match denied {
            Denied::Wrong if self.set_up => (StatusCode::FORBIDDEN, l.say("setup-wrong-code")),
            Denied::Wrong => (StatusCode::FORBIDDEN, l.say("login-wrong")),
            Denied::Wait(seconds) => {
                (StatusCode::TOO_MANY_REQUESTS, l.count("error-wait", *seconds))
            }
            Denied::Password => {
                (StatusCode::UNPROCESSABLE_ENTITY, l.count("password-length", self.shortest))
            }
            Denied::Name => (StatusCode::UNPROCESSABLE_ENTITY, l.say("name-rule")),
            Denied::SetUp => return Ok(Redirect::to("/login").into_response()),
            Denied::Store(error) => {
                return Err(Trouble::Refused(control::state::Refusal::Store(error.clone())));
            }
        };
        self.wrong = Some(text);
        // A page of its own, so the general one for that status does not replace it.
        let mut page = html(&self)?;
        *page.status_mut() = status;
        page.extensions_mut().insert(crate::web::trouble::Told);
        Ok(page)
    }
}

/// `GET /setup`.
pub async fn set_up_page(visit: Visit) -> Result<Response, Trouble> {
    if visit.site.access.is_set_up() {
        return Ok(Redirect::to("/login").into_response());
    }
    html(&SignInPage::new(&visit, true))
}

/// `POST /setup`: the first administrator.
pub async fn set_up(
    visit: Visit,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<SetUp>,
) -> Result<Response, Trouble> {
    if !is_own(&headers) {
        return Err(Trouble::Foreign);
    }
    let SetUp { code, name, password } = form;
    match visit.site.access.set_up(&code, name.trim(), &password, address.ip()).await {
        Ok(opened) => Ok(welcome(&opened, "/")),
        Err(denied) => {
            SignInPage { name, code, ..SignInPage::new(&visit, true) }.again(&denied, &visit)
        }
    }
}

/// `GET /login`.
pub async fn sign_in_page(
    visit: Visit,
    Query(Then { then }): Query<Then>,
) -> Result<Response, Trouble> {
    if !visit.site.access.is_set_up() {
        return Ok(Redirect::to("/setup").into_response());
    }
    html(&SignInPage { then, ..SignInPage::new(&visit, false) })
}

/// `POST /login`.
pub async fn sign_in(
    visit: Visit,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Result<Response, Trouble> {
    if !is_own(&headers) {
        return Err(Trouble::Foreign);
    }
    let SignIn { name, password, code, then } = form;
    let code = Some(code.as_str()).filter(|code| !code.is_empty());
    match visit.site.access.sign_in(name.trim(), &password, code, address.ip()).await {
        Ok(opened) => Ok(welcome(&opened, &local(&then))),
        Err(denied) => {
            SignInPage { name, then, ..SignInPage::new(&visit, false) }.again(&denied, &visit)
        }
    }
}

/// `POST /logout`.
pub async fn sign_out(visit: Visit) -> Response {
    if let Some(session) = visit.actor.session {
        visit.site.access.accounts().end_session(&session);
    }
    let gone = format!("{SESSION_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(SET_COOKIE, gone)], Redirect::to("/login")).into_response()
}

/// `POST /language`: for this browser.
pub async fn language(Form(form): Form<Language>) -> Result<Response, Trouble> {
    let lang = Lang::of_tag(&form.language);
    let lang = lang.ok_or_else(|| Trouble::Bad(format!("no language {:?}", form.language)))?;
    let cookie =
        format!("{LANGUAGE_COOKIE}={}; Path=/; Secure; SameSite=Lax; Max-Age=31536000", lang.tag());
    Ok(([(SET_COOKIE, cookie)], Redirect::to(&local(&form.then))).into_response())
}

fn welcome(Opened(secret): &Opened, then: &str) -> Response {
    let cookie = format!("{SESSION_COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict");
    ([(SET_COOKIE, cookie)], Redirect::to(then)).into_response()
}

/// A path on this console, and nothing else: nobody may be led away by a link to the sign-in.
fn local(then: &str) -> String {
    let is_local = then.starts_with('/')
        && !then.starts_with("//")
        && !then.contains(['\\', '\r', '\n', '\t'])
        && !then.starts_with("/logout");
    if is_local { then.to_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leaves_the_console() {
        for there in
            ["https://evil", "//evil", "/\\evil", "", "x", "/\r\nset-cookie: a=b", "/\t/evil"]
        {
            assert_eq!(local(there), "/", "{there:?}");
        }
        assert_eq!(local("/services/web?page=2"), "/services/web?page=2");
    }
}
