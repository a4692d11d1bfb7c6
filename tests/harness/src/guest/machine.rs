//! The qemu process.

use super::folder::Folder;
use super::kernel::Kernel;
use super::monitor::Monitor;
use super::wire::{GUEST_END, TEST_END};
use super::{Nic, Options};
use crate::host::written_mac;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

const CONSOLE_TAIL: usize = 3000;
const MONITOR: &str = "monitor";

/// A running qemu. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Machine {
    name: String,
    folder: Folder,
    listener: UnixListener,
    ended: Arc<AtomicBool>,
    /// Dropped to end the machine.
    stop: Option<mpsc::Sender<()>>,
    owner: Option<JoinHandle<()>>,
}

impl Machine {
    /// Starts qemu.
    ///
    /// # Errors
    /// `qemu-system-x86_64` or the namespace is missing.
    pub fn start(
        kernel: &Kernel,
        initramfs: &Path,
        options: &Options,
        macs: &[[u8; 6]],
    ) -> Result<Self> {
        let folder = Folder::new("guest")?;
        let listener = UnixListener::bind(folder.path().join("agent"))
            .context("binding the guest's agent socket")?;
        listener.set_nonblocking(true)?;
        let command = command_line(kernel, initramfs, options, macs, folder.path())?;
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let namespace = options.namespace.clone();
        let flag = Arc::clone(&ended);
        // A thread of its own: it enters the namespace, and the kernel kills qemu when the thread
        // that started it ends, even if the whole process is killed.
        #[allow(clippy::disallowed_methods)]
        let owner = std::thread::spawn(move || {
            let child = start_in(command, namespace.as_deref());
            match child {
                Ok(child) => {
                    let _ = started.send(Ok(()));
                    watch(child, &stopped, &flag);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
        let machine = Self {
            name: options.name.clone(),
            folder,
            listener,
            ended,
            stop: Some(stop),
            owner: Some(owner),
        };
        start.recv().context("the thread that starts qemu died")??;
        Ok(machine)
    }

    /// The guest's virtio port, as soon as qemu has opened it.
    ///
    /// # Errors
    /// qemu ended, or took longer than `patience`.
    pub fn accept_agent(&self, patience: Duration) -> Result<UnixStream> {
        const STEP: u16 = 100;
        for _ in 0..patience.as_millis() / u128::from(STEP) {
            let mut waiting = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waiting, PollTimeout::from(STEP))? > 0 {
                let (stream, _) = self.listener.accept()?;
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            if self.ended.load(Ordering::Acquire) {
                bail!("qemu ended at once");
            }
        }
        bail!("qemu did not open its agent port within {patience:?}");
    }

    /// The monitor of a machine that counts instructions.
    ///
    /// # Errors
    /// qemu has ended.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(&self.folder.path().join(MONITOR))
    }

    /// A sentence about this machine with the tail of its console and of qemu's own messages.
    pub fn describe(&self, what: &str) -> String {
        let state = if self.ended.load(Ordering::Acquire) { " (qemu has ended)" } else { "" };
        let qemu = tail(&self.folder.path().join("qemu.log"));
        let console = self.console_tail();
        format!("{}{state} {what}\n-- qemu:\n{qemu}\n-- console:\n{console}\n--", self.name)
    }

    /// The last lines of the guest's console.
    pub fn console_tail(&self) -> String {
        tail(&self.folder.path().join("console.log"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(owner) = self.owner.take() {
            let _ = owner.join();
        }
    }
}

fn start_in(mut command: Command, namespace: Option<&Path>) -> Result<Child> {
    if let Some(path) = namespace {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering {}", path.display()))?;
    }
    command.spawn().context("starting qemu-system-x86_64 (packages: qemu-system-x86 util-linux)")
}

/// Waits until the machine is to be ended or ends by itself.
fn watch(mut child: Child, stopped: &mpsc::Receiver<()>, ended: &AtomicBool) {
    let step = Duration::from_millis(100);
    while matches!(stopped.recv_timeout(step), Err(mpsc::RecvTimeoutError::Timeout)) {
        if !matches!(child.try_wait(), Ok(None)) {
            ended.store(true, Ordering::Release);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn command_line(
    kernel: &Kernel,
    initramfs: &Path,
    options: &Options,
    macs: &[[u8; 6]],
    folder: &Path,
) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    // Emulation only: hardware virtualisation is not there, or hangs, on many build machines.
    command.args(["-accel", "tcg", "-no-reboot", "-cpu"]);
    // A fast string instruction counts once for each byte, of the pages that the kernel clears for
    // instance, and no processor takes so long for one. Without them the kernel uses words.
    command.arg(if options.counts_instructions { "max,-erms,-fsrm" } else { "max" });
    command.arg("-smp").arg(options.processors.to_string());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]);
    if options.counts_instructions {
        command.args(["-icount", "shift=0,sleep=on"]);
        let monitor = path_text(&folder.join(MONITOR))?;
        command.arg("-qmp").arg(format!("unix:{monitor},server=on,wait=off"));
    }
    command.arg("-m").arg(options.memory.to_string());
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    // Programs always loaded at the same address: the emulator then has them translated already,
    // and starts them three times faster.
    command.args(["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 norandmaps"]);
    command.arg("-serial").arg(format!("file:{}", path_text(&folder.join("console.log"))?));
    let agent = path_text(&folder.join("agent"))?;
    command.arg("-chardev").arg(format!("socket,id=agent,path={agent}"));
    command.args(["-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=agent,name=agent"]);
    for (index, (nic, mac)) in options.nics.iter().zip(macs).enumerate() {
        command.arg("-netdev").arg(backend(index, nic, options.processors)?);
        let mac = written_mac(*mac);
        let mut device = format!("virtio-net-pci,netdev=n{index},mac={mac},romfile=");
        if options.processors > 1 && matches!(nic, Nic::Tap(_)) {
            device += ",mq=on";
        }
        if options.dma {
            device += ",disable-legacy=on,iommu_platform=on";
        }
        command.arg("-device").arg(device);
    }
    let log = File::create(folder.join("qemu.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

fn backend(index: usize, nic: &Nic, processors: u32) -> Result<String> {
    Ok(match nic {
        Nic::Tap(name) if name.len() > 15 => bail!("interface name {name} is over 15 bytes"),
        Nic::Tap(name) => {
            let queues =
                if processors > 1 { format!(",queues={processors}") } else { String::new() };
            format!("tap,id=n{index},ifname={name},script=no,downscript=no,vhost=off{queues}")
        }
        Nic::Wire(folder) => {
            let local = path_text(&folder.join(GUEST_END))?;
            let remote = path_text(&folder.join(TEST_END))?;
            let ends = format!("local.type=unix,local.path={local},remote.path={remote}");
            format!("dgram,id=n{index},remote.type=unix,{ends}")
        }
    })
}

/// qemu's option syntax has no place for commas in paths.
fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().context("a path that is not text")?;
    if text.contains(',') {
        bail!("{text} has a comma, which qemu's options cannot carry");
    }
    Ok(text.to_owned())
}

fn tail(path: &Path) -> String {
    let content = fs::read(path).unwrap_or_default();
    let start = content.len().saturating_sub(CONSOLE_TAIL);
    String::from_utf8_lossy(&content[start..]).into_owned()
}
