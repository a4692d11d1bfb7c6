//! Who may come in: each route has the least role that may use it, checked here and nowhere else.

use super::access::Actor;
use super::site::Shared;
use super::trouble::Trouble;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use control::access::Role;

/// The cookie of a session. The prefix has browsers refuse it without `Secure`, or for other hosts.
pub const SESSION_COOKIE: &str = "__Host-session";

/// Lets requests of that role and those above through.
pub async fn guard(
    State((site, least)): State<(Shared, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(actor) = actor(&site, request.headers()) else {
        return sign_in_first(&site, &request);
    };
    if actor.role < least {
        return Trouble::Role(least).into_response();
    }
    if actor.session.is_some() && changes(request.method()) && !is_own(request.headers()) {
        return Trouble::Foreign.into_response();
    }
    request.extensions_mut().insert(actor);
    next.run(request).await
}

/// Who makes the request: by token, or by session.
pub fn actor(site: &Shared, headers: &HeaderMap) -> Option<Actor> {
    if let Some(bearer) = headers.get(AUTHORIZATION) {
        let secret = bearer.to_str().ok()?.strip_prefix("Bearer ")?;
        return site.access.of_token(secret.trim());
    }
    site.access.of_session(cookie(headers, SESSION_COOKIE)?)
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value).next()
}

/// Pages lead to the sign-in and back; everything else is refused.
fn sign_in_first(site: &Shared, request: &Request) -> Response {
    let is_page = request.method() == Method::GET && !request.uri().path().starts_with("/api/");
    if !is_page {
        return Trouble::SignIn.into_response();
    }
    if !site.access.is_set_up() {
        return Redirect::to("/setup").into_response();
    }
    match request.uri().path_and_query().map(|path| path.as_str()) {
        None | Some("/") => Redirect::to("/login").into_response(),
        Some(path) => Redirect::to(&format!("/login?then={}", escaped(path))).into_response(),
    }
}

fn escaped(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let escape = |byte: u8| {
        if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    path.bytes().map(escape).collect()
}

/// Whether a method may change something.
fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a change comes from a page of this console: what browsers say about it must be there and right.
/// Together with `SameSite=Strict` this keeps other sites from using somebody's session.
pub fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = text(HOST.as_str()).unwrap_or_default();
    text(ORIGIN.as_str()).and_then(|origin| origin.strip_prefix("https://")) == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn only_the_consoles_own_pages_change_something() {
        let own = [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "https://lb1:8443"), ("host", "lb1:8443")],
        ];
        let foreign = [
            &[][..],
            &[("host", "lb1:8443")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://lb1:8443"),
                ("host", "lb1:8443"),
            ],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://evil"), ("host", "lb1:8443")],
            &[("origin", "http://lb1:8443"), ("host", "lb1:8443")],
            &[("origin", "null"), ("host", "lb1:8443")],
        ];
        assert!(own.iter().all(|pairs| is_own(&headers(pairs))));
        for pairs in foreign {
            assert!(!is_own(&headers(pairs)), "{pairs:?}");
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let sent = headers(&[("cookie", "a=1; __Host-session=x=y"), ("cookie", "lang=zh")]);
        assert_eq!(cookie(&sent, SESSION_COOKIE), Some("x=y"));
        assert_eq!(cookie(&sent, "lang"), Some("zh"));
        assert_eq!(cookie(&sent, "session"), None);
    }

    #[test]
    fn a_path_to_come_back_to_survives_the_query() {
        assert_eq!(escaped("/services/a b?x=1&y=2"), "/services/a%20b%3Fx%3D1%26y%3D2");
    }
}
