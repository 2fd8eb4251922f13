//! The Internet checksum's arithmetic (RFC 1071): sums of 16-bit words, and how they are folded.

/// The sum of 16-bit words, the last one filled up with a zero; not folded.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        [high] => u64::from(*high) << 8,
        _ => 0,
    });
    words.sum()
}

/// What is carried is added again, until 16 bits hold it.
pub(crate) fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}
