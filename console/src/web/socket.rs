//! The daemon's Unix socket: for its owner alone, and never stolen from a living daemon.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the socket cannot be had.
#[derive(Debug)]
pub enum BindError {
    /// A daemon listens there.
    InUse(PathBuf),
    /// There is a file that is no socket.
    NotASocket(PathBuf),
    /// The system refuses.
    Refused(PathBuf, io::Error),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse(path) => write!(f, "another daemon already listens on {}", path.display()),
            Self::NotASocket(path) => write!(f, "{} is a file, not a socket", path.display()),
            Self::Refused(path, error) => write!(f, "cannot listen on {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for BindError {}

/// A listening socket with mode 0600. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl Socket {
    /// Listens on `path`. A socket that a dead daemon left is replaced.
    ///
    /// # Errors
    /// When a living daemon has it, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |error| BindError::Refused(path.to_owned(), error);
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(BindError::InUse(path.to_owned()));
            }
        }
        // Made under another name, so that nobody can connect before its mode is right.
        let private = path.with_extension(format!("new-{}", std::process::id()));
        let _ = fs::remove_file(&private);
        let listener = UnixListener::bind(&private).map_err(refused)?;
        let named = fs::set_permissions(&private, Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::rename(&private, path));
        if let Err(error) = named {
            let _ = fs::remove_file(&private);
            return Err(refused(error));
        }
        Ok(Self { listener: Some(listener), path: path.to_owned() })
    }

    /// The listener for tokio. The file stays until the process has removed it.
    pub(super) fn into_listener(mut self) -> io::Result<Removed> {
        let listener = self.listener.take().ok_or_else(|| io::Error::other("listens already"))?;
        Ok(Removed { listener: tokio::net::UnixListener::from_std(listener)?, _file: self })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.path);
    }
}

/// A listener whose file goes with it.
pub(super) struct Removed {
    listener: tokio::net::UnixListener,
    _file: Socket,
}

impl axum::serve::Listener for Removed {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        axum::serve::Listener::accept(&mut self.listener).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Removed>>
    for super::api::Caller
{
    fn connect_info(stream: axum::serve::IncomingStream<'_, Removed>) -> Self {
        Self::of(stream.io())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_away() {
        let place = tempfile::tempdir().expect("made");
        let path = place.path().join("v.sock");
        let socket = Socket::bind(&path).expect("binds");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Socket::bind(&path), Err(BindError::InUse(_))));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_daemon_s_socket_is_replaced_and_a_file_is_not() {
        let place = tempfile::tempdir().expect("made");
        let path = place.path().join("v.sock");
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "left behind");
        let socket = Socket::bind(&path).expect("replaces it");
        drop(socket);
        fs::write(&path, "precious").expect("written");
        assert!(matches!(Socket::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
    }
}
