//! The kernel's rules (`ip rule`), and what of them matters for the director's packets. Pure.

use super::Link;
use super::tables::MAIN;
use dataplane::table::{Prefix, Refusal, Rule, RuleAction};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `RT_TABLE_LOCAL`.
pub const LOCAL: u32 = 255;

/// A table, or of it only what is not too general (`suppress_prefixlength`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct View {
    /// The table's number.
    pub table: u32,
    /// Shorter prefixes are left out.
    pub shortest: u8,
}

impl View {
    /// Whether it has the routes for these destinations.
    pub const fn has(&self, prefix: &Prefix) -> bool {
        prefix.length >= self.shortest
    }
}

/// One rule as the kernel tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelRule {
    /// The families' rules are apart.
    pub v6: bool,
    /// Lower comes first.
    pub priority: u32,
    /// Whether it holds for all packets but those that it describes.
    pub inverted: bool,
    /// Where packets come from.
    pub source: Prefix,
    /// Where packets go.
    pub destination: Prefix,
    /// By which interface they come in.
    pub input: Option<String>,
    /// Whether it describes no packet of the director: those have no mark, no owner, no type of
    /// service, and no output interface before they are routed.
    pub foreign: bool,
    /// What it does.
    pub does: Does,
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Does {
    /// Looks into a table.
    LookUp(View),
    /// Looks into the table of the VRF of the input interface.
    LookUpVrf,
    /// Goes on with the rules of this priority.
    Goto(u32),
    /// Refuses.
    Refuse(Refusal),
    /// Nothing.
    Pass,
}

/// The rules of both families, and what they look into; the main table is always the first.
pub fn compile(
    rules: &[KernelRule],
    links: &BTreeMap<u32, Link>,
    has_routes: impl Fn(u32) -> bool,
) -> ([Arc<[Rule]>; 2], Vec<View>) {
    let mut views = vec![View { table: MAIN, shortest: 0 }];
    let rules = [false, true].map(|v6| {
        let own: Vec<&KernelRule> = rules.iter().filter(|rule| rule.v6 == v6).collect();
        let mut compiled: Vec<(u32, Rule)> = Vec::new();
        for rule in own {
            let all = compiled_rule(rule, links, &has_routes, &mut views);
            compiled.extend(all.into_iter().map(|one| (rule.priority, one)));
        }
        finished(&compiled, v6)
    });
    (rules, views)
}

/// Puts places for priorities. The usual rules come to nothing, because the main table with the
/// host's own addresses says it all.
fn finished(compiled: &[(u32, Rule)], v6: bool) -> Arc<[Rule]> {
    let any = everything(v6);
    let rules = compiled.iter().map(|(_, rule)| match rule.action {
        RuleAction::Goto(priority) => {
            let place = compiled.iter().position(|(of, _)| *of as usize >= priority);
            let mut rule = *rule;
            rule.action = place.map_or(RuleAction::Pass, RuleAction::Goto);
            rule
        }
        RuleAction::Local | RuleAction::Table(_) | RuleAction::Refuse(_) | RuleAction::Pass => {
            *rule
        }
    });
    let rules: Arc<[Rule]> = rules.collect();
    let usual =
        [RuleAction::Local, RuleAction::Table(0)].map(|action| Rule::new(&any, &any, None, action));
    if rules.is_empty() || *rules == usual { [].into() } else { rules }
}

/// None for a rule that holds for no packet, or finds nothing; several for one about VRFs.
fn compiled_rule(
    rule: &KernelRule,
    links: &BTreeMap<u32, Link>,
    has_routes: &impl Fn(u32) -> bool,
    views: &mut Vec<View>,
) -> Vec<Rule> {
    let mut table = |view: View| {
        let known = views.iter().position(|one| *one == view);
        RuleAction::Table(known.unwrap_or_else(|| {
            views.push(view);
            views.len() - 1
        }))
    };
    let action = match rule.does {
        Does::LookUp(View { table: LOCAL, .. }) => RuleAction::Local,
        Does::LookUp(view) if view.table != MAIN && !has_routes(view.table) => return Vec::new(),
        Does::LookUp(view) => table(view),
        Does::LookUpVrf => {
            let in_vrf = links.iter().filter_map(|(index, link)| {
                let of = link.vrf.or_else(|| links.get(&link.controller?)?.vrf)?;
                Some((*index, View { table: of, shortest: 0 }))
            });
            let rules = in_vrf.filter(|(_, view)| has_routes(view.table));
            let of = |(index, view)| {
                Rule::new(&rule.source, &rule.destination, Some(index), table(view))
            };
            return rules.map(of).collect();
        }
        Does::Goto(priority) => RuleAction::Goto(priority as usize),
        Does::Refuse(refusal) => RuleAction::Refuse(refusal),
        Does::Pass => return Vec::new(),
    };
    let index =
        |name: &String| links.iter().find(|(_, link)| link.name == *name).map(|(at, _)| *at);
    let input = rule.input.as_ref().map(index);
    if rule.foreign || input == Some(None) {
        let any = everything(rule.v6);
        return if rule.inverted { vec![Rule::new(&any, &any, None, action)] } else { Vec::new() };
    }
    let mut compiled = Rule::new(&rule.source, &rule.destination, input.flatten(), action);
    compiled.inverted = rule.inverted;
    vec![compiled]
}

/// The prefix of all addresses of a family.
pub fn everything(v6: bool) -> Prefix {
    let address = if v6 {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    };
    Prefix { address, length: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(priority: u32, table: u32) -> KernelRule {
        KernelRule {
            v6: false,
            priority,
            inverted: false,
            source: everything(false),
            destination: everything(false),
            input: None,
            foreign: false,
            does: Does::LookUp(View { table, shortest: 0 }),
        }
    }

    fn compiled(rules: &[KernelRule]) -> (Vec<RuleAction>, Vec<View>) {
        let (of, views) = compile(rules, &BTreeMap::new(), |table| table != 253);
        (of[0].iter().map(|rule| rule.action).collect(), views)
    }

    #[test]
    fn the_usual_rules_cost_nothing() {
        let usual = [rule(0, LOCAL), rule(32_766, MAIN), rule(32_767, 253)];
        let (rules, views) = compiled(&usual);
        assert_eq!((rules.len(), views.len()), (0, 1));
        let mark = KernelRule { foreign: true, ..rule(100, 200) };
        let vrfs = KernelRule { does: Does::LookUpVrf, ..rule(1_000, 0) };
        let [local, main, default] = usual;
        let (rules, _) = compiled(&[local, mark, vrfs, main, default]);
        assert_eq!(rules, [], "no packet of the director has a mark or is in a VRF");
    }

    #[test]
    fn a_rule_that_excludes_a_mark_holds_for_all_packets_of_the_director() {
        let tunnel = KernelRule { foreign: true, inverted: true, ..rule(100, 51_820) };
        let default =
            KernelRule { does: Does::LookUp(View { table: MAIN, shortest: 1 }), ..rule(99, MAIN) };
        let (rules, views) = compiled(&[rule(0, LOCAL), default, tunnel, rule(32_766, MAIN)]);
        let tables = [1, 2, 0].map(RuleAction::Table);
        assert_eq!(rules, [&[RuleAction::Local][..], &tables].concat());
        assert_eq!(views[1], View { table: MAIN, shortest: 1 });
        assert_eq!(views[2].table, 51_820);
    }

    #[test]
    fn a_goto_leads_to_the_first_rule_of_its_priority_that_is_left() {
        let skip = KernelRule { does: Does::Goto(300), ..rule(50, 0) };
        let empty = rule(300, 253);
        let (rules, _) = compiled(&[rule(0, LOCAL), skip, rule(100, 200), empty, rule(400, MAIN)]);
        assert_eq!(rules[1], RuleAction::Goto(3));
    }
}
