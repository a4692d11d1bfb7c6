//! Echo requests, and what comes back.

const ECHO_REPLY_V4: u8 = 0;
const UNREACHABLE_V4: u8 = 3;
const ECHO_REQUEST_V4: u8 = 8;
const UNREACHABLE_V6: u8 = 1;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// What all echo requests of one attempt have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    pub v6: bool,
    /// Identifier, where it is ours to choose.
    pub id: Option<u16>,
    /// Begins the payload when it has room.
    pub token: u16,
    /// Bytes of payload.
    pub size: u16,
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Reply,
    Unreachable(&'static str),
}

impl Echo {
    pub fn request(&self) -> Vec<u8> {
        let kind = if self.v6 { ECHO_REQUEST_V6 } else { ECHO_REQUEST_V4 };
        let mut packet = vec![kind, 0, 0, 0];
        packet.extend_from_slice(&self.id.unwrap_or(0).to_be_bytes());
        packet.extend_from_slice(&1u16.to_be_bytes());
        let token = self.token.to_be_bytes();
        packet
            .extend((0..usize::from(self.size)).map(|i| token.get(i).copied().unwrap_or(i as u8)));
        if !self.v6 {
            // The kernel fills in that of ICMPv6, which covers the addresses.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// Reads what a socket got; `None` for everything that does not belong to these requests.
    pub fn answer(&self, packet: &[u8]) -> Option<Answer> {
        let icmp = if self.v6 { packet } else { without_ip(packet)? };
        let (head, rest) = icmp.split_first_chunk::<8>()?;
        let (reply, unreachable) =
            if self.v6 { (ECHO_REPLY_V6, UNREACHABLE_V6) } else { (ECHO_REPLY_V4, UNREACHABLE_V4) };
        if head[0] == reply && self.is_ours(head, rest) {
            return Some(Answer::Reply);
        }
        if head[0] == unreachable {
            let inner = if self.v6 { rest.get(40..)? } else { without_ip(rest)? };
            // Errors may return only the first eight bytes, so the identifier must do.
            let (inner, _) = inner.split_first_chunk::<8>()?;
            let ours = self.id.is_some_and(|id| inner[4..6] == id.to_be_bytes());
            return ours.then_some(Answer::Unreachable(self.reason(head[1])));
        }
        None
    }

    fn is_ours(&self, head: &[u8; 8], payload: &[u8]) -> bool {
        let token = self.token.to_be_bytes();
        let compared = token.len().min(usize::from(self.size));
        let id_fits = self.id.is_none_or(|id| head[4..6] == id.to_be_bytes());
        id_fits
            && payload.len() == usize::from(self.size)
            && payload[..compared] == token[..compared]
    }

    fn reason(&self, code: u8) -> &'static str {
        match (self.v6, code) {
            (false, 0) => "network unreachable",
            (false, 1) | (true, 3) => "host unreachable",
            (false, 2) => "protocol unreachable",
            (false, 9 | 10 | 13) | (true, 1) => "administratively prohibited",
            (true, 0) => "no route to destination",
            (_, _) => "destination unreachable",
        }
    }
}

/// What follows an IPv4 header. Raw sockets return it, datagram sockets do not: an ICMP packet never
/// begins with version 4 and length 5 or more, which would be type 69.
fn without_ip(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    if first >> 4 != 4 {
        return Some(packet);
    }
    packet.get(usize::from(first & 0x0f) * 4..)
}

fn checksum(packet: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in packet.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn echo(v6: bool, id: Option<u16>) -> Echo {
        Echo { v6, id, token: 0xabcd, size: 8 }
    }

    fn reply_to(echo: Echo) -> Vec<u8> {
        let mut reply = echo.request();
        reply[0] = if echo.v6 { ECHO_REPLY_V6 } else { ECHO_REPLY_V4 };
        reply
    }

    fn in_ip(icmp: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45];
        packet.resize(20, 0);
        packet.extend_from_slice(icmp);
        packet
    }

    #[test]
    fn requests_have_a_right_checksum() {
        assert_eq!(checksum(&echo(false, Some(7)).request()), 0, "sums to zero with itself");
        let odd = Echo { size: 3, ..echo(false, Some(7)) };
        assert_eq!(checksum(&odd.request()), 0);
    }

    #[test]
    fn replies_are_known_with_and_without_an_ip_header() {
        let raw = echo(false, Some(7));
        assert_eq!(raw.answer(&reply_to(raw)), Some(Answer::Reply));
        assert_eq!(raw.answer(&in_ip(&reply_to(raw))), Some(Answer::Reply));
        let v6 = echo(true, Some(7));
        assert_eq!(v6.answer(&reply_to(v6)), Some(Answer::Reply));
    }

    #[test]
    fn answers_to_others_are_passed_over() {
        let ours = echo(false, Some(7));
        assert_eq!(ours.answer(&reply_to(echo(false, Some(8)))), None);
        assert_eq!(ours.answer(&reply_to(Echo { token: 1, ..ours })), None);
        assert_eq!(ours.answer(&reply_to(Echo { size: 9, ..ours })), None);
        assert_eq!(ours.answer(&ours.request()), None, "our own request, seen on loopback");
    }

    #[test]
    fn unreachable_says_what_is() {
        let ours = echo(false, Some(7));
        let mut error = vec![UNREACHABLE_V4, 1, 0, 0, 0, 0, 0, 0];
        error.extend(in_ip(&ours.request()[..8]));
        assert_eq!(ours.answer(&in_ip(&error)), Some(Answer::Unreachable("host unreachable")));
        assert_eq!(echo(false, Some(8)).answer(&in_ip(&error)), None);
        let ours = echo(true, Some(7));
        let mut error = vec![UNREACHABLE_V6, 0, 0, 0, 0, 0, 0, 0];
        error.extend([0; 40]);
        error.extend(ours.request());
        assert_eq!(ours.answer(&error), Some(Answer::Unreachable("no route to destination")));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), v6 in any::<bool>(),
        ) {
            let _ = echo(v6, Some(7)).answer(&bytes);
            let _ = echo(v6, None).answer(&bytes);
        }

        #[test]
        fn a_truncated_reply_is_no_answer(cut in 0usize..16, v6 in any::<bool>()) {
            let whole = reply_to(echo(v6, Some(7)));
            prop_assert_eq!(echo(v6, Some(7)).answer(&whole[..cut]), None);
        }
    }
}
