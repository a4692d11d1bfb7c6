//! The own account: password, second factor, sessions.

use crate::web::access::{Denied, SHORTEST_PASSWORD, new_secret, unix_now};
use crate::web::second_factor;
use crate::web::shell::{Shell, Visit};
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, Moment, moment};
use askama::Template;
use axum::Form;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Redirect, Response};
use control::access::{User, fingerprint};
use serde::Deserialize;
use std::net::SocketAddr;

/// Recovery codes of a second factor.
const CODES: usize = 10;

/// An open session of the user.
struct SessionLine {
    since: Moment,
    address: String,
    own: bool,
}

#[derive(Template)]
#[template(path = "pages/account.html")]
struct Page {
    s: Shell,
    l: Lang,
    last: Option<String>,
    second_factor: bool,
    shortest: usize,
    sessions: Vec<SessionLine>,
    offered: Option<second_factor::Offer>,
    codes: Vec<String>,
    wrong: Option<String>,
}

impl Page {
    fn new(visit: &Visit) -> Result<Self, Trouble> {
        let l = visit.lang;
        let (now, name) = (unix_now(), &visit.actor.name);
        let accounts = visit.site.access.accounts();
        let user =
            accounts.user(name).ok_or_else(|| Trouble::NotFound(l.say("token-no-account")))?;
        let sessions = accounts.sessions(now).filter(|(_, session)| session.user == *name);
        let sessions = sessions.map(|(id, session)| SessionLine {
            since: moment(session.since * 1000, now * 1000),
            address: session.address.to_string(),
            own: visit.actor.session == Some(*id),
        });
        Ok(Self {
            s: visit.shell("/account", l.say("menu-account")),
            l,
            last: user.last.map(|(at, address)| {
                let (at, address) = (moment(at * 1000, now * 1000).full, address.to_string());
                l.say_with("last-sign-in", &[("at", &at), ("address", &address)])
            }),
            second_factor: user.totp.is_some(),
            shortest: SHORTEST_PASSWORD,
            sessions: sessions.collect(),
            offered: None,
            codes: Vec::new(),
            wrong: None,
        })
    }
}

/// `GET /account`.
pub async fn page(visit: Visit) -> Result<Response, Trouble> {
    html(&Page::new(&visit)?)
}

/// A new password, and the old one.
#[derive(Deserialize)]
pub struct NewPassword {
    old: String,
    new: String,
}

/// `POST /account/password`: also ends the user's other sessions.
pub async fn change_password(
    visit: Visit,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Form(form): Form<NewPassword>,
) -> Result<Response, Trouble> {
    let (access, name) = (&visit.site.access, &visit.actor.name);
    let again = |text: String| html(&Page { wrong: Some(text), ..Page::new(&visit)? });
    match access.prove(name, &form.old, address.ip()).await {
        Ok(()) => {}
        Err(Denied::Wrong) => return again(visit.lang.say("old-password-wrong")),
        Err(denied) => return Err(denied.into()),
    }
    let password = match access.hash(&form.new).await {
        Ok(password) => password,
        Err(Denied::Password) => {
            return again(visit.lang.count("password-length", SHORTEST_PASSWORD));
        }
        Err(denied) => return Err(denied.into()),
    };
    let except = visit.actor.session;
    let change = |user: &mut User| user.password = password;
    access
        .change(|accounts| {
            accounts.change_user(name, except.as_ref(), change).map_err(Trouble::from)
        })
        .await?;
    Ok(Redirect::to("/account").into_response())
}

/// `POST /account/second-factor`: offers a secret; nothing is changed until a code proves that it arrived.
pub async fn offer(visit: Visit) -> Result<Response, Trouble> {
    let offered = Some(second_factor::offer(&visit.actor.name)?);
    html(&Page { offered, ..Page::new(&visit)? })
}

/// The first code of a new second factor, with the secret that was offered.
#[derive(Deserialize)]
pub struct Confirmed {
    secret: String,
    code: String,
}

/// `POST /account/second-factor/confirm`.
pub async fn confirm(visit: Visit, Form(form): Form<Confirmed>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let secret = second_factor::secret(&form.secret);
    let secret = secret.ok_or_else(|| Trouble::Bad(l.say("second-factor-secret")))?;
    let codes = (0..CODES).map(|_| recovery_code()).collect::<Result<Vec<String>, Trouble>>()?;
    let kept = codes.iter().map(|code| code.replace('-', "")).collect::<Vec<_>>();
    let now = unix_now();
    let mut right = false;
    let change = |user: &mut User| {
        let mut wanted = User { totp: Some(secret), totp_step: 0, ..user.clone() };
        wanted.recovery = Vec::new();
        right = second_factor::take(&mut wanted, &form.code, now);
        if right {
            wanted.recovery = kept.iter().map(|code| fingerprint(code.as_bytes())).collect();
            *user = wanted;
        }
    };
    let (access, name) = (&visit.site.access, &visit.actor.name);
    access
        .change(|accounts| accounts.change_user(name, None, change).map_err(Trouble::from))
        .await?;
    if right {
        return html(&Page { codes, ..Page::new(&visit)? });
    }
    let wrong = Some(l.say("second-factor-wrong"));
    let offered = Some(second_factor::offer_again(name, &form.secret));
    html(&Page { offered, wrong, ..Page::new(&visit)? })
}

fn recovery_code() -> Result<String, Trouble> {
    let secret = new_secret()?.to_ascii_uppercase();
    let piece = |from: usize| secret.get(from..from + 5).unwrap_or_default();
    Ok(format!("{}-{}", piece(0), piece(5)))
}

/// The password, to prove who asks.
#[derive(Deserialize)]
pub struct Password {
    password: String,
}

/// `POST /account/second-factor/remove`.
pub async fn remove(
    visit: Visit,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Form(form): Form<Password>,
) -> Result<Response, Trouble> {
    let (access, name) = (&visit.site.access, &visit.actor.name);
    match access.prove(name, &form.password, address.ip()).await {
        Ok(()) => {}
        Err(Denied::Wrong) => {
            let wrong = Some(visit.lang.say("old-password-wrong"));
            return html(&Page { wrong, ..Page::new(&visit)? });
        }
        Err(denied) => return Err(denied.into()),
    }
    let change = |user: &mut User| {
        user.totp = None;
        user.recovery = Vec::new();
    };
    access
        .change(|accounts| accounts.change_user(name, None, change).map_err(Trouble::from))
        .await?;
    Ok(Redirect::to("/account").into_response())
}
