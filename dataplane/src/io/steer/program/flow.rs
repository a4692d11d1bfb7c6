//! From the flow to the decision: `SOURCE`, `DESTINATION`, `FRAGMENT`, R9 the protocol, R7 where the
//! transport header is.

use super::super::rules::{Side, flag, ports, wide_flag};
use super::{
    DESTINATION, FRAGMENT, IP, KEY, PREFIX, Program, RANGE, SHORT, SOURCE, TRANSPORT, network16,
};
use crate::io::bpf::{Condition, Label, Operation, Register, Width};
use Condition::{AnyBit, Equal, Greater, GreaterOrEqual, Less, NotEqual};
use Operation::Add;
use Register::{R0, R2, R3, R7, R8, R9, R10};
use Width::{Byte, Double, Half, Word};

/// Protocols whose headers begin with two ports: TCP, UDP, SCTP.
const PORTED: [i32; 3] = [6, 17, 132];

impl Program {
    /// Claims when the destination, whose flags are in R8, lies in a covered prefix.
    pub(super) fn covered(&mut self) {
        let (look, no) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(R8, AnyBit, flag::OWNED.cast_signed(), look);
        self.asm.jump_if(R8, AnyBit, flag::LOCAL.cast_signed(), no);
        self.asm.place(look);
        self.asm.store_value(Word, R10, PREFIX + 4, 128);
        for at in [0, 8] {
            self.asm.load(Double, R3, R10, DESTINATION + at);
            self.asm.store(Double, R10, PREFIX + 8 + at, R3);
        }
        self.lookup(self.maps.prefixes, PREFIX + 4);
        self.asm.jump_if(R0, Equal, 0, no);
        self.asm.load(Word, R0, R0, 0);
        self.asm.jump_if(R0, NotEqual, 0, self.claim);
        self.asm.place(no);
    }

    pub(super) fn flow(&mut self) {
        let (first, unknown, known) = (self.asm.label(), self.asm.label(), self.asm.label());
        let whole = self.asm.label();
        self.asm.store_value(Double, R10, TRANSPORT, 0);
        self.asm.load(Double, R2, R10, FRAGMENT);
        self.asm.jump_if(R2, NotEqual, 0, first);
        self.exact_service(first);
        self.asm.place(first);
        self.lookup(self.maps.addresses, DESTINATION);
        self.asm.jump_if(R0, Equal, 0, unknown);
        self.asm.load(Word, R8, R0, 0);
        self.asm.load(Word, R2, R0, 4);
        self.asm.store(Word, R10, RANGE, R2);
        self.asm.jump(known);
        self.asm.place(unknown);
        self.asm.set(R8, 0);
        self.asm.store_value(Word, R10, RANGE, 0);
        self.asm.place(known);
        self.asm.load(Double, R2, R10, FRAGMENT);
        self.asm.jump_if(R2, Equal, 0, whole);
        self.fragment();
        self.asm.place(whole);
        let (icmp, ported) = (self.asm.label(), self.asm.label());
        for protocol in PORTED {
            self.asm.jump_if(R9, Equal, protocol, ported);
        }
        for protocol in [1, 58] {
            self.asm.jump_if(R9, Equal, protocol, icmp);
        }
        self.asm.jump(self.host);
        self.asm.place(ported);
        self.ported();
        self.asm.place(icmp);
        self.icmp();
    }

    /// Fetches the ports. Most frames are for a service of one port: it is looked for first, and
    /// claims by itself, as the tables have only those at owned addresses. Goes on at `other` for
    /// protocols without ports.
    fn exact_service(&mut self, other: Label) {
        let ported = self.asm.label();
        for protocol in PORTED {
            self.asm.jump_if(R9, Equal, protocol, ported);
        }
        self.asm.jump(other);
        self.asm.place(ported);
        self.fetch(0, 4, TRANSPORT);
        self.asm.load(Half, R2, R10, TRANSPORT + 2);
        self.exact_endpoint(DESTINATION, Side::Service);
    }

    pub(super) fn fragment(&mut self) {
        let foreign = self.asm.label();
        self.asm.jump_if(R8, AnyBit, flag::OWNED.cast_signed(), self.claim);
        self.covered();
        self.asm.jump_if(R8, AnyBit, flag::POOL.cast_signed(), foreign);
        self.asm.jump_if(R8, AnyBit, flag::LOCAL.cast_signed(), self.host);
        self.asm.place(foreign);
        self.lookup(self.maps.addresses, SOURCE);
        self.claim_by_flag(flag::REAL);
        self.asm.jump(self.host);
    }

    pub(super) fn ported(&mut self) {
        let outside = self.asm.label();
        self.wide_endpoint(DESTINATION, TRANSPORT + 2, Side::Service);
        self.covered();
        self.in_pool(TRANSPORT + 2, outside);
        self.asm.jump(self.claim);
        self.asm.place(outside);
        self.asm.jump_if(R8, AnyBit, flag::LOCAL.cast_signed(), self.host);
        self.real(SOURCE, TRANSPORT);
    }

    /// Goes on at `outside` unless the address with the flags in R8 is a pool with this port.
    pub(super) fn in_pool(&mut self, port: i16, outside: Label) {
        let pool = self.asm.label();
        self.asm.jump_if(R8, AnyBit, flag::POOL.cast_signed(), pool);
        self.asm.jump(outside);
        self.asm.place(pool);
        self.asm.load(Half, R2, R10, port);
        self.asm.number_from_network(R2);
        self.asm.load(Half, R3, R10, RANGE);
        self.asm.jump_if_register(R2, Less, R3, outside);
        self.asm.load(Half, R3, R10, RANGE + 2);
        self.asm.jump_if_register(R2, Greater, R3, outside);
    }

    /// Claims when the address and port are those of a real server, else leaves it to the host.
    pub(super) fn real(&mut self, address: i16, port: i16) {
        self.asm.load(Half, R2, R10, port);
        self.exact_endpoint(address, Side::Real);
        self.lookup(self.maps.addresses, address);
        self.asm.jump_if(R0, Equal, 0, self.host);
        self.asm.load(Word, R8, R0, 0);
        self.wide_endpoint(address, port, Side::Real);
        self.asm.jump(self.host);
    }

    /// Claims when there is an endpoint with more ports than one for address, port, and the protocol
    /// in R9. R8 has the address's flags.
    fn wide_endpoint(&mut self, address: i16, port: i16, side: Side) {
        let (several, no) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(R8, AnyBit, wide_flag(side).cast_signed(), several);
        self.asm.jump(no);
        self.asm.place(several);
        self.asm.set(R2, 0);
        self.endpoint_key(address, side);
        self.lookup(self.maps.endpoints, KEY);
        self.asm.jump_if(R0, Equal, 0, no);
        self.asm.load(Word, R3, R0, 0);
        self.asm.jump_if(R3, AnyBit, ports::MATCHING.cast_signed(), self.claim);
        // Only FTP's data ports are left.
        self.asm.load(Half, R2, R10, port);
        self.asm.number_from_network(R2);
        self.asm.jump_if(R2, Equal, 20, self.claim);
        self.asm.jump_if(R2, GreaterOrEqual, 1024, self.claim);
        self.asm.place(no);
    }

    /// Claims when there is an endpoint for address, the port in R2 and the protocol in R9.
    pub(super) fn exact_endpoint(&mut self, address: i16, side: Side) {
        self.endpoint_key(address, side);
        self.lookup(self.maps.endpoints, KEY);
        self.asm.jump_if(R0, NotEqual, 0, self.claim);
    }

    /// The key of address, the port in R2 and the protocol in R9.
    fn endpoint_key(&mut self, address: i16, side: Side) {
        self.move_address(address, KEY);
        self.asm.store(Half, R10, KEY + 16, R2);
        self.asm.store(Byte, R10, KEY + 18, R9);
        self.asm.store_value(Byte, R10, KEY + 19, side as i32);
    }

    pub(super) fn icmp(&mut self) {
        let (six, about) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(R8, AnyBit, flag::OWNED.cast_signed(), self.claim);
        self.covered();
        self.fetch(0, 1, SHORT);
        self.asm.load(Byte, R2, R10, SHORT);
        self.asm.jump_if(R9, Equal, 58, six);
        self.about4(about);
        self.asm.place(six);
        self.about6();
        self.asm.place(about);
        let (ours, ported, tunnelled) = (self.asm.label(), self.asm.label(), self.asm.label());
        for protocol in PORTED {
            self.asm.jump_if(R9, Equal, protocol, ported);
        }
        for protocol in [4, 41, 47] {
            self.asm.jump_if(R9, Equal, protocol, tunnelled);
        }
        self.asm.jump(self.host);
        self.asm.place(tunnelled);
        self.asm.set(R2, 0);
        self.exact_endpoint(DESTINATION, Side::Tunnel);
        self.asm.jump(self.host);
        self.asm.place(ported);
        self.fetch(0, 4, TRANSPORT);
        self.asm.load(Half, R2, R10, TRANSPORT + 2);
        self.exact_endpoint(DESTINATION, Side::Tunnel);
        let local = self.asm.label();
        self.asm.jump_if(R8, AnyBit, flag::LOCAL.cast_signed(), local);
        self.asm.jump(ours);
        self.asm.place(local);
        self.in_pool(TRANSPORT, self.host);
        self.asm.place(ours);
        self.real(DESTINATION, TRANSPORT + 2);
    }

    /// An ICMP error, whose type is in R2: R9 and `DESTINATION` become those of the packet that it is
    /// about, R7 its transport header.
    pub(super) fn about4(&mut self, about: Label) {
        let error = self.asm.label();
        for kind in [3, 11, 12] {
            self.asm.jump_if(R2, Equal, kind, error);
        }
        self.asm.jump(self.host);
        self.asm.place(error);
        self.fetch(8, 20, IP);
        self.header_length4();
        self.asm.with_register(Add, R7, R2);
        self.asm.with(Add, R7, 8);
        self.asm.load(Half, R2, R10, IP + 6);
        self.asm.jump_if(R2, AnyBit, network16(0x1fff), self.host);
        self.mapped(IP + 16, DESTINATION);
        self.asm.load(Byte, R9, R10, IP + 9);
        self.asm.jump(about);
    }

    pub(super) fn about6(&mut self) {
        self.asm.jump_if(R2, Equal, 136, self.both);
        self.asm.jump_if(R2, Equal, 0, self.host);
        self.asm.jump_if(R2, Greater, 4, self.host);
        self.fetch(8, 40, IP);
        self.version(6);
        self.move_address(IP + 24, DESTINATION);
        self.asm.load(Byte, R9, R10, IP + 6);
        self.asm.with(Add, R7, 48);
    }
}
