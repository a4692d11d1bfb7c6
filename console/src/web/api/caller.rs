//! Who asks.

use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

/// The user at the other end of the socket, as the kernel vouches for them.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Name of the user, for the history.
    pub name: String,
}

impl Caller {
    /// The user behind a connection.
    pub fn of(stream: &UnixStream) -> Self {
        let uid = stream.peer_cred().map(|credentials| credentials.uid());
        let name = match uid {
            Ok(uid) => match User::from_uid(Uid::from_raw(uid)) {
                Ok(Some(user)) => user.name,
                Ok(None) | Err(_) => format!("user {uid}"),
            },
            Err(_) => "unknown".to_owned(),
        };
        Self { name }
    }
}
