//! The reader's side of the rings. No length in the mapped memory is believed.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::Ordering;

use super::layout::{
    ALIGN, BYTES, DETECTED, DROPPED, HEAD, LEFT_CUTOFF, LEFT_INTERFACE, LEFT_MARK, LEFT_PAUSED,
    LEFT_SAMPLE, PACKET, RECORD_BYTES, RECORD_STAMP, SKIP, TAIL, record_bytes,
};
use super::record::{Record, stamp, word};
use crate::netlink::{Layer, Malformed};
use crate::source::Count;
use crate::sys::hook::SharedMap;

/// A record whose time is so much after the look at the rings waits for the next look, in which an
/// earlier one of another processor may be. Beyond that the clock was set.
const HOLD_NS: u64 = 10_000_000;
/// What lies between a record's time and its being there.
const PUBLISHED_WITHIN_NS: u64 = 50_000;
/// The counter's lower half, as records have it.
const DROPPED_LOW: usize = if cfg!(target_endian = "little") {
    DROPPED
} else {
    DROPPED + 4
};
/// How the rings are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// How many.
    pub rings: usize,
    /// Bytes of each, a power of two.
    pub ring_bytes: usize,
    /// From one ring's counters to the next one's.
    pub stride_bytes: usize,
    /// Bytes of a packet that are copied at the most.
    pub copy_range_bytes: usize,
    /// The hook, as packets say it.
    pub hook: u8,
}

/// What the program has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets at the hook.
    pub detected: u64,
    /// Packets that found the ring full.
    pub dropped: u64,
    /// Packets of an interface that is not captured.
    pub left_interface: u64,
    /// Packets without the mark.
    pub left_mark: u64,
    /// Packets that the sample passes over.
    pub left_sample: u64,
    /// Packets that came while the capture was paused.
    pub left_paused: u64,
    /// Packets of connections that have had their bytes.
    pub left_cutoff: u64,
}

/// One processor's ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where it begins in the mapping.
    base: usize,
    /// Up to here it is released.
    tail: u64,
    /// The next record.
    cursor: Cell<u64>,
    /// Behind the last record that was there at the last look.
    head: u64,
    /// Packets dropped before the last record, as far as it says.
    dropped: Cell<u32>,
    /// Records read.
    read: Cell<u64>,
}

/// All processors' rings.
#[derive(Debug)]
pub struct Rings {
    map: SharedMap,
    geometry: Geometry,
    rings: Vec<Ring>,
    /// The number of the next packet: each gap is what was dropped before.
    sequence: Cell<u32>,
    /// Times after this one wait for the next look.
    horizon: u64,
    /// Places where no record was found.
    broken: Cell<u64>,
}

impl Rings {
    /// Bytes of a packet that a record holds at the most.
    pub fn copy_range_bytes_max(&self) -> u32 {
        u32::try_from(self.geometry.copy_range_bytes).unwrap_or(u32::MAX)
    }

    /// The rings in a mapping.
    pub fn new(map: SharedMap, geometry: Geometry) -> Rings {
        let ring = |number| Ring {
            base: number * geometry.stride_bytes,
            tail: 0,
            cursor: Cell::new(0),
            head: 0,
            dropped: Cell::new(0),
            read: Cell::new(0),
        };
        Rings {
            rings: (0..geometry.rings).map(ring).collect(),
            map,
            geometry,
            sequence: Cell::new(0),
            horizon: 0,
            broken: Cell::new(0),
        }
    }

    /// Leaves it to chance, too, which packet of each ring is the first of the sample.
    pub fn begin_sample(&self, every: u32) {
        for ring in &self.rings {
            let chance = RandomState::new().hash_one(ring.base);
            if let Some(skip) = self.map.word(ring.base + SKIP) {
                skip.store(chance % u64::from(every.max(1)), Ordering::Relaxed);
            }
        }
    }

    /// Looks how far the program has come, and what it has dropped where it left no record that would
    /// say so: that is missing before the next packet of any ring. Records of times after `horizon` wait for a later look.
    /// Returns the bytes that came since the last look, of the ring to which most came, and whether
    /// there is anything to read.
    pub fn look(&mut self, horizon: u64) -> (u64, bool) {
        self.horizon = horizon.saturating_sub(PUBLISHED_WITHIN_NS);
        let (mut most, mut any) = (0, false);
        for ring in &mut self.rings {
            let head = self
                .map
                .word(ring.base + HEAD)
                .map_or(ring.head, |head| head.load(Ordering::Acquire));
            let plausible = head >= ring.head
                && head - ring.tail <= self.geometry.ring_bytes as u64
                && head.is_multiple_of(ALIGN as u64);
            if plausible {
                most = most.max(head - ring.head);
                ring.head = head;
            } else {
                self.broken.set(self.broken.get() + 1);
            }
            if ring.cursor.get() < ring.head {
                any = true;
            } else {
                // Nothing here will say what was dropped since: it is known now.
                let dropped = self
                    .map
                    .half_word(ring.base + DROPPED_LOW)
                    .map_or(ring.dropped.get(), |dropped| {
                        dropped.load(Ordering::Relaxed)
                    });
                let gap = dropped.wrapping_sub(ring.dropped.replace(dropped));
                self.sequence.set(self.sequence.get().wrapping_add(gap));
            }
        }
        (most, any)
    }

    /// The kernel has learnt what its atomic time is ahead, and the program has not heard of it yet:
    /// the times it took since are ahead of `now` by as much. They are set right where they stand.
    #[cold]
    pub fn set_back(&mut self, ahead_ns: i64, now: u64) {
        for ring in &self.rings {
            let mut cursor = ring.cursor.get();
            while let Some(left) = ring.head.checked_sub(cursor).filter(|left| *left != 0)
                && let Ok((_, behind)) = self.record_at(ring.base, cursor, left)
            {
                let within = cursor & (self.geometry.ring_bytes as u64 - 1);
                let place = ring.base + BYTES + usize::try_from(within).unwrap_or(usize::MAX / 2);
                if let Some(stamp) = self.map.word(place + RECORD_STAMP) {
                    let written = stamp.load(Ordering::Relaxed);
                    let right = written.wrapping_add_signed(-ahead_ns);
                    if right.abs_diff(now) < written.abs_diff(now) {
                        stamp.store(right, Ordering::Relaxed);
                    }
                }
                cursor = behind;
            }
        }
    }

    /// Leaves a gap of so many before the next packet: they were lost, and no ring knows of them.
    pub fn note_lost(&self, packets: u32) {
        self.sequence.set(self.sequence.get().wrapping_add(packets));
    }

    /// The number that the next packet has, unless something is lost before it.
    pub fn next_number(&self) -> u32 {
        self.sequence.get()
    }

    /// Whether a record may be read now.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.rings
            .iter()
            .any(|ring| self.next_stamp(ring).is_some())
    }

    /// Gives back to the program what was read.
    pub fn release(&mut self) {
        for ring in &mut self.rings {
            let cursor = ring.cursor.get();
            if cursor != ring.tail {
                ring.tail = cursor;
                if let Some(tail) = self.map.word(ring.base + TAIL) {
                    tail.store(cursor, Ordering::Release);
                }
            }
        }
    }

    /// What the program has counted so far.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for ring in &self.rings {
            let count = |at| {
                self.map
                    .word(ring.base + at)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            };
            sum.detected += count(DETECTED);
            sum.dropped += count(DROPPED);
            sum.left_interface += count(LEFT_INTERFACE);
            sum.left_mark += count(LEFT_MARK);
            sum.left_sample += count(LEFT_SAMPLE);
            sum.left_paused += count(LEFT_PAUSED);
            sum.left_cutoff += count(LEFT_CUTOFF);
        }
        sum
    }

    /// Records read.
    pub fn read(&self) -> u64 {
        self.rings.iter().map(|ring| ring.read.get()).sum()
    }

    /// Places where no record was found.
    pub fn broken(&self) -> u64 {
        self.broken.get()
    }

    /// The record at a ring's cursor, and the position behind it. `Err` where there is none though
    /// the program says so.
    #[inline]
    pub(super) fn record_of(&self, ring: &Ring) -> Option<Result<(Record<'_>, u64), Malformed>> {
        let cursor = ring.cursor.get();
        let left = ring.head.saturating_sub(cursor);
        if left == 0 {
            return None;
        }
        Some(self.record_at(ring.base, cursor, left))
    }

    #[inline]
    fn record_at(
        &self,
        base: usize,
        cursor: u64,
        left: u64,
    ) -> Result<(Record<'_>, u64), Malformed> {
        let size = self.geometry.ring_bytes as u64;
        let within = cursor & (size - 1);
        #[expect(clippy::cast_possible_truncation, reason = "below the ring's size")]
        let place = base + BYTES + within as usize;
        // As much of it as its own length says is looked at, once that is known to be possible.
        let head = self.map.bytes(place, PACKET);
        let total = head
            .and_then(<[u8]>::first_chunk)
            .map_or(0, |head| word(head, RECORD_BYTES));
        let malformed = Malformed::Length {
            layer: Layer::Ring,
            length: total as usize,
            left: usize::try_from(left).unwrap_or(usize::MAX),
        };
        if total as usize > record_bytes(self.geometry.copy_range_bytes) {
            return Err(malformed);
        }
        let bytes = self.map.bytes(place, total as usize).ok_or(malformed)?;
        let record = Record::read(bytes, self.geometry.copy_range_bytes).ok_or(malformed)?;
        let advance = u64::from(total).min(size - within);
        if advance > left {
            return Err(malformed);
        }
        Ok((record, cursor + advance))
    }

    /// The time of a ring's next record, if it may be read now.
    #[inline]
    pub(super) fn next_stamp(&self, ring: &Ring) -> Option<u64> {
        let cursor = ring.cursor.get();
        if cursor >= ring.head {
            return None;
        }
        let mask = self.geometry.ring_bytes - 1;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "of a power of two below 2^32"
        )]
        let place = ring.base + BYTES + (cursor as usize & mask);
        let head = self.map.bytes(place, PACKET)?.first_chunk()?;
        let stamp = stamp(head);
        let early = stamp > self.horizon && stamp - self.horizon < HOLD_NS;
        (!early).then_some(stamp)
    }

    /// The number of a record, by what was dropped before it.
    #[inline]
    pub(super) fn number(&self, ring: &Ring, record: &Record<'_>) -> u32 {
        let dropped = record.dropped();
        let gap = dropped.wrapping_sub(ring.dropped.get());
        self.sequence.get().wrapping_add(gap)
    }

    /// Goes past a record.
    #[inline]
    pub(super) fn pass(&self, ring: &Ring, record: &Record<'_>, number: u32, behind: u64) {
        ring.dropped.set(record.dropped());
        ring.read.set(ring.read.get() + 1);
        ring.cursor.set(behind);
        self.sequence.set(number.wrapping_add(1));
    }

    /// Gives up what is left in a ring: no telling where its records begin.
    #[cold]
    pub(super) fn give_up(&self, ring: &Ring) {
        ring.cursor.set(ring.head);
        self.broken.set(self.broken.get() + 1);
    }

    /// Counts what is there, without a look into it.
    pub fn count(&self) -> Count {
        let start = self.sequence.get();
        let mut count = Count::default();
        for ring in &self.rings {
            while let Some(found) = self.record_of(ring) {
                match found {
                    Ok((record, behind)) => {
                        let number = self.number(ring, &record);
                        self.pass(ring, &record, number, behind);
                        count.packets += 1;
                    }
                    Err(_) => {
                        self.give_up(ring);
                        count.malformed = true;
                    }
                }
            }
        }
        // As if all that was dropped had been before the first.
        let packets = u32::try_from(count.packets).unwrap_or(u32::MAX);
        let numbered = self.sequence.get().wrapping_sub(start);
        if count.packets != 0 {
            count.first_sequence = Some(start.wrapping_add(numbered.wrapping_sub(packets)));
        }
        count
    }

    pub(super) fn all(&self) -> &[Ring] {
        &self.rings
    }

    pub(super) fn horizon(&self) -> u64 {
        self.horizon
    }

    pub(super) fn hook(&self) -> u8 {
        self.geometry.hook
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::Batch;
    use super::super::layout::RECORD_CAPTURED;
    use super::super::record::Templates;
    use super::*;
    use crate::source::{Hits, Item, Walk};

    const RING: usize = 4096;
    const COPY: usize = 200;
    const STRIDE: usize = BYTES + RING + 4096;

    fn rings(count: usize) -> (SharedMap, Geometry) {
        let geometry = Geometry {
            rings: count,
            ring_bytes: RING,
            stride_bytes: STRIDE,
            copy_range_bytes: COPY,
            hook: 0,
        };
        (SharedMap::anonymous(count * STRIDE).unwrap(), geometry)
    }

    fn record(stamp: u64, dropped: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0u8; record_bytes(payload.len())];
        let total = u32::try_from(out.len()).unwrap();
        let captured = u32::try_from(payload.len()).unwrap();
        out[0..4].copy_from_slice(&total.to_ne_bytes());
        out[4..8].copy_from_slice(&captured.to_ne_bytes());
        out[8..16].copy_from_slice(&stamp.to_ne_bytes());
        out[16..20].copy_from_slice(&dropped.to_ne_bytes());
        out[20..24].copy_from_slice(&captured.to_ne_bytes());
        out[24..28].copy_from_slice(&7u32.to_ne_bytes());
        out[32..34].copy_from_slice(&1u16.to_ne_bytes());
        out[46..48].copy_from_slice(&[8, 0]);
        out[PACKET..PACKET + payload.len()].copy_from_slice(payload);
        out
    }

    /// Puts records into a ring as the program does.
    fn fill(map: &mut SharedMap, ring: usize, records: &[Vec<u8>]) {
        let base = ring * STRIDE;
        let mut head = map.word(base + HEAD).unwrap().load(Ordering::Relaxed);
        for record in records {
            let at = usize::try_from(head).unwrap() % RING;
            map.put(base + BYTES + at, record);
            head += record.len() as u64;
            if at + record.len() >= RING {
                head = head / RING as u64 * RING as u64;
            }
        }
        map.word(base + HEAD)
            .unwrap()
            .store(head, Ordering::Release);
    }

    fn stamps(rings: &Rings) -> Vec<(u64, u32)> {
        let mut templates = Templates::default();
        let mut batch = Batch::new(rings, &mut templates);
        let mut out = Vec::new();
        loop {
            while let Some(template) = batch.template() {
                let before = out.len();
                let mut hits = batch.hits(template).unwrap();
                while let Some(hit) = hits.peek() {
                    out.push((hit.stamp_ticks.get(), hit.sequence));
                    hits.pass();
                }
                if out.len() == before {
                    break;
                }
            }
            match batch.next() {
                Some(Item::Packet(packet)) => {
                    out.push((packet.stamp_ticks.unwrap().get(), packet.sequence.unwrap()));
                }
                Some(Item::Malformed(_)) => out.push((0, 0)),
                None => return out,
            }
        }
    }

    #[test]
    fn two_rings_come_in_order_of_time_and_gaps_are_what_was_dropped() {
        let (mut map, geometry) = rings(2);
        let of = |times: &[(u64, u32)]| {
            let made = times
                .iter()
                .map(|(time, dropped)| record(time * 1000, *dropped, &[0x45; 30]));
            made.collect::<Vec<_>>()
        };
        fill(&mut map, 0, &of(&[(1, 0), (4, 0), (5, 3)]));
        fill(&mut map, 1, &of(&[(2, 0), (3, 1), (9, 1)]));
        let mut rings = Rings::new(map, geometry);
        let (_, any) = rings.look(u64::MAX);
        assert!(any);
        let expected = [(1, 0), (2, 1), (3, 3), (4, 4), (5, 8), (9, 9)];
        assert_eq!(
            stamps(&rings),
            expected.map(|(time, number)| (time * 1000, number))
        );
        assert_eq!((rings.read(), rings.broken()), (6, 0));
        rings.release();
        assert!(!rings.look(u64::MAX).1);
    }

    /// A flood ends and leaves no record behind what it lost: the next packet of any ring shows it.
    #[test]
    fn what_a_ring_lost_at_its_end_is_missing_before_the_next_packet_of_any() {
        let (mut map, geometry) = rings(2);
        fill(
            &mut map,
            0,
            &[record(1000, 0, &[0x45; 30]), record(2000, 4, &[0x45; 30])],
        );
        map.put(DROPPED, &7u64.to_ne_bytes());
        let mut rings = Rings::new(map, geometry);
        rings.look(u64::MAX);
        assert_eq!(stamps(&rings), [(1000, 0), (2000, 5)]);
        rings.release();
        rings.look(u64::MAX);
        assert_eq!(rings.next_number(), 9, "three are missing at the end");
        rings.look(u64::MAX);
        rings.note_lost(2);
        fill(&mut rings.map, 1, &[record(3000, 0, &[0x45; 30])]);
        rings.look(u64::MAX);
        assert_eq!(stamps(&rings), [(3000, 11)]);
        // What the ring itself says later begins there.
        rings.release();
        rings.map.put(DROPPED, &9u64.to_ne_bytes());
        fill(&mut rings.map, 0, &[record(4000, 9, &[0x45; 30])]);
        rings.look(u64::MAX);
        assert_eq!(stamps(&rings), [(4000, 14)]);
        assert_eq!(rings.next_number(), 15);
    }

    #[test]
    fn what_is_later_than_the_look_waits_for_the_next() {
        let (mut map, geometry) = rings(1);
        let times = [10_000_000, 10_000_500, 10_060_000];
        let made: Vec<_> = times
            .iter()
            .map(|time| record(*time, 0, &[0x45; 30]))
            .collect();
        fill(&mut map, 0, &made);
        let mut rings = Rings::new(map, geometry);
        rings.look(10_050_000);
        assert_eq!(stamps(&rings).len(), 1);
        rings.release();
        rings.look(10_200_000);
        assert_eq!(stamps(&rings).len(), 2);
        // A clock that was set back does not stop anything.
        let (mut map, geometry) = self::rings(1);
        fill(&mut map, 0, &[record(1 << 60, 0, &[0x45; 30])]);
        let mut rings = Rings::new(map, geometry);
        rings.look(5_000);
        assert_eq!(stamps(&rings).len(), 1);
    }

    /// The kernel learns that atomic time is 37 s ahead: what the program stamps until it hears of it
    /// is set right, and nothing else is.
    #[test]
    fn times_of_before_the_kernel_learnt_its_offset_are_set_right() {
        const SECOND: u64 = 1_000_000_000;
        let now = 1_800_000_000 * SECOND;
        for (learnt, wrong) in [(37i64, now + 37 * SECOND - 7), (-1, now - SECOND - 7)] {
            let (mut map, geometry) = rings(2);
            let of = |stamps: &[u64]| {
                let made = stamps.iter().map(|stamp| record(*stamp, 0, &[0x45; 30]));
                made.collect::<Vec<_>>()
            };
            fill(&mut map, 0, &of(&[now - 20, wrong, wrong + 1]));
            fill(&mut map, 1, &of(&[now - 10]));
            let mut rings = Rings::new(map, geometry);
            rings.look(u64::MAX);
            rings.set_back(learnt * 1_000_000_000, now);
            rings.set_back(learnt * 1_000_000_000, now); // again at the next look
            let times: Vec<_> = stamps(&rings).iter().map(|(stamp, _)| *stamp).collect();
            assert_eq!(times, [now - 20, now - 10, now - 7, now - 6]);
        }
    }

    #[test]
    fn a_ring_goes_round_many_times() {
        let (map, geometry) = rings(1);
        let mut rings = Rings::new(map, geometry);
        for round in 0..200u64 {
            let sizes = [20, 61, 200, 77];
            let made = (1..)
                .zip(sizes)
                .map(|(n, size)| record(round * 10 + n, 0, &vec![0x45; size]));
            fill(&mut rings.map, 0, &made.collect::<Vec<_>>());
            rings.look(u64::MAX);
            assert_eq!(stamps(&rings).len(), 4, "{round}");
            rings.release();
        }
        assert_eq!((rings.read(), rings.broken()), (800, 0));
    }

    #[test]
    fn counting_counts_the_same() {
        let (mut map, geometry) = rings(2);
        fill(
            &mut map,
            0,
            &[record(5, 0, &[0x45; 30]), record(6, 2, &[0x45; 30])],
        );
        fill(&mut map, 1, &[record(1, 4, &[0x45; 30])]);
        let mut rings = Rings::new(map, geometry);
        rings.look(u64::MAX);
        let count = rings.count();
        assert_eq!((count.packets, count.first_sequence), (3, Some(6)));
        assert!(!count.malformed);
        assert_eq!(rings.count(), Count::default());
    }

    proptest! {
        /// Whatever stands in the mapping, and wherever the head is said to be: nothing is read
        /// outside, and the walk ends.
        #[test]
        fn any_bytes_end_and_never_panic(
            words in prop::collection::vec((0usize..STRIDE / 4, any::<u32>()), 0..300),
            small in prop::collection::vec((0usize..RING / 8, 0u32..300, 0u32..260), 0..100),
            head in prop_oneof![0u64..2 * RING as u64, any::<u64>()],
        ) {
            let (mut map, geometry) = rings(2);
            for (at, word) in words {
                map.put(at * 4, &word.to_ne_bytes());
            }
            for (at, total, captured) in small {
                map.put(BYTES + at * 8, &total.to_ne_bytes());
                map.put(BYTES + at * 8 + RECORD_CAPTURED, &captured.to_ne_bytes());
            }
            map.put(HEAD, &head.to_ne_bytes());
            let mut rings = Rings::new(map, geometry);
            for _ in 0..4 {
                rings.look(u64::MAX);
                let _ = stamps(&rings);
                let _ = rings.count();
                rings.release();
            }
            prop_assert!(rings.read() < 10_000);
        }

        #[test]
        fn records_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(record) = Record::read(&bytes, COPY) {
                prop_assert!(record.len() <= bytes.len());
                let _ = (record.key(), record.hit(1), record.payload().len());
                let _ = record.packet(1, 0);
            }
        }
    }
}
