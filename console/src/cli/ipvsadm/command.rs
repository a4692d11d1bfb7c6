//! What a command line asks for, once it is understood.

use control::ipvs::Request;
use control::model::VirtualAddress;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// Anything that changes something.
    Change(Request),
    /// `-L` of services.
    List {
        /// Only this one; the title has no version then.
        service: Option<VirtualAddress>,
        /// What to show of them.
        view: View,
        /// How to show it.
        style: Style,
    },
    /// `-L -c`.
    ListConnections {
        /// Addresses and ports as numbers.
        numeric: bool,
        /// With the persistence engine's data.
        engines: bool,
    },
    /// `-L --timeout`.
    ListTimeouts,
    /// `-L --daemon`.
    ListDaemons,
    /// `-S`.
    Save {
        /// Addresses and ports as numbers.
        numeric: bool,
    },
    /// `-R`.
    Restore,
}

/// Which columns a list has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// Forwarding method, weight, connections.
    Normal,
    /// The same with the tunnel.
    Tunnels,
    /// Shows counters (`--stats`).
    Stats,
    /// Shows rates (`--rate`).
    Rates,
    /// Thresholds and connections.
    Thresholds,
    /// Weight, persistent and other connections.
    Persistent,
}

/// How a list looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Addresses and ports as numbers.
    pub numeric: bool,
    /// Large numbers in full.
    pub exact: bool,
    /// By address instead of in the kernel's order.
    pub sorted: bool,
}
