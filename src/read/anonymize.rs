//! Packets without who: addresses become others, the same by the same key, and what is behind the
//! headers goes.
//!
//! Addresses are encrypted so that two that share a prefix share one of that length afterwards
//! (`ipcrypt-pfx`, draft-denis-ipcrypt). Checksums follow: what changes is taken out of their sum and
//! what it became is added (RFC 1624), so that one that was right is right, however much of the packet
//! is there.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use ipcrypt_rs::IpcryptPfx;

use super::Record;
use super::decode::{network, who};
use crate::checksum::{fold, sum};

const NFLOG: u16 = 239;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// Addresses whose other is remembered.
const KNOWN_MAX: usize = 1 << 16;

/// What of a packet stays beside its headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Link-layer addresses.
    pub macs: bool,
    /// What is behind the headers of TCP, UDP, SCTP and ICMP.
    pub payload: bool,
}

/// Takes the names out of packets.
#[derive(Clone)]
pub struct Anonymizer {
    cipher: Arc<IpcryptPfx>,
    keep: Keep,
    known: HashMap<IpAddr, IpAddr>,
    frame: Vec<u8>,
}

impl std::fmt::Debug for Anonymizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Anonymizer").finish_non_exhaustive() // the key is nobody's
    }
}

/// A key: 64 hexadecimal digits in a file.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// Reads a key, and tells whether others than its owner can read it, too.
    ///
    /// # Errors
    /// What the system says; a file that holds no key.
    pub fn read(path: &Path) -> io::Result<(Key, bool)> {
        const OTHERS: u32 = 0o077;
        let text = fs::read_to_string(path)?;
        let key = Key::parse(text.trim()).ok_or_else(|| {
            io::Error::other(
                "this is no key of 64 hexadecimal digits: `(umask 077; openssl rand -hex 32 >FILE)` makes one",
            )
        })?;
        Ok((key, fs::metadata(path)?.mode() & OTHERS != 0))
    }

    /// Reads the digits; `None` where they are none, or both halves are alike.
    pub fn parse(digits: &str) -> Option<Key> {
        let mut key = [0; 32];
        if digits.len() != 2 * key.len() || !digits.is_ascii() {
            return None;
        }
        for (place, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        // Two keys in one; alike they would undo each other.
        (key[..16] != key[16..]).then_some(Key(key))
    }
}

impl Anonymizer {
    /// With a key, which makes the same of the same address each time.
    pub fn new(key: &Key, keep: Keep) -> Anonymizer {
        Anonymizer {
            cipher: Arc::new(IpcryptPfx::new(key.0)),
            keep,
            known: HashMap::new(),
            frame: Vec::new(),
        }
    }

    /// The record without who. Its length as it was stays.
    pub fn record<'a>(&'a mut self, record: &Record<'a>) -> Record<'a> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.extend_from_slice(record.data);
        let link = record.interface.link;
        let stays = match network(link, record.data) {
            // What stands before the packet is in a form of its own, with addresses in it.
            _ if link == NFLOG => 0,
            None => 0,
            Some(packet) => {
                let at = record.data.len() - packet.len();
                if !self.keep.macs {
                    clear_macs(link, &mut frame[..at]);
                }
                at + self.packet(&mut frame[at..], false).unwrap_or(0)
            }
        };
        frame.truncate(stays);
        self.frame = frame;
        Record {
            data: &self.frame,
            note: "", // who gave an order
            ..*record
        }
    }

    fn other(&mut self, address: IpAddr) -> IpAddr {
        if self.known.len() == KNOWN_MAX {
            self.known.clear();
        }
        let cipher = &self.cipher;
        *self
            .known
            .entry(address)
            .or_insert_with(|| cipher.encrypt_ipaddr(address))
    }

    /// Changes the addresses of a packet, and returns how many of its bytes stay. `None` where its
    /// addresses are not there.
    fn packet(&mut self, packet: &mut [u8], quoted: bool) -> Option<usize> {
        match packet.first()? >> 4 {
            4 => self.ipv4(packet, quoted),
            6 => self.ipv6(packet, quoted),
            _ => None,
        }
    }

    fn ipv4(&mut self, packet: &mut [u8], quoted: bool) -> Option<usize> {
        const NO_OPERATION: u8 = 1;
        const FIXED: usize = 20;
        let header = usize::from(packet.first()? & 15) * 4;
        if header < FIXED || packet.len() < header {
            return None;
        }
        let (protocol, part) = (
            packet[9],
            u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff,
        );
        let (ip, transport) = packet.split_at_mut(header);
        let before = sum(ip.get(..10)?) + sum(&ip[12..]);
        let addresses_before = sum(&ip[12..FIXED]);
        self.change_v4(&mut ip[12..16]);
        self.change_v4(&mut ip[16..FIXED]);
        // They may hold addresses: routes, and whose time stamps.
        ip[FIXED..].fill(NO_OPERATION);
        let after = sum(&ip[..10]) + sum(&ip[12..]);
        let addresses_after = sum(&ip[12..FIXED]);
        adjust(ip, 10, before, after);
        let stays = if part == 0 {
            self.transport(
                protocol,
                transport,
                (addresses_before, addresses_after),
                quoted,
            )
        } else {
            self.later_part(protocol, transport)
        };
        Some(header + stays)
    }

    fn ipv6(&mut self, packet: &mut [u8], quoted: bool) -> Option<usize> {
        const FIXED: usize = 40;
        const FRAGMENT_HEADER: usize = 8;
        if packet.len() < FIXED {
            return None;
        }
        let (ip, mut behind) = packet.split_at_mut(FIXED);
        let addresses_before = sum(&ip[8..]);
        self.change_v6(&mut ip[8..24]);
        self.change_v6(&mut ip[24..]);
        let addresses = (addresses_before, sum(&ip[8..]));
        let (mut protocol, mut header) = (ip[6], FIXED);
        if protocol == FRAGMENT {
            if behind.len() < FRAGMENT_HEADER {
                return Some(FIXED);
            }
            let (fragment, rest) = behind.split_at_mut(FRAGMENT_HEADER);
            (protocol, header, behind) = (fragment[0], FIXED + FRAGMENT_HEADER, rest);
            if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                return Some(header + self.later_part(protocol, behind));
            }
        }
        Some(header + self.transport(protocol, behind, addresses, quoted))
    }

    fn change_v4(&mut self, bytes: &mut [u8]) {
        if let Ok(old) = <[u8; 4]>::try_from(&*bytes)
            && let IpAddr::V4(new) = self.other(Ipv4Addr::from(old).into())
        {
            bytes.copy_from_slice(&new.octets());
        }
    }

    fn change_v6(&mut self, bytes: &mut [u8]) {
        if let Ok(old) = <[u8; 16]>::try_from(&*bytes) {
            let new = match self.other(Ipv6Addr::from(old).into()) {
                IpAddr::V6(new) => new,
                IpAddr::V4(new) => new.to_ipv6_mapped(), // as the cipher's crate gives such a one
            };
            bytes.copy_from_slice(&new.octets());
        }
    }

    /// A later part of a packet is payload, but of what could be anything nothing stays.
    fn later_part(&self, protocol: u8, bytes: &[u8]) -> usize {
        let known = matches!(protocol, TCP | UDP | SCTP | ICMP | ICMPV6);
        if self.keep.payload && known {
            bytes.len()
        } else {
            0
        }
    }

    /// What is behind the IP header; `addresses` are its sums before and after.
    fn transport(
        &mut self,
        protocol: u8,
        bytes: &mut [u8],
        (before, after): (u64, u64),
        quoted: bool,
    ) -> usize {
        let header = match protocol {
            TCP => {
                let options = bytes
                    .get(12)
                    .map_or(20, |offset| usize::from(offset >> 4) * 4);
                adjust(bytes, 16, before, after);
                options
            }
            UDP => {
                // None was sent where it is zero.
                if bytes.get(6..8).is_some_and(|sum| sum != [0, 0]) {
                    adjust(bytes, 6, before, after);
                }
                8
            }
            SCTP => 12, // its checksum is of itself alone
            ICMP => return self.icmp(bytes, &[3, 4, 5, 11, 12], (0, 0), quoted),
            ICMPV6 => return self.icmp(bytes, &[1, 2, 3, 4], (before, after), quoted),
            _ => return 0,
        };
        if self.keep.payload {
            bytes.len()
        } else {
            header.min(bytes.len())
        }
    }

    /// An ICMP message; of those kinds it quotes a packet.
    fn icmp(
        &mut self,
        bytes: &mut [u8],
        quoting: &[u8],
        (before, after): (u64, u64),
        quoted: bool,
    ) -> usize {
        const HEADER: usize = 8;
        const REDIRECT: u8 = 5;
        /// Neighbours, by their addresses.
        const NEIGHBOUR: std::ops::RangeInclusive<u8> = 130..=143;
        const NEIGHBOUR_HEADER: usize = 4;
        let Some(kind) = bytes.first().copied() else {
            return 0;
        };
        if quoting == [1, 2, 3, 4] && NEIGHBOUR.contains(&kind) {
            return NEIGHBOUR_HEADER.min(bytes.len());
        }
        if bytes.len() < HEADER {
            return NEIGHBOUR_HEADER.min(bytes.len());
        }
        let whole_before = sum(&bytes[4..]) + before;
        let mut stays = HEADER;
        if quoting.contains(&kind) {
            if kind == REDIRECT && quoting[0] != 1 {
                self.change_v4(&mut bytes[4..HEADER]);
            }
            // A quotation in a quotation is none that anybody sends.
            let inner = if quoted {
                None
            } else {
                self.packet(&mut bytes[HEADER..], true)
            };
            stays += inner.unwrap_or(0);
        } else if self.keep.payload {
            stays = bytes.len();
        }
        let whole_after = sum(&bytes[4..]) + after;
        adjust(bytes, 2, whole_before, whole_after);
        stays
    }
}

/// Addresses of the link layer, where they stand.
fn clear_macs(link: u16, header: &mut [u8]) {
    if let Some(bytes) = header.get_mut(who(link, header.len())) {
        bytes.fill(0);
    }
}

/// Makes the checksum at a place follow what it sums up, where it is there (RFC 1624, eqn. 3).
fn adjust(bytes: &mut [u8], at: usize, before: u64, after: u64) {
    let Some(place) = bytes.get_mut(at..at + 2) else {
        return;
    };
    let old = u16::from_be_bytes([place[0], place[1]]);
    let new = !fold(u64::from(!old) + u64::from(!fold(before)) + u64::from(fold(after)));
    place.copy_from_slice(&new.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, PacketHeaders, TransportHeader};
    use proptest::prelude::*;

    use crate::read::Interface;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn anonymizer(keep: Keep) -> Anonymizer {
        Anonymizer::new(&Key::parse(KEY).unwrap(), keep)
    }

    fn done(keep: Keep, frame: &[u8]) -> Vec<u8> {
        let interface = Interface {
            link: 1,
            ..Interface::default()
        };
        let record = Record {
            time_ns: 0,
            interface: &interface,
            data: frame,
            original_len: 1500,
            lost_before: 0,
            flags: 0,
            comment: "",
            note: "lwnflog x by somebody",
        };
        let mut anonymizer = anonymizer(keep);
        let done = anonymizer.record(&record);
        assert_eq!((done.original_len, done.note), (1500, ""));
        done.data.to_vec()
    }

    const ALL: Keep = Keep {
        macs: true,
        payload: true,
    };

    fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
    }

    #[test]
    fn keys() {
        assert!(Key::parse(KEY).is_some());
        assert!(Key::parse(&KEY[1..]).is_none());
        assert!(Key::parse(&"ab".repeat(32)).is_none(), "two that are alike");
        assert!(Key::parse(&format!("x{}", &KEY[1..])).is_none());
    }

    #[test]
    fn checksums_stay_right() {
        let payload = b"who am I".to_vec();
        let mut tcp = Vec::new();
        let build = ethernet().ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64);
        build
            .tcp(1234, 80, 7, 100)
            .write(&mut tcp, &payload)
            .unwrap();
        let mut udp = Vec::new();
        let build = ethernet().ipv6([0xfd; 16], [0x20; 16], 64);
        build.udp(53, 4000).write(&mut udp, &payload).unwrap();
        let mut echo = Vec::new();
        let build = ethernet().ipv6([0xfd; 16], [0x20; 16], 64);
        build
            .icmpv6_echo_request(1, 2)
            .write(&mut echo, &payload)
            .unwrap();
        for frame in [tcp, udp, echo] {
            let out = done(ALL, &frame);
            assert_eq!(out.len(), frame.len());
            let headers = PacketHeaders::from_ethernet_slice(&out).unwrap();
            let before = PacketHeaders::from_ethernet_slice(&frame).unwrap();
            assert_ne!(headers.net, before.net);
            let payload = headers.payload.slice();
            match (headers.net.unwrap(), headers.transport.unwrap()) {
                (etherparse::NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
                    assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
                    assert_eq!(tcp.calc_checksum_ipv4(&ip, payload).unwrap(), tcp.checksum);
                }
                (etherparse::NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
                    assert_eq!(udp.calc_checksum_ipv6(&ip, payload).unwrap(), udp.checksum);
                }
                (etherparse::NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
                    let sum = icmp
                        .icmp_type
                        .calc_checksum(ip.source, ip.destination, payload);
                    assert_eq!(sum.unwrap(), icmp.checksum);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What an ICMP error quotes has addresses, too.
    #[test]
    fn quoted_packets_are_changed_alike() {
        let quoted_from = [192, 0, 2, 1];
        let mut quoted = Vec::new();
        let build = PacketBuilder::ipv4(quoted_from, [198, 51, 100, 7], 64);
        build.udp(1000, 53).write(&mut quoted, b"secret").unwrap();
        let mut frame = Vec::new();
        let unreachable = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Port,
        );
        let build = ethernet().ipv4([198, 51, 100, 7], quoted_from, 64);
        build
            .icmpv4(unreachable)
            .write(&mut frame, &quoted)
            .unwrap();
        let out = done(Keep::default(), &frame);
        assert_eq!(
            out.len(),
            14 + 20 + 8 + 20 + 8,
            "no payload of what is quoted"
        );
        assert_eq!(out[..12], [0; 12]);
        // The one who is told is the one who had sent.
        assert_eq!(out[30..34], out[54..58]);
        assert_ne!(out[30..34], quoted_from);
        let kept = done(ALL, &frame);
        let headers = PacketHeaders::from_ethernet_slice(&kept).unwrap();
        let Some(TransportHeader::Icmpv4(icmp)) = headers.transport else {
            panic!("{headers:?}");
        };
        let payload = headers.payload.slice();
        assert_eq!(icmp.icmp_type.calc_checksum(payload), icmp.checksum);
    }

    #[test]
    fn what_is_not_known_does_not_stay() {
        let mut gre = Vec::new();
        let build = ethernet().ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64);
        build
            .write(&mut gre, etherparse::IpNumber::GRE, &[0x45; 60])
            .unwrap();
        assert_eq!(done(ALL, &gre).len(), 14 + 20);
        let arp = [&[2; 12][..], &[8, 6], &[10, 0, 0, 1]].concat();
        assert_eq!(done(ALL, &arp), [0; 0]);
        assert_eq!(done(ALL, &gre[..30]).len(), 14, "half an address is none");
    }

    proptest! {
        /// Two addresses share as long a prefix as before, and any bytes are taken.
        #[test]
        fn prefixes_are_preserved(one: u32, other: u32, same in 0_u32..=32) {
            let mask = u32::MAX.checked_shl(32 - same).unwrap_or(0);
            let other = (one & mask) | (other & !mask);
            let mut anonymizer = anonymizer(ALL);
            let mut bits = |address: u32| match anonymizer.other(Ipv4Addr::from(address).into()) {
                IpAddr::V4(address) => u32::from(address),
                IpAddr::V6(address) => panic!("{address}"),
            };
            let (made_one, made_other) = (bits(one), bits(other));
            prop_assert_eq!((one ^ other).leading_zeros(), (made_one ^ made_other).leading_zeros());
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 0..4) {
            let mut frame = vec![2; 12];
            frame.extend(match version { 0 => [8, 0, 0x45], 1 => [0x86, 0xdd, 0x60], 2 => [8, 0, 0x4f], _ => [9, 9, 9] });
            frame.extend(&bytes);
            for keep in [ALL, Keep::default()] {
                prop_assert!(done(keep, &frame).len() <= frame.len());
            }
        }
    }
}
