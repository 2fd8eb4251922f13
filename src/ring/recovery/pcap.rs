//! A classic pcap file: what is behind its last record is cut off.

use std::io;

use super::{Repaired, invalid};
use crate::format::pcap::{FILE_HEADER_BYTES, MAGIC_NANOS, RECORD_HEADER_BYTES};
use crate::format::pcapng::reader::u32_at;
use crate::ring::parts::Parts;

/// The most bytes that libpcap takes for one packet of this link type (`max_snaplen_for_dlt`,
/// `sf-pcap.c`).
fn captured_max_bytes(link_type: u32) -> u32 {
    match link_type & 0xffff {
        189 | 220 | 231 | 249 => 128 << 20, // USB, D-Bus
        279 => 8 << 20,                     // EBHSCR
        _ => 262_144,
    }
}

/// What libpcap reads stays: a packet may have no bytes, or more than its length says.
pub(super) fn repair(parts: &mut impl Parts, own: bool) -> io::Result<(Repaired, usize)> {
    let len = parts.len();
    let header = parts.part(0..len.min(FILE_HEADER_BYTES))?;
    let captured_max_bytes = captured_max_bytes(u32_at(header, 20).unwrap_or(0));
    let fractions_per_us = match u32_at(header, 0) {
        Some(MAGIC_NANOS) => 1000,
        _ => 1,
    };
    let mut found = Repaired::default();
    let (mut at, mut end, mut packets) = (FILE_HEADER_BYTES, FILE_HEADER_BYTES, 0);
    let why = loop {
        if at + RECORD_HEADER_BYTES > len {
            break "a record that is cut";
        }
        let header = parts.part(at..at + RECORD_HEADER_BYTES)?;
        let word = |at| u32_at(header, at).unwrap_or(0);
        let (seconds, fraction, captured) = (word(0), word(4), word(8));
        // A live file is zero behind its last record, which reads as packets without time and
        // length: such ones stay only in front of others.
        let empty = header.iter().all(|byte| *byte == 0);
        if empty && own {
            break "a record without time and length";
        }
        if captured > captured_max_bytes {
            break "a record that is longer than any packet";
        }
        let record_end = at + RECORD_HEADER_BYTES + captured as usize;
        if record_end > len {
            break "a record that is cut";
        }
        if found.first_us == 0 {
            let micros = u64::from(fraction) / fractions_per_us;
            found.first_us = u64::from(seconds) * 1_000_000 + micros.min(999_999);
        }
        (at, packets) = (record_end, packets + 1);
        if !empty {
            (end, found.packets) = (at, packets);
        }
    };
    if !is_zero(parts, at)? {
        if found.packets == 0 {
            return Err(invalid("a pcap file whose first record cannot be read"));
        }
        found.lose(at, why);
    }
    Ok((found, end.min(len)))
}

/// Whether nothing but zeros stands from `at` on.
fn is_zero(parts: &mut impl Parts, mut at: usize) -> io::Result<bool> {
    const STEP_BYTES: usize = 1 << 20;
    while at < parts.len() {
        let end = parts.len().min(at + STEP_BYTES);
        if parts.part(at..end)?.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}
