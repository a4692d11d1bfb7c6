//! Routes and rules, as the kernel looks them up (`ip rule`, `ip route`).

use super::ranges::Span;
use super::{Address, Family, Prefix, Ranges};
use std::net::IpAddr;
use std::sync::Arc;

/// What a packet's route depends on. Packets of the director have no mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Where it goes.
    pub destination: Address,
    /// Where it comes from; the unspecified address when that is not yet chosen.
    pub source: Address,
    /// Index of the interface that it came in by; [`Flow::LOOPBACK`] for the director's own packets
    /// and for those to real servers.
    pub input: u32,
}

impl Flow {
    /// The index of the loopback in every network namespace.
    pub const LOOPBACK: u32 = 1;
}

impl From<Address> for Flow {
    /// A packet of the director's own, before its source is chosen.
    fn from(destination: Address) -> Self {
        let source = if destination.is_v4() { Address::v4(0) } else { Address::v6(0) };
        Self { destination, source, input: Self::LOOPBACK }
    }
}

impl From<IpAddr> for Flow {
    fn from(destination: IpAddr) -> Self {
        Address::from(destination).into()
    }
}

/// Why the kernel's routing refuses a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Silently.
    Blackhole,
    /// The host or net is unreachable.
    Unreachable,
    /// Communication is administratively prohibited.
    Prohibit,
}

/// One way that a route leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RouteHop {
    /// Next router, of any family; `None` when destinations are on the link.
    pub via: Option<IpAddr>,
    /// Index of the interface out of which to send.
    pub link: u32,
    /// Its share among the route's ways, 1..=65536.
    pub weight: u32,
}

/// What a route leads to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// No route.
    Nothing,
    /// The host itself.
    Local,
    /// The next rule.
    Throw,
    /// Nowhere.
    Refuse(Refusal),
    /// Other hosts.
    Hops {
        /// The ways of which each flow takes one; never empty.
        hops: Box<[RouteHop]>,
        /// The source address that the host would use, when the route names one.
        source: Option<IpAddr>,
        /// Largest IP packet in bytes; 0 for the interface's.
        mtu: u16,
    },
}

impl Target {
    /// The targets that always have the same numbers, in their order.
    pub const FIXED: [Self; 6] = [
        Self::Nothing,
        Self::Local,
        Self::Throw,
        Self::Refuse(Refusal::Blackhole),
        Self::Refuse(Refusal::Unreachable),
        Self::Refuse(Refusal::Prohibit),
    ];

    /// The ways of a route, if it leads to any.
    pub fn hops(&self) -> &[RouteHop] {
        match self {
            Self::Hops { hops, .. } => hops,
            Self::Nothing | Self::Local | Self::Throw | Self::Refuse(_) => &[],
        }
    }
}

/// One rule (`ip rule`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Whether it holds for all flows but those that it describes.
    pub inverted: bool,
    source: Span,
    destination: Span,
    input: Option<u32>,
    /// What becomes of the flows for which it holds.
    pub action: RuleAction,
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleAction {
    /// Looks into the table of the host's own addresses.
    Local,
    /// Looks into this one of [`Routing::tables`].
    Table(usize),
    /// Goes on with the rule at this place, which is further down.
    Goto(usize),
    /// Refuses.
    Refuse(Refusal),
    /// Nothing.
    Pass,
}

impl Rule {
    /// A rule for these flows; `input` is the index of an interface.
    pub fn new(
        source: &Prefix,
        destination: &Prefix,
        input: Option<u32>,
        action: RuleAction,
    ) -> Self {
        let (source, destination) = (Span::of(source), Span::of(destination));
        Self { inverted: false, source, destination, input, action }
    }

    fn holds(&self, flow: &Flow) -> bool {
        let described = self.source.contains(flow.source)
            && self.destination.contains(flow.destination)
            && self.input.is_none_or(|input| input == flow.input);
        described != self.inverted
    }
}

/// Everything that decides about routes. Immutable; generations share what has not changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Routing {
    /// Numbers of [`Routing::targets`]. The first table is the main one, with the host's own
    /// addresses.
    pub tables: Vec<Arc<Ranges>>,
    /// Begins with [`Target::FIXED`].
    pub targets: Arc<[Target]>,
    /// Of IPv4 and IPv6; empty when nothing but the first table counts.
    pub rules: [Arc<[Rule]>; 2],
}

impl Default for Routing {
    fn default() -> Self {
        let (tables, targets) = (vec![Arc::default()], Target::FIXED.into());
        Self { tables, targets, rules: [[].into(), [].into()] }
    }
}

impl Routing {
    /// [`Target::Nothing`].
    pub const NOTHING: u32 = 0;
    /// [`Target::Local`].
    pub const LOCAL: u32 = 1;
    /// [`Target::Throw`].
    pub const THROW: u32 = 2;

    /// The number of a refusal's target.
    pub const fn refusal(refusal: Refusal) -> u32 {
        match refusal {
            Refusal::Blackhole => 3,
            Refusal::Unreachable => 4,
            Refusal::Prohibit => 5,
        }
    }

    /// The rules for an address.
    #[inline]
    pub fn rules_for(&self, destination: Address) -> &[Rule] {
        let [v4, v6] = &self.rules;
        if destination.is_v4() { v4 } else { v6 }
    }

    /// The number of a flow's target.
    pub fn number(&self, flow: &Flow) -> u32 {
        let Some(main) = self.tables.first() else { return Self::NOTHING };
        let rules = self.rules_for(flow.destination);
        if rules.is_empty() {
            return main.number(flow.destination);
        }
        let mut at = 0;
        while let Some(rule) = rules.get(at) {
            at += 1;
            if !rule.holds(flow) {
                continue;
            }
            let found = match rule.action {
                RuleAction::Local if main.number(flow.destination) == Self::LOCAL => Self::LOCAL,
                RuleAction::Local | RuleAction::Pass => Self::NOTHING,
                RuleAction::Table(table) => match self.tables.get(table) {
                    Some(table) => table.number(flow.destination),
                    None => Self::NOTHING,
                },
                RuleAction::Goto(to) => {
                    at = at.max(to);
                    Self::NOTHING
                }
                RuleAction::Refuse(refusal) => Self::refusal(refusal),
            };
            if found != Self::NOTHING && found != Self::THROW {
                return found;
            }
        }
        Self::NOTHING
    }

    /// The target of a flow.
    pub fn target(&self, flow: &Flow) -> &Target {
        self.targets.get(self.number(flow) as usize).unwrap_or(&Target::Nothing)
    }

    /// Whether the interface by which a packet came in can decide about the family of `address`.
    pub fn depends_on_input(&self, address: &IpAddr) -> bool {
        let [v4, v6] = &self.rules;
        let rules = if Family::of(address) == Family::V4 { v4 } else { v6 };
        rules.iter().any(|rule| rule.input.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RuleAction::{Goto, Local, Pass, Refuse, Table};

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn rule(from: &str, action: RuleAction) -> Rule {
        Rule::new(&prefix(from), &prefix("0.0.0.0/0"), None, action)
    }

    fn table(routes: &[(&str, u32)]) -> Arc<Ranges> {
        Arc::new(Ranges::new(routes.iter().map(|(block, number)| (prefix(block), *number))))
    }

    fn flow(from: &str, to: &str) -> Flow {
        let [source, destination] =
            [from, to].map(|ip| Address::from(ip.parse::<IpAddr>().unwrap()));
        Flow { destination, source, input: 4 }
    }

    /// Main table 0 and the table 1 of a second provider.
    fn routing(rules: &[Rule]) -> Routing {
        let main = table(&[("0.0.0.0/0", 6), ("10.9.0.1/32", Routing::LOCAL), ("10.7.0.0/16", 2)]);
        let other = table(&[("0.0.0.0/0", 7), ("10.8.0.0/16", Routing::THROW)]);
        Routing {
            tables: vec![main, other],
            rules: [rules.into(), [].into()],
            ..Routing::default()
        }
    }

    const ALL: &str = "0.0.0.0/0";

    #[test]
    fn the_source_of_a_packet_can_select_the_table() {
        let rules = [rule(ALL, Local), rule("10.4.0.0/24", Table(1)), rule(ALL, Table(0))];
        let routing = routing(&rules);
        assert_eq!(routing.number(&flow("10.4.0.50", "8.8.8.8")), 7);
        assert_eq!(routing.number(&flow("10.1.0.50", "8.8.8.8")), 6);
        assert_eq!(routing.number(&flow("10.4.0.50", "10.9.0.1")), Routing::LOCAL);
        assert_eq!(routing.number(&flow("10.4.0.50", "10.8.3.3")), 6, "thrown to the next rule");
        assert_eq!(routing.number(&flow("10.1.0.50", "10.7.3.3")), Routing::NOTHING, "the last");
        let unchosen = Flow::from(IpAddr::from([8, 8, 8, 8]));
        assert_eq!(routing.number(&unchosen), 6);
    }

    #[test]
    fn rules_are_inverted_skipped_and_refuse() {
        let but = Rule { inverted: true, ..rule("10.4.0.0/24", Table(1)) };
        let prohibit = rule("10.5.0.0/24", Refuse(Refusal::Prohibit));
        let rules =
            [rule("10.6.0.0/24", Goto(3)), prohibit, but, rule(ALL, Pass), rule(ALL, Table(0))];
        let routing = routing(&rules);
        assert_eq!(routing.number(&flow("10.4.0.1", "8.8.8.8")), 6);
        assert_eq!(routing.number(&flow("10.1.0.1", "8.8.8.8")), 7);
        assert_eq!(
            routing.number(&flow("10.6.0.1", "8.8.8.8")),
            6,
            "the rules between are skipped"
        );
        let refused = routing.target(&flow("10.5.0.1", "8.8.8.8"));
        assert_eq!(refused, &Target::Refuse(Refusal::Prohibit));
    }

    #[test]
    fn the_input_interface_can_select_the_table() {
        let input = Rule::new(&prefix(ALL), &prefix(ALL), Some(4), Table(1));
        let routing = routing(&[input, rule(ALL, Table(0))]);
        let from_4 = flow("10.1.0.1", "8.8.8.8");
        assert_eq!(routing.number(&from_4), 7);
        assert_eq!(routing.number(&Flow { input: 5, ..from_4 }), 6);
        assert!(routing.depends_on_input(&[8, 8, 8, 8].into()));
        assert!(!routing.depends_on_input(&"::1".parse().unwrap()));
    }

    #[test]
    fn without_rules_the_first_table_decides() {
        let routing = routing(&[]);
        assert_eq!(routing.number(&flow("10.4.0.50", "8.8.8.8")), 6);
    }
}
