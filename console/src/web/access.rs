//! Who is at the other end: sign-in, sessions, tokens, and the code that opens a new console.

use super::words::Lang;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use control::access::{Accounts, Fingerprint, Role, Session, Throttle, User, Wait, fingerprint};
use control::handle::Handle;
use control::state::Refusal;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Passwords that are hashed at a time: each takes 19 MiB and a processor for some 50 ms. Others wait.
const HASHING: usize = 2;

/// Wrong set-up codes until there is a new one.
const CODE_TRIES: u32 = 3;

/// The shortest password, in characters.
pub const SHORTEST_PASSWORD: usize = 10;

/// The longest password, in bytes.
const LONGEST_PASSWORD: usize = 1024;

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The user, or `token NAME`.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Of a browser: its session.
    pub session: Option<Fingerprint>,
    /// The language they chose.
    pub lang: Option<Lang>,
}

/// Why somebody is not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    /// Name, password or code is wrong; which of them is not said.
    Wrong,
    /// Too many guesses; seconds to wait.
    Wait(u64),
    /// The password is too short or too long.
    Password,
    /// The name cannot be one.
    Name,
    /// Somebody was faster: the console is set up.
    SetUp,
    /// The store does not take it.
    Store(String),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Store(refusal.to_string())
    }
}

/// A session that was opened: what its cookie holds.
#[derive(Clone, Debug)]
pub struct Opened(pub String);

/// The accounts of a running console.
pub struct Access {
    handle: Handle,
    accounts: Mutex<Accounts>,
    throttle: Mutex<Throttle>,
    code: Mutex<Code>,
    hashing: Semaphore,
    started: Instant,
    /// Hash of a password that nobody has: a name that does not exist takes as long as one that does.
    nobody: String,
}

/// The set-up code, while there is no administrator.
struct Code {
    code: String,
    wrong: u32,
}

impl Access {
    /// Reads the accounts.
    ///
    /// # Errors
    /// When the store cannot be read, or the system gives no random numbers.
    pub async fn open(handle: Handle) -> Result<Self, Refusal> {
        let accounts = handle.accounts().await?;
        let access = Self {
            handle,
            code: Mutex::new(Code { code: new_code()?, wrong: 0 }),
            throttle: Mutex::default(),
            hashing: Semaphore::new(HASHING),
            started: clock(),
            nobody: hash(&new_secret()?).ok_or_else(|| unavailable("hashing"))?,
            accounts: Mutex::new(accounts),
        };
        Ok(access)
    }

    /// The accounts, to look at.
    pub fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an administrator.
    pub fn is_set_up(&self) -> bool {
        self.accounts().is_set_up()
    }

    /// Changes accounts and stores that. What cannot be stored has still happened until a restart; the
    /// error says so.
    ///
    /// # Errors
    /// What `change` says, or that the store does not take it.
    pub async fn change<T, E: From<Refusal>>(
        &self,
        change: impl FnOnce(&mut Accounts) -> Result<T, E>,
    ) -> Result<T, E> {
        let (done, changes) = {
            let mut accounts = self.accounts();
            let done = change(&mut accounts);
            (done, accounts.changes())
        };
        if !changes.is_empty() {
            self.handle.keep_accounts(changes).await?;
        }
        done
    }

    /// The code that opens a console without an administrator.
    pub fn set_up_code(&self) -> String {
        self.lock_code().code.clone()
    }

    fn lock_code(&self) -> MutexGuard<'_, Code> {
        self.code.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says the set-up code in the log, while it is of use.
    pub fn say_code(&self) {
        if self.is_set_up() {
            return;
        }
        tracing::info!(
            "the console waits for its first administrator; set-up code: {}",
            self.set_up_code()
        );
    }

    /// Makes the first administrator, and signs them in.
    ///
    /// # Errors
    /// When the code is wrong, there is an administrator, or the account cannot be made.
    pub async fn set_up(
        &self,
        code: &str,
        name: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<Opened, Denied> {
        if self.is_set_up() {
            return Err(Denied::SetUp);
        }
        if let Err(Wait(seconds)) = self.may_guess("", address) {
            return Err(Denied::Wait(seconds));
        }
        if !self.is_code(code)? {
            self.throttle().wrong("", address, self.now());
            return Err(Denied::Wrong);
        }
        let user = self.new_user(Role::Administrator, password).await?;
        self.change(|accounts| {
            // Between the look and now somebody else may have been faster.
            if accounts.is_set_up() {
                return Err(Denied::SetUp);
            }
            accounts.add_user(name, user).map_err(|_| Denied::Name)
        })
        .await?;
        tracing::info!("{name} set up the console from {address}");
        self.open_session(name, address).await
    }

    /// Whether this is the code; after some wrong ones there is a new one, so that it cannot be guessed.
    fn is_code(&self, given: &str) -> Result<bool, Refusal> {
        let given: String = given.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut code = self.lock_code();
        let right = fingerprint(given.to_ascii_uppercase().as_bytes())
            == fingerprint(code.code.replace('-', "").as_bytes());
        if !right {
            code.wrong += 1;
            if code.wrong >= CODE_TRIES {
                *code = Code { code: new_code()?, wrong: 0 };
                drop(code);
                self.say_code();
            }
        }
        Ok(right)
    }

    /// A user with this password.
    ///
    /// # Errors
    /// When the password is too short or too long.
    pub async fn new_user(&self, role: Role, password: &str) -> Result<User, Denied> {
        let password = self.hash(password).await?;
        let (totp, totp_step, recovery, language, last) = (None, 0, Vec::new(), None, None);
        Ok(User { role, password, totp, totp_step, recovery, language, last })
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub async fn hash(&self, password: &str) -> Result<String, Denied> {
        if password.chars().count() < SHORTEST_PASSWORD || password.len() > LONGEST_PASSWORD {
            return Err(Denied::Password);
        }
        let password = password.to_owned();
        let hashed = self.apart(move || hash(&password)).await?;
        hashed.ok_or_else(|| Denied::Store("the password could not be hashed".to_owned()))
    }

    /// Does what takes long away from other requests, a few at a time.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Denied> {
        let _turn = self.hashing.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Denied::Store(error.to_string()))
    }

    /// Whether that is the user's password. Takes as long for a name that does not exist.
    async fn is_password(&self, name: &str, password: &str) -> Result<Option<User>, Denied> {
        let user = self.accounts().user(name).cloned();
        let kept = user.as_ref().map_or_else(|| self.nobody.clone(), |user| user.password.clone());
        let fits = password.len() <= LONGEST_PASSWORD;
        let password = password.to_owned();
        let right = self.apart(move || verify(&password, &kept)).await?;
        Ok(user.filter(|_| right && fits))
    }

    /// Signs a user in. `code` is for the second factor, where there is one.
    ///
    /// # Errors
    /// When anything is wrong, or there were too many guesses.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        code: Option<&str>,
        address: IpAddr,
    ) -> Result<Opened, Denied> {
        if let Err(Wait(seconds)) = self.may_guess(name, address) {
            return Err(Denied::Wait(seconds));
        }
        let user = self.is_password(name, password).await?;
        let right = user.is_some_and(|user| user.totp.is_none() || self.is_second(name, code));
        if !right {
            self.throttle().wrong(name, address, self.now());
            tracing::warn!("sign-in as {name:?} from {address} failed");
            return Err(Denied::Wrong);
        }
        self.throttle().right(name);
        self.open_session(name, address).await
    }

    /// Checks the password of somebody who is signed in, before something that a forgotten browser must not
    /// do.
    ///
    /// # Errors
    /// When it is wrong, or there were too many guesses.
    pub async fn prove(&self, name: &str, password: &str, address: IpAddr) -> Result<(), Denied> {
        let guess = self.throttle().may_guess(name, address, false, self.now());
        guess.map_err(|Wait(seconds)| Denied::Wait(seconds))?;
        if self.is_password(name, password).await?.is_none() {
            self.throttle().wrong(name, address, self.now());
            return Err(Denied::Wrong);
        }
        Ok(())
    }

    /// Whether the code is right for the user's second factor, and was not used before.
    fn is_second(&self, name: &str, code: Option<&str>) -> bool {
        let code = code.unwrap_or_default();
        let mut right = false;
        let mut look = |user: &mut User| right = super::second_factor::take(user, code, unix_now());
        // Stored with the session that follows.
        let _ = self.accounts().change_user(name, None, &mut look);
        right
    }

    async fn open_session(&self, name: &str, address: IpAddr) -> Result<Opened, Denied> {
        let secret = new_secret()?;
        let now = unix_now();
        let session = Session { user: name.to_owned(), since: now, used: now, address };
        let id = fingerprint(secret.as_bytes());
        self.change(|accounts| {
            accounts.open_session(id, session);
            let seen = |user: &mut User| user.last = Some((now, address));
            accounts.change_user(name, None, seen).map_err(|_| Denied::Wrong)
        })
        .await?;
        Ok(Opened(secret))
    }

    fn may_guess(&self, name: &str, address: IpAddr) -> Result<(), Wait> {
        let known = self.accounts().is_known(name, address, unix_now());
        self.throttle().may_guess(name, address, known, self.now())
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds since the start: the throttle's clock does not go back.
    fn now(&self) -> u64 {
        clock().duration_since(self.started).as_secs()
    }

    /// Who holds this session.
    pub fn of_session(&self, secret: &str) -> Option<Actor> {
        let id = fingerprint(secret.as_bytes());
        let (name, user) = self.accounts().session(&id, unix_now())?;
        let lang = user.language.as_deref().and_then(Lang::of_tag);
        Some(Actor { name, role: user.role, session: Some(id), lang })
    }

    /// Who holds this token.
    pub fn of_token(&self, secret: &str) -> Option<Actor> {
        let accounts = self.accounts();
        let (name, role) = accounts.token(&fingerprint(secret.as_bytes()))?;
        Some(Actor { name: format!("token {name}"), role, session: None, lang: None })
    }
}

fn hash(password: &str) -> Option<String> {
    Argon2::default().hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

fn verify(password: &str, kept: &str) -> bool {
    PasswordHash::new(kept)
        .is_ok_and(|kept| Argon2::default().verify_password(password.as_bytes(), &kept).is_ok())
}

/// 256 random bits in hexadecimal.
///
/// # Errors
/// When the system gives no random numbers.
pub fn new_secret() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| unavailable("random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Twelve characters that are not taken for each other: 60 random bits.
fn new_code() -> Result<String, Refusal> {
    const LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|_| unavailable("random numbers"))?;
    let letters: Vec<char> =
        bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    Ok(groups.join("-"))
}

fn unavailable(what: &str) -> Refusal {
    Refusal::Unavailable(format!("waiting for {what}"))
}

#[allow(clippy::disallowed_methods)] // requests are an edge
fn clock() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    super::unix_millis() / 1000
}
