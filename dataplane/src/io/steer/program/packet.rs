//! From the Ethernet type to the flow: addresses, protocol, fragments.

use super::super::judge::EXTENSION_HEADERS;
use super::super::rules::flag;
use super::{DESTINATION, FRAGMENT, IP, Program, SHORT, SOURCE, network16};
use crate::io::bpf::{Condition, Label, Operation, Register, Width};
use Condition::{AnyBit, Equal, Less, NotEqual};
use Operation::{Add, And, ShiftLeft, ShiftRight};
use Register::{R0, R2, R3, R7, R9, R10};
use Width::{Byte, Double, Half, Word};

impl Program {
    /// Puts the IPv4 address at one slot into another as the tables have it.
    pub(super) fn mapped(&mut self, from: i16, to: i16) {
        self.asm.load(Word, R3, R10, from);
        self.asm.store_value(Double, R10, to, 0);
        self.asm.store_value(Word, R10, to + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
        self.asm.store(Word, R10, to + 12, R3);
    }

    pub(super) fn move_address(&mut self, from: i16, to: i16) {
        for at in [0, 8] {
            self.asm.load(Double, R3, R10, from + at);
            self.asm.store(Double, R10, to + at, R3);
        }
    }

    /// Checks the version of the header at `IP`.
    pub(super) fn version(&mut self, version: i32) {
        self.asm.load(Byte, R2, R10, IP);
        self.asm.copy(R3, R2);
        self.asm.with(ShiftRight, R3, 4);
        self.asm.jump_if(R3, NotEqual, version, self.host);
    }

    /// R2 = the length of the IPv4 header at `IP`.
    pub(super) fn header_length4(&mut self) {
        self.version(4);
        self.asm.with(And, R2, 15);
        self.asm.with(ShiftLeft, R2, 2);
        self.asm.jump_if(R2, Less, 20, self.host);
    }

    pub(super) fn packet4(&mut self, flow: Label) {
        self.fetch(0, 20, IP);
        self.header_length4();
        self.asm.with_register(Add, R7, R2);
        self.mapped(IP + 12, SOURCE);
        self.mapped(IP + 16, DESTINATION);
        self.asm.load(Half, R2, R10, IP + 6);
        self.asm.with(And, R2, network16(0x3fff));
        self.asm.store(Double, R10, FRAGMENT, R2);
        self.asm.load(Byte, R9, R10, IP + 9);
        // Nothing in IPv4 is ICMPv6.
        self.never(58);
        self.asm.jump(flow);
    }

    pub(super) fn packet6(&mut self) {
        self.fetch(0, 40, IP);
        self.version(6);
        self.move_address(IP + 8, SOURCE);
        self.move_address(IP + 24, DESTINATION);
        self.asm.load(Byte, R9, R10, IP + 6);
        self.asm.store_value(Double, R10, FRAGMENT, 0);
        self.asm.with(Add, R7, 40);
        self.extension_headers();
    }

    pub(super) fn extension_headers(&mut self) {
        let (fragment, done) = (self.asm.label(), self.asm.label());
        for _ in 0..EXTENSION_HEADERS {
            let (eights, fours, next) = (self.asm.label(), self.asm.label(), self.asm.label());
            for protocol in [0, 43, 60] {
                self.asm.jump_if(R9, Equal, protocol, eights);
            }
            self.asm.jump_if(R9, Equal, 51, fours);
            self.asm.jump_if(R9, Equal, 44, fragment);
            self.asm.jump(done);
            for (label, fixed, shift) in [(eights, 1, 3), (fours, 2, 2)] {
                self.asm.place(label);
                self.fetch(0, 2, SHORT);
                self.asm.load(Byte, R9, R10, SHORT);
                self.asm.load(Byte, R2, R10, SHORT + 1);
                self.asm.with(Add, R2, fixed);
                self.asm.with(ShiftLeft, R2, shift);
                self.asm.with_register(Add, R7, R2);
                self.asm.jump(next);
            }
            self.asm.place(next);
        }
        self.asm.jump(done);
        self.asm.place(fragment);
        self.asm.store_value(Double, R10, FRAGMENT, 1);
        self.asm.place(done);
        self.solicitation();
    }

    /// Neighbour solicitation for an owned address.
    pub(super) fn solicitation(&mut self) {
        let (no, foreign) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(R9, NotEqual, 58, no);
        self.asm.load(Double, R2, R10, FRAGMENT);
        self.asm.jump_if(R2, NotEqual, 0, no);
        self.fetch(0, 1, SHORT);
        self.asm.load(Byte, R2, R10, SHORT);
        self.asm.jump_if(R2, NotEqual, 135, no);
        self.fetch(0, 24, IP);
        self.lookup(self.maps.addresses, IP + 8);
        self.asm.jump_if(R0, Equal, 0, foreign);
        self.asm.load(Word, R0, R0, 0);
        self.asm.jump_if(R0, AnyBit, flag::OWNED.cast_signed(), self.claim);
        self.asm.place(foreign);
        self.asm.place(no);
        // Nothing in IPv6 is ICMP.
        self.never(1);
    }

    /// Makes a protocol that this IP version does not have an unknown one.
    pub(super) fn never(&mut self, protocol: i32) {
        let other = self.asm.label();
        self.asm.jump_if(R9, NotEqual, protocol, other);
        self.asm.set(R9, 255);
        self.asm.place(other);
    }
}
