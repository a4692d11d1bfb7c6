//! What `ipvsadm` says when something is wrong, and with which exit code.

use control::ipvs::{Errno, Request};

/// A command that came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// For stderr, without the line's end.
    pub message: String,
    /// Exit code.
    pub code: u8,
    /// Whether a restore ends here; otherwise it goes on with the next line.
    pub fatal: bool,
}

impl Failure {
    /// Wrong usage: exit code 2, and the end of a restore.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2, fatal: true }
    }

    /// No command, or none that is known.
    pub fn try_help(program: &str) -> Self {
        let message = format!("Try `{program} -h' or '{program} --help' for more information.");
        Self { message, code: 255, fatal: true }
    }

    /// An option that popt does not understand.
    pub fn option(offender: &str, text: &str) -> Self {
        Self { message: format!("{offender}: {text}"), code: 255, fatal: false }
    }

    /// A change that was refused.
    pub const fn refused(message: String) -> Self {
        Self { message, code: 255, fatal: false }
    }

    /// A listing that was refused.
    pub const fn listing(message: String) -> Self {
        Self { message, code: 1, fatal: true }
    }

    /// The director could not be reached at all.
    pub fn unreachable(message: &str) -> Self {
        let message = format!(
            "Can't initialize ipvs: {message}\n\
             Are you sure that `viaduct run' was started and that you may talk to it?"
        );
        Self { message, code: 2, fatal: true }
    }
}

/// What `ipvsadm` says for the kernel's error.
pub(super) const fn error_text(request: &Request, errno: Errno) -> &'static str {
    match (errno, request) {
        (Errno::Eexist, Request::AddService { .. }) => "Service already exists",
        (Errno::Eexist, Request::AddServer { .. }) => "Destination already exists",
        (Errno::Eexist, Request::StartDaemon(_)) => "Daemon has already run",
        (Errno::Enoent, Request::AddService { .. } | Request::EditService { .. }) => {
            "Scheduler or persistence engine not found"
        }
        (Errno::Enoent, Request::EditServer { .. } | Request::DeleteServer { .. }) => {
            "No such destination"
        }
        (
            Errno::Esrch,
            Request::EditService { .. }
            | Request::DeleteService { .. }
            | Request::ZeroService { .. }
            | Request::ZeroAll
            | Request::Service { .. },
        ) => "No such service",
        (
            Errno::Esrch,
            Request::AddServer { .. } | Request::EditServer { .. } | Request::DeleteServer { .. },
        ) => "Service not defined",
        (Errno::Esrch, Request::StopDaemon { .. }) => "No daemon is running",
        (Errno::Eperm, _) => "Permission denied (you must be root)",
        (Errno::Einval, _) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        (Errno::Enomem, _) => "Memory allocation problem",
        (Errno::Eopnotsupp, _) => "Operation not supported with IPv6",
        (Errno::Eafnosupport, _) => "Operation not supported with specified address family",
        (Errno::Emsgsize, _) => "Module is wrong version",
        (errno, _) => errno.text(),
    }
}
