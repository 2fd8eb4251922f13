//! What cannot be read of a file: which bytes, and where it is gone on behind them.
//!
//! Behind damage a block is believed only where a segment of lwnflog's begins, in a file whose blocks
//! have led from border to border until then: in a file that another program has written anew, a border
//! is somewhere in a packet, and what looks like a block there is what somebody has sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::{Format, Packets, Passed};
use crate::format::pcapng::block::{
    ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, PADDING,
};
use crate::numbers::grouped;
use crate::read::input::PIECE_BYTES_MAX;
use crate::read::options::word;
use crate::read::{Fault, ReadError};
use crate::ring::ring_file;

/// Bytes of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// From here on.
    pub from: u64,
    /// Up to here; `None` where the end is not known.
    pub to: Option<u64>,
    /// In words.
    pub what: Cow<'static, str>,
}

/// What of a file is read and cannot be told as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Packets whose times are before 1970, or too late to be told.
    pub times: u64,
    /// Packets, interfaces and sections with options that are damaged.
    pub options: u64,
}

/// The last moment that 64 bits of nanoseconds tell.
const LATEST: &str = "2554-07-21T23:34:33Z";

/// No section's header is longer.
const HEADER_BYTES_MAX: usize = 1 << 20;

const NO_BLOCK: Cow<'static, str> = Cow::Borrowed("no whole block");
const CUT: Cow<'static, str> =
    Cow::Borrowed("it ends inside a block: it was cut, or is still written");

impl Packets {
    /// What could not be read so far.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// The same, with the file's name.
    pub(in crate::read) fn take_faults(&mut self) -> Vec<Fault> {
        let path = self.path().to_owned();
        let damage = self.take_damage().into_iter();
        let mut faults: Vec<_> = damage
            .map(|damage| Fault::Damage {
                path: path.clone(),
                damage,
            })
            .collect();
        let passed = std::mem::take(&mut self.passed);
        if passed != Passed::default() {
            faults.push(Fault::Passed(passed));
        }
        let doubts = std::mem::take(&mut self.doubts);
        if doubts != Doubts::default() {
            faults.push(Fault::Doubts { path, doubts });
        }
        faults
    }

    /// What is read now is as the border of a segment should be.
    pub(super) fn was_led_to(&mut self, place: u64) {
        if self
            .segment_bytes
            .is_some_and(|segment| place.is_multiple_of(segment))
        {
            self.proven = place;
        }
    }

    /// The file ends in the block that begins here.
    #[cold]
    pub(super) fn ends_inside(&mut self) {
        if !self.grows {
            self.ends_with(CUT);
        }
    }

    /// Nothing more is read.
    #[cold]
    pub(super) fn ends_with(&mut self, what: impl Into<Cow<'static, str>>) {
        let to = self.len();
        self.put_damage(to, what.into());
        self.over = true;
    }

    /// A block of so many bytes is not there as a whole: the file ends in it, or its length is damaged.
    /// True where it is gone on behind.
    #[cold]
    pub(super) fn ends_or_is_damaged(&mut self, total: usize) -> Result<bool, ReadError> {
        let segment = self.segment_bytes.unwrap_or(u64::MAX);
        let place = self.input.position();
        let last_of_segments = |len: u64| len.saturating_sub(place) <= segment - place % segment;
        let is_cut = self.len().is_none_or(last_of_segments);
        // What is never whole is not waited for.
        let longest = if place == 0 {
            HEADER_BYTES_MAX
        } else {
            PIECE_BYTES_MAX
        };
        if self.grows && is_cut && total <= longest {
            return Ok(false);
        }
        if is_cut && total as u64 <= segment {
            self.ends_with(CUT);
            return Ok(false);
        }
        self.passes_damage()
    }

    /// What is in this whole block makes no sense. True where segments prove that it is a block: it is passed alone.
    #[cold]
    pub(super) fn passes_block(&mut self, total: usize) -> Result<bool, ReadError> {
        let place = self.input.position();
        let segment = self.segment_bytes.unwrap_or(0);
        let fits = segment != 0 && place % segment + total as u64 <= segment;
        if !fits || self.grows || self.next_border(place)?.is_none() {
            return Ok(false);
        }
        self.put_damage(
            Some(place + total as u64),
            "a block that makes no sense".into(),
        );
        self.lent = total;
        self.was_damaged = true;
        Ok(true)
    }

    /// No whole block begins here. True where it is gone on behind.
    #[cold]
    pub(super) fn passes_damage(&mut self) -> Result<bool, ReadError> {
        let place = self.input.position();
        if self.grows && self.is_being_written(place)? {
            return Ok(false);
        }
        let zeros = self.input.rest().iter().take(8).all(|byte| *byte == 0);
        let what = if zeros {
            "zeros in place of blocks".into()
        } else {
            NO_BLOCK
        };
        let Some(mut border) = self.next_border(place)? else {
            self.ends_with(what);
            return Ok(false);
        };
        let segment = self.segment_bytes.unwrap_or(u64::MAX);
        self.put_damage(Some(border), what);
        loop {
            let stop = border.min(self.until);
            let bytes = usize::try_from(stop - self.input.position()).unwrap_or(usize::MAX);
            let passed = self.input.pass(bytes).map_err(|error| self.said(&error))?;
            if border >= self.until {
                self.extend_damage(stop);
                return Ok(true); // what is behind is another part's
            }
            if !passed || !self.has(12)? {
                self.extend_damage(self.input.position() + self.input.rest().len() as u64);
                self.over = true;
                return Ok(false);
            }
            if self.begins_whole()? {
                (self.proven, self.was_damaged) = (border, true);
                return Ok(true);
            }
            border += segment;
            self.extend_damage(border);
        }
    }

    /// Whether a whole block of lwnflog's begins here.
    fn begins_whole(&mut self) -> Result<bool, ReadError> {
        let (kind, total) = self.head();
        let known = matches!(
            kind,
            ENHANCED_PACKET | INTERFACE_DESCRIPTION | INTERFACE_STATISTICS | PADDING
        );
        let segment = self.segment_bytes.unwrap_or(0);
        if !known || total < 12 || !total.is_multiple_of(4) || total as u64 > segment {
            return Ok(false);
        }
        Ok(self.has(total)?
            && word(self.input.rest(), total - 4, self.big_endian) as usize == total)
    }

    /// The border of segments behind a place, in a file that is known to be in segments up to there.
    fn next_border(&mut self, place: u64) -> Result<Option<u64>, ReadError> {
        let Some(segment) = self.segment_bytes.filter(|_| self.format == Format::Pcapng) else {
            return Ok(None);
        };
        let begin = place - place % segment;
        // Of the first segment its name alone says whose it is: no block has led to a border yet.
        if begin == 0 && ring_file(&self.path).is_none() {
            return Ok(None);
        }
        // From border to border, by lengths alone. A padding block ends each segment; others leave none.
        let mut at = self.proven;
        let mut kind = PADDING;
        while at < begin {
            let head = self.input.now_at::<8>(at);
            let Some(head) = head.map_err(|error| self.said(&error))? else {
                return Ok(None);
            };
            let total = u64::from(word(&head, 4, self.big_endian));
            if total < 12 {
                return Ok(None);
            }
            kind = word(&head, 0, self.big_endian);
            at += total;
        }
        Ok((at == begin && kind == PADDING).then_some(begin + segment))
    }

    fn put_damage(&mut self, to: Option<u64>, what: Cow<'static, str>) {
        let from = self.input.position();
        match self.damage.last_mut() {
            Some(last) if last.to == Some(from) && last.what == what => last.to = to,
            _ => self.damage.push(Damage { from, to, what }),
        }
    }

    fn extend_damage(&mut self, to: u64) {
        if let Some(last) = self.damage.last_mut() {
            last.to = Some(to);
        }
    }

    /// Bytes that were passed, of a classic file.
    pub(super) fn passed(&mut self, from: u64, to: u64, what: &'static str) {
        self.damage.push(Damage {
            from,
            to: Some(to),
            what: what.into(),
        });
    }
}

impl Damage {
    /// What is said of it, behind the file's name.
    pub fn text(&self) -> String {
        let Damage { from, to, what } = self;
        let from_byte = grouped(*from);
        match to {
            _ if *what == CUT => format!("cut, from byte {from_byte} to its end: {what}"),
            Some(to) if to > from => format!(
                "damaged, bytes {from_byte} to {} ({}) are not read: {what}",
                grouped(*to),
                grouped(to - from)
            ),
            _ => format!("damaged, from byte {from_byte} to its end nothing is read: {what}"),
        }
    }
}

/// One fault for those that stand side by side, and few for a file that has many.
pub(in crate::read) fn told(faults: Vec<Fault>) -> Vec<ReadError> {
    /// Places of a file that are told one by one.
    const PLACES_MAX: usize = 8;
    let mut all: Vec<(PathBuf, Vec<Damage>)> = Vec::new();
    let mut told = Vec::new();
    let mut doubtful: BTreeMap<PathBuf, Doubts> = BTreeMap::new();
    for fault in faults {
        match fault {
            Fault::Error(error) => told.push(error),
            Fault::Passed(_) => {}
            Fault::Doubts { path, doubts } => {
                let all = doubtful.entry(path).or_default();
                all.times += doubts.times;
                all.options += doubts.options;
            }
            Fault::Empty(path) => told.push(ReadError {
                path,
                what: "no capture is in this directory".to_owned(),
            }),
            Fault::Damage { path, damage } => match all.last_mut() {
                Some((last, places)) if *last == path => match places.last_mut() {
                    Some(before)
                        if before.to == Some(damage.from) && before.what == damage.what =>
                    {
                        before.to = damage.to;
                    }
                    _ => places.push(damage),
                },
                _ => all.push((path, vec![damage])),
            },
        }
    }
    for (path, places) in all {
        let more = places.len().saturating_sub(PLACES_MAX);
        let bytes = |range: Range<usize>| -> u64 {
            let places = places.get(range).unwrap_or_default();
            let bytes = places
                .iter()
                .map(|place| place.to.map_or(0, |to| to.saturating_sub(place.from)));
            bytes.sum()
        };
        for place in places.iter().take(PLACES_MAX) {
            told.push(ReadError {
                path: path.clone(),
                what: place.text(),
            });
        }
        if more != 0 {
            told.push(ReadError {
                what: format!(
                    "damaged at {} places more, {} bytes in all",
                    grouped(more as u64),
                    grouped(bytes(0..places.len()))
                ),
                path,
            });
        }
    }
    for (path, Doubts { times, options }) in doubtful {
        let mut tell = |what: String| {
            let path = path.clone();
            told.push(ReadError { path, what });
        };
        if times != 0 {
            tell(format!(
                "{} packets have times before 1970 or after {LATEST}, and are told as of then",
                grouped(times)
            ));
        }
        if options != 0 {
            tell(format!(
                "damaged, the options of {} blocks: names, comments and losses that they tell may be missing, and \
                 times be wrong",
                grouped(options)
            ));
        }
    }
    told
}

/// Why what begins like this is no capture file.
pub(super) fn no_capture(begins: &[u8]) -> String {
    /// What others begin with.
    const OTHERS: [(&[u8], &str); 10] = [
        (
            &[0x1f, 0x8b],
            "this is gzip's: `zcat FILE | lwnflog read -r -`",
        ),
        (
            &[0x28, 0xb5, 0x2f, 0xfd],
            "this is zstd's, and its name does not end in .zst: `zstdcat FILE | lwnflog read -r -`",
        ),
        (
            &[0x04, 0x22, 0x4d, 0x18],
            "this is LZ4's, and its name does not end in .lz4: `lz4cat FILE | lwnflog read -r -`",
        ),
        (
            &[0x02, 0x21, 0x4c, 0x18],
            "this is LZ4's of old: `lz4cat FILE | lwnflog read -r -`",
        ),
        (
            &[0xfd, b'7', b'z', b'X', b'Z'],
            "this is xz's: `xzcat FILE | lwnflog read -r -`",
        ),
        (b"BZh", "this is bzip2's: `bzcat FILE | lwnflog read -r -`"),
        (
            b"snoop\0\0\0",
            "this is a capture of snoop's: `editcap FILE OUT.pcapng` makes pcapng of it",
        ),
        (
            b"GMBU",
            "this is a capture of Network Monitor's: `editcap FILE OUT.pcapng` makes pcapng of it",
        ),
        (
            b"RTSS",
            "this is a capture of Network Monitor's: `editcap FILE OUT.pcapng` makes pcapng of it",
        ),
        (b"lwnfidx", "this is an index, and no capture"),
    ];
    if begins.is_empty() {
        return "this is no capture file: it is empty".to_owned();
    }
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| begins.starts_with(magic)) {
        return (*what).to_owned();
    }
    // Either format's frame that is to be skipped.
    if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = begins {
        return "this is LZ4's or zstd's, and its name does not end in .lz4 or .zst: `lz4cat` or `zstdcat FILE | lwnflog \
                read -r -`"
            .to_owned();
    }
    if begins.len() < super::BEGINNING_BYTES {
        return "this is no capture file: it is too short for one".to_owned();
    }
    if begins
        .iter()
        .take(super::BEGINNING_BYTES)
        .all(|byte| *byte == 0)
    {
        return "this is no pcapng or pcap file: it begins with zeros".to_owned();
    }
    for big_endian in [false, true] {
        let magic = word(begins, 0, big_endian);
        // Those of patched programs differ in one of these halves.
        if [0xa1b2, 0xa12b, 0xa1e2, 0x1c00].contains(&(magic >> 16)) || magic & 0xffff == 0xc3d4 {
            return format!(
                "this is a variant of pcap (magic {magic:#010x}) that is not known here"
            );
        }
    }
    "this is no pcapng or pcap file".to_owned()
}
