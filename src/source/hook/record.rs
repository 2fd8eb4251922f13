//! One record of a ring, its lengths checked, and what records have in common.

use std::num::NonZeroU64;

use super::layout::{
    PACKET, RECORD_BYTES, RECORD_CAPTURED, RECORD_DROPPED, RECORD_ETHERNET, RECORD_INTERFACE,
    RECORD_MARK, RECORD_ORIGINAL, RECORD_STAMP, RECORD_TYPE, record_bytes,
};
use crate::packet::{ETHERNET_HEADER_BYTES, IpVersion, Packet, TemplateHit};
use crate::source::TEMPLATES_MAX;

/// `AF_INET` and `AF_INET6`: the family of the hook.
const FAMILIES: [u8; 2] = [2, 10];
/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK`.
const WITH_ETHERNET: [u16; 2] = [1, 772];

/// A record, its lengths checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The whole, from its length on.
    bytes: &'a [u8],
    /// Bytes of the packet that are here.
    captured: usize,
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`. `None` where its lengths do not fit each other,
    /// the bytes or the copy range.
    #[inline]
    pub fn read(bytes: &'a [u8], copy_range_bytes: usize) -> Option<Record<'a>> {
        let head = bytes.first_chunk::<PACKET>()?;
        let total = word(head, RECORD_BYTES) as usize;
        let captured = word(head, RECORD_CAPTURED) as usize;
        if captured > copy_range_bytes || total != record_bytes(captured) {
            return None;
        }
        let bytes = bytes.get(..total)?;
        Some(Record { bytes, captured })
    }

    #[inline]
    pub(super) fn head(&self) -> &'a [u8; PACKET] {
        self.bytes.first_chunk().unwrap_or(&[0; PACKET])
    }

    /// Bytes of the record.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// From the IP header on.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes
            .get(PACKET..PACKET + self.captured)
            .unwrap_or(&[])
    }

    /// Packets dropped on its processor so far, the lower half.
    #[inline]
    pub(super) fn dropped(&self) -> u32 {
        word(self.head(), RECORD_DROPPED)
    }

    /// Nanoseconds since 1970.
    #[inline]
    pub fn stamp_ns(&self) -> u64 {
        stamp(self.head())
    }

    /// `ARPHRD_*`
    #[inline]
    pub(super) fn hw_type(&self) -> u16 {
        let head = self.head();
        u16::from_ne_bytes([head[RECORD_TYPE], head[RECORD_TYPE + 1]])
    }

    #[inline]
    pub(super) fn original(&self) -> u32 {
        word(self.head(), RECORD_ORIGINAL)
    }

    /// The Ethernet header, where the interface has one.
    #[inline]
    fn ethernet(&self) -> Option<&'a [u8; ETHERNET_HEADER_BYTES]> {
        let header = self.head().get(RECORD_ETHERNET..)?.first_chunk()?;
        WITH_ETHERNET.contains(&self.hw_type()).then_some(header)
    }

    /// What hits have in common: mark, type of the interface, version of IP. `None` where the record
    /// is like no other.
    #[inline]
    pub(super) fn key(&self) -> Option<[u8; KEY_BYTES]> {
        let payload = self.payload();
        let version = IpVersion::of_header(payload)?;
        let plain = match self.ethernet() {
            Some(header) => header[12..] == version.protocol().to_be_bytes(),
            None => true,
        };
        // A hit's length is taken from its header.
        let total = version.total_len(payload);
        let told = total.max(u32::try_from(payload.len()).unwrap_or(u32::MAX)) == self.original();
        if !plain || !told {
            return None;
        }
        let common = self.head().get(RECORD_MARK..RECORD_TYPE + 2)?;
        let mut key = [payload[0] >> 4; KEY_BYTES];
        key.get_mut(..common.len())?.copy_from_slice(common);
        Some(key)
    }

    #[inline]
    pub(super) fn hit(&self, sequence: u32) -> Option<TemplateHit<'a>> {
        Some(TemplateHit {
            payload: self.payload(),
            hw_header: self.ethernet(),
            hw_source: &[],
            message: &[],
            stamp_ticks: NonZeroU64::new(self.stamp_ns())?,
            sequence,
            ifindex_in: word(self.head(), RECORD_INTERFACE),
        })
    }

    pub(super) fn packet(&self, sequence: u32, hook: u8) -> Packet<'a> {
        let head = self.head();
        let payload = self.payload();
        let version = IpVersion::of_header(payload).unwrap_or_default();
        Packet {
            payload,
            hw_header: self.ethernet().map_or(&[], |header| header),
            stamp_ticks: NonZeroU64::new(self.stamp_ns()),
            sequence: Some(sequence),
            network_len: Some(self.original()),
            mark: word(head, RECORD_MARK),
            ifindex_in: word(head, RECORD_INTERFACE),
            protocol: version.protocol(),
            hw_type: self.hw_type(),
            hook,
            family: FAMILIES[usize::from(version == IpVersion::V6)],
            ..Packet::default()
        }
    }
}

/// Bytes of what hits have in common.
pub(super) const KEY_BYTES: usize = RECORD_TYPE + 2 - RECORD_MARK + 1;

#[inline]
pub(super) fn word(head: &[u8; PACKET], at: usize) -> u32 {
    u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[inline]
pub(super) fn stamp(head: &[u8; PACKET]) -> u64 {
    let stamp = head.get(RECORD_STAMP..).and_then(<[u8]>::first_chunk);
    u64::from_ne_bytes(*stamp.unwrap_or(&[0; 8]))
}

/// What records look like that were met.
#[derive(Debug, Default)]
pub struct Templates {
    known: [Option<([u8; KEY_BYTES], Packet<'static>)>; TEMPLATES_MAX],
    learned: usize,
}

impl Templates {
    /// What a place's records have in common.
    #[inline]
    pub(super) fn key(&self, place: usize) -> Option<[u8; KEY_BYTES]> {
        Some(self.known.get(place)?.as_ref()?.0)
    }

    #[inline]
    pub(super) fn find(&self, key: &[u8; KEY_BYTES]) -> Option<usize> {
        let fits = |known: &Option<([u8; KEY_BYTES], Packet<'static>)>| {
            known.as_ref().is_some_and(|(known, _)| known == key)
        };
        self.known.iter().position(fits)
    }

    pub(super) fn learn(&mut self, key: [u8; KEY_BYTES], packet: &Packet<'_>) -> usize {
        let place = self.learned % TEMPLATES_MAX;
        self.learned = self.learned.wrapping_add(1);
        let common = Packet {
            payload: &[],
            hw_header: &[],
            hw_source: &[],
            prefix: &[],
            message: &[],
            ..*packet
        };
        self.known[place] = Some((key, common));
        place
    }
}
