//! The little of BER (X.690) that LDAP and X.509 need: definite lengths, one-byte tags.

/// Tag of an INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of an OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Tag of an ENUMERATED.
pub(super) const ENUMERATED: u8 = 0x0a;
/// Tag of a SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;

/// One element: its tag and its contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub contents: &'a [u8],
}

/// What stands at the front of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front<'a> {
    /// A whole element, and what follows it.
    Element(Element<'a>, &'a [u8]),
    /// The beginning of one.
    Incomplete,
    /// Nothing that this reader takes.
    Invalid,
}

/// Reads the element at the front of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Front<'_> {
    let [tag, length, rest @ ..] = bytes else { return Front::Incomplete };
    if tag & 0x1f == 0x1f {
        return Front::Invalid; // a tag of several bytes
    }
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let size = usize::from(long & 0x7f);
            let Some((digits, rest)) = rest.split_at_checked(size) else {
                return Front::Incomplete;
            };
            (digits.iter().fold(0usize, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        0x80 | 0x85..=0xff => return Front::Invalid,
    };
    match rest.split_at_checked(length) {
        Some((contents, rest)) => Front::Element(Element { tag: *tag, contents }, rest),
        None => Front::Incomplete,
    }
}

/// Reads whole elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element, whatever its tag.
    pub fn any(&mut self) -> Option<Element<'a>> {
        match read(self.0) {
            Front::Element(element, rest) => {
                self.0 = rest;
                Some(element)
            }
            Front::Incomplete | Front::Invalid => None,
        }
    }

    /// The contents of the next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|element| element.tag == tag).map(|element| element.contents)
    }

    /// A small unsigned number with this tag (INTEGER or ENUMERATED).
    pub fn number(&mut self, tag: u8) -> Option<u32> {
        let digits = self.expect(tag)?;
        if digits.is_empty() || digits.len() > 5 || digits[0] & 0x80 != 0 {
            return None;
        }
        let value = digits.iter().fold(0u64, |sum, digit| sum << 8 | u64::from(*digit));
        u32::try_from(value).ok()
    }
}

/// Appends an element to `out`.
pub(super) fn write(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    out.push(tag);
    let length = contents.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let digits = (length as u32).to_be_bytes();
        let first = digits.iter().position(|digit| *digit != 0).unwrap_or(3);
        out.push(0x80 | (4 - first) as u8);
        out.extend_from_slice(&digits[first..]);
    }
    out.extend_from_slice(contents);
}

/// Appends a small unsigned number with this tag.
pub(super) fn write_number(out: &mut Vec<u8>, tag: u8, value: u32) {
    let digits = u64::from(value).to_be_bytes();
    // The first byte written must not look negative.
    let first = (0..7).find(|i| digits[*i] != 0 || digits[*i + 1] & 0x80 != 0).unwrap_or(7);
    write(out, tag, &digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_lengths_and_strange_tags() {
        assert_eq!(read(&[0x30, 0x80, 0, 0]), Front::Invalid, "indefinite length");
        assert_eq!(read(&[0x1f, 0x01, 0]), Front::Invalid, "tag of several bytes");
        assert_eq!(read(&[0x30, 0x85, 0, 0, 0, 0, 0]), Front::Invalid);
        assert_eq!(read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), Front::Incomplete);
        let padded = Element { tag: 4, contents: b"x" };
        assert_eq!(read(&[4, 0x82, 0, 1, b'x', 9]), Front::Element(padded, &[9]));
    }

    proptest! {
        #[test]
        fn elements_survive_the_round_trip(
            tag in 0u8..0x1f, contents in proptest::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let mut out = Vec::new();
            write(&mut out, tag, &contents);
            out.push(7);
            let element = Element { tag, contents: &contents };
            prop_assert_eq!(read(&out), Front::Element(element, &[7][..]));
        }

        #[test]
        fn a_truncated_element_is_incomplete(
            contents in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut out = Vec::new();
            write(&mut out, SEQUENCE, &contents);
            for cut in 0..out.len() {
                prop_assert_eq!(read(&out[..cut]), Front::Incomplete);
            }
        }

        #[test]
        fn numbers_survive_the_round_trip(value in any::<u32>()) {
            let mut out = Vec::new();
            write_number(&mut out, INTEGER, value);
            prop_assert_eq!(Reader(&out).number(INTEGER), Some(value));
            prop_assert_eq!(out[2] & 0x80, 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader(&bytes);
            while reader.any().is_some() {}
            let _ = Reader(&bytes).number(INTEGER);
        }
    }
}
