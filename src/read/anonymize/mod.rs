//! Packets without who: addresses become others, the same by the same key, and what is behind the
//! headers goes.
//!
//! Addresses are encrypted so that two that share a prefix share one of that length afterwards
//! (`ipcrypt-pfx`, draft-denis-ipcrypt). Checksums follow: what changes is taken out of their sum and
//! what it became is added (RFC 1624), so that one that was right is right, however much of the packet
//! is there.

mod options;
mod own;
mod packet;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use ipcrypt_rs::IpcryptPfx;

use super::decode::{network, who};
use super::{Interface, Record};
use crate::ring::ring_file;
use own::{is_own, is_own_comment};

const NFLOG: u16 = 239;
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
    /// The packet is longer than its header can say.
    is_merged: bool,
    /// The last interface, and what stands for it where another program has described it.
    last: (Interface, Option<Interface>),
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
            is_merged: false,
            last: (Interface::default(), Some(Interface::default())),
        }
    }

    /// An interface without who: what lwnflog says of it stays, what another program says goes.
    pub fn interface(interface: &Interface) -> Interface {
        if is_own(interface) {
            return interface.clone();
        }
        Interface {
            name: String::new(),
            description: String::new(),
            ..*interface
        }
    }

    /// Whether a file of this name is one that lwnflog has named, and so tells nobody.
    pub fn is_own_name(path: &Path) -> bool {
        let stamp = |part: &str| part.bytes().all(|byte| b"0123456789TZ".contains(&byte));
        let stem = path
            .file_name()
            .and_then(|name| name.to_str()?.split('.').next());
        let stamped = stem
            .and_then(|stem| stem.rsplit('-').next())
            .is_some_and(stamp);
        stamped && ring_file(path).is_some_and(|name| own::is_own_ring(&name.ring))
    }

    /// The record without who. Its length as it was stays. What is written of it is all from the
    /// record that is returned, the interface, too.
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
                let bytes = packet
                    .len()
                    .max((record.original_len as usize).saturating_sub(at));
                self.is_merged = bytes > usize::from(u16::MAX);
                if !self.keep.macs {
                    clear_macs(link, &mut frame[..at]);
                }
                at + self.packet(&mut frame[at..], false).unwrap_or(0)
            }
        };
        frame.truncate(stays);
        self.frame = frame;
        if self.last.0 != *record.interface {
            let other = !is_own(record.interface);
            let nameless = other.then(|| Anonymizer::interface(record.interface));
            self.last = (record.interface.clone(), nameless);
        }
        let nameless = self.last.1.as_ref();
        let comment = record.comment;
        let stays = nameless.is_none() && is_own_comment(comment);
        Record {
            data: &self.frame,
            interface: nameless.unwrap_or(record.interface),
            comment: if stays { comment } else { "" },
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
}

/// Addresses of the link layer, where they stand.
fn clear_macs(link: u16, header: &mut [u8]) {
    if let Some(bytes) = header.get_mut(who(link, header.len())) {
        bytes.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, PacketHeaders, TransportHeader};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

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

    /// RFC 768, RFC 8200: zero says that there is no checksum. What was wrong stays so.
    #[test]
    fn no_checksum_of_udp_becomes_none() {
        let mut anonymizer = anonymizer(ALL);
        for version in [4, 6] {
            let (mut ones, mut zeros) = (0, 0);
            for number in 0..=u16::MAX {
                let mut frame = Vec::new();
                let payload = number.to_be_bytes();
                let written = match version {
                    4 => PacketBuilder::ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
                        .udp(53, 4000)
                        .write(&mut frame, &payload),
                    _ => PacketBuilder::ipv6([0xfd; 16], [0x20; 16], 64)
                        .udp(53, 4000)
                        .write(&mut frame, &payload),
                };
                written.unwrap();
                let wrong = number == 7;
                let at = frame.len() - 4;
                frame[at] ^= u8::from(wrong);
                anonymizer.packet(&mut frame, false).unwrap();
                let headers = PacketHeaders::from_ip_slice(&frame).unwrap();
                let Some(TransportHeader::Udp(udp)) = headers.transport else {
                    panic!("{headers:?}");
                };
                let right = match headers.net.unwrap() {
                    etherparse::NetHeaders::Ipv4(ip, _) => {
                        udp.calc_checksum_ipv4(&ip, &payload).unwrap()
                    }
                    etherparse::NetHeaders::Ipv6(ip, _) => {
                        udp.calc_checksum_ipv6(&ip, &payload).unwrap()
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(udp.checksum != right, wrong, "{version}, {number}");
                zeros += u32::from(udp.checksum == 0);
                ones += u32::from(udp.checksum == 0xffff);
            }
            assert!(ones != 0 && zeros == 0, "{version}");
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
