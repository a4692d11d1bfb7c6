//! Numbers and addresses as the C library reads them.

use std::net::Ipv4Addr;

/// A decimal number as `strtol` reads it: leading white space and a sign are fine, anything after
/// the digits is not. `None` outside of `minimum..=maximum`.
pub(super) fn decimal(text: &str, minimum: i64, maximum: i64) -> Option<i64> {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let number = if negative { -number } else { number };
    (minimum..=maximum).contains(&number).then_some(number)
}

/// The leading number of a text as `atoi` reads it: 0 when there is none, the low 32 bits when it
/// is too large.
pub(super) fn leading(text: &str) -> i32 {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let number = digits.fold(0_i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    (if negative { -number } else { number }) as i32
}

/// An IPv4 address as `inet_aton` reads it: one to four parts, each decimal, octal (`0`) or
/// hexadecimal (`0x`), the last one filling the bytes that are left; white space ends it.
pub(super) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let end = text.find([' ', '\t', '\n', '\x0b', '\x0c', '\r']).unwrap_or(text.len());
    let parts: Vec<u32> = text[..end].split('.').map(part).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    let left = 4_usize.checked_sub(leading.len()).filter(|left| *left > 0)?;
    let largest = u32::MAX >> (8 * (4 - left));
    if *last > largest || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let high = leading.iter().zip([24, 16, 8]).fold(0, |high, (part, shift)| high | part << shift);
    Some(Ipv4Addr::from(high | last))
}

fn part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_reads_like_strtol_and_takes_the_whole_text() {
        for (text, number) in [("5", 5), (" 5", 5), ("+5", 5), ("005", 5), ("-0", 0), ("\t\r7", 7)]
        {
            assert_eq!(decimal(text, 0, 100), Some(number), "{text:?}");
        }
        for text in ["", " ", "5 ", "5x", "0x5", "+-5", "-1", "101", "99999999999999999999"] {
            assert_eq!(decimal(text, 0, 100), None, "{text:?}");
        }
    }

    #[test]
    fn leading_reads_like_atoi() {
        for (text, number) in
            [("64", 64), ("64x", 64), (" 12", 12), ("x", 0), ("-1", -1), ("4294967360", 64)]
        {
            assert_eq!(leading(text), number, "{text:?}");
        }
    }

    #[test]
    fn addresses_have_one_to_four_parts_of_any_base() {
        for (text, address) in [
            ("1.2.3.4", [1, 2, 3, 4]),
            ("1.2", [1, 0, 0, 2]),
            ("1.2.3", [1, 2, 0, 3]),
            ("127.1", [127, 0, 0, 1]),
            ("16909060", [1, 2, 3, 4]),
            ("0x7f.1", [127, 0, 0, 1]),
            ("010.1.1.1", [8, 1, 1, 1]),
            ("1.2.3.4 x", [1, 2, 3, 4]),
            ("0", [0, 0, 0, 0]),
            ("255.255", [255, 0, 0, 255]),
            ("1.0xffffff", [1, 255, 255, 255]),
        ] {
            assert_eq!(inet_aton(text), Some(address.into()), "{text:?}");
        }
        for text in [
            "",
            "1.",
            ".1",
            "1..2",
            "256.1.1.1",
            "1.2.3.256",
            "1.2.3.4.5",
            "08",
            "0x",
            "a",
            " 1",
            "-1",
            "+1",
            "1.2.3.4x",
            "1.16777216",
            "4294967296",
        ] {
            assert_eq!(inet_aton(text), None, "{text:?}");
        }
    }
}
