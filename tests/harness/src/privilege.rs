//! What a lab needs of the machine, and the way to get it without being root.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, gettid, getuid};

use crate::namespace::NAMED;

/// Bits of the effective capability set (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;

/// Makes sure that this process may build a lab.
///
/// # Errors
/// With everything that is missing and how to get it.
pub fn check() -> Result<()> {
    let missing = missing_capabilities(&fs::read_to_string("/proc/thread-self/status")?);
    if !missing.is_empty() {
        bail!(
            "a lab needs {} to make network namespaces: run as root, or in a user namespace \
             (`unshare --user --map-root-user --net --mount COMMAND`)",
            missing.join(", ")
        );
    }
    for (path, option) in [
        ("/proc/self/ns/net", "network namespaces (CONFIG_NET_NS)"),
        ("/proc/self/ns/mnt", "mount namespaces (CONFIG_NAMESPACES)"),
    ] {
        if !Path::new(path).exists() {
            bail!("this kernel has no {option}");
        }
    }
    Ok(())
}

/// Becomes root of a new user namespace when the process lacks the rights of [`check`].
/// Must be called before the process has a second thread; the kernel refuses it afterwards.
///
/// # Errors
/// When the kernel or the administrator forbids user namespaces.
pub fn acquire() -> Result<()> {
    if check().is_ok() {
        return Ok(());
    }
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context(
            "neither root nor allowed to make a user namespace: run as root, or set \
         kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0 and, on Ubuntu, \
         kernel.apparmor_restrict_unprivileged_userns=0",
        )?;
    fs::write("/proc/self/setgroups", "deny").context("/proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("/proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("/proc/self/gid_map")?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).context("make / a slave mount")?;
    check()
}

/// Whether this process lives in the machine's own user namespace, whose map covers every user id
/// (user_namespaces(7)), so that others on the machine see what it mounts.
pub fn is_initial_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes the directory for names of namespaces, on a tmpfs of our own where `/run` belongs to
/// another user, and a mount point, so that names can be mounted on and taken away again.
///
/// # Errors
/// When the kernel refuses the mounts.
pub(crate) fn prepare_names() -> Result<()> {
    if !writable() {
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .context("/run is not writable and cannot be covered by a tmpfs")?;
        fs::create_dir_all(NAMED).context(NAMED)?;
    }
    // `ip netns add` does the same under the same lock. If it came second, it would cover names
    // that are mounted already, and they could not be taken away any more.
    let directory = fs::File::open(NAMED).context(NAMED)?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let share = || {
        let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, NAMED, None::<&str>, shared, None::<&str>)
    };
    if share().is_err() {
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(NAMED), NAMED, None::<&str>, bind, None::<&str>).context(NAMED)?;
        share().context("making /run/netns a shared mount")?;
    }
    Ok(())
}

/// Whether names can be made in [`NAMED`].
fn writable() -> bool {
    let probe = Path::new(NAMED).join(format!("probe-{}-{}", std::process::id(), gettid()));
    let made = fs::create_dir_all(NAMED).and_then(|()| fs::write(&probe, ""));
    let _ = fs::remove_file(probe);
    made.is_ok()
}

/// Names of the needed capabilities that the status text (proc_pid_status(5)) does not show.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    [
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        (CAP_NET_RAW, "CAP_NET_RAW"),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    ]
    .into_iter()
    .filter(|(bit, _)| effective & (1 << bit) == 0)
    .map(|(_, name)| name)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(missing_capabilities("CapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(missing_capabilities("CapEff:\t0000000000003000\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_capabilities("").len(), 3);
    }
}
