//! The kernel's order of services, and the random number in it.
//!
//! The kernel walks its services by hash bucket. Into the bucket's number it mixes eight bits of the
//! memory address of its own state; Viaduct mixes in zero. What is known of those bits from one list
//! has to fit every other list of the same kernel.

use anyhow::{Context, Result, ensure};
use std::net::{Ipv4Addr, SocketAddr};

/// The eight bits, as far as lists have told them.
pub struct Secret {
    possible: Vec<u32>,
}

impl Default for Secret {
    fn default() -> Self {
        Self { possible: (0..=255).collect() }
    }
}

/// A service's line with those of its real servers.
type Block<'a> = Vec<&'a str>;

impl Secret {
    /// Whether lists have told anything about it.
    pub fn is_known(&self) -> bool {
        self.possible.len() < 128
    }

    /// Our list in the order that the kernel's secret makes of it. When no possible secret gives the
    /// kernel's list, our own comes back as it was.
    pub fn reorder(&mut self, ours: &str, kernels: &str) -> Result<String> {
        let lists: Vec<(u32, String)> = self
            .possible
            .iter()
            .map(|secret| Ok((*secret, ordered(ours, *secret)?)))
            .collect::<Result<_>>()?;
        let fitting: Vec<&(u32, String)> =
            lists.iter().filter(|(_, list)| list == kernels).collect();
        let Some((_, list)) = fitting.first() else { return Ok(ours.to_owned()) };
        let list = list.clone();
        self.possible = fitting.into_iter().map(|(secret, _)| *secret).collect();
        Ok(list)
    }
}

fn ordered(list: &str, secret: u32) -> Result<String> {
    let mut title = Vec::new();
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for line in list.lines() {
        let is_service =
            ["TCP  ", "UDP  ", "SCTP ", "FWM  "].into_iter().any(|name| line.starts_with(name));
        match blocks.last_mut() {
            _ if is_service => blocks.push(vec![line]),
            Some(block) => block.push(line),
            None => title.push(line),
        }
    }
    let mut keyed = Vec::new();
    for block in blocks {
        let (table, bucket) = bucket(block[0])?;
        keyed.push(((table, bucket ^ secret), block));
    }
    keyed.sort_by_key(|(key, _)| *key);
    let lines = title.into_iter().chain(keyed.into_iter().flat_map(|(_, block)| block));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// Which table, and the hash of the kernel's `ip_vs_svc_hashkey` without the secret.
fn bucket(line: &str) -> Result<(u8, u32)> {
    let mut words = line.split_ascii_whitespace();
    let protocol = words.next().context("an empty line")?;
    let name = words.next().context("a service without a name")?;
    let number: u32 = match protocol {
        "FWM" => return Ok((1, name.parse::<i32>()? as u32 & 255)),
        "TCP" => 6,
        "UDP" => 17,
        _ => 132,
    };
    let address: SocketAddr = name.parse().with_context(|| line.to_owned())?;
    let folded = match address {
        SocketAddr::V4(address) => u32::from(*address.ip()),
        SocketAddr::V6(address) => {
            let words = address.ip().octets();
            let words = words.chunks(4).map(|w| Ipv4Addr::new(w[0], w[1], w[2], w[3]));
            words.fold(0, |folded, word| folded ^ u32::from(word))
        }
    };
    ensure!(protocol != "SCTP" || number == 132, "unknown protocol in {line}");
    let port = u32::from(address.port());
    Ok((0, (number ^ folded ^ (port >> 8) ^ port) & 255))
}
