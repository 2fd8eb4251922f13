//! Keys, and filters of them: Bloom's, as many bits as a segment's share allows.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::decode::{Address, FRAGMENT, Fields};

/// Bits of a filter for each key, if there is room: one key in a hundred is then taken for there.
const BITS_A_KEY: usize = 10;
/// A key sets no more bits.
const HASHES_MAX: usize = 7;

const ODD: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
];

/// What may be in a segment: an address, a network, a port, a protocol, as a number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// An address, as source or destination.
    pub fn address(version: u8, address: Address) -> Key {
        Key::of(u64::from(version), address)
    }

    /// The network that an address is in: of IPv4 its first 24 bits, of IPv6 its first 64.
    pub fn net(version: u8, address: Address) -> Key {
        Key::of(
            u64::from(version) | 0x10,
            address >> Key::net_shift(version),
        )
    }

    /// Bits of an address behind its network.
    pub fn net_shift(version: u8) -> u32 {
        if version == 4 { 8 } else { 64 }
    }

    /// A port, as source or destination.
    pub fn port(port: u16) -> Key {
        Key::of(0x20, port.into())
    }

    /// What follows the IP header.
    pub fn protocol(protocol: u8) -> Key {
        Key::of(0x30, protocol.into())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn of(kind: u64, value: u128) -> Key {
        let (low, high) = (value as u64, (value >> 64) as u64);
        Key(fold(
            fold(low ^ ODD[0], high ^ ODD[1]) ^ kind.wrapping_mul(ODD[1]),
            ODD[2],
        ))
    }
}

/// Both halves of a product.
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// A sum that tells whether bytes are what they were. The last ones count as if zeros followed.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64 ^ ODD[0];
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum ^ u64::from_le_bytes(word))
            .wrapping_mul(ODD[1])
            .rotate_left(29);
    }
    fold(sum, ODD[2])
}

/// What may be in a segment.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    bits: &'a [u8],
    hashes: u8,
    nets: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn new(bits: &'a [u8], hashes: u8, nets: bool) -> Filter<'a> {
        Filter { bits, hashes, nets }
    }

    /// One that nothing is in.
    pub fn nothing() -> Filter<'static> {
        Filter::new(&[0], 1, true)
    }

    /// One that anything is in.
    pub fn everything() -> Filter<'static> {
        Filter::new(&[], 0, true)
    }

    /// Whether the key may be there. If this is false, it is not.
    pub fn may_hold(&self, key: Key) -> bool {
        places(key, self.hashes.into(), self.bits.len()).all(|(byte, bit)| {
            let found = self.bits.get(byte);
            found.is_none_or(|found| found & bit != 0)
        })
    }

    /// The same of a network, where that is known.
    pub fn may_hold_net(&self, version: u8, address: Address) -> bool {
        !self.nets || self.may_hold(Key::net(version, address))
    }
}

/// The bits of a key in a filter of so many bytes.
fn places(key: Key, hashes: usize, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let (mut at, step) = (key.0 & 0xffff_ffff, key.0 >> 32 | 1);
    let bits = bytes as u64 * 8;
    (0..hashes).map(move |_| {
        let place = (at * bits) >> 32;
        at = (at + step) & 0xffff_ffff;
        (usize::try_from(place / 8).unwrap_or(0), 1 << (place % 8))
    })
}

/// Keys are spread already.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type Set = HashSet<Key, BuildHasherDefault<Spread>>;

/// The keys of a segment.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Once,
    nets: Once,
}

/// Keys, each once.
#[derive(Debug)]
struct Once {
    all: Set,
    /// Those that were met lately, each in a place of its own: most come again and again.
    met: [Key; MET],
}

/// A power of two.
const MET: usize = 256;
/// In each place a key that belongs into another one: none was met yet.
const NONE_MET: [Key; MET] = {
    let mut none = [Key(1); MET];
    none[1] = Key(0);
    none
};

impl Default for Once {
    fn default() -> Once {
        Once {
            all: Set::default(),
            met: NONE_MET,
        }
    }
}

impl Once {
    #[inline]
    fn add(&mut self, key: Key) {
        let place = usize::try_from(key.0 % MET as u64).unwrap_or(0);
        if let Some(met) = self.met.get_mut(place).filter(|met| **met != key) {
            *met = key;
            self.all.insert(key);
        }
    }

    fn clear(&mut self) {
        self.all.clear();
        self.met = NONE_MET;
    }
}

impl Keys {
    /// What filters look at of a packet.
    pub(super) fn add(&mut self, fields: &Fields) {
        if fields.version == 0 {
            return;
        }
        for address in [fields.source, fields.destination] {
            self.keys.add(Key::address(fields.version, address));
            // Not only of keys that are new: addresses of different networks may have the same.
            self.nets.add(Key::net(fields.version, address));
        }
        if let Some(protocol) = fields.protocol {
            self.keys.add(Key::protocol(protocol));
        }
        if fields.fragment_header {
            self.keys.add(Key::protocol(FRAGMENT));
        }
        if let Some((source, destination)) = fields.ports {
            self.keys.add(Key::port(source));
            self.keys.add(Key::port(destination));
        }
    }

    /// Appends the filter of the keys, of at most so many bytes, and forgets them. Returns how many
    /// bits each has set, and whether there was room for networks.
    pub(super) fn put(&mut self, bytes_max: usize, to: &mut Vec<u8>) -> (u8, bool) {
        let bytes_max = bytes_max & !7;
        let wanted = |keys: usize| (keys * BITS_A_KEY).div_ceil(64) * 8;
        let (keys, others) = (self.keys.all.len(), self.nets.all.len());
        let nets = wanted(keys + others) <= bytes_max;
        let count = keys + if nets { others } else { 0 };
        let bytes = wanted(count).min(bytes_max);
        // A filter that a key sets (bits / keys * ln 2) bits of is right most often.
        let hashes = (bytes * 8 * 69 / 100 / count.max(1)).clamp(1, HASHES_MAX);
        let begin = to.len();
        to.resize(begin + bytes, 0);
        let bits = &mut to[begin..];
        let others = self.nets.all.iter().filter(|_| nets);
        for key in self.keys.all.iter().chain(others) {
            for (byte, bit) in places(*key, hashes, bytes) {
                if let Some(found) = bits.get_mut(byte) {
                    *found |= bit;
                }
            }
        }
        // No room and keys: anything may be there. No keys: nothing is.
        let nothing_known = bytes == 0 && count != 0;
        if bytes == 0 && !nothing_known {
            to.resize(begin + 8, 0);
        }
        self.keys.clear();
        self.nets.clear();
        let hashes = if nothing_known { 0 } else { hashes };
        (u8::try_from(hashes).unwrap_or(1), nets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        for (hosts, room) in [
            (0_u32, 600),
            (1, 600),
            (100, 600),
            (900, 600),
            (5000, 600),
            (9, 0),
            (9, 8),
        ] {
            let mut keys = Keys::default();
            for host in 0..hosts {
                keys.add(&Fields {
                    version: 4,
                    source: host.into(),
                    destination: 7,
                    protocol: Some(6),
                    ports: Some((443, u16::try_from(host % 60_000).unwrap())),
                    ..Fields::default()
                });
            }
            let mut bits = Vec::new();
            let (hashes, nets) = keys.put(room, &mut bits);
            assert!(bits.len() <= room.max(8));
            let filter = Filter::new(&bits, hashes, nets);
            for host in 0..hosts {
                assert!(
                    filter.may_hold(Key::address(4, host.into())),
                    "{hosts} {room}"
                );
                assert!(filter.may_hold_net(4, host.into()));
                assert!(filter.may_hold(Key::port(u16::try_from(host % 60_000).unwrap())));
            }
            let strange = (0..10_000_u32).map(|n| Key::address(4, (n + 0x0a00_0000).into()));
            let found = strange.filter(|key| filter.may_hold(*key)).count();
            match hosts {
                0 => assert_eq!(found, 0),
                1..=100 if room == 600 => assert!(found < 400, "{hosts}: {found}"),
                _ => {}
            }
        }
        let everything = Filter::everything();
        assert!(everything.may_hold(Key::port(1)) && everything.may_hold_net(4, 1));
        assert!(!Filter::nothing().may_hold(Key::port(1)));
    }

    /// The address of this version whose key is that number.
    fn with_key_0(version: u64) -> Address {
        // `fold` of this and 2^32 is `kind * ODD[1]`: 2^32 moves one half to the other's place.
        let other = version.wrapping_mul(ODD[1]).rotate_left(32);
        Address::from((1_u64 << 32) ^ ODD[1]) << 64 | Address::from(other ^ ODD[0])
    }

    #[test]
    fn no_key_is_passed_over_whatever_it_is() {
        let zero = with_key_0(6);
        assert_eq!(Key::address(6, zero), Key(0));
        // These have the same key: of their halves' product one factor is 0.
        let alike = [1_u128, 2, 3].map(|net| net << 64 | Address::from(ODD[0]));
        assert_eq!(Key::address(6, alike[0]), Key::address(6, alike[2]));
        let mut keys = Keys::default();
        for round in 0..3 {
            for source in alike.into_iter().chain([zero]) {
                keys.add(&Fields {
                    version: 6,
                    source,
                    destination: 7 + round,
                    ..Fields::default()
                });
            }
            let mut bits = Vec::new();
            let (hashes, nets) = keys.put(600, &mut bits);
            let filter = Filter::new(&bits, hashes, nets);
            for address in alike.into_iter().chain([zero]) {
                assert!(filter.may_hold(Key::address(6, address)), "{address:x}");
                assert!(nets && filter.may_hold_net(6, address), "{address:x}");
            }
        }
        for key in (0..3 * MET as u64).chain([u64::MAX]) {
            let mut once = Once::default();
            once.add(Key(key));
            once.add(Key(key));
            assert!(once.all.contains(&Key(key)) && once.all.len() == 1, "{key}");
        }
    }

    #[test]
    fn fragments_are_found_by_their_headers_too() {
        let mut keys = Keys::default();
        keys.add(&Fields {
            version: 6,
            protocol: Some(17),
            fragment_header: true,
            ..Fields::default()
        });
        let mut bits = Vec::new();
        let (hashes, nets) = keys.put(600, &mut bits);
        let filter = Filter::new(&bits, hashes, nets);
        assert!(
            [17, FRAGMENT]
                .into_iter()
                .all(|number| filter.may_hold(Key::protocol(number)))
        );
    }
}
