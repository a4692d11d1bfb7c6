//! Users, sessions and tokens, and what the store keeps of them.

use super::{Fingerprint, Role, Session};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Sessions of one user at most; a further one ends the oldest.
const SESSIONS: usize = 16;

/// Users, and tokens, at most.
const MOST: usize = 1000;

/// Somebody who may sign in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// What they may do.
    pub role: Role,
    /// Argon2 hash of the password, as a PHC string.
    pub password: String,
    /// Secret of the second factor (TOTP, RFC 6238), if one was set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<Vec<u8>>,
    /// The time step of the last code that was taken: no code is good twice.
    #[serde(default)]
    pub totp_step: u64,
    /// What is kept of the recovery codes that were not used yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<Fingerprint>,
    /// Language of their pages; the browser's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// When they signed in last and from where, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<(u64, IpAddr)>,
}

/// Access for a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// What is kept of it.
    pub secret: Fingerprint,
    /// What it may do.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub since: u64,
    /// Who made it.
    pub author: String,
}

/// Why an account was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UserError {
    /// No user or token of that name.
    #[error("there is no such account")]
    Unknown,
    /// The name is taken.
    #[error("there is an account of that name already")]
    Taken,
    /// The name cannot be one.
    #[error("a name has 1 to 64 letters, digits, dots, dashes and underscores")]
    BadName,
    /// Nobody would be left to administrate.
    #[error("this is the last administrator")]
    LastAdministrator,
    /// The store would grow without bound.
    #[error("there are {MOST} accounts, which is the most")]
    TooMany,
}

/// Everything that is known of accounts. Changes are collected for the store.
#[derive(Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    tokens: BTreeMap<String, Token>,
    sessions: BTreeMap<Fingerprint, Session>,
    changed: Vec<Change>,
}

/// A record's key, and its value or that it is gone.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

impl Accounts {
    /// What the store has. Records that cannot be read are left out, and named.
    pub fn read(records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> (Self, Vec<String>) {
        let (mut accounts, mut bad) = (Self::default(), Vec::new());
        for (key, value) in records {
            if accounts.take(&key, &value).is_none() {
                bad.push(String::from_utf8_lossy(&key).into_owned());
            }
        }
        (accounts, bad)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (kind, name) = std::str::from_utf8(key).ok()?.split_once(' ')?;
        let name = name.to_owned();
        match kind {
            "user" => drop(self.users.insert(name, serde_json::from_slice(value).ok()?)),
            "token" => drop(self.tokens.insert(name, serde_json::from_slice(value).ok()?)),
            _ => return None,
        }
        Some(())
    }

    /// What the store has to write since the last call.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changed)
    }

    /// Whether somebody can administrate. Before that, only the set-up code opens the console.
    pub fn is_set_up(&self) -> bool {
        self.users.values().any(|user| user.role == Role::Administrator)
    }

    /// All users by name.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), user))
    }

    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// When the name is taken or cannot be one.
    pub fn add_user(&mut self, name: &str, user: User) -> Result<(), UserError> {
        check_name(name)?;
        if self.users.contains_key(name) {
            return Err(UserError::Taken);
        }
        if self.users.len() >= MOST {
            return Err(UserError::TooMany);
        }
        self.keep_user(name, user);
        Ok(())
    }

    /// Changes a user. A change of the role or the password ends their sessions but `except`.
    ///
    /// # Errors
    /// When there is none, or no administrator would be left.
    pub fn change_user(
        &mut self,
        name: &str,
        except: Option<&Fingerprint>,
        change: impl FnOnce(&mut User),
    ) -> Result<(), UserError> {
        let before = self.users.get(name).ok_or(UserError::Unknown)?;
        let mut after = before.clone();
        change(&mut after);
        let demoted = before.role == Role::Administrator && after.role != Role::Administrator;
        if demoted && self.administrators() == 1 {
            return Err(UserError::LastAdministrator);
        }
        let ends = before.role != after.role || before.password != after.password;
        self.keep_user(name, after);
        if ends {
            self.sessions.retain(|id, session| session.user != name || Some(id) == except);
        }
        Ok(())
    }

    /// Removes a user and ends their sessions.
    ///
    /// # Errors
    /// When there is none, or no administrator would be left.
    pub fn remove_user(&mut self, name: &str) -> Result<(), UserError> {
        let user = self.users.get(name).ok_or(UserError::Unknown)?;
        if user.role == Role::Administrator && self.administrators() == 1 {
            return Err(UserError::LastAdministrator);
        }
        self.users.remove(name);
        self.changed.push((key("user", name), None));
        self.sessions.retain(|_, session| session.user != name);
        Ok(())
    }

    fn administrators(&self) -> usize {
        self.users.values().filter(|user| user.role == Role::Administrator).count()
    }

    fn keep_user(&mut self, name: &str, user: User) {
        self.changed.push((key("user", name), serde_json::to_vec(&user).ok()));
        self.users.insert(name.to_owned(), user);
    }

    /// Opens a session for a user who has proved who they are.
    pub fn open_session(&mut self, id: Fingerprint, session: Session) {
        let now = session.since;
        self.sessions.retain(|_, session| session.is_alive(now));
        let own = self.sessions.iter().filter(|(_, other)| other.user == session.user);
        let (count, oldest) =
            own.fold((0, None::<(u64, Fingerprint)>), |(count, oldest), (id, other)| {
                let candidate = (other.used, *id);
                (count + 1, Some(oldest.map_or(candidate, |oldest| oldest.min(candidate))))
            });
        if let (SESSIONS.., Some((_, oldest))) = (count, oldest) {
            self.sessions.remove(&oldest);
        }
        self.sessions.insert(id, session);
    }

    /// Whose session this is, and notes that it was used.
    pub fn session(&mut self, id: &Fingerprint, now: u64) -> Option<(String, User)> {
        let session = self.sessions.get_mut(id).filter(|session| session.is_alive(now))?;
        session.used = now;
        let user = self.users.get(&session.user)?;
        Some((session.user.clone(), user.clone()))
    }

    /// Open sessions with what is kept of their ids.
    pub fn sessions(&self, now: u64) -> impl Iterator<Item = (&Fingerprint, &Session)> {
        self.sessions.iter().filter(move |(_, session)| session.is_alive(now))
    }

    /// Whether this user is signed in from that address.
    pub fn is_known(&self, name: &str, address: IpAddr, now: u64) -> bool {
        self.sessions(now).any(|(_, session)| session.user == name && session.address == address)
    }

    /// Ends a session. Whether there was one.
    pub fn end_session(&mut self, id: &Fingerprint) -> bool {
        self.sessions.remove(id).is_some()
    }

    /// All tokens by name.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &Token)> {
        self.tokens.iter().map(|(name, token)| (name.as_str(), token))
    }

    /// Adds a token.
    ///
    /// # Errors
    /// When the name is taken or cannot be one.
    pub fn add_token(&mut self, name: &str, token: Token) -> Result<(), UserError> {
        check_name(name)?;
        if self.tokens.contains_key(name) {
            return Err(UserError::Taken);
        }
        if self.tokens.len() >= MOST {
            return Err(UserError::TooMany);
        }
        self.changed.push((key("token", name), serde_json::to_vec(&token).ok()));
        self.tokens.insert(name.to_owned(), token);
        Ok(())
    }

    /// Removes a token.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_token(&mut self, name: &str) -> Result<(), UserError> {
        self.tokens.remove(name).ok_or(UserError::Unknown)?;
        self.changed.push((key("token", name), None));
        Ok(())
    }

    /// Whose token this is.
    pub fn token(&self, secret: &Fingerprint) -> Option<(&str, Role)> {
        let mut tokens = self.tokens.iter();
        let (name, token) = tokens.find(|(_, token)| token.secret == *secret)?;
        Some((name, token.role))
    }
}

fn key(kind: &str, name: &str) -> Vec<u8> {
    format!("{kind} {name}").into_bytes()
}

fn check_name(name: &str) -> Result<(), UserError> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = (1..=64).contains(&name.chars().count());
    if fits && name.chars().all(good) { Ok(()) } else { Err(UserError::BadName) }
}
