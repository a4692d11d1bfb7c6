//! Protocol states of connections, exactly as IPVS's tables have them.
//!
//! A state is a small number, per protocol; IPVS's own order, because peers and kernels exchange
//! these numbers. Every table row is indexed by the current state.

use crate::table::Timeouts;
use crate::tick::Ticks;
use crate::wire::ip;
use crate::wire::transport::{sctp as chunk, tcp as flag};

/// From which side a packet was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// From the client, of a connection whose replies pass here too.
    Input,
    /// From the real server.
    Output,
    /// From the client, of a connection whose replies do not pass here.
    InputOnly,
}

/// TCP states, numbered as in IPVS.
pub mod tcp {
    /// Nothing seen.
    pub const NONE: u8 = 0;
    /// Open.
    pub const ESTABLISHED: u8 = 1;
    /// The server asked the client.
    pub const SYN_SENT: u8 = 2;
    /// The client has asked.
    pub const SYN_RECV: u8 = 3;
    /// Closing.
    pub const FIN_WAIT: u8 = 4;
    /// Closed from both sides.
    pub const TIME_WAIT: u8 = 5;
    /// Closed.
    pub const CLOSE: u8 = 6;
    /// The server waits for its own end.
    pub const CLOSE_WAIT: u8 = 7;
    /// The last acknowledgement is due.
    pub const LAST_ACK: u8 = 8;
    /// Announced by the FTP helper.
    pub const LISTEN: u8 = 9;
    /// Under attack: answered but not confirmed.
    pub const SYNACK: u8 = 10;
}

/// SCTP states, numbered as in IPVS.
pub mod sctp {
    /// Nothing seen.
    pub const NONE: u8 = 0;
    /// First INIT seen.
    pub const INIT1: u8 = 1;
    /// Open.
    pub const ESTABLISHED: u8 = 8;
    /// Refused.
    pub const REJECTED: u8 = 12;
    /// Closed.
    pub const CLOSED: u8 = 13;
}

const ES: u8 = tcp::ESTABLISHED;
const SS: u8 = tcp::SYN_SENT;
const SR: u8 = tcp::SYN_RECV;
const FW: u8 = tcp::FIN_WAIT;
const TW: u8 = tcp::TIME_WAIT;
const CL: u8 = tcp::CLOSE;
const CW: u8 = tcp::CLOSE_WAIT;
const LA: u8 = tcp::LAST_ACK;
const LI: u8 = tcp::LISTEN;
const SA: u8 = tcp::SYNACK;

const TCP_STATES: usize = 11;
/// Rows: SYN, FIN, ACK, RST.
type TcpTable = [[u8; TCP_STATES]; 4];

const TCP_INPUT: TcpTable = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
];
const TCP_OUTPUT: TcpTable = [
    [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];
const TCP_INPUT_ONLY: TcpTable = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];
const TCP_SECURE_INPUT: TcpTable = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
    [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];
const TCP_SECURE_OUTPUT: TcpTable = [
    [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];
const TCP_SECURE_INPUT_ONLY: TcpTable = [
    [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

fn tcp_next(side: Side, secure: bool, flags: u8, state: u8) -> u8 {
    let table = match (side, secure) {
        (Side::Input, false) => &TCP_INPUT,
        (Side::Output, false) => &TCP_OUTPUT,
        (Side::InputOnly, false) => &TCP_INPUT_ONLY,
        (Side::Input, true) => &TCP_SECURE_INPUT,
        (Side::Output, true) => &TCP_SECURE_OUTPUT,
        (Side::InputOnly, true) => &TCP_SECURE_INPUT_ONLY,
    };
    let event = if flags & flag::RST != 0 {
        3
    } else if flags & flag::SYN != 0 {
        0
    } else if flags & flag::FIN != 0 {
        1
    } else if flags & flag::ACK != 0 {
        2
    } else {
        return CL;
    };
    table[event].get(usize::from(state)).copied().unwrap_or(CL)
}

/// One row of a SCTP table; state numbers as above, in hexadecimal.
type Row = [u8; 14];
/// Rows: data, init, init_ack, cookie_echo, cookie_ack, shutdown, shutdown_ack, shutdown_complete,
/// error, abort. Columns and values: NONE 0, INIT1 1, INIT 2, COOKIE_SENT 3, COOKIE_REPLIED 4,
/// COOKIE_WAIT 5, COOKIE 6, COOKIE_ECHOED 7, ESTABLISHED 8, SHUTDOWN_SENT 9, SHUTDOWN_RECEIVED 10,
/// SHUTDOWN_ACK_SENT 11, REJECTED 12, CLOSED 13.
type SctpTable = [Row; 10];

const SCTP_INPUT: SctpTable = [
    [8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 2],
    [5, 5, 5, 3, 4, 6, 6, 7, 8, 9, 10, 11, 12, 13],
    [4, 2, 2, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [8, 1, 2, 3, 4, 5, 6, 8, 8, 9, 10, 11, 12, 13],
    [10, 1, 2, 3, 4, 5, 6, 7, 10, 9, 10, 11, 12, 13],
    [13, 2, 2, 3, 4, 5, 6, 7, 8, 13, 10, 13, 12, 13],
    [13, 13, 13, 3, 4, 5, 6, 7, 8, 9, 10, 13, 12, 13],
    [13, 1, 2, 3, 4, 5, 6, 13, 8, 9, 10, 11, 12, 13],
    [13, 13, 13, 13, 13, 12, 13, 13, 13, 13, 13, 13, 13, 13],
];
const SCTP_OUTPUT: SctpTable = [
    [8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [5, 5, 5, 5, 5, 5, 5, 5, 8, 5, 5, 5, 5, 5],
    [3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [7, 7, 7, 7, 7, 7, 7, 7, 8, 9, 10, 11, 12, 13],
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 9, 10, 11, 12, 13],
    [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 11, 12, 13],
    [11, 11, 11, 11, 11, 5, 6, 7, 8, 11, 11, 11, 12, 13],
    [13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [13, 13, 13, 13, 13, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [13, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13],
];
const SCTP_INPUT_ONLY: SctpTable = [
    [8, 1, 2, 3, 4, 8, 6, 7, 8, 9, 10, 11, 12, 13],
    [1, 2, 2, 2, 2, 2, 6, 7, 8, 9, 10, 11, 2, 2],
    [7, 7, 7, 7, 7, 7, 6, 7, 8, 9, 10, 11, 12, 13],
    [8, 8, 8, 8, 8, 8, 6, 7, 8, 9, 10, 11, 12, 13],
    [8, 1, 2, 8, 8, 5, 8, 8, 8, 9, 10, 11, 12, 13],
    [10, 1, 2, 3, 4, 5, 6, 7, 10, 9, 10, 11, 12, 13],
    [13, 2, 2, 3, 4, 5, 6, 7, 13, 13, 10, 13, 12, 13],
    [13, 13, 13, 13, 13, 5, 6, 7, 8, 9, 13, 13, 12, 13],
    [13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [13, 13, 13, 13, 13, 12, 13, 13, 13, 13, 13, 13, 13, 13],
];

fn sctp_next(side: Side, first_chunk: u8, state: u8) -> u8 {
    let table = match side {
        Side::Input => &SCTP_INPUT,
        Side::Output => &SCTP_OUTPUT,
        Side::InputOnly => &SCTP_INPUT_ONLY,
    };
    let event = match first_chunk {
        chunk::INIT => 1,
        chunk::INIT_ACK => 2,
        chunk::COOKIE_ECHO => 3,
        chunk::COOKIE_ACK => 4,
        chunk::SHUTDOWN => 5,
        chunk::SHUTDOWN_ACK => 6,
        chunk::SHUTDOWN_COMPLETE => 7,
        chunk::ERROR => 8,
        chunk::ABORT => 9,
        _ => 0,
    };
    table[event].get(usize::from(state)).copied().unwrap_or(sctp::CLOSED)
}

/// The state after a packet. `flags` are TCP's, or the type of SCTP's first chunk.
#[inline]
pub fn next(protocol: u8, side: Side, secure: bool, flags: u8, state: u8) -> u8 {
    match protocol {
        ip::TCP => tcp_next(side, secure, flags, state),
        ip::SCTP => sctp_next(side, flags, state),
        _ => 0,
    }
}

/// Whether a packet leaves a connection in [`open_state`] as it is, from whichever side it comes: it is a
/// datagram, or a segment that neither opens nor closes. [`next`] says the same, with more work.
#[inline(always)]
pub const fn is_ordinary(protocol: u8, flags: u8) -> bool {
    match protocol {
        ip::TCP => flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK) == flag::ACK,
        ip::UDP => true,
        _ => false,
    }
}

/// The state in which ordinary packets change nothing.
#[inline(always)]
pub const fn open_state(protocol: u8) -> u8 {
    if protocol == ip::TCP { tcp::ESTABLISHED } else { 0 }
}

/// How long a connection lives after a packet that left it in `state`.
#[inline]
pub fn timeout(protocol: u8, state: u8, timeouts: &Timeouts) -> Ticks {
    match protocol {
        ip::TCP => match state {
            tcp::NONE => Ticks::from_secs(2),
            tcp::ESTABLISHED => timeouts.tcp,
            tcp::FIN_WAIT => timeouts.tcp_fin,
            tcp::SYN_RECV | tcp::CLOSE_WAIT => Ticks::from_secs(60),
            tcp::CLOSE => Ticks::from_secs(10),
            tcp::LAST_ACK => Ticks::from_secs(30),
            _ => Ticks::from_secs(120),
        },
        ip::SCTP => match state {
            sctp::NONE => Ticks::from_secs(2),
            sctp::INIT1 | sctp::REJECTED => Ticks::from_secs(4),
            sctp::ESTABLISHED => timeouts.tcp,
            _ => Ticks::from_secs(61),
        },
        _ => timeouts.udp,
    }
}

/// Whether a connection in this state counts as active.
#[inline]
pub fn is_active(protocol: u8, state: u8) -> bool {
    match protocol {
        ip::TCP => {
            matches!(state, tcp::ESTABLISHED | tcp::SYN_SENT | tcp::SYN_RECV | tcp::SYNACK)
        }
        ip::SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// Whether the connection is open: worth more than any other when the table is full, and reason to
/// keep its template.
pub fn is_open(protocol: u8, state: u8) -> bool {
    match protocol {
        ip::TCP => state == tcp::ESTABLISHED,
        ip::SCTP => state == sctp::ESTABLISHED,
        _ => true,
    }
}

/// Whether the handshake has begun but not ended: the first to go when the table is full.
pub fn is_half_open(protocol: u8, state: u8) -> bool {
    match protocol {
        ip::TCP => matches!(state, tcp::NONE | tcp::SYN_RECV | tcp::SYN_SENT | tcp::SYNACK),
        ip::SCTP => state < sctp::ESTABLISHED,
        _ => false,
    }
}

/// Whether a new handshake from the same client port may take the connection's place
/// (IPVS `conn_reuse_mode`).
pub fn is_reusable(protocol: u8, state: u8, mode: u8, only_input: bool) -> bool {
    match protocol {
        ip::TCP => {
            matches!(state, tcp::TIME_WAIT | tcp::CLOSE)
                || mode & 2 != 0 && state == tcp::FIN_WAIT && only_input
        }
        ip::SCTP => state == sctp::CLOSED,
        _ => false,
    }
}

/// The name that `ipvsadm -L -c` prints.
pub fn name(protocol: u8, state: u8) -> &'static str {
    const TCP: [&str; TCP_STATES] = [
        "NONE",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "SYNACK",
    ];
    const SCTP: [&str; 14] = [
        "NONE",
        "INIT1",
        "INIT",
        "C-SENT",
        "C-REPLIED",
        "C-WAIT",
        "COOKIE",
        "C-ECHOED",
        "ESTABLISHED",
        "S-SENT",
        "S-RECEIVED",
        "S-ACK-SENT",
        "REJECTED",
        "CLOSED",
    ];
    let names: &[&str] = match protocol {
        ip::TCP => &TCP,
        ip::SCTP => &SCTP,
        ip::UDP => &["UDP"],
        _ => &["NONE"],
    };
    names.get(usize::from(state)).copied().unwrap_or("ERR!")
}

/// Whether a packet may open a connection.
#[inline]
pub fn opens(protocol: u8, flags: u8, sloppy_tcp: bool, sloppy_sctp: bool) -> bool {
    match protocol {
        ip::TCP if sloppy_tcp => flags & flag::RST == 0,
        ip::TCP => flags & (flag::SYN | flag::RST) == flag::SYN,
        ip::SCTP if sloppy_sctp => flags != chunk::ABORT,
        ip::SCTP => flags == chunk::INIT,
        _ => true,
    }
}

/// Whether a packet asks for a new connection, whatever exists already.
#[inline]
pub fn is_new_request(protocol: u8, flags: u8) -> bool {
    match protocol {
        ip::TCP => flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN,
        ip::SCTP => flags == chunk::INIT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables as printed in the kernel's documentation of itself, column by column.
    const PRINTED: &str = "
INPUT      syn SR ES ES SR SR SR SR SR SR SR SR
           fin CL CW SS TW TW TW CL CW LA LI TW
           ack ES ES SS ES FW TW CL CW CL LI ES
           rst CL CL CL SR CL CL CL CL LA LI SR
OUTPUT     syn SS ES SS SR SS SS SS SS SS LI SR
           fin TW FW SS TW FW TW CL TW LA LI TW
           ack ES ES SS ES FW TW CL CW LA ES ES
           rst CL CL SS CL CL TW CL CL CL CL CL
INPUT_ONLY syn SR ES ES SR SR SR SR SR SR SR SR
           fin CL FW SS TW FW TW CL CW LA LI TW
           ack ES ES SS ES FW TW CL CW CL LI ES
           rst CL CL CL SR CL CL CL CL LA LI CL";

    #[test]
    fn every_tcp_transition_is_the_kernels() {
        let short = ["NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA"];
        let mut side = Side::Input;
        let mut rows = 0;
        for line in PRINTED.lines().filter(|l| !l.is_empty()) {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            if words.len() == 13 {
                side = match words.remove(0) {
                    "INPUT" => Side::Input,
                    "OUTPUT" => Side::Output,
                    _ => Side::InputOnly,
                };
            }
            let flags = match words.remove(0) {
                "syn" => flag::SYN,
                "fin" => flag::FIN | flag::ACK,
                "ack" => flag::ACK,
                _ => flag::RST | flag::ACK,
            };
            for (state, word) in words.iter().enumerate() {
                let got = next(ip::TCP, side, false, flags, state as u8);
                assert_eq!(short[usize::from(got)], *word, "{side:?} {flags:#x} from {state}");
            }
            rows += 1;
        }
        assert_eq!(rows, 12);
    }

    #[test]
    fn ordinary_packets_leave_open_connections_as_they_are_in_every_table() {
        for protocol in [ip::TCP, ip::UDP, ip::SCTP] {
            for flags in (0..=255).filter(|flags| is_ordinary(protocol, *flags)) {
                for side in [Side::Input, Side::Output, Side::InputOnly] {
                    for secure in [false, true] {
                        let open = open_state(protocol);
                        assert_eq!(next(protocol, side, secure, flags, open), open);
                    }
                }
            }
        }
        let psh_ack = 0x18;
        assert!(is_ordinary(ip::TCP, psh_ack) && !is_ordinary(ip::TCP, psh_ack | flag::FIN));
    }

    #[test]
    fn a_segment_without_flags_closes() {
        assert_eq!(next(ip::TCP, Side::Input, false, 0, tcp::ESTABLISHED), tcp::CLOSE);
    }

    #[test]
    fn no_state_leads_out_of_the_tables() {
        for side in [Side::Input, Side::Output, Side::InputOnly] {
            for flags in 0..=255 {
                for state in 0..=255 {
                    for secure in [false, true] {
                        assert!(next(ip::TCP, side, secure, flags, state) < 11);
                        assert!(next(ip::SCTP, side, secure, flags, state) < 14);
                    }
                }
            }
        }
    }

    #[test]
    fn an_sctp_association_goes_through_its_life() {
        let client = |chunk, state| next(ip::SCTP, Side::Input, false, chunk, state);
        let server = |chunk, state| next(ip::SCTP, Side::Output, false, chunk, state);
        let state = client(chunk::INIT, sctp::NONE);
        assert_eq!(name(ip::SCTP, state), "INIT1");
        let state = server(chunk::INIT_ACK, state);
        assert_eq!(name(ip::SCTP, state), "C-SENT");
        let state = client(chunk::COOKIE_ECHO, state);
        assert_eq!(name(ip::SCTP, state), "C-REPLIED");
        let state = server(chunk::COOKIE_ACK, state);
        assert_eq!(name(ip::SCTP, state), "ESTABLISHED");
        let state = client(chunk::SHUTDOWN, state);
        let state = server(chunk::SHUTDOWN_ACK, state);
        assert_eq!(name(ip::SCTP, state), "S-ACK-SENT");
        assert_eq!(client(chunk::SHUTDOWN_COMPLETE, state), sctp::CLOSED);
    }

    #[test]
    fn set_changes_established_fin_wait_and_udp_only() {
        let timeouts = Timeouts {
            tcp: Ticks::from_secs(1),
            tcp_fin: Ticks::from_secs(2),
            udp: Ticks::from_secs(3),
        };
        let seconds: Vec<u32> = (0..11).map(|s| timeout(ip::TCP, s, &timeouts).as_secs()).collect();
        assert_eq!(seconds, [2, 1, 120, 60, 2, 120, 10, 60, 30, 120, 120]);
        assert_eq!(timeout(ip::UDP, 0, &timeouts).as_secs(), 3);
    }
}
