//! The steering rule as BPF programs: one text, generated for each place where it runs. Decides as
//! `judge.rs` does, but looks exact ports up before addresses: most frames need no second lookup.
//!
//! Registers: R6 the context, R7 where the current header starts in the frame, R8 the flags of an
//! address, R9 the protocol. Everything read from the frame is copied to the stack first.

mod flow;
mod packet;

use super::rules::flag;
use crate::io::bpf::{
    AssembleError, Assembler, Condition, Instruction, Label, Operation, Register, Width,
};
use Condition::{AnyBit, Equal, Greater, NotEqual};
use Operation::Add;
use Register::{R0, R1, R2, R3, R4, R6, R7, R9, R10};
use Width::{Byte, Double, Half, Word};
use std::os::fd::RawFd;

/// Mark of a frame on its way back to the host's stack.
pub const REINJECTED: u32 = 0x5649_4144;

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// On the packet socket: lets in what is claimed, and copies.
    Tap,
    /// At ingress, after the packet socket: drops what is claimed, by the tap's word if it left one.
    Ingress,
    /// The same where the kernel keeps the program when the process dies: drops only while there is
    /// a socket in this map, from which the kernel removes it when it is closed.
    LegacyIngress(RawFd),
    /// In the driver: claimed frames go to the XDP socket of their queue in this map.
    Xdp(RawFd),
}

impl Hook {
    /// Whether the context is a socket buffer, not a bare frame.
    const fn has_skb(self) -> bool {
        match self {
            Self::Tap | Self::Ingress | Self::LegacyIngress(_) => true,
            Self::Xdp(_) => false,
        }
    }
}

/// Descriptors of the maps that programs look up.
#[derive(Clone, Copy, Debug)]
pub struct MapFds {
    /// Address to flags and pool range.
    pub addresses: RawFd,
    /// Endpoint to ports.
    pub endpoints: RawFd,
    /// Prefixes to whether they are covered.
    pub prefixes: RawFd,
    /// Interface and Ethernet address.
    pub macs: RawFd,
}

// Helper functions, include/uapi/linux/bpf.h.
const MAP_LOOKUP: i32 = 1;
const REDIRECT: i32 = 23;
const SKB_LOAD_BYTES: i32 = 26;
const SKB_CHANGE_TYPE: i32 = 32;
const REDIRECT_MAP: i32 = 51;
const SK_RELEASE: i32 = 86;

// Context fields: struct __sk_buff and struct xdp_md.
const SKB_PACKET_TYPE: i16 = 4;
const SKB_MARK: i16 = 8;
const SKB_INTERFACE: i16 = 40;
const SKB_CONTROL: i16 = 48;
const XDP_DATA: i16 = 0;
const XDP_DATA_END: i16 = 4;
const XDP_INTERFACE: i16 = 12;
const XDP_QUEUE: i16 = 16;

/// For another Ethernet address than the interface's.
const OTHER_HOST: i32 = 3;

// What the tap leaves in a frame's control block for the program at ingress, which runs next: a sign
// that it judged, and the judgement. Two words, because others leave theirs there: chance does not
// make both.
const JUDGED: i32 = 0x6a75_6467;
const CLAIMED: i32 = 0x636c_6169;
const LEFT: i32 = 0x6c65_6674;

// Return values.
const TC_NEXT: i32 = -1;
const TC_DROP: i32 = 2;
const XDP_PASS: i32 = 2;

// Stack slots, by their distance from the frame pointer.
const SHORT: i16 = -8;
const IP: i16 = -48;
const KEY: i16 = -72;
const SOURCE: i16 = -88;
const DESTINATION: i16 = -104;
const TRANSPORT: i16 = -112;
const RANGE: i16 = -116;
const FRAGMENT: i16 = -128;
const PREFIX: i16 = -152;

/// The program that judges frames at `hook`.
///
/// # Errors
/// Only if this text is wrong.
pub fn judging(hook: Hook, maps: MapFds) -> Result<Vec<Instruction>, AssembleError> {
    let mut asm = Assembler::new();
    let (host, both, claim) = (asm.label(), asm.label(), asm.label());
    let mut program = Program { asm, hook, maps, host, both, claim };
    program.begin();
    program.ethernet();
    program.returns();
    program.asm.finish()
}

/// The program at egress: frames with the mark [`REINJECTED`] turn round and come in by the
/// interface.
///
/// # Errors
/// Only if this text is wrong.
pub fn turning() -> Result<Vec<Instruction>, AssembleError> {
    const INGRESS: i32 = 1;
    let mut asm = Assembler::new();
    let pass = asm.label();
    asm.load(Word, R2, R1, SKB_MARK);
    asm.jump_if(R2, NotEqual, REINJECTED.cast_signed(), pass);
    asm.load(Word, R1, R1, SKB_INTERFACE);
    asm.set(R2, INGRESS);
    asm.call(REDIRECT);
    asm.exit();
    asm.place(pass);
    asm.set(R0, TC_NEXT);
    asm.exit();
    asm.finish()
}

/// Bytes in network order as an immediate operand that compares with what a load gives.
const fn network16(value: u16) -> i32 {
    value.to_be() as i32
}

struct Program {
    asm: Assembler,
    hook: Hook,
    maps: MapFds,
    host: Label,
    both: Label,
    claim: Label,
}

impl Program {
    /// Lets reinjected frames by, and frames for other Ethernet addresses.
    fn begin(&mut self) {
        let addressed = self.asm.label();
        self.asm.copy(R6, R1);
        self.asm.set(R7, 0);
        let interface = match self.hook {
            Hook::Tap | Hook::Ingress | Hook::LegacyIngress(_) => {
                let fresh = self.asm.label();
                self.asm.load(Word, R2, R6, SKB_MARK);
                self.asm.jump_if(R2, NotEqual, REINJECTED.cast_signed(), fresh);
                self.reinjected();
                self.asm.place(fresh);
                self.asm.load(Word, R2, R6, SKB_PACKET_TYPE);
                self.asm.jump_if(R2, NotEqual, OTHER_HOST, addressed);
                self.fetch(0, 6, KEY + 4);
                SKB_INTERFACE
            }
            Hook::Xdp(_) => {
                self.fetch(0, 6, KEY + 4);
                self.asm.load(Byte, R2, R10, KEY + 4);
                self.asm.jump_if(R2, AnyBit, 1, addressed);
                XDP_INTERFACE
            }
        };
        self.asm.load(Word, R2, R6, interface);
        self.asm.store(Word, R10, KEY, R2);
        self.asm.store_value(Half, R10, KEY + 10, 0);
        self.lookup(self.maps.macs, KEY);
        self.asm.jump_if(R0, Equal, 0, self.host);
        match self.hook {
            // A master's virtual address is the gateway of others, whose packets the host routes.
            Hook::Ingress | Hook::LegacyIngress(_) => self.address_to_host(),
            Hook::Tap | Hook::Xdp(_) => {}
        }
        self.asm.place(addressed);
        match self.hook {
            Hook::Ingress | Hook::LegacyIngress(_) => self.judged_before(),
            Hook::Tap | Hook::Xdp(_) => {}
        }
    }

    /// Does as the tap's judgement says. Frames that the kernel shows to no packet socket, as it does
    /// when memory is short, have none, and are judged here.
    fn judged_before(&mut self) {
        let judge = self.asm.label();
        self.asm.load(Word, R2, R6, SKB_CONTROL);
        self.asm.jump_if(R2, NotEqual, JUDGED, judge);
        self.asm.load(Word, R2, R6, SKB_CONTROL + 4);
        self.asm.jump_if(R2, Equal, CLAIMED, self.claim);
        self.asm.jump_if(R2, Equal, LEFT, self.host);
        self.asm.place(judge);
    }

    /// Tells ingress, from the tap.
    fn note(&mut self, judgement: i32) {
        if self.hook == Hook::Tap {
            for (at, value) in [(0, JUDGED), (4, judgement)] {
                self.asm.set(R2, value);
                self.asm.store(Word, R6, SKB_CONTROL + at, R2);
            }
        }
    }

    /// The host's stack takes the frame whatever its Ethernet destination, if it is given it.
    fn address_to_host(&mut self) {
        self.asm.copy(R1, R6);
        self.asm.set(R2, 0);
        self.asm.call(SKB_CHANGE_TYPE);
    }

    /// A frame that the dataplane gave back: the tap does not take it again, and at ingress it
    /// becomes the host's whatever its Ethernet destination.
    fn reinjected(&mut self) {
        match self.hook {
            Hook::Tap => self.asm.set(R0, 0),
            Hook::Ingress | Hook::LegacyIngress(_) => {
                self.asm.set(R2, 0);
                self.asm.store(Word, R6, SKB_MARK, R2);
                self.address_to_host();
                self.asm.set(R0, TC_NEXT);
            }
            Hook::Xdp(_) => self.asm.set(R0, XDP_PASS),
        }
        self.asm.exit();
    }

    fn returns(&mut self) {
        let (host, both) = match self.hook {
            Hook::Tap => (0, -1),
            Hook::Ingress | Hook::LegacyIngress(_) => (TC_NEXT, TC_NEXT),
            Hook::Xdp(_) => (XDP_PASS, XDP_PASS),
        };
        for (label, value) in [(self.host, host), (self.both, both)] {
            self.asm.place(label);
            self.note(LEFT);
            self.asm.set(R0, value);
            self.asm.exit();
        }
        self.asm.place(self.claim);
        self.note(CLAIMED);
        match self.hook {
            Hook::Tap => self.asm.set(R0, -1),
            Hook::Ingress => self.asm.set(R0, TC_DROP),
            Hook::LegacyIngress(life) => {
                self.asm.store_value(Word, R10, SHORT, 0);
                self.lookup(life, SHORT);
                let alive = self.asm.label();
                self.asm.jump_if(R0, NotEqual, 0, alive);
                self.asm.set(R0, TC_NEXT);
                self.asm.exit();
                self.asm.place(alive);
                self.asm.copy(R1, R0);
                self.asm.call(SK_RELEASE);
                self.asm.set(R0, TC_DROP);
            }
            Hook::Xdp(sockets) => {
                self.asm.map(R1, sockets);
                self.asm.load(Word, R2, R6, XDP_QUEUE);
                self.asm.set(R3, XDP_PASS);
                self.asm.call(REDIRECT_MAP);
            }
        }
        self.asm.exit();
    }

    /// Copies `length` bytes, from `extra` behind R7 on, to the stack. Not there: the host's.
    fn fetch(&mut self, extra: i32, length: i16, slot: i16) {
        let asm = &mut self.asm;
        if self.hook.has_skb() {
            asm.copy(R1, R6);
            asm.copy(R2, R7);
            asm.with(Add, R2, extra);
            asm.address(R3, R10, slot);
            asm.set(R4, i32::from(length));
            asm.call(SKB_LOAD_BYTES);
            asm.jump_if(R0, NotEqual, 0, self.host);
            return;
        }
        asm.load(Word, R1, R6, XDP_DATA);
        asm.load(Word, R2, R6, XDP_DATA_END);
        asm.with_register(Add, R1, R7);
        asm.with(Add, R1, extra);
        asm.address(R3, R1, length);
        asm.jump_if_register(R3, Greater, R2, self.host);
        let mut done = 0;
        while done < length {
            let fits = |w: &Width| done + w.bytes() <= length && (slot + done) % w.bytes() == 0;
            let width = [Double, Word, Half].into_iter().find(fits).unwrap_or(Byte);
            asm.load(width, R3, R1, done);
            asm.store(width, R10, slot + done, R3);
            done += width.bytes();
        }
    }

    /// R0 = the value in `map` of the key in `slot`, or 0.
    fn lookup(&mut self, map: RawFd, slot: i16) {
        self.asm.map(R1, map);
        self.asm.address(R2, R10, slot);
        self.asm.call(MAP_LOOKUP);
    }

    fn ethernet(&mut self) {
        let (tagged, typed, arp, ip4, ip6) = (
            self.asm.label(),
            self.asm.label(),
            self.asm.label(),
            self.asm.label(),
            self.asm.label(),
        );
        self.fetch(12, 2, SHORT);
        self.asm.load(Half, R9, R10, SHORT);
        self.asm.set(R7, 14);
        self.asm.jump_if(R9, Equal, network16(0x8100), tagged);
        self.asm.jump_if(R9, NotEqual, network16(0x88a8), typed);
        self.asm.place(tagged);
        self.fetch(2, 2, SHORT);
        self.asm.load(Half, R9, R10, SHORT);
        self.asm.set(R7, 18);
        self.asm.place(typed);
        self.asm.jump_if(R9, Equal, network16(0x0800), ip4);
        self.asm.jump_if(R9, Equal, network16(0x86dd), ip6);
        self.asm.jump_if(R9, Equal, network16(0x0806), arp);
        self.asm.jump(self.host);
        self.asm.place(arp);
        self.arp();
        let flow = self.asm.label();
        self.asm.place(ip4);
        self.packet4(flow);
        self.asm.place(ip6);
        self.packet6();
        self.asm.place(flow);
        self.flow();
    }

    fn arp(&mut self) {
        self.fetch(0, 28, IP);
        self.asm.load(Word, R2, R10, IP);
        self.asm.jump_if(R2, NotEqual, i32::from_ne_bytes([0, 1, 8, 0]), self.host);
        self.asm.load(Half, R2, R10, IP + 4);
        self.asm.jump_if(R2, NotEqual, network16(0x0604), self.host);
        self.asm.load(Half, R2, R10, IP + 6);
        self.asm.jump_if(R2, Equal, network16(2), self.both);
        self.asm.jump_if(R2, NotEqual, network16(1), self.host);
        self.mapped(IP + 24, DESTINATION);
        self.lookup(self.maps.addresses, DESTINATION);
        self.claim_by_flag(flag::OWNED);
        self.asm.jump(self.host);
    }

    /// After a lookup of an address: claims when it is there and has `flag`.
    fn claim_by_flag(&mut self, flag: u32) {
        self.asm.jump_if(R0, Equal, 0, self.host);
        self.asm.load(Word, R0, R0, 0);
        self.asm.jump_if(R0, AnyBit, flag.cast_signed(), self.claim);
    }
}
