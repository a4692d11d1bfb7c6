//! The words of `ipvsadm`'s command line, and which options each command takes.

use super::message::Failure;
use super::popt::{Definition, Value};

/// An option of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// One that says what to do.
    Do(Verb),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// `-t`.
    TcpService,
    /// `-u`.
    UdpService,
    /// `--sctp-service`.
    SctpService,
    /// `-f`.
    FwmarkService,
    /// `-m`.
    Masquerading,
    /// `-i`.
    Ipip,
    /// `-g`.
    Gatewaying,
    /// `-6`.
    Ipv6,
    /// `--sort`, which does nothing.
    Sort,
    /// Any that stands for exactly one class.
    One(Class),
}

/// A command, as opposed to an option that refines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
}

/// Classes of options: of each class at most one may be given. The order is that of the checks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Nosort,
    Syncid,
    Exact,
    Ops,
    Pe,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Class {
    const ALL: [Self; 34] = [
        Self::Numeric,
        Self::Connection,
        Self::ServiceAddress,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::RealServer,
        Self::ForwardingMethod,
        Self::Weight,
        Self::UThreshold,
        Self::LThreshold,
        Self::McastInterface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::Nosort,
        Self::Syncid,
        Self::Exact,
        Self::Ops,
        Self::Pe,
        Self::SchedFlags,
        Self::McastGroup,
        Self::McastPort,
        Self::McastTtl,
        Self::SyncMaxlen,
        Self::TunInfo,
        Self::TunType,
        Self::TunPort,
        Self::TunNocsum,
        Self::TunCsum,
        Self::TunRemcsum,
    ];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::ServiceAddress => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::RealServer => "real-server",
            Self::ForwardingMethod => "forwarding-method",
            Self::Weight => "weight",
            Self::UThreshold => "u-threshold",
            Self::LThreshold => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::Nosort => "nosort",
            Self::Syncid => "syncid",
            Self::Exact => "exact",
            Self::Ops => "ops",
            Self::Pe => "pe",
            Self::SchedFlags => "sched-flags",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxlen => "sync-maxlen",
            Self::TunInfo => "tun-info",
            Self::TunType => "tun-type",
            Self::TunPort => "tun-port",
            Self::TunNocsum => "tun-nocsum",
            Self::TunCsum => "tun-csum",
            Self::TunRemcsum => "tun-remcsum",
        }
    }
}

impl Verb {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::List => "list",
            Self::AddServer => "add-server",
            Self::DeleteServer => "delete-server",
            Self::EditServer => "edit-server",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
        }
    }

    /// The classes that it needs, and those that it allows.
    const fn classes(self) -> (&'static [Class], &'static [Class]) {
        use Class as C;
        match self {
            Self::AddService | Self::EditService => (
                &[C::ServiceAddress],
                &[C::Scheduler, C::Persistent, C::Netmask, C::Ops, C::Pe, C::SchedFlags],
            ),
            Self::AddServer | Self::EditServer => (
                &[C::ServiceAddress, C::RealServer],
                &[
                    C::ForwardingMethod,
                    C::Weight,
                    C::UThreshold,
                    C::LThreshold,
                    C::TunType,
                    C::TunPort,
                    C::TunNocsum,
                    C::TunCsum,
                    C::TunRemcsum,
                ],
            ),
            Self::DeleteService => (&[C::ServiceAddress], &[]),
            Self::DeleteServer => (&[C::ServiceAddress, C::RealServer], &[]),
            Self::Zero => (&[], &[C::ServiceAddress]),
            Self::Save => (&[], &[C::Numeric]),
            Self::List => (
                &[],
                &[
                    C::Numeric,
                    C::Stats,
                    C::Rate,
                    C::Thresholds,
                    C::PersistentConn,
                    C::Nosort,
                    // The real program takes it too, and does nothing with it.
                    C::Syncid,
                    C::Exact,
                    C::TunInfo,
                ],
            ),
            Self::StartDaemon => (
                &[],
                &[
                    C::McastInterface,
                    C::Syncid,
                    C::McastGroup,
                    C::McastPort,
                    C::McastTtl,
                    C::SyncMaxlen,
                ],
            ),
            Self::StopDaemon => (&[], &[C::Syncid]),
            Self::Flush | Self::Set | Self::Restore => (&[], &[]),
        }
    }

    fn rule(self, class: Class) -> Rule {
        let (needed, allowed) = self.classes();
        let one_thing = [Class::Connection, Class::ServiceAddress, Class::Timeout, Class::Daemon];
        if needed.contains(&class) {
            Rule::Needed
        } else if allowed.contains(&class) {
            Rule::Allowed
        } else if self == Self::List && one_thing.contains(&class) {
            Rule::Exclusive
        } else {
            Rule::Illegal
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Needed,
    Allowed,
    /// At most one of these.
    Exclusive,
    Illegal,
}

/// The classes that a command line gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Given(u64);

impl Given {
    /// Notes a class.
    ///
    /// # Errors
    /// It was given before.
    pub fn add(&mut self, class: Class) -> Result<(), Failure> {
        if self.has(class) {
            let name = class.name();
            return Err(Failure::fatal(format!("multiple '{name}' options specified")));
        }
        self.0 |= 1 << class as u8;
        Ok(())
    }

    /// Whether a class was given.
    pub const fn has(self, class: Class) -> bool {
        self.0 & (1 << class as u8) != 0
    }

    /// Checks what was given against what a command takes.
    ///
    /// # Errors
    /// The first class, in order, that is missing, illegal or in conflict.
    pub fn check(self, verb: Verb) -> Result<(), Failure> {
        let command = verb.name();
        let mut exclusive: Option<Class> = None;
        for class in Class::ALL {
            let name = class.name();
            let message = match (verb.rule(class), self.has(class), exclusive) {
                (Rule::Needed, false, _) => {
                    format!("You need to supply the '{name}' option for the '{command}' command")
                }
                (Rule::Illegal, true, _) => {
                    format!("Illegal '{name}' option with the '{command}' command")
                }
                (Rule::Exclusive, true, Some(other)) => format!(
                    "The option '{name}' conflicts with the '{}' option in the '{command}' command",
                    other.name()
                ),
                (Rule::Exclusive, true, None) => {
                    exclusive = Some(class);
                    continue;
                }
                (Rule::Needed, true, _)
                | (Rule::Allowed, _, _)
                | (Rule::Illegal | Rule::Exclusive, false, _) => continue,
            };
            return Err(Failure::fatal(message));
        }
        Ok(())
    }
}

const fn bare(long: &'static str, short: Option<char>, id: Word) -> Definition<Word> {
    Definition { long, short, value: Value::None, id }
}

const fn valued(long: &'static str, short: Option<char>, id: Word) -> Definition<Word> {
    Definition { long, short, value: Value::Required, id }
}

/// Every option. `-l` has a line of its own because popt knows one letter for each.
pub(super) const DEFINITIONS: &[Definition<Word>] = &[
    bare("add-service", Some('A'), Word::Do(Verb::AddService)),
    bare("edit-service", Some('E'), Word::Do(Verb::EditService)),
    bare("delete-service", Some('D'), Word::Do(Verb::DeleteService)),
    bare("clear", Some('C'), Word::Do(Verb::Flush)),
    bare("list", Some('L'), Word::Do(Verb::List)),
    bare("list", Some('l'), Word::Do(Verb::List)),
    bare("zero", Some('Z'), Word::Do(Verb::Zero)),
    bare("add-server", Some('a'), Word::Do(Verb::AddServer)),
    bare("edit-server", Some('e'), Word::Do(Verb::EditServer)),
    bare("delete-server", Some('d'), Word::Do(Verb::DeleteServer)),
    bare("set", None, Word::Do(Verb::Set)),
    bare("help", Some('h'), Word::Help),
    bare("version", Some('v'), Word::Version),
    bare("restore", Some('R'), Word::Do(Verb::Restore)),
    bare("save", Some('S'), Word::Do(Verb::Save)),
    valued("start-daemon", None, Word::Do(Verb::StartDaemon)),
    valued("stop-daemon", None, Word::Do(Verb::StopDaemon)),
    valued("tcp-service", Some('t'), Word::TcpService),
    valued("udp-service", Some('u'), Word::UdpService),
    valued("sctp-service", None, Word::SctpService),
    valued("fwmark-service", Some('f'), Word::FwmarkService),
    valued("scheduler", Some('s'), Word::One(Class::Scheduler)),
    Definition {
        long: "persistent",
        short: Some('p'),
        value: Value::Optional,
        id: Word::One(Class::Persistent),
    },
    valued("netmask", Some('M'), Word::One(Class::Netmask)),
    valued("real-server", Some('r'), Word::One(Class::RealServer)),
    bare("masquerading", Some('m'), Word::Masquerading),
    bare("ipip", Some('i'), Word::Ipip),
    bare("gatewaying", Some('g'), Word::Gatewaying),
    valued("weight", Some('w'), Word::One(Class::Weight)),
    valued("u-threshold", Some('x'), Word::One(Class::UThreshold)),
    valued("l-threshold", Some('y'), Word::One(Class::LThreshold)),
    bare("numeric", Some('n'), Word::One(Class::Numeric)),
    bare("connection", Some('c'), Word::One(Class::Connection)),
    valued("mcast-interface", None, Word::One(Class::McastInterface)),
    valued("syncid", None, Word::One(Class::Syncid)),
    bare("timeout", None, Word::One(Class::Timeout)),
    bare("daemon", None, Word::One(Class::Daemon)),
    bare("stats", None, Word::One(Class::Stats)),
    bare("rate", None, Word::One(Class::Rate)),
    bare("thresholds", None, Word::One(Class::Thresholds)),
    bare("persistent-conn", None, Word::One(Class::PersistentConn)),
    bare("nosort", None, Word::One(Class::Nosort)),
    bare("sort", None, Word::Sort),
    bare("exact", Some('X'), Word::One(Class::Exact)),
    bare("ipv6", Some('6'), Word::Ipv6),
    bare("ops", Some('o'), Word::One(Class::Ops)),
    valued("pe", None, Word::One(Class::Pe)),
    valued("sched-flags", Some('b'), Word::One(Class::SchedFlags)),
    valued("mcast-group", None, Word::One(Class::McastGroup)),
    valued("mcast-port", None, Word::One(Class::McastPort)),
    valued("mcast-ttl", None, Word::One(Class::McastTtl)),
    valued("sync-maxlen", None, Word::One(Class::SyncMaxlen)),
    bare("tun-info", None, Word::One(Class::TunInfo)),
    valued("tun-type", None, Word::One(Class::TunType)),
    valued("tun-port", None, Word::One(Class::TunPort)),
    bare("tun-nocsum", None, Word::One(Class::TunNocsum)),
    bare("tun-csum", None, Word::One(Class::TunCsum)),
    bare("tun-remcsum", None, Word::One(Class::TunRemcsum)),
];
