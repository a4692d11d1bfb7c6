//! What one edit changed, small enough to be written for each of thousands.

use super::StoreError;
use crate::model::{Document, VirtualAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The difference between two documents. Serialises as JSON with TOML inside.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Patch {
    /// Derived names of the virtual addresses of services that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
    /// Services that came or changed, as a document of their own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    put: String,
    /// The whole document, when something else changed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<String>,
}

impl Patch {
    /// What turns `before` into `after`.
    pub fn between(before: &Document, after: &Document) -> Self {
        let patch = Self::of_services(before, after);
        let mut patched = before.clone();
        // Services that changed places, or a change elsewhere, are rare: then all is written.
        let complete = patch.apply(&mut patched).is_ok() && patched == *after;
        if complete { patch } else { Self { whole: Some(after.to_toml()), ..Self::default() } }
    }

    fn of_services(before: &Document, after: &Document) -> Self {
        let old: BTreeMap<VirtualAddress, _> =
            before.services.iter().map(|service| (service.address, service)).collect();
        let stays: BTreeSet<_> = after.services.iter().map(|service| service.address).collect();
        let changed = after.services.iter().filter(|service| {
            old.get(&service.address)
                .is_none_or(|old| !Arc::ptr_eq(old, service) && *old != *service)
        });
        let put = Document { services: changed.cloned().collect(), ..Document::default() };
        Self {
            removed: old
                .keys()
                .filter(|address| !stays.contains(address))
                .map(VirtualAddress::derived_name)
                .collect(),
            put: put.to_toml(),
            whole: None,
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && self.removed.is_empty() && self.put.is_empty()
    }

    /// Applies it.
    ///
    /// # Errors
    /// When what it contains is no document: it comes from a damaged file.
    pub fn apply(&self, document: &mut Document) -> Result<(), StoreError> {
        let parse = |text| {
            Document::parse(text, "journal")
                .map_err(|_| StoreError::Damaged { what: "an edit in the journal".to_owned() })
        };
        if let Some(whole) = &self.whole {
            *document = parse(whole)?;
            return Ok(());
        }
        if !self.removed.is_empty() {
            let removed: BTreeSet<&str> = self.removed.iter().map(String::as_str).collect();
            document
                .services
                .retain(|service| !removed.contains(service.address.derived_name().as_str()));
        }
        if !self.put.is_empty() {
            for service in parse(&self.put)?.services {
                let place = document.services.iter_mut().find(|old| old.address == service.address);
                match place {
                    Some(place) => *place = service,
                    None => document.services.push(service),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_patch_turns_one_document_into_the_other(
            a in arbitrary::document(),
            b in arbitrary::document(),
            keep in any::<bool>(),
        ) {
            let mut after = b;
            if keep {
                // Mostly the same: some services of the one, then one of the other.
                let extra = after.services.pop();
                after = a.clone();
                after.services.truncate(a.services.len() / 2);
                let known: Vec<_> = after.services.iter().map(|s| s.address).collect();
                after.services.extend(extra.filter(|s| !known.contains(&s.address)));
            }
            let patch = Patch::between(&a, &after);
            let text = serde_json::to_string(&patch).expect("serialises");
            let patch: Patch = serde_json::from_str(&text).expect("reads back");
            let mut patched = a.clone();
            patch.apply(&mut patched).expect("applies");
            prop_assert_eq!(patched, after);
        }

        #[test]
        fn no_change_is_an_empty_patch(a in arbitrary::document()) {
            prop_assert!(Patch::between(&a, &a.clone()).is_empty());
        }
    }
}
