//! Frames, made where a driver would put them: in the receive buffer, one after the other.

use super::network::{REALS, real_address, vip};
use std::net::IpAddr;

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    Client,
    Real,
}

/// The first 64 bytes of the frames of one kind. Over IPv6 a TCP header does not fit in 64 bytes, so
/// UDP measures the same work there.
#[derive(Clone, Copy)]
pub struct Traffic {
    template: [u8; 64],
    from: From,
    v6: bool,
    /// Where the client's address ends, where its port is, and where the real server's address ends.
    client_end: usize,
    client_port: usize,
    real_end: usize,
}

const CLIENT4: u32 = 0xc633_0000;
/// Ports that clients use.
const PORTS: u32 = 32_000;

impl Traffic {
    /// Frames of `size` bytes with these TCP flags.
    pub fn new(v6: bool, from: From, size: usize, flags: u8) -> Self {
        let mut bytes = [0; 64];
        let ports = if v6 {
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
            bytes[14] = 0x60;
            bytes[18..20].copy_from_slice(&((size - 54) as u16).to_be_bytes());
            bytes[20] = 17;
            bytes[21] = 64;
            54
        } else {
            bytes[12..14].copy_from_slice(&[0x08, 0]);
            bytes[14] = 0x45;
            bytes[16..18].copy_from_slice(&((size - 14) as u16).to_be_bytes());
            bytes[22] = 64;
            bytes[23] = 6;
            bytes[46] = 0x50;
            bytes[47] = flags;
            34
        };
        let (source, destination) = if v6 { (38, 54) } else { (30, 34) };
        let client = if v6 { 0x2001u128 << 112 } else { u128::from(CLIENT4) };
        let (client_end, real_end, client_port, server_port, server, port) = match from {
            From::Client => (source, destination, ports, ports + 2, vip(v6), 80u16),
            From::Real => {
                (destination, source, ports + 2, ports, number(real_address(v6, 0)), 8080)
            }
        };
        let length = if v6 { 16 } else { 4 };
        bytes[client_end - length..client_end]
            .copy_from_slice(&client.to_be_bytes()[16 - length..]);
        bytes[real_end - length..real_end].copy_from_slice(&server.to_be_bytes()[16 - length..]);
        bytes[server_port..server_port + 2].copy_from_slice(&port.to_be_bytes());
        Self { template: bytes, from, v6, client_end, client_port, real_end }
    }

    /// Whether clients send it.
    pub fn is_from_client(&self) -> bool {
        self.from == From::Client
    }

    /// Writes the frame of connection `number`. Each connection has a client address of its own.
    #[inline]
    pub fn write(&self, number: u32, buffer: &mut [u8]) {
        let Some(frame) = buffer.first_chunk_mut::<64>() else { return };
        *frame = self.template;
        let (client, port) = (number, 1024 + (number % PORTS) as u16);
        let base = if self.v6 { 0 } else { CLIENT4 };
        frame[self.client_end - 4..self.client_end].copy_from_slice(&(base + client).to_be_bytes());
        frame[self.client_port..self.client_port + 2].copy_from_slice(&port.to_be_bytes());
        if self.from == From::Real {
            // Round robin over the list, newest first, in the order of opening.
            let real = REALS - 1 - number % REALS;
            frame[self.real_end - 1] += real as u8;
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
