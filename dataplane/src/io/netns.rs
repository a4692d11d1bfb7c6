//! Hosts for the tests of this folder: network namespaces without a name, which vanish with the
//! thread that made them.
#![allow(clippy::disallowed_methods)]

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// A host. What [`Host::run`] is given runs inside.
pub(super) struct Host {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    id: i32,
}

impl Host {
    /// A new host with nothing but its loopback interface, which is up.
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            ready.send(gettid().as_raw()).unwrap();
            for job in queue {
                job();
            }
        });
        let id = started.recv().unwrap();
        let host = Self { jobs: Some(jobs), thread: Some(thread), id };
        host.ip("link set lo up");
        host
    }

    /// Runs `job` inside and waits for its result; a panic there is a panic here.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = done.send(outcome);
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        match result.recv().unwrap() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip ARGUMENTS` inside.
    pub fn ip(&self, arguments: &str) {
        self.sh(&format!("ip {arguments}"));
    }

    /// Runs a shell command inside; returns what it printed.
    pub fn sh(&self, command: &str) -> String {
        let text = command.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-c", &text]).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}: {errors}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Joins two hosts (or one with itself) by a veth pair, both ends up.
    pub fn join(&self, end: &str, other: &Self, other_end: &str) {
        let target = other.id;
        self.ip(&format!("link add name {end} type veth peer name {other_end} netns {target}"));
        for (host, end) in [(self, end), (other, other_end)] {
            host.sh(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
            host.ip(&format!("link set dev {end} up"));
        }
        // The kernel turns a carrier on a little later, and drops what is sent before.
        for (host, end) in [(self, end), (other, other_end)] {
            host.sh(&format!("until ip -br link show {end} | grep -q ' UP '; do sleep 0.02; done"));
        }
    }

    /// The index of an interface.
    pub fn index(&self, interface: &str) -> u32 {
        let name = interface.to_owned();
        self.run(move || nix::net::if_::if_nametoindex(name.as_str()).unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
