//! `user` and `token`: who may use the console and the API.

use super::{CommandError, Outcome, print};
use crate::args::{TokenAction, UserAction};
use crate::client::Client;
use crate::web::api::{Done, Secret, TokenView, TokenWish, UserView, UserWish};
use control::view::moment;
use hyper::Method;
use std::io::{IsTerminal, Read};

/// The longest password that is read, in bytes.
const LONGEST: u64 = 1024;

pub(super) fn user(client: &Client, action: UserAction) -> Outcome {
    match action {
        UserAction::SetupCode => {
            let code: Secret = client.get("/v1/setup-code")?;
            print::text(&format!("{}\n", code.secret))
        }
        UserAction::List { json } => {
            let users: Vec<UserView> = client.get("/v1/users")?;
            if json { print::json(&users) } else { print::text(&listed(&users)) }
        }
        UserAction::Add { name, role } => {
            let text = format!("{name} may sign in\n");
            let wish = UserWish { name, role: Some(role.into()), password: password()? };
            let _: Done = client.post("/v1/users", &wish)?;
            print::text(&text)
        }
        UserAction::Password { name } => {
            let path = format!("/v1/users/{name}/password");
            let text = format!("the password of {name} is changed; their sessions have ended\n");
            let wish = UserWish { name, role: None, password: password()? };
            let _: Done = client.post(&path, &wish)?;
            print::text(&text)
        }
        UserAction::Remove { name } => {
            remove(client, "users", &name)?;
            print::text(&format!("{name} is removed; their sessions have ended\n"))
        }
    }
}

pub(super) fn token(client: &Client, action: TokenAction) -> Outcome {
    match action {
        TokenAction::List { json } => {
            let tokens: Vec<TokenView> = client.get("/v1/tokens")?;
            let line = |token: &TokenView| {
                let (name, role) = (&token.name, token.role.name());
                format!(
                    "{name:<24} {role:<14} by {}, {}\n",
                    token.author,
                    moment(token.since * 1000)
                )
            };
            if json {
                print::json(&tokens)
            } else {
                print::text(&tokens.iter().map(line).collect::<String>())
            }
        }
        TokenAction::Add { name, role } => {
            let wish = TokenWish { name, role: role.into() };
            let made: Secret = client.post("/v1/tokens", &wish)?;
            print::text(&format!("{}\n", made.secret))
        }
        TokenAction::Remove { name } => {
            remove(client, "tokens", &name)?;
            print::text(&format!("{name} is removed\n"))
        }
    }
}

fn remove(client: &Client, kind: &str, name: &str) -> Outcome {
    let _: Done = client.send_bytes(Method::DELETE, &format!("/v1/{kind}/{name}"), Vec::new())?;
    Ok(())
}

fn listed(users: &[UserView]) -> String {
    let line = |user: &UserView| {
        let last = user.last.map_or("never".to_owned(), |at| moment(at * 1000));
        let second = if user.second_factor { "second factor" } else { "password only" };
        let (name, role, sessions) = (&user.name, user.role.name(), user.sessions);
        format!("{name:<24} {role:<14} {second:<14} {sessions} sessions, last sign-in {last}\n")
    };
    users.iter().map(line).collect()
}

/// One line of standard input. On a terminal it is asked for, and shown as it is typed: pipe it in where
/// others look on.
fn password() -> Result<String, CommandError> {
    if std::io::stdin().is_terminal() {
        eprint!("Password: ");
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|error| CommandError::Io("standard input".to_owned(), error))?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST + 2).read_to_string(&mut text);
    read.map_err(|error| CommandError::Io("standard input".to_owned(), error))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
