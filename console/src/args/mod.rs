//! The command line: its grammar and its defaults.

mod accounts;
mod connections;
mod values;

pub use accounts::{TokenAction, UserAction};
pub use connections::KillArguments;
pub use values::{ConsoleAddress, parse_duration};

#[cfg(feature = "demo")]
use crate::cli::demo::DemoArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use control::model::PersistentClients;
use std::ffi::OsString;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Default path of the daemon's socket.
pub const SOCKET: &str = "/run/viaduct.sock";
/// Default state directory.
pub const STATE: &str = "/var/lib/viaduct";

/// A layer-4 load balancer: Linux Virtual Server in userspace.
#[derive(Debug, Parser)]
#[command(name = "viaduct", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Arguments {
    /// The daemon's Unix socket.
    #[arg(long, global = true, env = "VIADUCT_SOCKET", default_value = SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    Run(RunArguments),
    /// Build a lab on this machine, with traffic and a real server that fails and recovers.
    #[cfg(feature = "demo")]
    Demo(DemoArguments),
    /// Validate a configuration file and print every error with its position.
    Check {
        /// The file; - for standard input.
        file: PathBuf,
    },
    /// Put a configuration file into service.
    Apply {
        /// The file; - for standard input.
        file: PathBuf,
        /// Roll back automatically unless `viaduct confirm` follows within this time.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        confirm_within: Option<Duration>,
        /// Comment for the history.
        #[arg(long, default_value = "", value_name = "TEXT")]
        comment: String,
    },
    /// Confirm the revision that is waiting for it.
    Confirm,
    /// Show what applying a file would change.
    Diff {
        /// The file; - for standard input.
        file: PathBuf,
        /// Compare with this revision instead of the running configuration.
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Return to a revision, or to the one before the last.
    Rollback {
        /// Number of the revision.
        revision: Option<u64>,
    },
    /// List the kept revisions.
    History {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the running configuration, or a revision, as a file that `apply` takes.
    Export {
        /// Print this revision instead of the running configuration.
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
    /// Show the state of the director.
    Show(ShowArguments),
    /// Accept an `ipvsadm` command line for this director.
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// Arguments, as for `ipvsadm`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Drain a real server: it takes no new connections, also after a restart.
    Drain {
        /// The service, by name or address.
        service: String,
        /// The real server's address, with its port when it has several.
        real: String,
        /// Reason, shown with the drain.
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
        /// End the connections that are left after this time.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        within: Option<Duration>,
        /// What becomes of clients that persistence leads to it: their next connection goes to
        /// another server, or they stay until their time is up.
        #[arg(long, value_enum, default_value_t = Persistent::Move)]
        persistent: Persistent,
    },
    /// Put a drained real server back into service.
    Undrain {
        /// The service, by name or address.
        service: String,
        /// The real server's address, with its port when it has several.
        real: String,
    },
    /// Manage the users of the console.
    User {
        /// What to do.
        #[command(subcommand)]
        action: UserAction,
    },
    /// Manage the tokens of the API.
    Token {
        /// What to do.
        #[command(subcommand)]
        action: TokenAction,
    },
    /// End connections. At least one condition is required.
    KillConnections(KillArguments),
    /// Print a pairing code; run `viaduct join CODE` on the other director within ten minutes.
    Pair,
    /// Pair with the other director, using the code that it printed.
    Join {
        /// The pairing code.
        code: String,
    },
    /// Resolve a conflict between the two directors' configurations.
    Sync {
        /// The action.
        #[arg(value_enum)]
        action: SyncAction,
        /// Whose configuration to keep.
        #[arg(value_enum)]
        whose: Whose,
    },
    /// Hand mastership over to the other director.
    Failover {
        /// Only this VRRP instance and its group.
        instance: Option<String>,
    },
    /// Explain every decision that a packet would meet.
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
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a capture file through the packet path, without a daemon.
    Replay {
        /// The capture: pcap or pcapng.
        capture: PathBuf,
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Write the packets that the director would send here, as pcap.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check whether this host is fit to be a director, and what would make it faster.
    Doctor {
        /// State directory.
        #[arg(long, env = "VIADUCT_STATE", default_value = STATE, value_name = "DIR")]
        state: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prepare this host to be a real server, undo that, or check it. Needs no daemon.
    RealServer(RealServerArguments),
    /// Back up the configuration and state to one file.
    Backup {
        /// The file; - for standard output.
        file: PathBuf,
    },
    /// Restore a backup.
    Restore {
        /// The file; - for standard input.
        file: PathBuf,
    },
    /// Print completions for a shell.
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
    /// Listen address of the web console, or off.
    #[arg(long, default_value = "off", value_name = "ADDR:PORT|off")]
    pub console: ConsoleAddress,
}

/// Options of `viaduct show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The topic to show.
    #[arg(value_enum)]
    pub what: Topic,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Show at most this many events or connections.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Show only this service, by name or address.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
}

/// What becomes of a drained real server's persistent clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Persistent {
    /// Send their next connection to another server.
    Move,
    /// Leave them with it until their template expires.
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
    /// Health of the real servers, and drains.
    Health,
    /// Clocks of this node, the time servers, the peer and the real servers.
    Time,
    /// Dropped packets, by reason.
    Drops,
    /// Attached interfaces.
    Interfaces,
    /// VRRP instances: which director is master, and why.
    Vrrp,
    /// The link to the peer, its lag, and the shared configuration.
    Sync,
    /// Recent events.
    Events,
}

/// How to resolve a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SyncAction {
    /// Keep one of two conflicting configurations; `show sync` lists the differences.
    Keep,
}

/// Whose configuration both directors will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// This director's.
    Mine,
    /// The peer's.
    Theirs,
}

/// Options of `viaduct real-server`.
#[derive(Debug, Args)]
pub struct RealServerArguments {
    /// The action.
    #[arg(value_enum)]
    pub action: RealServerAction,
    /// A virtual address that this host serves; repeat for several.
    #[arg(long, required = true, value_name = "IP")]
    pub vip: Vec<IpAddr>,
    /// Forwarding method. With NAT, a real server only needs the director as its gateway.
    #[arg(long, value_enum)]
    pub method: RealServerMethod,
    /// Encapsulation of tunnelled packets.
    #[arg(long, value_enum, default_value = "ipip")]
    pub tunnel: TunnelHeader,
    /// Tunnel over IPv6.
    #[arg(long)]
    pub over_ipv6: bool,
    /// Print the setup in this form instead of changing anything.
    #[arg(long, value_enum, value_name = "FORM")]
    pub print: Option<SetupForm>,
    /// The same as --print shell.
    #[arg(long, conflicts_with = "print")]
    pub print_shell: bool,
}

/// Actions of `viaduct real-server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RealServerAction {
    /// Prepare this host; existing settings that fit stay.
    Up,
    /// Remove the virtual addresses.
    Down,
    /// Report what is wrong; exit code 1 if anything is.
    Check,
}

/// Forwarding methods with the VIP on the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RealServerMethod {
    /// Direct routing.
    Dr,
    /// Tunnelling.
    Tun,
}

/// Encapsulations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TunnelHeader {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
}

/// Forms in which a setup can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SetupForm {
    /// A POSIX shell script with start and stop.
    Shell,
    /// Plain ip and sysctl commands.
    Iproute2,
    /// Lines for /etc/network/interfaces.
    Ifupdown,
    /// A dispatcher script for NetworkManager.
    Networkmanager,
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
mod tests;
