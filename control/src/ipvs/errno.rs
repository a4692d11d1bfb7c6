//! The kernel's error numbers, as far as IPVS uses them.

use serde::{Deserialize, Serialize};

/// Why IPVS refuses a request. Names and numbers are Linux's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Errno {
    /// Not root.
    Eperm,
    /// Unknown scheduler or persistence engine; unknown real server.
    Enoent,
    /// Unknown service; sync daemon not running.
    Esrch,
    /// The store failed to keep the change.
    Eio,
    /// Out of memory.
    Enomem,
    /// Not allowed.
    Eacces,
    /// Somebody else is changing it.
    Ebusy,
    /// Service, real server or sync daemon is there already.
    Eexist,
    /// Unknown interface.
    Enodev,
    /// A value that is not possible.
    Einval,
    /// The store is full.
    Enospc,
    /// Weight or thresholds out of range.
    Erange,
    /// Module and tool do not understand each other.
    Emsgsize,
    /// IPVS is not there.
    Enoprotoopt,
    /// Not possible with IPv6.
    Eopnotsupp,
    /// Unknown address family.
    Eafnosupport,
    /// No such address.
    Eaddrnotavail,
}

impl Errno {
    /// Every one of them.
    pub const ALL: [Self; 17] = [
        Self::Eperm,
        Self::Enoent,
        Self::Esrch,
        Self::Eio,
        Self::Enomem,
        Self::Eacces,
        Self::Ebusy,
        Self::Eexist,
        Self::Enodev,
        Self::Einval,
        Self::Enospc,
        Self::Erange,
        Self::Emsgsize,
        Self::Enoprotoopt,
        Self::Eopnotsupp,
        Self::Eafnosupport,
        Self::Eaddrnotavail,
    ];

    /// Linux's number.
    pub const fn number(self) -> i32 {
        match self {
            Self::Eperm => 1,
            Self::Enoent => 2,
            Self::Esrch => 3,
            Self::Eio => 5,
            Self::Enomem => 12,
            Self::Eacces => 13,
            Self::Ebusy => 16,
            Self::Eexist => 17,
            Self::Enodev => 19,
            Self::Einval => 22,
            Self::Enospc => 28,
            Self::Erange => 34,
            Self::Emsgsize => 90,
            Self::Enoprotoopt => 92,
            Self::Eopnotsupp => 95,
            Self::Eafnosupport => 97,
            Self::Eaddrnotavail => 99,
        }
    }

    /// The C library's text for it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Eperm => "Operation not permitted",
            Self::Enoent => "No such file or directory",
            Self::Esrch => "No such process",
            Self::Eio => "Input/output error",
            Self::Enomem => "Cannot allocate memory",
            Self::Eacces => "Permission denied",
            Self::Ebusy => "Device or resource busy",
            Self::Eexist => "File exists",
            Self::Enodev => "No such device",
            Self::Einval => "Invalid argument",
            Self::Enospc => "No space left on device",
            Self::Erange => "Numerical result out of range",
            Self::Emsgsize => "Message too long",
            Self::Enoprotoopt => "Protocol not available",
            Self::Eopnotsupp => "Operation not supported",
            Self::Eafnosupport => "Address family not supported by protocol",
            Self::Eaddrnotavail => "Cannot assign requested address",
        }
    }
}
