//! Records one after the other, each with its length and checksum.

/// Appends one record: length, CRC-32 of the payload, payload; integers little endian.
pub(super) fn push(out: &mut Vec<u8>, payload: &[u8]) {
    // A record is a patch or a revision: a few megabytes at most.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Splits off the first record. `None` at the end, and at the first record that is torn or bent.
pub(super) fn split<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let payload = rest.get(..length)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
        return None;
    }
    *bytes = rest.get(length..)?;
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whole_records_come_back_and_torn_ones_end_the_list(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 0..300_usize,
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for payload in &payloads {
                push(&mut bytes, payload);
                ends.push(bytes.len());
            }
            let cut = cut.min(bytes.len());
            let mut rest = &bytes[..cut];
            let mut read = Vec::new();
            while let Some(payload) = split(&mut rest) {
                read.push(payload.to_vec());
            }
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            prop_assert_eq!(&read[..], &payloads[..whole]);
        }

        #[test]
        fn a_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 1..40), bit in 0..320_usize) {
            let mut bytes = Vec::new();
            push(&mut bytes, &payload);
            let bit = 32 + bit % ((bytes.len() - 4) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(split(&mut &bytes[..]), None);
        }
    }
}
