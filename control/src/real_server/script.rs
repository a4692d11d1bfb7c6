//! What a real server needs, written down for hosts without this program.

use super::{Need, Setup, Variable, alone};
use std::fmt::Write;

/// The form in which a setup is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A script for any POSIX shell, with `start` and `stop`.
    Shell,
    /// Bare commands, one after the other.
    Iproute2,
    /// For `/etc/network/interfaces`.
    Ifupdown,
    /// A dispatcher script for NetworkManager.
    NetworkManager,
}

impl Setup {
    /// The setup in this form.
    ///
    /// # Errors
    /// As [`Setup::needs`].
    pub fn written(&self, form: Form) -> Result<String, String> {
        let needs = self.needs()?;
        Ok(match form {
            Form::Shell => shell(&needs),
            Form::Iproute2 => lines(&commands(&needs)),
            Form::Ifupdown => ifupdown(&needs),
            Form::NetworkManager => network_manager(&needs),
        })
    }
}

/// Commands that meet the needs, whatever was there before.
fn commands(needs: &[Need]) -> Vec<String> {
    let mut commands = Vec::new();
    for need in needs {
        match need {
            Need::Variable { device, name } => commands.push(set(device, *name, name.wanted())),
            Need::Device(device) => {
                let (name, kind, module) = (device.name, device.kind, device.module);
                commands.push(format!("modprobe {module} 2>/dev/null || true"));
                commands.push(format!(
                    "ip link show {name} >/dev/null 2>&1 || ip link add {name} type {kind}"
                ));
                commands.push(format!("ip link set {name} up"));
            }
            Need::Address { device, vip } => {
                commands.push(format!("ip addr replace {vip}/{} dev {device}", alone(*vip)));
            }
        }
    }
    commands
}

/// Commands that take the virtual addresses away again. What else was set does no harm and may serve
/// others.
fn undoing(needs: &[Need]) -> Vec<String> {
    let addresses = needs.iter().filter_map(|need| match need {
        Need::Address { device, vip } => Some((device, vip)),
        Need::Device(_) | Need::Variable { .. } => None,
    });
    let command = |(device, vip): (&&str, &std::net::IpAddr)| {
        format!("ip addr del {vip}/{} dev {device} 2>/dev/null || true", alone(*vip))
    };
    addresses.map(command).collect()
}

fn set(device: &str, name: Variable, value: u8) -> String {
    format!("sysctl -q -w net.ipv4.conf.{device}.{}={value}", name.name())
}

fn lines(commands: &[String]) -> String {
    commands.iter().map(|command| format!("{command}\n")).collect()
}

fn indented(commands: &[String], indent: &str) -> String {
    commands.iter().map(|command| format!("{indent}{command}\n")).collect()
}

fn shell(needs: &[Need]) -> String {
    format!(
        "#!/bin/sh\n# Prepares this host to be a real server. Run as root: start (the default) or stop.\n\
         set -e\ncase \"${{1:-start}}\" in\nstart)\n{};;\nstop)\n{};;\n*)\n  echo \"usage: $0 start|stop\" >&2\n  exit 2\n;;\nesac\n",
        indented(&commands(needs), "  "),
        indented(&undoing(needs), "  "),
    )
}

/// Loopback is always there, so everything hangs on it.
fn ifupdown(needs: &[Need]) -> String {
    let mut text = String::from("auto lo\niface lo inet loopback\n");
    for command in commands(needs) {
        let _ = writeln!(text, "    up {command}");
    }
    for command in undoing(needs) {
        let _ = writeln!(text, "    down {command}");
    }
    text
}

fn network_manager(needs: &[Need]) -> String {
    format!(
        "#!/bin/sh\n# /etc/NetworkManager/dispatcher.d/50-real-server, mode 0755, owner root.\n\
         [ \"$2\" = up ] || exit 0\n{}",
        lines(&commands(needs)),
    )
}
