//! A packet's headers: other addresses in them, and how many of its bytes stay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Anonymizer;
use super::options::clear_tcp_options;
use crate::checksum::{fold, sum};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Sums of addresses: before they were changed, and after.
type Sums = (u64, u64);

impl Anonymizer {
    /// Changes the addresses of a packet, and returns how many of its bytes stay. `None` where its
    /// addresses are not there.
    pub(super) fn packet(&mut self, packet: &mut [u8], quoted: bool) -> Option<usize> {
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
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let (ip, behind) = packet.split_at_mut(header);
        let transport = upto(behind, total, header, self.is_merged && !quoted);
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
        let (ip, behind) = packet.split_at_mut(FIXED);
        let total = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let mut behind = upto(behind, total, 0, self.is_merged && !quoted);
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
        let known = matches!(protocol, TCP | UDP | ICMP | ICMPV6);
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
        addresses: Sums,
        quoted: bool,
    ) -> usize {
        let (before, after) = addresses;
        let header = match protocol {
            TCP => {
                let (header, cleared) = clear_tcp_options(bytes);
                adjust(bytes, 16, before + cleared.0, after + cleared.1);
                header
            }
            UDP => {
                // None was sent where it is zero, and one that comes to zero is sent as all ones
                // (RFC 768).
                if bytes.get(6..8).is_some_and(|sum| sum != [0, 0]) {
                    adjust(bytes, 6, before, after);
                    if let Some(sum) = bytes.get_mut(6..8).filter(|sum| **sum == [0, 0]) {
                        sum.fill(0xff);
                    }
                }
                8
            }
            // Its checksum is of itself alone.
            SCTP if self.keep.payload => return data_chunks(bytes),
            SCTP => 12,
            ICMP => return self.icmp(bytes, &icmp::V4, (0, 0), quoted),
            ICMPV6 => return self.icmp(bytes, &icmp::V6, addresses, quoted),
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
        kinds: &icmp::Kinds,
        (before, after): Sums,
        quoted: bool,
    ) -> usize {
        const HEADER: usize = 8;
        /// Type, code and checksum: of messages that may tell addresses no more stays.
        const LEAST: usize = 4;
        let Some(kind) = bytes.first().copied() else {
            return 0;
        };
        let quotes = kinds.quoting.contains(&kind);
        if bytes.len() < HEADER || !(quotes || kinds.plain.contains(&kind)) {
            adjust(bytes, 2, before, after);
            return LEAST.min(bytes.len());
        }
        let whole_before = sum(&bytes[4..]) + before;
        let mut stays = HEADER;
        if quotes {
            if Some(kind) == kinds.redirect {
                self.change_v4(&mut bytes[4..HEADER]);
            }
            // A quotation in a quotation is none that anybody sends.
            if !quoted {
                let end = kinds.quotation_end(bytes);
                stays += self.packet(&mut bytes[HEADER..end], true).unwrap_or(0);
            }
        } else if self.keep.payload && kinds.echo.contains(&kind) {
            stays = bytes.len();
        }
        let whole_after = sum(&bytes[4..]) + after;
        adjust(bytes, 2, whole_before, whole_after);
        stays
    }
}

/// Which ICMP messages have what.
mod icmp {
    pub(super) struct Kinds {
        /// They quote the packet that they are about.
        pub(super) quoting: &'static [u8],
        /// They have no address: of all others it is not known.
        pub(super) plain: &'static [u8],
        /// Of these, who sends what comes back: it may be payload.
        pub(super) echo: &'static [u8],
        /// It has a router's address in its header.
        pub(super) redirect: Option<u8>,
        /// Where it says how long the quotation is, and in which unit (RFC 4884).
        length: (usize, usize),
    }

    /// Errors and redirects; echo and time stamps.
    pub(super) const V4: Kinds = Kinds {
        quoting: &[3, 4, 5, 11, 12],
        plain: &[0, 8, 13, 14],
        echo: &[0, 8],
        redirect: Some(5),
        length: (5, 4),
    };
    /// Errors; echo.
    pub(super) const V6: Kinds = Kinds {
        quoting: &[1, 2, 3, 4],
        plain: &[128, 129],
        echo: &[128, 129],
        redirect: None,
        length: (4, 8),
    };

    impl Kinds {
        /// Where the quotation ends. Behind it there may be addresses and names of interfaces
        /// (RFC 5837), behind 128 bytes also where no length is said (RFC 4884, 5.5).
        pub(super) fn quotation_end(&self, bytes: &[u8]) -> usize {
            const HEADER: usize = 8;
            const LEAST: usize = HEADER + 128;
            let (at, unit) = self.length;
            let has_length = matches!(bytes[0], 1 | 3 | 11 | 12);
            let said = usize::from(bytes[at]) * unit;
            if has_length && said != 0 {
                return bytes.len().min(HEADER + said);
            }
            match bytes.get(LEAST..LEAST + 2) {
                Some([0x20, 0]) => LEAST,
                _ => bytes.len(),
            }
        }
    }
}

/// What is behind a header of so many bytes, up to the packet's total length: what a frame has
/// behind that is none of the packet. A length of zero is that of a packet which is too long for the
/// field, and is believed of no other.
fn upto(behind: &mut [u8], total: usize, header: usize, is_merged: bool) -> &mut [u8] {
    let end = match total {
        0 if is_merged => behind.len(),
        total => total.saturating_sub(header).min(behind.len()),
    };
    &mut behind[..end]
}

/// How many bytes of an SCTP packet stay, up to the first chunk that may tell addresses: beginnings
/// of connections, heartbeats, errors.
fn data_chunks(bytes: &[u8]) -> usize {
    const HEADER: usize = 12;
    /// DATA, SACK, SHUTDOWN and its acknowledgement, COOKIE ACK, ECNE, CWR, SHUTDOWN COMPLETE, I-DATA,
    /// FORWARD TSN.
    const PLAIN: [u8; 10] = [0, 3, 7, 8, 11, 12, 13, 14, 64, 192];
    let mut at = HEADER;
    while let Some([kind, _, high, low]) = bytes.get(at..at + 4) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if !PLAIN.contains(kind) || len < 4 {
            break;
        }
        at += len.next_multiple_of(4);
    }
    at.min(bytes.len())
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
