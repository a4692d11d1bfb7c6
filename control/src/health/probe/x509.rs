//! When a certificate ends.

use x509_parser::parse_x509_certificate;

/// Returns the `notAfter` of a certificate in DER form, in seconds since the Unix epoch.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
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
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = not_after(&bytes);
        }
    }
}
