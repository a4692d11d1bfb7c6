//! Links, addresses and routes of one namespace, by rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoBridge, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::rule::RuleAction;
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkDummy, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder, new_connection,
};
use tokio::runtime::Runtime;

use crate::cidr::Cidr;
use crate::namespace::Namespace;

/// The routing table that everything without a rule uses (rtnetlink(7)).
const RT_TABLE_MAIN: u32 = 254;
/// The lab's routing table for packets by their source.
const SOURCE_TABLE: u32 = 100;
/// The kernel answers at once; more than this means that it never will.
const ANSWER: Duration = Duration::from_secs(10);

/// A netlink socket inside one namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    runtime: Arc<Runtime>,
    handle: Handle,
}

impl Netlink {
    pub(crate) fn open(runtime: &Arc<Runtime>, namespace: &Namespace) -> Result<Self> {
        let (connection, handle, _) = namespace
            .enter(|| {
                let _context = runtime.enter();
                new_connection()
            })?
            .context("opening a netlink socket")?;
        runtime.spawn(connection);
        Ok(Self { runtime: Arc::clone(runtime), handle })
    }

    fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(ANSWER, request).await })
            .map_err(|_| anyhow!("{what}: no answer from the kernel in {ANSWER:?}"))?
            .with_context(|| what.to_owned())
    }

    /// Makes a link of a kind that a kernel can be built without.
    fn make(&self, what: &str, option: &str, message: LinkMessage) -> Result<()> {
        self.ask(what, self.handle.link().add(message).execute())
            .with_context(|| format!("a lab needs a kernel with {option}"))
    }

    fn link(&self, name: &str) -> Result<LinkMessage> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        self.ask(&format!("looking up link {name}"), links.try_next())?
            .ok_or_else(|| anyhow!("no link {name}"))
    }

    pub(crate) fn index(&self, name: &str) -> Result<u32> {
        Ok(self.link(name)?.header.index)
    }

    pub(crate) fn mac(&self, name: &str) -> Result<[u8; 6]> {
        let link = self.link(name)?;
        let address = link.attributes.iter().find_map(|attribute| {
            if let LinkAttribute::Address(bytes) = attribute { Some(bytes) } else { None }
        });
        address
            .and_then(|bytes| bytes.as_slice().try_into().ok())
            .ok_or_else(|| anyhow!("link {name} has no Ethernet address"))
    }

    fn set(&self, what: &str, message: LinkMessage) -> Result<()> {
        self.ask(what, self.handle.link().set(message).execute())
    }

    pub(crate) fn up(&self, name: &str) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name)?).up().build();
        self.set(&format!("setting {name} up"), link)
    }

    pub(crate) fn down(&self, name: &str) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name)?).down().build();
        self.set(&format!("setting {name} down"), link)
    }

    pub(crate) fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name)?).mtu(mtu).build();
        self.set(&format!("setting the MTU of {name}"), link)
    }

    /// A bridge that forwards at once and floods multicast, as a plain switch does.
    pub(crate) fn add_bridge(&self, name: &str) -> Result<()> {
        let bridge = LinkMessageBuilder::<LinkBridge>::new(name)
            .append_info_data(InfoBridge::MulticastSnooping(false))
            .up()
            .build();
        self.make(&format!("adding bridge {name}"), "CONFIG_BRIDGE", bridge)
    }

    pub(crate) fn add_dummy(&self, name: &str) -> Result<()> {
        let dummy = LinkDummy::new(name).up().build();
        self.make(&format!("adding dummy {name}"), "CONFIG_DUMMY", dummy)
    }

    /// A veth pair: `port` stays here as a port of `bridge`, `name` goes to `to`.
    pub(crate) fn add_port(
        &self,
        bridge: &str,
        port: &str,
        name: &str,
        to: &Namespace,
    ) -> Result<()> {
        // The far end is born here, where another host's link of the same name may be under way.
        let newborn = format!("{port}n");
        let pair = LinkVeth::new(port, &newborn).build();
        self.make(&format!("adding veth {port}"), "CONFIG_VETH", pair)?;
        let far = LinkUnspec::new_with_index(self.index(&newborn)?)
            .setns_by_fd(to.net().as_raw_fd())
            .name(name.to_owned())
            .build();
        self.set(&format!("moving {name} into its namespace"), far)?;
        self.plug(port, bridge)
    }

    /// Makes an existing link a port of `bridge`.
    pub(crate) fn plug(&self, port: &str, bridge: &str) -> Result<()> {
        let near = LinkUnspec::new_with_index(self.index(port)?)
            .controller(self.index(bridge)?)
            .up()
            .build();
        self.set(&format!("plugging {port} into {bridge}"), near)
    }

    pub(crate) fn add_address(&self, link: &str, cidr: Cidr) -> Result<()> {
        let index = self.index(link)?;
        let message = match cidr.address {
            IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(index)
                .address(address, cidr.prefix)
                .build(),
            IpAddr::V6(address) => {
                let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                    .index(index)
                    .address(address, cidr.prefix)
                    .build();
                // Usable at once: there are no duplicates in a lab.
                message.header.flags |= AddressHeaderFlags::Nodad;
                message.attributes.push(rtnetlink::packet_route::address::AddressAttribute::Flags(
                    AddressFlags::Nodad,
                ));
                message
            }
        };
        let mut request = self.handle.address().add(index, cidr.address, cidr.prefix);
        *request.message_mut() = message;
        self.ask(&format!("adding {cidr} to {link}"), request.execute())
    }

    pub(crate) fn del_address(&self, link: &str, cidr: Cidr) -> Result<()> {
        let index = self.index(link)?;
        let addresses = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .set_address_filter(cidr.address)
            .execute()
            .try_collect::<Vec<_>>();
        for message in self.ask(&format!("looking up {cidr}"), addresses)? {
            self.ask(
                &format!("removing {cidr} from {link}"),
                self.handle.address().del(message).execute(),
            )?;
        }
        Ok(())
    }

    pub(crate) fn add_route(&self, to: Cidr, via: IpAddr) -> Result<()> {
        self.add_route_in(RT_TABLE_MAIN, to, via)
    }

    fn add_route_in(&self, table: u32, to: Cidr, via: IpAddr) -> Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .table_id(table)
            .destination_prefix(to.address, to.prefix)
            .and_then(|route| route.gateway(via))
            .map_err(|error| anyhow!("route {to} via {via}: {error:?}"))?
            .build();
        let what = format!("adding route {to} via {via}");
        self.ask(&what, self.handle.route().add(route).replace().execute())
    }

    /// A rule for packets from `source`, and a table with one default route.
    pub(crate) fn add_source_route(&self, source: Cidr, via: IpAddr) -> Result<()> {
        let what = format!("adding a rule for packets from {source}");
        let rule = self.handle.rule().add().table_id(SOURCE_TABLE).action(RuleAction::ToTable);
        match source.address {
            IpAddr::V4(address) => {
                self.ask(&what, rule.v4().source_prefix(address, source.prefix).execute())?;
            }
            IpAddr::V6(address) => {
                self.ask(&what, rule.v6().source_prefix(address, source.prefix).execute())?;
            }
        }
        self.add_route_in(SOURCE_TABLE, Cidr::everything_like(via), via)
    }
}
