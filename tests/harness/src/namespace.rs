//! One network namespace with a mount namespace of its own, named so that `ip netns` sees it.

use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};

/// Where `ip netns` looks for names.
pub(crate) const NAMED: &str = "/run/netns";

/// A network namespace; removed, with every process still inside, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    net: File,
    mnt: File,
}

impl Namespace {
    /// Makes a namespace and its entry in `/run/netns`.
    ///
    /// # Errors
    /// Without the right to make namespaces or mounts, or when the name is taken.
    pub fn new(name: &str) -> Result<Self> {
        let (net, mnt) = in_new_thread("make", make)
            .with_context(|| format!("making the network namespace {name}"))?;
        let namespace = Self { name: name.to_owned(), net, mnt };
        namespace.publish().with_context(|| format!("naming the namespace {name}"))?;
        Ok(namespace)
    }

    /// The name under which `ip netns exec` finds it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace's file, for moving links into it.
    pub(crate) fn net(&self) -> &File {
        &self.net
    }

    /// Runs `work` in a thread inside the namespace and gives back what it returned.
    /// Sockets opened there stay in the namespace wherever they are used afterwards.
    ///
    /// # Errors
    /// When the kernel refuses entry. A panic in `work` continues in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_new_thread("inside", || {
            self.move_this_thread()?;
            Ok(work())
        })
    }

    /// Moves the calling thread into the namespace for good.
    ///
    /// # Errors
    /// When the kernel refuses entry.
    pub fn move_this_thread(&self) -> Result<()> {
        let here = std::env::current_dir().ok();
        // A mount namespace can only be entered by a thread that shares its root with no other.
        unshare(CloneFlags::CLONE_FS).context("unshare(CLONE_FS)")?;
        setns(&self.net, CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
        setns(&self.mnt, CloneFlags::CLONE_NEWNS).context("entering the mount namespace")?;
        if let Some(here) = here {
            // Entering moved the thread to `/`; a directory that is gone there does not matter.
            let _ = std::env::set_current_dir(here);
        }
        Ok(())
    }

    /// A second handle on the same files, for threads that outlive a borrow.
    pub(crate) fn entrance(&self) -> Result<Entrance> {
        Ok(Entrance(Self {
            name: String::new(),
            net: self.net.try_clone()?,
            mnt: self.mnt.try_clone()?,
        }))
    }

    fn publish(&self) -> Result<()> {
        fs::create_dir_all(NAMED)?;
        let origin = PathBuf::from(format!("/proc/self/fd/{}", self.net.as_raw_fd()));
        let path = Path::new(NAMED).join(&self.name);
        File::create_new(&path).with_context(|| path.display().to_string())?;
        mount(Some(&origin), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind mount on {}", path.display()))?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        remove_named(&self.name, Some(&self.net));
    }
}

/// The way into a namespace without the duty to remove it.
pub(crate) struct Entrance(Namespace);

impl Entrance {
    pub(crate) fn move_this_thread(&self) -> Result<()> {
        self.0.move_this_thread()
    }
}

/// Takes a name out of `/run/netns` and kills what still runs inside.
pub(crate) fn remove_named(name: &str, net: Option<&File>) {
    let path = Path::new(NAMED).join(name);
    let identity = match net {
        Some(file) => file.metadata(),
        None => fs::metadata(&path),
    };
    for pid in identity.map(|metadata| processes_inside(&metadata)).unwrap_or_default() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(&path);
}

/// Process ids whose main thread lives in this network namespace; never our own.
fn processes_inside(namespace: &Metadata) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let is_it = |found: Metadata| found.ino() == namespace.ino() && found.dev() == namespace.dev();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(is_it))
        .collect()
}

/// Runs inside a thread of its own, which ends afterwards; the opened files keep both alive.
fn make() -> Result<(File, File)> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).context("make / a slave mount")?;
    // /sys/class/net shows the namespace of whoever mounted it. Where a sandbox forbids a new one,
    // programs inside see the outer list of devices, which the lab itself does not depend on.
    if umount2("/sys", MntFlags::MNT_DETACH).is_ok() {
        let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
    }
    let own = PathBuf::from(format!("/proc/self/task/{}/ns", gettid()));
    Ok((File::open(own.join("net"))?, File::open(own.join("mnt"))?))
}

/// A scoped thread, because changing namespace must not change that of the caller.
fn in_new_thread<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name(format!("lab-{name}")).spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
