//! When a certificate ends, read from its DER form (RFC 5280 section 4.1).

use super::ber::{INTEGER, Reader, SEQUENCE};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// The `notAfter` of a certificate in seconds since the Unix epoch.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let mut certificate = Reader(Reader(der).expect(SEQUENCE)?);
    let mut signed = Reader(certificate.expect(SEQUENCE)?);
    signed.skip_optional(VERSION);
    signed.expect(INTEGER)?; // serial number
    signed.expect(SEQUENCE)?; // signature algorithm
    signed.expect(SEQUENCE)?; // issuer
    let mut validity = Reader(signed.expect(SEQUENCE)?);
    validity.any()?; // notBefore
    let end = validity.any()?;
    match end.tag {
        UTC_TIME => {
            let (year, rest) = number(end.contents, 2)?;
            // RFC 5280 section 4.1.2.5.1: two digits mean 1950 to 2049.
            seconds(if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = number(end.contents, 4)?;
            seconds(year, rest)
        }
        _ => None,
    }
}

/// The moment `MMDDHHMMSSZ` of a year.
fn seconds(year: i64, text: &[u8]) -> Option<i64> {
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if text != b"Z" || !in_range || minute > 59 || second > 60 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Counts from a March, so that the
/// leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 719_469
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (front, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for digit in front {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        assert_eq!(not_after(&certificate(2031)), Some(1_930_003_200), "UTCTime");
        assert_eq!(not_after(&certificate(2060)), Some(2_845_152_000), "GeneralizedTime");
    }

    #[test]
    fn dates_are_counted_from_the_epoch() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2100, 3, 1), 47_541);
        assert_eq!(days(1969, 12, 31), -1);
    }

    #[test]
    fn a_truncated_certificate_has_no_end() {
        let der = certificate(2031);
        for cut in 0..der.len() {
            assert_eq!(not_after(&der[..cut]), None);
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in 0usize..200, byte in any::<u8>()) {
            let mut der = certificate(2031);
            der[at] = byte;
            let _ = not_after(&der);
        }

        #[test]
        fn days_follow_each_other(year in 1900i64..2200, month in 1i64..=12) {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let length = match month { 4 | 6 | 9 | 11 => 30, 2 if leap => 29, 2 => 28, _ => 31 };
            let next = if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
            prop_assert_eq!(days(year, month, length) + 1, next);
        }
    }
}
