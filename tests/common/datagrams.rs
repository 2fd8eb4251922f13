//! What a real kernel sent.

/// NFLOG datagrams of a kernel 6.18, recorded by tests/walk.rs: each behind its length.
pub fn real_datagrams() -> Vec<&'static [u8]> {
    let mut rest = &include_bytes!("../data/nflog-datagrams.bin")[..];
    let mut datagrams = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (datagram, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        datagrams.push(datagram);
        rest = behind;
    }
    datagrams
}
