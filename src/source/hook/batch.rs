//! The records of all rings, in order of time.

use super::record::{KEY_BYTES, Record, Templates};
use super::ring::{Ring, Rings};
use crate::packet::{Packet, TemplateHit};
use crate::source::{Item, Walk};

/// A batch ends after so many bytes, so that the ring gets them back.
const BATCH_BYTES: usize = 512 << 10;

/// The records of one look, in order of time over all rings.
#[derive(Debug)]
pub struct Batch<'a> {
    rings: &'a Rings,
    templates: &'a mut Templates,
    /// The ring that is being read.
    current: usize,
    /// Up to this time its records come before all others.
    bound: u64,
    left: usize,
    packet: Packet<'a>,
}

impl<'a> Batch<'a> {
    /// Goes through what the last look found.
    pub(super) fn new(rings: &'a Rings, templates: &'a mut Templates) -> Batch<'a> {
        Batch {
            rings,
            templates,
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

impl<'a> Walk for Batch<'a> {
    type Hits<'h>
        = Hits<'h, 'a>
    where
        Self: 'h;

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
            && self.packet.stamp_ticks.is_some()
        {
            self.packet.network_len = None;
            let known = self.templates.find(&key);
            self.packet.template =
                Some(known.unwrap_or_else(|| self.templates.learn(key, &self.packet)));
        }
        rings.pass(ring, &record, number, behind);
        self.left = self.left.saturating_sub(record.len());
        Some(Item::Packet(&self.packet))
    }

    #[inline]
    fn template(&mut self) -> Option<usize> {
        let (_, record, _) = self.peek()?;
        self.templates.find(&record.key()?)
    }

    #[inline]
    fn hits(&mut self, template: usize) -> Option<Hits<'_, 'a>> {
        let expected = self.templates.key(template)?;
        Some(Hits {
            batch: self,
            expected,
            peeked: None,
        })
    }
}

/// The records that come next, for as long as they have what one template says.
#[derive(Debug)]
pub struct Hits<'h, 'a> {
    batch: &'h mut Batch<'a>,
    expected: [u8; KEY_BYTES],
    /// The record that was peeked at last: its ring, itself, its number, what is behind it.
    peeked: Option<(&'a Ring, Record<'a>, u32, u64)>,
}

impl crate::source::Hits for Hits<'_, '_> {
    #[inline(always)]
    fn peek(&mut self) -> Option<TemplateHit<'_>> {
        let (ring, record, behind) = self.batch.peek()?;
        if record.key() != Some(self.expected) {
            return None;
        }
        let number = self.batch.rings.number(ring, &record);
        self.peeked = Some((ring, record, number, behind));
        record.hit(number)
    }

    #[inline]
    fn pass(&mut self) {
        if let Some((ring, record, number, behind)) = self.peeked.take() {
            self.batch.rings.pass(ring, &record, number, behind);
            self.batch.left = self.batch.left.saturating_sub(record.len());
        }
    }
}
