//! Whether both directors answer for an instance with the same kind of MAC. Pure.
//!
//! Two kinds work together: whoever becomes master announces its own. But clients and switches learn
//! another MAC at each failover then, and where the virtual one is refused only one director can serve.

use super::arbitration::Own;
use crate::record::Severity;
use crate::sync::message::Role;
use std::collections::BTreeSet;

/// The instances for which the peer uses the other kind, as it told last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MacKinds {
    different: BTreeSet<String>,
}

impl MacKinds {
    /// Compares with what the peer said; while it has said nothing, what was known stays. What is news.
    pub fn compare(&mut self, own: &[Own], peer: &[Role]) -> Vec<(Severity, String)> {
        if peer.is_empty() {
            return Vec::new();
        }
        let mut words = Vec::new();
        let mut different = BTreeSet::new();
        for Own { role, .. } in own {
            let told = peer.iter().find(|peer| peer.instance == role.instance);
            let (Some(ours), Some(theirs)) =
                (role.virtual_mac, told.and_then(|told| told.virtual_mac))
            else {
                continue;
            };
            if ours == theirs {
                continue;
            }
            if !self.different.contains(&role.instance) {
                words.push((Severity::Warning, warning(&role.instance, ours)));
            }
            different.insert(role.instance.clone());
        }
        self.different = different;
        words
    }

    /// The instances, by name.
    pub const fn different(&self) -> &BTreeSet<String> {
        &self.different
    }
}

fn warning(instance: &str, ours: bool) -> String {
    let name = |is_virtual: bool| if is_virtual { "the virtual MAC" } else { "its own MAC" };
    format!(
        "answers for {instance} with {}, this director with {}: virtual_mac should be the same in both \
         configurations",
        name(!ours),
        if ours { name(true) } else { "the interface's own" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(instance: &str, virtual_mac: Option<bool>) -> Role {
        Role { instance: instance.to_owned(), master: false, priority: 100, virtual_mac }
    }

    fn own(instance: &str, virtual_mac: bool) -> Own {
        Own { role: role(instance, Some(virtual_mac)), heard: 0 }
    }

    #[test]
    fn another_kind_is_said_once_and_again_when_it_comes_back() {
        let mut kinds = MacKinds::default();
        let ours = [own("inside", true), own("outside", true)];
        let theirs = [role("outside", Some(false)), role("inside", Some(true))];
        let words = kinds.compare(&ours, &theirs);
        let [(Severity::Warning, text)] = &words[..] else { panic!("{words:?}") };
        assert!(text.contains("outside") && text.contains("with its own MAC"), "{text}");
        assert_eq!(kinds.different().iter().collect::<Vec<_>>(), ["outside"]);
        assert!(kinds.compare(&ours, &theirs).is_empty(), "said before");
        assert!(kinds.compare(&ours, &[]).is_empty(), "the link is new");
        assert!(!kinds.different().is_empty(), "until the peer speaks again");
        assert!(kinds.compare(&ours, &[role("outside", Some(true))]).is_empty());
        assert!(kinds.different().is_empty());
        assert_eq!(kinds.compare(&ours, &theirs).len(), 1);
    }

    #[test]
    fn what_an_older_program_does_not_tell_is_no_difference() {
        let mut kinds = MacKinds::default();
        assert!(kinds.compare(&[own("outside", false)], &[role("outside", None)]).is_empty());
        assert!(kinds.compare(&[own("outside", false)], &[role("other", Some(true))]).is_empty());
        assert!(kinds.different().is_empty());
    }
}
