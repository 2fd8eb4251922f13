//! The records of all rings, in order of time.

use super::record::{Record, Twins};
use super::ring::{Ring, Rings};
use crate::packet::{Packet, Twin};
use crate::source::{Item, Walk};

/// A batch ends after so many bytes, so that the ring gets them back.
const BATCH_BYTES: usize = 512 << 10;

/// The records of one look, in order of time over all rings.
#[derive(Debug)]
pub struct Batch<'a> {
    rings: &'a Rings,
    twins: &'a mut Twins,
    /// The ring that is being read.
    current: usize,
    /// Up to this time its records come before all others.
    bound: u64,
    left: usize,
    packet: Packet<'a>,
}

impl<'a> Batch<'a> {
    /// Goes through what the last look found.
    pub(super) fn new(rings: &'a Rings, twins: &'a mut Twins) -> Batch<'a> {
        Batch {
            rings,
            twins,
            current: usize::MAX,
            bound: 0,
            left: BATCH_BYTES,
            packet: Packet::default(),
        }
    }

    /// Makes the ring the current one whose next record is the earliest. False where there is none.
    #[inline]
    fn choose(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        if let Some(ring) = self.rings.all().get(self.current)
            && let Some(stamp) = self.rings.next_stamp(ring)
            && stamp <= self.bound
        {
            return true;
        }
        self.search()
    }

    fn search(&mut self) -> bool {
        let (mut earliest, mut second, mut found) = (u64::MAX, u64::MAX, None);
        for (number, ring) in self.rings.all().iter().enumerate() {
            let Some(stamp) = self.rings.next_stamp(ring) else {
                continue;
            };
            if found.is_none() || stamp < earliest {
                (second, earliest, found) = (earliest, stamp, Some(number));
            } else {
                second = second.min(stamp);
            }
        }
        // What is later than the horizon is looked at one by one.
        self.bound = second.min(self.rings.horizon());
        self.current = found.unwrap_or(usize::MAX);
        found.is_some()
    }
}

impl<'a> Batch<'a> {
    /// The record that comes next, where it stands and what it looks like.
    #[inline]
    fn peek(&mut self) -> Option<(&'a Ring, Record<'a>, u64)> {
        if !self.choose() {
            return None;
        }
        let rings = self.rings;
        let ring = rings.all().get(self.current)?;
        let (record, behind) = rings.record_of(ring)?.ok()?;
        Some((ring, record, behind))
    }
}

impl Walk for Batch<'_> {
    fn next(&mut self) -> Option<Item<'_>> {
        if !self.choose() {
            return None;
        }
        let rings = self.rings;
        let ring = rings.all().get(self.current)?;
        let (record, behind) = match rings.record_of(ring)? {
            Ok(found) => found,
            Err(malformed) => {
                rings.give_up(ring);
                return Some(Item::Malformed(malformed));
            }
        };
        let number = rings.number(ring, &record);
        self.packet = record.packet(number, rings.hook());
        if let Some(key) = record.key()
            && self.packet.stamp_us.is_some()
        {
            self.packet.network_len = None;
            let known = self.twins.find(&key);
            self.packet.shape = Some(known.unwrap_or_else(|| self.twins.learn(key, &self.packet)));
        }
        rings.pass(ring, &record, number, behind);
        self.left = self.left.saturating_sub(record.len());
        Some(Item::Packet(&self.packet))
    }

    #[inline]
    fn shape(&mut self) -> Option<usize> {
        let (_, record, _) = self.peek()?;
        self.twins.find(&record.key()?)
    }

    #[inline]
    fn twins(&mut self, shape: usize, mut take: impl FnMut(Twin<'_>) -> bool) {
        let Some(expected) = self.twins.key(shape) else {
            return;
        };
        while let Some((ring, record, behind)) = self.peek() {
            if record.key() != Some(expected) {
                break;
            }
            let number = self.rings.number(ring, &record);
            let Some(twin) = record.twin(number) else {
                break;
            };
            if !take(twin) {
                break;
            }
            self.rings.pass(ring, &record, number, behind);
            self.left = self.left.saturating_sub(record.len());
        }
    }
}
