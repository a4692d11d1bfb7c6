//! The command line: what can be said, and what is meant when it is not.

mod values;

pub use values::{ConsoleAddress, parse_duration};

use crate::cli::demo::DemoArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use control::model::PersistentClients;
use std::ffi::OsString;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Where the daemon listens unless told otherwise.
pub const SOCKET: &str = "/run/viaduct.sock";
/// Where the daemon keeps its state unless told otherwise.
pub const STATE: &str = "/var/lib/viaduct";

/// A layer-4 load balancer: Linux Virtual Server in userspace.
#[derive(Debug, Parser)]
#[command(name = "viaduct", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Arguments {
    /// The daemon's Unix socket.
    #[arg(long, global = true, env = "VIADUCT_SOCKET", default_value = SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    Run(RunArguments),
    /// Build a lab on this machine, with traffic and a real server that dies and comes back.
    Demo(DemoArguments),
    /// Check a configuration file and print every error with its place.
    Check {
        /// The file; - for standard input.
        file: PathBuf,
    },
    /// Make a configuration file the running configuration.
    Apply {
        /// The file; - for standard input.
        file: PathBuf,
        /// Roll back by itself unless `viaduct confirm` follows within this time.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        confirm_within: Option<Duration>,
        /// Why, for the history.
        #[arg(long, default_value = "", value_name = "TEXT")]
        comment: String,
    },
    /// Let the revision that waits for confirmation stand.
    Confirm,
    /// Show what applying a file would change.
    Diff {
        /// The file; - for standard input.
        file: PathBuf,
        /// Compare with this revision instead of the running configuration.
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Go back to a revision, or to the one before the last.
    Rollback {
        /// The revision's number.
        revision: Option<u64>,
    },
    /// List the kept revisions.
    History {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the running configuration, or a revision, as a file that `apply` takes.
    Export {
        /// This revision instead of what runs.
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
    /// Show what goes on.
    Show(ShowArguments),
    /// Speak as `ipvsadm` does, to this director.
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// As for `ipvsadm`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Take a real server out: no new connections; it stays out over restarts.
    Drain {
        /// The service, by name or address.
        service: String,
        /// The real server's address, with its port when it has several.
        real: String,
        /// Why.
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
        /// End what connections are left after this time.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        within: Option<Duration>,
        /// What becomes of clients that persistence leads to it: their next connection goes to
        /// another server, or they stay until their time is up.
        #[arg(long, value_enum, default_value_t = Persistent::Move)]
        persistent: Persistent,
    },
    /// Put a drained real server back.
    Undrain {
        /// The service, by name or address.
        service: String,
        /// The real server's address, with its port when it has several.
        real: String,
    },
    /// End connections. At least one condition has to be given.
    KillConnections(KillArguments),
    /// Print a code by which the other director is paired with this one: `viaduct join CODE` there,
    /// within ten minutes.
    Pair,
    /// Pair with the other director by the code that it prints.
    Join {
        /// The code.
        code: String,
    },
    /// Settle what the two directors share.
    Sync {
        /// What to do.
        #[arg(value_enum)]
        action: SyncAction,
        /// Whose configuration both are to have.
        #[arg(value_enum)]
        whose: Whose,
    },
    /// Give mastership to the other director.
    Failover {
        /// This VRRP instance and its group, instead of all.
        instance: Option<String>,
    },
    /// Show every decision that a packet would meet.
    Explain {
        /// The client's address and port.
        #[arg(long, value_name = "IP:PORT")]
        from: SocketAddr,
        /// The virtual address and port.
        #[arg(long, value_name = "VIP:PORT")]
        to: SocketAddr,
        /// The protocol.
        #[arg(long, value_enum, default_value_t = Transport::Tcp)]
        protocol: Transport,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a capture file through the packet path, without a daemon.
    Replay {
        /// The capture: pcap or pcapng.
        capture: PathBuf,
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where to write what the director would send, as pcap.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say whether this host is fit to be a director, and what would make it faster.
    Doctor {
        /// State directory.
        #[arg(long, env = "VIADUCT_STATE", default_value = STATE, value_name = "DIR")]
        state: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prepare this host to be a real server, undo it, or say what is wrong with it. Needs no daemon.
    RealServer(RealServerArguments),
    /// Write everything that the daemon keeps to one file.
    Backup {
        /// The file; - for standard output.
        file: PathBuf,
    },
    /// Bring a backup back.
    Restore {
        /// The file; - for standard input.
        file: PathBuf,
    },
    /// Print a shell's completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages.
    Man {
        /// The folder to write them to.
        folder: PathBuf,
    },
}

/// Options of `viaduct run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Configuration file. It is applied at start and on SIGHUP if it has changed since it was last
    /// applied. Without one, the last committed revision runs.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// State directory.
    #[arg(long, env = "VIADUCT_STATE", default_value = STATE, value_name = "DIR")]
    pub state: PathBuf,
    /// Address of the web console, or off.
    #[arg(long, default_value = "off", value_name = "ADDR:PORT|off")]
    pub console: ConsoleAddress,
}

/// Options of `viaduct show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// What to show.
    #[arg(value_enum)]
    pub what: Topic,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// At most this many lines, of events and connections.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Only what concerns this service, by name or address.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
}

/// What becomes of a drained real server's persistent clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Persistent {
    /// They go to another server.
    Move,
    /// They stay.
    Keep,
}

impl From<Persistent> for PersistentClients {
    fn from(wanted: Persistent) -> Self {
        match wanted {
            Persistent::Move => Self::Move,
            Persistent::Keep => Self::Keep,
        }
    }
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// The daemon and its configuration.
    Status,
    /// Virtual services with their real servers.
    Services,
    /// Connections and persistence templates.
    Connections,
    /// What is known of real servers' health, and who is drained.
    Health,
    /// Clocks: this node's, the time servers', the real servers'.
    Time,
    /// Packets that died, by reason.
    Drops,
    /// Attached interfaces.
    Interfaces,
    /// VRRP instances: who is master, and why.
    Vrrp,
    /// The link to the other director, and how far that is behind.
    Sync,
    /// What happened lately.
    Events,
}

/// What to do about what the two directors share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SyncAction {
    /// When both configurations were changed, choose one; `show sync` shows the differences.
    Keep,
}

/// Whose configuration both directors are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// That of the director that this command talks to.
    Mine,
    /// That of the other one.
    Theirs,
}

/// Options of `viaduct real-server`.
#[derive(Debug, Args)]
pub struct RealServerArguments {
    /// What to do.
    #[arg(value_enum)]
    pub action: RealServerAction,
    /// A virtual address that this host serves; may be given several times.
    #[arg(long, required = true, value_name = "IP")]
    pub vip: Vec<IpAddr>,
    /// How the director reaches it. With NAT a real server needs nothing but the director as gateway.
    #[arg(long, value_enum)]
    pub method: RealServerMethod,
    /// What tunnelled packets are wrapped in.
    #[arg(long, value_enum, default_value = "ipip")]
    pub tunnel: TunnelHeader,
    /// The tunnel runs over IPv6.
    #[arg(long)]
    pub over_ipv6: bool,
    /// Change nothing; print what is needed for this instead.
    #[arg(long, value_enum, value_name = "FORM")]
    pub print: Option<SetupForm>,
    /// Same as --print shell.
    #[arg(long, conflicts_with = "print")]
    pub print_shell: bool,
}

/// What to do with a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RealServerAction {
    /// Prepare it; what is so already is left alone.
    Up,
    /// Take the virtual addresses away.
    Down,
    /// Say what is wrong, in plain words; exit code 1 if anything is.
    Check,
}

/// How packets reach a real server that has the VIP itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RealServerMethod {
    /// Direct routing.
    Dr,
    /// Tunnelling.
    Tun,
}

/// What tunnelled packets are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TunnelHeader {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
}

/// For whom a setup is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SetupForm {
    /// A script for any POSIX shell, with start and stop.
    Shell,
    /// Bare commands.
    Iproute2,
    /// Lines for /etc/network/interfaces.
    Ifupdown,
    /// A dispatcher script for NetworkManager.
    Networkmanager,
}

/// Which connections to end.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct KillArguments {
    /// Those of this service, by name or address.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Those to this real server.
    #[arg(long, value_name = "IP[:PORT]")]
    pub real: Option<String>,
    /// Those of this client.
    #[arg(long, value_name = "IP[:PORT]")]
    pub client: Option<String>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A call of the program as one of `ipvsadm`'s names.
#[derive(Debug, PartialEq, Eq)]
pub struct Applet {
    /// The name by which it was called.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The call of `ipvsadm` that this is, if it is one: by name, or as `viaduct ipvsadm`. It is told
/// apart before anything is parsed, because its grammar is its own.
pub fn ipvsadm(words: &[OsString]) -> Option<Applet> {
    let program = words.first()?.to_string_lossy().into_owned();
    let name = program.rsplit('/').next().unwrap_or_default();
    if matches!(name, "ipvsadm" | "ipvsadm-save" | "ipvsadm-restore") {
        return Some(Applet { program, arguments: words.get(1..)?.to_vec() });
    }
    let first = words.get(1).filter(|word| *word == "ipvsadm")?;
    let program = first.to_string_lossy().into_owned();
    Some(Applet { program, arguments: words.get(2..)?.to_vec() })
}

/// The socket of a call that cannot name one.
pub fn default_socket() -> PathBuf {
    std::env::var_os("VIADUCT_SOCKET").map_or_else(|| PathBuf::from(SOCKET), PathBuf::from)
}

/// Parses the command line.
///
/// # Errors
/// The exit code, after help or what is wrong has been printed: 2 for wrong usage.
pub fn parse(words: Vec<OsString>) -> Result<Arguments, ExitCode> {
    Arguments::try_parse_from(words).map_err(|error| {
        // Nothing can be done when the terminal is gone.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn ipvsadm_is_told_apart_by_name() {
        let applet = ipvsadm(&words("/sbin/ipvsadm -L -n")).expect("is one");
        assert_eq!((applet.program.as_str(), applet.arguments), ("/sbin/ipvsadm", words("-L -n")));
        assert_eq!(ipvsadm(&words("ipvsadm-save")).map(|applet| applet.arguments), Some(vec![]));
        let applet = ipvsadm(&words("viaduct ipvsadm --help")).expect("is one");
        assert_eq!((applet.program.as_str(), applet.arguments), ("ipvsadm", words("--help")));
        assert_eq!(ipvsadm(&words("viaduct run")), None);
        assert_eq!(ipvsadm(&[]), None);
    }

    #[test]
    fn the_contract_s_command_lines_are_understood() {
        for line in [
            "viaduct run --config a.toml --state /s --socket /x --console off",
            "viaduct run --console 127.0.0.1:8443",
            "viaduct check a.toml",
            "viaduct apply a.toml --confirm-within 60s",
            "viaduct confirm",
            "viaduct diff a.toml",
            "viaduct rollback",
            "viaduct rollback 3",
            "viaduct history",
            "viaduct sync keep mine",
            "viaduct sync keep theirs",
            "viaduct export",
            "viaduct show services --json",
            "viaduct show connections",
            "viaduct show time",
            "viaduct show drops",
            "viaduct show vrrp --json",
            "viaduct failover",
            "viaduct pair",
            "viaduct join abcd-efgh",
            "viaduct show sync --json",
            "viaduct failover outside",
            "viaduct drain web 10.0.0.1:80 --within 10m",
            "viaduct undrain web 10.0.0.1",
            "viaduct kill-connections --real 10.0.0.1",
            "viaduct explain --from 1.2.3.4:5 --to 192.0.2.1:80 --protocol udp",
            "viaduct replay in.pcap --config a.toml --out out.pcap",
            "viaduct doctor",
            "viaduct real-server up --vip 192.0.2.10 --method dr",
            "viaduct real-server check --vip 192.0.2.10 --vip 2001:db8::10 --method tun",
            "viaduct real-server up --vip 192.0.2.10 --method dr --print-shell",
            "viaduct backup f",
            "viaduct restore f",
            "viaduct demo",
        ] {
            assert!(Arguments::try_parse_from(words(line)).is_ok(), "{line}");
        }
        for line in ["viaduct", "viaduct kill-connections", "viaduct apply a --confirm-within 60"] {
            let error = Arguments::try_parse_from(words(line)).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
