//! Which part of the configuration two paired directors have in common. Pure.
//!
//! | Common, travels to the peer | A director's own, stays |
//! |---|---|
//! | `[[service]]` with its real servers and checks, `[[alert]]`, `[time]`, `[timeouts]`, `[tunables]` | `[node]`, `[[interface]]`, `[peer]`, `[[track_script]]` |
//! | of a `[[vrrp]]` that both have, by name: `addresses` | everything else of a `[[vrrp]]` |

use super::Document;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The common part of a document.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SharedPart {
    /// A document that has nothing else.
    document: Document,
    /// The virtual addresses of each VRRP instance, by name, in the order to advertise.
    addresses: BTreeMap<String, Vec<IpAddr>>,
}

/// A common part as it travels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedText {
    /// Everything but VRRP, as TOML.
    pub document: String,
    /// The virtual addresses of each VRRP instance, by name.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
}

/// What a common part is known by: equal parts have equal digests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SharedDigest {
    /// Of everything but VRRP, in hexadecimal.
    rest: String,
    /// Of each VRRP instance's addresses, by name.
    addresses: BTreeMap<String, String>,
    /// Whether there is nothing in it but addresses.
    empty: bool,
}

impl SharedPart {
    /// The common part of a document.
    pub fn of(document: &Document) -> Self {
        let Document { services, vrrp, time, alerts, timeouts, tunables, .. } = document;
        let instances = vrrp.iter();
        Self {
            document: Document {
                services: services.clone(),
                time: time.clone(),
                alerts: alerts.clone(),
                timeouts: *timeouts,
                tunables: *tunables,
                ..Document::default()
            },
            addresses: instances.map(|one| (one.name.clone(), one.addresses.clone())).collect(),
        }
    }

    /// A director's own part with this common part. It may be no good document: see [`Self::fit`].
    pub fn with(&self, own: &Document) -> Document {
        let mut vrrp = own.vrrp.clone();
        for instance in &mut vrrp {
            if let Some(addresses) = self.addresses.get(&instance.name) {
                instance.addresses.clone_from(addresses);
            }
        }
        let common = self.document.clone();
        Document {
            node: own.node.clone(),
            interfaces: own.interfaces.clone(),
            services: common.services,
            vrrp,
            track_scripts: own.track_scripts.clone(),
            peer: own.peer.clone(),
            time: common.time,
            alerts: common.alerts,
            timeouts: common.timeouts,
            tunables: common.tunables,
        }
    }

    /// A director's own part with this common part.
    ///
    /// # Errors
    /// What does not go together, in words.
    pub fn fit(&self, own: &Document) -> Result<Document, String> {
        let document = self.with(own);
        match Document::parse(&document.to_toml(), "") {
            Ok(document) => Ok(document),
            // Places in a text that nobody has written help nobody.
            Err(problems) => {
                let said: Vec<String> = problems.into_iter().map(|one| one.message).collect();
                Err(said.join("; "))
            }
        }
    }

    /// What it is known by.
    pub fn digest(&self) -> SharedDigest {
        let hash = |text: &str| {
            let bytes = Sha256::digest(text.as_bytes());
            bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let listed = |addresses: &Vec<IpAddr>| {
            let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            hash(&words.join(" "))
        };
        let instances = self.addresses.iter();
        SharedDigest {
            rest: hash(&self.document.to_toml()),
            addresses: instances.map(|(name, list)| (name.clone(), listed(list))).collect(),
            empty: self.document == Document::default(),
        }
    }

    /// As it travels.
    pub fn to_text(&self) -> SharedText {
        SharedText { document: self.document.to_toml(), addresses: self.addresses.clone() }
    }

    /// As it came.
    ///
    /// # Errors
    /// What this program does not understand in it, in words.
    pub fn from_text(text: SharedText) -> Result<Self, String> {
        let document = Document::parse(&text.document, "").map_err(|problems| {
            let said: Vec<String> = problems.into_iter().map(|one| one.message).collect();
            said.join("; ")
        })?;
        // Whatever else is said there is the peer's own.
        let document = Self::of(&document).document;
        Ok(Self { document, addresses: text.addresses })
    }
}

impl SharedDigest {
    /// Whether the parts are equal, as far as both directors have the same VRRP instances.
    pub fn agrees(&self, other: &Self) -> bool {
        let mut both = self.addresses.iter().filter_map(|(name, own)| {
            let theirs = other.addresses.get(name)?;
            Some(own == theirs)
        });
        self.rest == other.rest && both.all(|equal| equal)
    }

    /// Whether there is nothing in it but addresses: a director that was just set up.
    pub const fn is_empty(&self) -> bool {
        self.empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arbitrary;
    use proptest::prelude::*;

    const OWN: &str = r#"
        [node]
        name = "lb2"
        [[vrrp]]
        name = "outside"
        interface = "eth0"
        id = 51
        addresses = ["192.0.2.1"]
          [[vrrp.track]]
          service = "web"
        [[service]]
        name = "web"
        address = "192.0.2.1:80"
    "#;

    fn parse(text: &str) -> Document {
        Document::parse(text, "test").expect("is good")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_own_part_never_changes_and_the_common_part_arrives_whole(
            own in arbitrary::document(),
            theirs in arbitrary::document(),
        ) {
            let part = SharedPart::of(&theirs);
            let read = SharedPart::from_text(part.to_text()).expect("reads back");
            prop_assert_eq!(&read, &part);
            let merged = read.with(&own);
            // Taking the common part out of it again leaves the own one.
            prop_assert_eq!(&SharedPart::of(&own).with(&merged), &own);
            prop_assert!(SharedPart::of(&merged).digest().agrees(&part.digest()));
            let of_both = |document: &Document| {
                let mut part = SharedPart::of(document);
                part.addresses.retain(|name, _| {
                    [&own, &theirs].iter().all(|one| one.vrrp.iter().any(|v| v.name == *name))
                });
                part
            };
            prop_assert_eq!(of_both(&merged), of_both(&theirs));
            if let Ok(fitting) = read.fit(&own) {
                prop_assert_eq!(fitting, merged);
            }
        }

        #[test]
        fn digests_are_equal_when_parts_are(
            one in arbitrary::document(),
            other in arbitrary::document(),
        ) {
            let (one, other) = (SharedPart::of(&one), SharedPart::of(&other));
            prop_assert_eq!(one.digest() == other.digest(), one == other);
            prop_assert!(one.digest().agrees(&one.clone().digest()));
        }
    }

    #[test]
    fn what_does_not_go_with_the_own_part_is_said() {
        let said = SharedPart::default().fit(&parse(OWN)).unwrap_err();
        assert!(said.contains("service"), "{said}");
        let empty = SharedPart { document: Document::default(), ..SharedPart::of(&parse(OWN)) };
        assert!(empty.digest().is_empty());
        assert!(!SharedPart::of(&parse(OWN)).digest().is_empty());
    }

    #[test]
    fn addresses_count_where_both_have_the_instance() {
        let own = SharedPart::of(&parse(OWN));
        let renamed = SharedPart::of(&parse(&OWN.replace("outside", "other")));
        assert!(own.digest().agrees(&renamed.digest()));
        assert_ne!(own.digest(), renamed.digest());
        let moved = OWN.replace("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"192.0.2.2\"]");
        let moved = SharedPart::of(&parse(&moved));
        assert!(!own.digest().agrees(&moved.digest()));
        let merged = moved.fit(&parse(OWN)).expect("fits");
        assert_eq!(merged.vrrp[0].addresses.len(), 2);
        assert_eq!(merged.node.name.as_deref(), Some("lb2"));
    }

    #[test]
    fn a_peer_cannot_smuggle_its_own_part_in() {
        let text = SharedText { document: OWN.to_owned(), addresses: BTreeMap::new() };
        let part = SharedPart::from_text(text).expect("is good");
        assert_eq!(part.document.node.name, None);
        assert!(part.document.vrrp.is_empty());
    }
}
