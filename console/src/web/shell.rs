//! What every page has around it: menu, node, role, language, and what is on trial.

use super::access::Actor;
use super::guard::{actor, cookie};
use super::site::Shared;
use super::trouble::role_id;
use super::words::{Lang, moment};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::request::Parts;
use control::access::Role;
use std::convert::Infallible;

/// The cookie of a chosen language.
pub const LANGUAGE_COOKIE: &str = "language";

/// Who asks for a page, and in which language.
pub struct Visit {
    /// The console.
    pub site: Shared,
    /// Who asks. On pages that everybody may see it is a viewer without a name.
    pub actor: Actor,
    /// In which language.
    pub lang: Lang,
    /// Path and query, to come back to.
    pub path: String,
}

impl FromRequestParts<Shared> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, site: &Shared) -> Result<Self, Infallible> {
        let lang = language(site, &parts.headers);
        let actor = parts.extensions.get::<Actor>().cloned().unwrap_or_else(|| Actor {
            name: String::new(),
            role: Role::Viewer,
            session: None,
            lang: None,
        });
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { site: site.clone(), actor, lang, path })
    }
}

/// The language of a request: the one chosen here, the account's, or the browser's.
pub fn language(site: &Shared, headers: &HeaderMap) -> Lang {
    let chosen = cookie(headers, LANGUAGE_COOKIE).and_then(Lang::of_tag);
    let own = || actor(site, headers).and_then(|actor| actor.lang);
    let browser = || {
        let header = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Lang::of_header(header.unwrap_or_default())
    };
    chosen.or_else(own).unwrap_or_else(browser)
}

/// One entry of the menu.
pub struct Entry {
    /// Path of the page.
    pub path: &'static str,
    /// Its name.
    pub name: String,
    /// Whether this is the page, or one below it.
    pub here: bool,
}

/// A part of the menu.
pub struct Part {
    /// Its heading.
    pub name: String,
    /// Its pages.
    pub entries: Vec<Entry>,
}

/// One choice of a list in a form.
pub struct Choice {
    /// What the form sends.
    pub value: &'static str,
    /// What people read.
    pub name: String,
    /// Whether it is chosen.
    pub chosen: bool,
}

/// The choices of a list, by value and message.
pub fn choices(l: Lang, chosen: &str, all: &[(&'static str, &str)]) -> Vec<Choice> {
    let choice = |(value, id): &(&'static str, &str)| Choice {
        value,
        name: l.say(id),
        chosen: *value == chosen,
    };
    all.iter().map(choice).collect()
}

/// The frame of a page.
pub struct Shell {
    /// Path of the style sheet.
    pub css: &'static str,
    /// Title of the page.
    pub title: String,
    /// The menu.
    pub menu: Vec<Part>,
    /// Name of this director.
    pub node: String,
    /// Who is signed in.
    pub user: String,
    /// What they may do, in words.
    pub role: String,
    /// Whether they may operate.
    pub operates: bool,
    /// Version of the program.
    pub version: &'static str,
    /// Running revision.
    pub revision: u64,
    /// The time, with its zone.
    pub now: String,
    /// The revision that is rolled back unless somebody keeps it.
    pub trial: Option<u64>,
    /// Path of this page, to come back to.
    pub path: String,
    /// The other language.
    pub other: Lang,
}

/// Headings and pages of the menu.
const MENU: [(&str, &[(&str, &str)]); 4] = [
    ("menu-watch", &[("/", "menu-overview"), ("/events", "menu-events"), ("/drops", "menu-drops")]),
    (
        "menu-balance",
        &[
            ("/services", "menu-services"),
            ("/connections", "menu-connections"),
            ("/explain", "menu-explain"),
        ],
    ),
    ("menu-directors", &[("/ha", "menu-ha"), ("/config", "menu-config")]),
    ("menu-console", &[("/account", "menu-account"), ("/users", "menu-users")]),
];

impl Visit {
    /// The frame of the page at `at`, one of the menu's paths.
    pub fn shell(&self, at: &str, title: String) -> Shell {
        let snapshot = self.site.handle.snapshot();
        let l = self.lang;
        let name = snapshot.document.node.name.clone();
        let parts = MENU.iter().filter(|(_, entries)| !entries.is_empty());
        let entry =
            |(path, id): &(&'static str, &str)| Entry { path, name: l.say(id), here: *path == at };
        let part = |(heading, entries): &(&str, &'static [(&'static str, &str)])| Part {
            name: l.say(heading),
            entries: entries.iter().map(entry).collect(),
        };
        let now = super::unix_millis();
        Shell {
            css: super::assets::css(),
            title,
            menu: parts.map(part).collect(),
            node: name.unwrap_or_else(super::api::host_name),
            user: self.actor.name.clone(),
            role: l.say(role_id(self.actor.role)),
            operates: self.actor.role >= Role::Operator,
            version: env!("CARGO_PKG_VERSION"),
            revision: snapshot.revision,
            now: moment(now, now).full,
            trial: snapshot.unconfirmed,
            path: self.path.clone(),
            other: if l == Lang::En { Lang::Zh } else { Lang::En },
        }
    }
}
