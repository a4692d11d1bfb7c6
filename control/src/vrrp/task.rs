//! The VRRP thread: waits for packets, commands, interfaces and the next deadline, in one `ppoll`.
//!
//! It runs first in first out at real-time priority where the kernel allows, takes no lock that anybody
//! else holds, and never waits for a queue.

use super::instance::Instance;
use super::interfaces::Watch;
use super::speaker::Speaker;
use super::status::{Change, InstanceStatus};
use arc_swap::ArcSwap;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::sync::mpsc::Sender;

/// Commands under way. The thread takes all of them at every turn, so a full queue means that it is stuck;
/// the caller is told.
const COMMANDS: usize = 256;
/// Above everything that serves users, below kernel threads that move packets.
const REALTIME_PRIORITY: u8 = 50;
/// Least time between two looks at all interfaces.
const RESCAN_PAUSE: Duration = Duration::from_millis(20);

/// Why a command could not be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// The thread does not take commands.
    #[error("the VRRP thread is stuck")]
    Stuck,
    /// The thread has ended.
    #[error("the VRRP thread has ended")]
    Gone,
}

enum Command {
    Configure(Vec<Instance>),
    Track(String, bool),
    Hold(bool),
    Inhibit(Option<String>),
    Resign(Option<String>),
    Shutdown,
}

/// The one way to talk to the thread. Dropping it resigns and stops the thread, without waiting.
#[derive(Debug)]
pub struct VrrpHandle {
    commands: SyncSender<Command>,
    wake: UnixStream,
    status: Arc<ArcSwap<Vec<InstanceStatus>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl VrrpHandle {
    /// Replaces all instances. Those that stay the same on the wire keep their state.
    ///
    /// # Errors
    /// When the thread is stuck or gone.
    pub fn configure(&self, instances: Vec<Instance>) -> Result<(), CommandError> {
        self.command(Command::Configure(instances))
    }

    /// Tells that a tracked service or script is up or down. Names that nobody tracks are ignored.
    ///
    /// # Errors
    /// When the thread is stuck or gone.
    pub fn track(&self, name: &str, up: bool) -> Result<(), CommandError> {
        self.command(Command::Track(name.to_owned(), up))
    }

    /// Forbids (or allows again) to take mastership from a living master of lower priority: for a node that
    /// has not caught up with its peer. A silent master is replaced all the same.
    ///
    /// # Errors
    /// When the thread is stuck or gone.
    pub fn hold(&self, held: bool) -> Result<(), CommandError> {
        self.command(Command::Hold(held))
    }

    /// Puts every instance in fault for `reason`, such as that witnesses say so; `None` ends that.
    ///
    /// # Errors
    /// When the thread is stuck or gone.
    pub fn inhibit(&self, reason: Option<String>) -> Result<(), CommandError> {
        self.command(Command::Inhibit(reason))
    }

    /// Gives mastership of one instance and its group, or of all, to the other node. It is not taken back
    /// from a living master until somebody else resigns or the instance restarts.
    ///
    /// # Errors
    /// When the thread is stuck or gone.
    pub fn resign(&self, instance: Option<String>) -> Result<(), CommandError> {
        self.command(Command::Resign(instance))
    }

    /// All instances as they stand, by name.
    pub fn status(&self) -> Arc<Vec<InstanceStatus>> {
        self.status.load_full()
    }

    /// Resigns, stops the thread and waits for its end.
    ///
    /// # Errors
    /// Why the thread had ended before.
    pub fn shutdown(mut self) -> io::Result<()> {
        let _ = self.command(Command::Shutdown);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the VRRP thread panicked")),
            None => Ok(()),
        }
    }

    fn command(&self, command: Command) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => CommandError::Stuck,
            TrySendError::Disconnected(_) => CommandError::Gone,
        })?;
        // A full pipe means that the thread is already being woken.
        let _ = (&self.wake).write(&[0]);
        Ok(())
    }
}

impl Drop for VrrpHandle {
    fn drop(&mut self) {
        let _ = self.command(Command::Shutdown);
    }
}

/// Starts the thread with `instances`, in the network namespace of the caller. State changes go to
/// `changes`; while that is full only the newest state of each instance is kept for it.
///
/// # Errors
/// Without `CAP_NET_RAW`, or when no thread can be made.
pub fn spawn(instances: Vec<Instance>, changes: Sender<Change>) -> io::Result<VrrpHandle> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let (commands, received) = sync_channel(COMMANDS);
    let status = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let mut task = Task {
        watch: Watch::new()?,
        speaker: Speaker::new(changes)?,
        commands: received,
        woken,
        status: Arc::clone(&status),
        rescan_at: None,
        rescanned: clock(),
    };
    let builder = std::thread::Builder::new().name("vrrp".to_owned());
    let thread = builder.spawn(move || {
        run_in_real_time();
        task.speaker.configure(instances, clock());
        task.run()
    })?;
    Ok(VrrpHandle { commands, wake, status, thread: Some(thread) })
}

/// Monotonic time. This thread and its speaker are the only readers of clocks in VRRP.
#[allow(clippy::disallowed_methods, reason = "the VRRP thread is the edge that reads the clock")]
pub fn clock() -> Instant {
    Instant::now()
}

/// Time since 1970, for HMAC time stamps only.
#[allow(clippy::disallowed_methods, reason = "the VRRP thread is the edge that reads the clock")]
pub fn wall_clock() -> Duration {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn run_in_real_time() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriorityValue::try_from(REALTIME_PRIORITY)
        .map_or(ThreadPriority::Max, ThreadPriority::Crossplatform);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, policy) {
        tracing::info!(
            ?error,
            "no real-time priority for VRRP: advertisements may be late under load"
        );
    }
}

struct Task {
    speaker: Speaker,
    watch: Watch,
    commands: Receiver<Command>,
    woken: UnixStream,
    status: Arc<ArcSwap<Vec<InstanceStatus>>>,
    rescan_at: Option<Instant>,
    rescanned: Instant,
}

impl Task {
    fn run(&mut self) -> io::Result<()> {
        loop {
            if self.speaker.dirty {
                self.speaker.dirty = false;
                self.status.store(Arc::new(self.speaker.status()));
            }
            let ready = self.wait()?;
            let now = clock();
            // Packets before timers: a thread that did not run for a while must learn first who is master.
            for position in ready.links {
                self.speaker.receive(position, now);
            }
            if ready.watch && self.watch.drain() {
                self.rescan_at = Some(now.max(self.rescanned + RESCAN_PAUSE));
            }
            if self.rescan_at.is_some_and(|at| at <= now) {
                self.rescan_at = None;
                self.rescanned = now;
                self.speaker.rescan(now);
            }
            if self.obey(now) {
                self.speaker.shutdown(now);
                self.status.store(Arc::new(self.speaker.status()));
                return Ok(());
            }
            self.speaker.timeout(clock());
        }
    }

    /// Carries out all commands; whether the last was to stop.
    fn obey(&mut self, now: Instant) -> bool {
        let mut buffer = [0; 64];
        while self.woken.read(&mut buffer).is_ok_and(|len| len > 0) {}
        loop {
            match self.commands.try_recv() {
                Ok(Command::Configure(instances)) => self.speaker.configure(instances, now),
                Ok(Command::Track(name, up)) => self.speaker.track(&name, up, now),
                Ok(Command::Hold(held)) => self.speaker.hold(held),
                Ok(Command::Inhibit(reason)) => self.speaker.inhibit(reason, now),
                Ok(Command::Resign(instance)) => self.speaker.resign(instance.as_deref(), now),
                Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let now = clock();
        let deadline = [self.speaker.deadline(now), self.rescan_at].into_iter().flatten().min();
        let patience = deadline.map(|at| TimeSpec::from(at.saturating_duration_since(now)));
        let mut waited: Vec<PollFd<'_>> =
            vec![self.woken.as_fd(), self.watch.as_fd()].into_iter().map(readable).collect();
        waited.extend(self.speaker.links().map(|link| readable(link.as_fd())));
        match ppoll(&mut waited, patience, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = waited.iter().map(|fd| fd.any().unwrap_or(true));
        let _woken = ready.next();
        let watch = ready.next().unwrap_or(true);
        let links = ready.enumerate().filter_map(|(at, ready)| ready.then_some(at)).collect();
        Ok(Ready { watch, links })
    }
}

struct Ready {
    watch: bool,
    links: Vec<usize>,
}

fn readable(fd: std::os::fd::BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}
