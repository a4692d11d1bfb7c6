//! Looks at this host and changes it: the only part with side effects.

use super::{Device, DeviceState, Need, Observed, Setup, Variable, alone};
use crate::host::{HostError, HostState, Watch};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why a host cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostTrouble {
    /// It cannot be what is asked.
    #[error("{0}")]
    Impossible(String),
    /// The kernel does not answer.
    #[error("{0}")]
    Host(#[from] HostError),
    /// The kernel refuses.
    #[error("{what}: {source}")]
    Refused {
        /// The attempted operation.
        what: String,
        /// The kernel's error.
        #[source]
        source: rtnetlink::Error,
    },
    /// A kernel variable cannot be set.
    #[error("{0}: {1}")]
    Variable(String, #[source] io::Error),
}

/// Everything about this host that matters for a real server.
///
/// # Errors
/// When the kernel does not answer.
pub async fn look() -> Result<Observed, HostTrouble> {
    Ok(observed(&Watch::once().await?))
}

fn observed(host: &HostState) -> Observed {
    let mut observed = Observed::default();
    for (index, link) in &host.links {
        let of_link = host.addresses.iter().filter(|address| address.link == *index);
        let addresses = of_link.map(|address| (address.prefix.address, address.prefix.length));
        let state = DeviceState {
            up: link.up,
            ethernet: link.mac.is_some() && !link.loopback,
            addresses: addresses.collect(),
        };
        observed.devices.insert(link.name.clone(), state);
    }
    let names: Vec<String> = observed.devices.keys().cloned().chain(["all".to_owned()]).collect();
    for device in names {
        for name in Variable::ALL {
            let value = fs::read_to_string(path(&device, name)).ok();
            if let Some(value) = value.and_then(|text| text.trim().parse().ok()) {
                observed.variables.insert((device.clone(), name), value);
            }
        }
    }
    observed
}

fn path(device: &str, name: Variable) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/ipv4/conf/{device}/{}", name.name()))
}

/// Makes this host a real server and says what it did, in sentences; nothing when all was so already.
///
/// # Errors
/// When the kernel refuses something; what was done before stays.
pub async fn up(setup: &Setup) -> Result<Vec<String>, HostTrouble> {
    let needs = setup.needs().map_err(HostTrouble::Impossible)?;
    let handle = handle()?;
    let mut done = Vec::new();
    for need in &needs {
        let host = look().await?;
        if host.lacks(need).is_empty() && !is_missing(need, &host) {
            continue;
        }
        done.push(match need {
            Need::Variable { device, name } => set(device, *name)?,
            Need::Device(device) => bring_up(&handle, *device).await?,
            Need::Address { device, vip } => put(&handle, device, *vip, &host).await?,
        });
    }
    Ok(done)
}

/// Takes the virtual addresses away again and says what it did. Kernel variables and devices stay:
/// they do no harm, and other services may need them.
///
/// # Errors
/// When the kernel refuses something.
pub async fn down(setup: &Setup) -> Result<Vec<String>, HostTrouble> {
    let needs = setup.needs().map_err(HostTrouble::Impossible)?;
    let handle = handle()?;
    let host = look().await?;
    let mut done = Vec::new();
    for need in &needs {
        let Need::Address { device, vip } = need else { continue };
        let there = host.devices.get(*device);
        if there.is_some_and(|state| state.addresses.iter().any(|(address, _)| address == vip)) {
            remove(&handle, device, *vip).await?;
            done.push(format!("removed {vip} from {device}"));
        }
    }
    Ok(done)
}

fn is_missing(need: &Need, host: &Observed) -> bool {
    match need {
        Need::Device(device) => !host.devices.contains_key(device.name),
        Need::Address { device, .. } => !host.devices.contains_key(*device),
        Need::Variable { .. } => false,
    }
}

fn handle() -> Result<Handle, HostTrouble> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(HostError::Open)?;
    tokio::spawn(connection);
    Ok(handle)
}

fn set(device: &str, name: Variable) -> Result<String, HostTrouble> {
    let (path, value) = (path(device, name), name.wanted());
    let variable = format!("net.ipv4.conf.{device}.{}", name.name());
    fs::write(path, format!("{value}\n"))
        .map_err(|error| HostTrouble::Variable(variable.clone(), error))?;
    Ok(format!("set {variable} to {value}"))
}

/// The kernel loads the module when it is asked for such a device, and with it comes the device.
async fn bring_up(handle: &Handle, device: Device) -> Result<String, HostTrouble> {
    let name = device.name;
    if index(handle, name).await.is_err() {
        let message =
            LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind(device)).name(name).build();
        let made = handle.link().add(message).execute().await;
        if let Err(source) = made
            && index(handle, name).await.is_err()
        {
            let what = format!(
                "the kernel has no {} tunnels (try modprobe {})",
                device.kind, device.module
            );
            return Err(HostTrouble::Refused { what, source });
        }
    }
    let index = index(handle, name).await?;
    let message = LinkUnspec::new_with_index(index).up().build();
    let switched = handle.link().set(message).execute().await;
    switched.map_err(|source| refused(format!("bringing {name} up"), source))?;
    Ok(format!("brought {name} up"))
}

fn kind(device: Device) -> InfoKind {
    match device.kind {
        "ipip" => InfoKind::IpIp,
        "sit" => InfoKind::SitTun,
        "ip6tnl" => InfoKind::Ip6Tnl,
        "gre" => InfoKind::GreTun,
        "ip6gre" => InfoKind::GreTun6,
        other => InfoKind::Other(other.to_owned()),
    }
}

/// Puts a VIP on a device, in place of one with another prefix length.
async fn put(
    handle: &Handle,
    device: &str,
    vip: IpAddr,
    host: &Observed,
) -> Result<String, HostTrouble> {
    let before = host.devices.get(device).map(|state| state.addresses.as_slice());
    if before.unwrap_or_default().iter().any(|(address, _)| *address == vip) {
        remove(handle, device, vip).await?;
    }
    let (index, length) = (index(handle, device).await?, alone(vip));
    let added = handle.address().add(index, vip, length).execute().await;
    added.map_err(|source| refused(format!("{vip} on {device}"), source))?;
    Ok(format!("added {vip}/{length} to {device}"))
}

async fn remove(handle: &Handle, device: &str, vip: IpAddr) -> Result<(), HostTrouble> {
    let failed = |source| refused(format!("{vip} on {device}"), source);
    let index = index(handle, device).await?;
    let of_device = handle.address().get().set_link_index_filter(index).set_address_filter(vip);
    let found: Vec<_> = of_device.execute().try_collect().await.map_err(failed)?;
    for message in found {
        handle.address().del(message).execute().await.map_err(failed)?;
    }
    Ok(())
}

async fn index(handle: &Handle, device: &str) -> Result<u32, HostTrouble> {
    let failed = |source| refused(format!("looking for {device}"), source);
    let mut links = handle.link().get().match_name(device.to_owned()).execute();
    let link = links.try_next().await.map_err(failed)?;
    let link = link.filter(|link| {
        let named = |attribute: &LinkAttribute| {
            matches!(attribute, LinkAttribute::IfName(name) if name == device)
        };
        link.attributes.iter().any(named)
    });
    link.map(|link| link.header.index)
        .ok_or_else(|| HostTrouble::Impossible(format!("there is no device {device}")))
}

fn refused(what: String, source: rtnetlink::Error) -> HostTrouble {
    HostTrouble::Refused { what, source }
}
