//! The `--tun-*` options.

use super::message::Failure;
use super::options::{Class, Given};
use control::model::{GueChecksum, Tunnel};

/// The argument of `--tun-type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum TunnelKind {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl TunnelKind {
    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ipip, Self::Gue, Self::Gre].into_iter().find(|kind| kind.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }

    fn rule(self, class: Class) -> Rule {
        let checksums: &[Class] = match self {
            Self::Ipip => &[],
            Self::Gre => &[Class::TunNocsum, Class::TunCsum],
            Self::Gue => &[Class::TunNocsum, Class::TunCsum, Class::TunRemcsum],
        };
        if self == Self::Gue && class == Class::TunPort {
            Rule::Needed
        } else if checksums.contains(&class) {
            Rule::Exclusive
        } else {
            Rule::Illegal
        }
    }
}

enum Rule {
    Needed,
    /// At most one of these.
    Exclusive,
    Illegal,
}

/// A tunnel that is being put together.
#[derive(Clone, Copy, Default)]
pub(super) struct TunnelDraft {
    pub kind: TunnelKind,
    pub port: u16,
}

const OPTIONS: [Class; 4] = [Class::TunPort, Class::TunNocsum, Class::TunCsum, Class::TunRemcsum];

impl TunnelDraft {
    /// Whether any option about tunnels was given.
    pub fn was_given(given: Given) -> bool {
        given.has(Class::TunType) || OPTIONS.into_iter().any(|class| given.has(class))
    }

    /// The tunnel that the options ask for.
    ///
    /// # Errors
    /// The first option, in order, that is missing, illegal or in conflict.
    pub fn settle(self, given: Given) -> Result<Tunnel, Failure> {
        self.check(given)?;
        Ok(match self.kind {
            TunnelKind::Ipip => Tunnel::Ipip,
            TunnelKind::Gre => Tunnel::Gre { checksum: given.has(Class::TunCsum) },
            TunnelKind::Gue => {
                let checksum = if given.has(Class::TunRemcsum) {
                    GueChecksum::Remote
                } else if given.has(Class::TunCsum) {
                    GueChecksum::Full
                } else {
                    GueChecksum::None
                };
                Tunnel::Gue { port: self.port, checksum }
            }
        })
    }

    fn check(self, given: Given) -> Result<(), Failure> {
        let kind = self.kind.name();
        let mut exclusive: Option<Class> = None;
        for class in OPTIONS {
            let name = class.name();
            let message = match (self.kind.rule(class), given.has(class), exclusive) {
                (Rule::Needed, false, _) => {
                    format!("You need to supply the '{name}' option for the '{kind}' tunnel type")
                }
                (Rule::Illegal, true, _) => {
                    format!("Illegal '{name}' option with the '{kind}' tunnel type")
                }
                (Rule::Exclusive, true, Some(other)) => format!(
                    "The option '{name}' conflicts with the '{}' option in the '{kind}' tunnel type",
                    other.name()
                ),
                (Rule::Exclusive, true, None) => {
                    exclusive = Some(class);
                    continue;
                }
                (Rule::Needed, true, _) | (Rule::Exclusive | Rule::Illegal, false, _) => continue,
            };
            return Err(Failure::fatal(message));
        }
        Ok(())
    }
}
