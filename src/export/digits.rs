//! A line in the making, in room of its own: what is put is of a length that the compiler knows, mostly.

use std::fmt;

/// More than all numbers, addresses and names between two texts take.
const ROOM: usize = 1024;
/// The longest that is put at once.
const PIECE_MAX: usize = 40;

/// A part of a line that has not been handed on.
#[derive(Clone)]
pub(super) struct Line {
    bytes: [u8; ROOM],
    at: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            bytes: [0; ROOM],
            at: 0,
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.at + text.len();
        let room = self.bytes.get_mut(self.at..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.at = end;
        Ok(())
    }
}

const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

const PAIRS: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1_u8;
    }
    table
};

/// The digits of a byte and a dot, and how many letters that are.
const DOTTED: [([u8; 4], usize); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut byte = 0;
    loop {
        let (a, b, c) = (b'0' + byte / 100, b'0' + byte / 10 % 10, b'0' + byte % 10);
        table[byte as usize] = match byte {
            100.. => ([a, b, c, b'.'], 4),
            10.. => ([b, c, b'.', 0], 3),
            _ => ([c, b'.', 0, 0], 2),
        };
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    table
};

impl Line {
    /// Puts so many bytes, of which so many stay.
    #[inline]
    fn put_some<const N: usize>(&mut self, bytes: &[u8; N], stay: usize) {
        const { assert!(N <= PIECE_MAX) };
        if let Some(room) = self.bytes.get_mut(self.at..self.at + N) {
            room.copy_from_slice(bytes);
            self.at += stay;
        }
    }

    /// Puts a text.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, text: &[u8; N]) {
        self.put_some(text, N);
    }

    /// Puts a number.
    #[inline]
    pub(super) fn number(&mut self, mut number: u64) {
        if number < 10 {
            return self.put(&[b'0' + (number % 10) as u8]);
        }
        // A fixed number of bytes is put at any time: that costs less than one of them that is not known.
        let mut digits = [0; 40];
        let mut at = 20;
        while number >= 100 {
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
            number /= 100;
        }
        let [tens, ones] = PAIRS[(number % 100) as usize];
        at -= 1;
        digits[at] = ones;
        if number >= 10 {
            at -= 1;
            digits[at] = tens;
        }
        if let Some(twenty) = digits[at..].first_chunk::<20>() {
            self.put_some(twenty, 20 - at);
        }
    }

    /// Puts an address of IPv4.
    #[inline]
    pub(super) fn dotted(&mut self, address: [u8; 4]) {
        for byte in address {
            let (letters, len) = &DOTTED[usize::from(byte)];
            self.put_some(letters, *len);
        }
        self.at = self.at.saturating_sub(1);
    }

    /// Hands on what was put, and begins anew.
    #[inline]
    pub(super) fn end_to(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.bytes.get(..self.at).unwrap_or(&[]));
        self.at = 0;
    }

    /// The same, and behind it the digits of these bytes.
    pub(super) fn hex_to(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        self.end_to(to);
        to.reserve(2 * bytes.len());
        for byte in bytes {
            to.extend_from_slice(&HEX[usize::from(*byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn numbers_are_as_the_library_writes_them() {
        let mut line = Line::default();
        let mut out = Vec::new();
        let powers = (0..20).map(|power| 10_u64.pow(power));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, power.saturating_mul(7)]);
        for number in near.chain([u64::MAX, u64::MAX - 1, 1_764_252_000_000_000_001]) {
            line.number(number);
            line.end_to(&mut out);
            assert_eq!(out, number.to_string().as_bytes());
            out.clear();
        }
        for byte in 0..=u8::MAX {
            let address = [
                byte,
                byte.wrapping_add(91),
                byte.wrapping_mul(3),
                255 - byte,
            ];
            line.dotted(address);
            line.put(b"|");
            line.hex_to(&address, &mut out);
            let [a, b, c, d] = address;
            let expected = format!("{}|{a:02x}{b:02x}{c:02x}{d:02x}", Ipv4Addr::from(address));
            assert_eq!(out, expected.as_bytes());
            out.clear();
        }
    }
}
