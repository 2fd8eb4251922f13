//! Classic pcap, record by record.

use std::sync::Arc;

use super::{BEGINNING_BYTES, Found, Packets, Words, half, word};
use crate::read::{Interface, ReadError, Tick};

/// The longest packet that is believed.
const PACKET_BYTES_MAX: usize = 16 << 20;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    big_endian: bool,
    tick_ns: u64,
    /// Bytes before the packet: 16, or 24 of a patched libpcap of 1999 (`0xa1b2cd34`).
    header_bytes: usize,
    /// In version 2.3 some wrote the two lengths the other way round.
    lengths_may_be_swapped: bool,
}

impl Variant {
    pub(super) fn of(begins: &[u8]) -> Option<Variant> {
        let read = |big_endian| {
            let (tick_ns, header_bytes) = match word(begins, 0, big_endian) {
                0xa1b2_c3d4 => (1000, 16),
                0xa1b2_3c4d => (1, 16),
                0xa1b2_cd34 => (1000, 24),
                _ => return None,
            };
            Some(Variant {
                big_endian,
                tick_ns,
                header_bytes,
                lengths_may_be_swapped: half(begins, 6, big_endian) < 4,
            })
        };
        read(false).or_else(|| read(true))
    }
}

/// The head of a record.
#[derive(Debug, Clone, Copy)]
struct Head {
    seconds: u32,
    part: u32,
    captured: usize,
    original_len: u32,
}

impl Head {
    fn of(bytes: &[u8], variant: Variant) -> Head {
        let [seconds, part, captured, original_len] =
            [0, 4, 8, 12].map(|at| word(bytes, at, variant.big_endian));
        let (captured, original_len) = if variant.lengths_may_be_swapped && captured > original_len
        {
            (original_len, captured)
        } else {
            (captured, original_len)
        };
        Head {
            seconds,
            part,
            captured: captured as usize,
            original_len,
        }
    }

    fn is_zero(&self) -> bool {
        self.seconds == 0 && self.part == 0 && self.captured == 0 && self.original_len == 0
    }

    /// More was captured than there was: a length that is damaged, or a careless writer's.
    fn says_too_much(&self) -> bool {
        self.captured > self.original_len as usize
    }

    /// Whether it may be one that was written, for who looks for records behind damage.
    fn may_be(&self, variant: Variant) -> bool {
        const LEN_MAX: u32 = 1 << 18;
        self.captured != 0
            && self.captured <= self.original_len as usize
            && self.original_len <= LEN_MAX
            && u64::from(self.part) * variant.tick_ns < 1_000_000_000
            && self.seconds != 0
    }
}

impl Packets {
    /// Takes over the file's header.
    pub(super) fn begin_classic(&mut self, variant: Variant) -> Result<(), ReadError> {
        let header = self.input.rest();
        let big = variant.big_endian;
        let (major, minor) = (half(header, 4, big), half(header, 6, big));
        if major != 2 || minor < 3 {
            return Err(ReadError {
                path: self.path.clone(),
                what: format!("this is pcap's version {major}.{minor}, which is not known here"),
            });
        }
        let link = word(header, 20, big) & 0xffff;
        self.interfaces.push(Arc::new(Interface {
            snaplen_bytes: word(header, 16, big),
            link: u16::try_from(link).unwrap_or(0),
            tick: Tick::Nanos(variant.tick_ns),
            ..Interface::default()
        }));
        self.big_endian = big;
        self.format = super::Format::Pcap(variant);
        self.lent = BEGINNING_BYTES;
        Ok(())
    }

    pub(super) fn next_pcap(&mut self, variant: Variant) -> Result<Option<Found>, ReadError> {
        loop {
            if !self.go_on(variant.header_bytes)? {
                if !self.input.rest().is_empty() {
                    self.ends_inside();
                }
                return Ok(None);
            }
            let head = Head::of(self.input.rest(), variant);
            // In a live file of lwnflog's the time is written last, once for a whole batch.
            if self.grows && head.seconds == 0 && head.part == 0 {
                return Ok(None);
            }
            let total = variant.header_bytes + head.captured;
            let is_one = !head.is_zero() && head.captured <= PACKET_BYTES_MAX;
            if !is_one || head.says_too_much() && !self.another_follows(total, variant)? {
                if self.finds_record(variant)? {
                    continue;
                }
                return Ok(None);
            }
            if !self.has(total)? {
                self.ends_inside();
                return Ok(None);
            }
            self.lent = total;
            let nanos = u64::from(head.part) * variant.tick_ns;
            return Ok(Some(Found {
                time_ns: u64::from(head.seconds)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(nanos),
                interface: 0,
                data: (variant.header_bytes, total),
                original_len: head.original_len,
                lost_before: 0,
                flags: 0,
                words: Words::default(),
            }));
        }
    }

    /// Looks for the next record behind what is none. False where there is none: nothing in a classic file
    /// says where records begin, so that one is believed only where others follow it without a gap.
    #[cold]
    fn finds_record(&mut self, variant: Variant) -> Result<bool, ReadError> {
        const WHAT: &str = "no record";
        let from = self.input.position();
        let mut all_zeros = true;
        loop {
            if !self.has(variant.header_bytes)? {
                let rest = self.input.rest();
                let left = rest.len();
                all_zeros &= rest.iter().all(|byte| *byte == 0);
                self.input.pass(left).map_err(|error| self.said(&error))?;
                let to = self.input.position();
                // What a ring has not used of its file is zeros, until that is cut.
                if !(all_zeros && self.grew) {
                    self.passed(from, to, WHAT);
                }
                self.over = true;
                return Ok(false);
            }
            let rest = self.input.rest();
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            // A record's head may begin with zeros: its lowest bytes of a time, big endian.
            let skipped = zeros.saturating_sub(3);
            if skipped != 0 {
                self.input
                    .pass(skipped)
                    .map_err(|error| self.said(&error))?;
                continue;
            }
            let is_zero = rest.first() == Some(&0);
            let may_be = Head::of(rest, variant).may_be(variant);
            if may_be && self.input.position() != from && self.others_follow(variant)? {
                let to = self.input.position();
                self.passed(from, to, WHAT);
                self.was_damaged = true;
                return Ok(true);
            }
            all_zeros &= is_zero;
            self.input.pass(1).map_err(|error| self.said(&error))?;
        }
    }

    /// Whether the file goes on with a record, or ends, behind so many bytes.
    #[cold]
    fn another_follows(&mut self, bytes: usize, variant: Variant) -> Result<bool, ReadError> {
        if !self.has(bytes + variant.header_bytes)? {
            return Ok(self.input.rest().len() == bytes);
        }
        let rest = self.input.rest().get(bytes..).unwrap_or_default();
        Ok(Head::of(rest, variant).may_be(variant))
    }

    /// Whether records follow one another from here on: some, or up to the file's end.
    fn others_follow(&mut self, variant: Variant) -> Result<bool, ReadError> {
        const RECORDS: usize = 16;
        let mut at = 0;
        for _ in 0..RECORDS {
            if !self.has(at + variant.header_bytes)? {
                return Ok(self.input.rest().len() == at);
            }
            let rest = self.input.rest().get(at..).unwrap_or_default();
            let head = Head::of(rest, variant);
            if !head.may_be(variant) {
                return Ok(false);
            }
            at += variant.header_bytes + head.captured;
        }
        Ok(true)
    }
}
